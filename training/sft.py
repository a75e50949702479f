"""Supervised fine-tuning with TRL's SFTTrainer, for text, images, video and audio, all families alike.

Reads top to bottom: settings, stored rows (`train_sft_rows`), trainer. The data set holds light rows; the collator
builds, decodes and encodes them in a worker, so that nothing is decoded before it is needed and nothing of a medium is
ever cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirm.backends.hf_inputs import Conversation
from omnirm.errors import ConfigError
from omnirm.training.backbone import with_backbone
from omnirm.training.collate import MediaCollator, checked_lengths
from omnirm.training.models import Trainable, preparer
from omnirm.training.rows import SFTRow
from omnirm.training.settings import (
    TrainSettings,
    by_epoch,
    freeze,
    make_optimizer,
    newest_checkpoint,
    trainer_arguments,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTSettings(TrainSettings):
    """What a recipe file may set. Defaults are the papers': 1e-5, cosine, warm-up 0.1, one epoch, 2 x 8 rows a step.

    balance: see `token_weights`; 0 counts every token alike, 1 every row.
    """

    sampling: str = "group_by_length"
    balance: float = 0.0

    def __post_init__(self) -> None:
        TrainSettings.__post_init__(self)
        if not 0 <= self.balance <= 1:
            raise ConfigError(f"balance = {self.balance}: give 0 (every token counts alike) to 1 (every row)")


def token_weights(taught: Any, balance: float) -> Any:
    """What the tokens of a batch count: in a row with n taught tokens n ** -balance each, scaled to a mean of 1.

    Prompt switching mixes answers of a hundred tokens (thinking) with answers of one (a verdict alone), which drown
    where every token weighs alike (balance 0). With balance 1 every row weighs alike.

    Args:
        taught: [B, L], true where a token is taught.
        balance: 0 to 1.

    Returns:
        [B, L], 0 where nothing is taught.
    """
    weights = taught.sum(dim=1, keepdim=True).clamp(min=1).float().pow(-balance) * taught
    return weights * (taught.sum() / weights.sum().clamp(min=1e-9))


def train_sft_rows(
    trainable: Trainable,
    rows: Sequence[SFTRow],
    settings: SFTSettings,
    output: Path,
    *,
    max_tokens: int = 4096,
    resume: bool = True,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Trains the model in place on stored rows and returns the trainer. Only the completions are learned.

    Args:
        trainable: the model, with adapters or without.
        rows: prompts with the answer to learn; media are still references.
        settings: see `SFTSettings`.
        output: folder of the checkpoints.
        max_tokens: of a prompt with its answer; a longer row is an error, nothing is cut.
        resume: continue from the newest checkpoint in `output` where there is one.
        callbacks: more trainer callbacks.

    Raises:
        SampleError: before anything is trained, for a row that teaches nothing or whose text is over `max_tokens`; in
            a batch, for a row that is over it with its media.
    """
    encoder = trainable.encoder
    lengths = checked_lengths(encoder, rows, max_tokens)
    collator = MediaCollator(encoder, conversations(rows), preparer(trainable.settings), max_tokens)
    numbers, tokenizer = range(len(rows)), trainable.processor.tokenizer
    return train_sft(
        trainable.model, tokenizer, numbers, lengths, collator, settings, output, resume=resume, callbacks=callbacks
    )


def conversations(rows: Sequence[SFTRow]) -> Callable[[int], Conversation]:
    """What makes a conversation to learn of a row's number, for `MediaCollator`."""

    def build(number: int) -> Conversation:
        row = rows[number]
        return Conversation(row.prompt.messages, (), row.prompt.prefill, row.completion)

    return build


def train_sft(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Any],
    lengths: Sequence[int] | None,
    collator: MediaCollator,
    settings: SFTSettings,
    output: Path,
    resume: bool = True,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Trains the model in place and returns the trainer.

    Args:
        model: any model whose forward takes the collator's batch and returns logits, with adapters or without.
        tokenizer: its tokenizer (only for saving and the padding id).
        rows: what the collator's `build` understands: JSON-ready values.
        lengths: estimated tokens of each row, for batches of rows of similar length; None with other samplings.
        collator: encodes rows with labels.
        settings: see `SFTSettings`.
        output: folder of the checkpoints.
        resume: continue from the newest checkpoint in `output` where there is one.
        callbacks: more trainer callbacks.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    class BalancedSFTTrainer(SFTTrainer):
        """TRL's trainer and loss; a token counts as much as its row lets it."""

        def _get_train_sampler(self, *args: Any) -> Any:
            return by_epoch(super()._get_train_sampler(*args), settings.seed)

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            def balanced(**batch: Any) -> Any:
                outputs = model(**batch)
                if batch.get("fused_lm_head"):
                    outputs.log_probs = outputs.log_probs * token_weights(outputs.label_mask, settings.balance)
                return outputs

            return super().compute_loss(balanced if settings.balance else model, inputs, *args, **kwargs)

    with_backbone(model.get_base_model() if hasattr(model, "peft_config") else model)
    freeze(model, settings.freeze)
    arguments = SFTConfig(
        **trainer_arguments(settings, output, len(rows)),
        train_sampling_strategy=settings.sampling,
        length_column_name="length",
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
    )
    columns = {"row": list(rows)} | ({"length": list(lengths)} if lengths is not None else {})
    data = Dataset.from_dict(columns)
    trainer = BalancedSFTTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        data_collator=lambda batch: collator([item["row"] for item in batch]),
        processing_class=tokenizer,
        callbacks=list(callbacks),
        optimizers=(make_optimizer(model, settings), None),
    )
    # Qwen3-VL says it takes no token count; TRL divides by it itself, so that every taught token of a step counts alike
    trainer.model_accepts_loss_kwargs = True
    trainer.train(resume_from_checkpoint=newest_checkpoint(output) if resume else None)
    return trainer
