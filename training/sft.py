"""Supervised fine-tuning with TRL's SFTTrainer, for text, images, video and audio, all families alike.

Reads top to bottom: arguments, lengths, trainer. The data set holds light rows; the collator builds, decodes and
encodes them in a worker, so that nothing is decoded before it is needed and nothing of a medium is ever cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirm.errors import ConfigError
from omnirm.training.collate import MediaCollator


@dataclass(frozen=True, slots=True)
class SFTSettings:
    """What a recipe file may set. Defaults are the papers': 1e-5, cosine, warm-up 0.1, one epoch, 2 x 8 rows a step."""

    output: str
    learning_rate: float = 1e-5
    batch_size: int = 2
    accumulation: int = 8
    epochs: float = 1.0
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    adam_beta2: float = 0.999
    schedule: str = "cosine"
    sampling: str = "group_by_length"  # or random, or sequential for a curriculum
    min_lr_rate: float = 0.0
    balance: float = 0.0  # see `balanced_loss`: 0 counts every token alike, 1 every row
    optimizer: str = "adamw"  # or muon: see omnirm.training.muon
    muon_lr: float = 0.02
    bf16: bool = False
    gradient_checkpointing: bool = False
    save_steps: int = 500
    log_steps: int = 20
    workers: int = 1
    seed: int = 0
    report_to: str = "none"


def balanced_loss(logits: Any, labels: Any, balance: float) -> Any:
    """Cross-entropy in which a token of a row with n taught tokens weighs n ** -balance, divided by the sum of weights.

    Prompt switching mixes answers of a hundred tokens (thinking) with answers of one (a verdict alone), which drown
    where every token weighs alike (balance 0). With balance 1 every row weighs alike.

    Args:
        logits: [B, L, V].
        labels: [B, L], -100 where nothing is taught.
        balance: 0 to 1.
    """
    import torch

    labels = labels[:, 1:]
    taught = labels != -100
    weights = taught.sum(dim=1, keepdim=True).clamp(min=1).to(logits.dtype).pow(-balance).expand_as(labels)[taught]
    losses = torch.nn.functional.cross_entropy(logits[:, :-1][taught].float(), labels[taught], reduction="none")
    return (losses * weights).sum() / weights.sum().clamp(min=1e-9)


def train_sft(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Any],
    lengths: Sequence[int] | None,
    collator: MediaCollator,
    settings: SFTSettings,
    resume: bool = True,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Trains the model in place and returns the trainer.

    Args:
        model: any model whose forward takes the collator's batch and returns logits.
        tokenizer: its tokenizer (only for saving and the padding id).
        rows: what the collator's `build` understands: JSON-ready values.
        lengths: estimated tokens of each row, for batches of rows of similar length; None with other samplings.
        collator: encodes rows with labels.
        settings: see `SFTSettings`.
        resume: continue from the newest checkpoint in `settings.output` where there is one.
        callbacks: more trainer callbacks.
    """
    from datasets import Dataset
    from transformers import Trainer
    from transformers.trainer_utils import get_last_checkpoint
    from trl import SFTConfig, SFTTrainer

    class OmniSFTTrainer(SFTTrainer):
        """TRL's fused head looks for a backbone apart from the head; the Omni thinkers have none: their own loss."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            inputs = {**inputs, "use_cache": False}
            if settings.balance > 0:
                labels = inputs.pop("labels")
                outputs = model(**inputs)
                loss = balanced_loss(outputs.logits, labels, settings.balance)
                if num_items_in_batch is not None:  # micro-batches of a step by their share of its tokens
                    ranks = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
                    loss = loss * (labels[:, 1:] != -100).sum() / num_items_in_batch * ranks
                return (loss, outputs) if return_outputs else loss
            loss, outputs = Trainer.compute_loss(self, model, inputs, True, num_items_in_batch)
            balance = getattr(outputs, "aux_loss", None)  # of experts; the model adds it whole to every micro-batch
            if balance is not None and num_items_in_batch is not None:
                over = 1 - 1 / self.current_gradient_accumulation_steps
                loss = loss - over * self.router_aux_loss_coef * balance.to(loss.device)
            return (loss, outputs) if return_outputs else loss

    steps = max(1, int(len(rows) * settings.epochs) // (settings.batch_size * settings.accumulation))
    arguments = SFTConfig(
        output_dir=settings.output,
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=settings.epochs,
        warmup_steps=int(steps * settings.warmup),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        adam_beta2=settings.adam_beta2,
        lr_scheduler_type=settings.schedule,
        lr_scheduler_kwargs={"min_lr_rate": settings.min_lr_rate}
        if settings.schedule == "cosine_with_min_lr"
        else None,
        bf16=settings.bf16,
        gradient_checkpointing=settings.gradient_checkpointing,
        save_steps=settings.save_steps,
        save_total_limit=2,
        logging_steps=settings.log_steps,
        dataloader_num_workers=settings.workers,
        dataloader_prefetch_factor=4 if settings.workers else None,
        train_sampling_strategy=settings.sampling,
        length_column_name="length",
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        seed=settings.seed,
        data_seed=settings.seed,
        report_to=settings.report_to,
        disable_tqdm=None,
    )
    columns = {"row": list(rows)} | ({"length": list(lengths)} if lengths is not None else {})
    data = Dataset.from_dict(columns)
    own_loss = getattr(model, "base_model", None) is model
    if settings.balance > 0 and (not own_loss or hasattr(model, "num_experts")):
        kind = type(model).__name__
        raise ConfigError(f"balance = {settings.balance} works with Qwen2.5-Omni only; set it to 0 for {kind}")
    trainer = (OmniSFTTrainer if own_loss else SFTTrainer)(
        model=model,
        args=arguments,
        train_dataset=data,
        data_collator=lambda batch: collator([item["row"] for item in batch]),
        processing_class=tokenizer,
        callbacks=list(callbacks),
        optimizers=(_optimizer(model, settings), None),
    )
    # Qwen3-VL says it takes no token count; TRL divides by it itself, so that every taught token of a step counts alike
    trainer.model_accepts_loss_kwargs = True
    last = get_last_checkpoint(settings.output) if resume and Path(settings.output).is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    return trainer


def _optimizer(model: Any, settings: SFTSettings) -> Any:
    """None lets the trainer make its AdamW."""
    if settings.optimizer == "adamw":
        return None
    if settings.optimizer != "muon":
        raise ConfigError(f"optimizer {settings.optimizer!r}: write adamw or muon")
    from omnirm.training.muon import MuonAdamW, muon_groups

    groups = muon_groups(model, settings.learning_rate, settings.muon_lr)
    return MuonAdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
