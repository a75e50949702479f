"""Direct preference optimisation with TRL's DPOTrainer, on text, images, video and audio, all families alike.

`L = -log sigmoid(beta [(log p(c) - log q(c)) - (log p(r) - log q(r))])` for a chosen answer c and a rejected one r of
one prompt, with p the policy, q the reference: the policy as it was before the first step. A log-probability is the sum
over an answer's tokens, its end-of-turn token included (Rafailov et al. 2023, eq. 7). Reads top to bottom: settings,
reference, trainer. Where pairs come from (meta-rewards, margins) is settled in the rows.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirm.errors import ConfigError
from omnirm.training.backbone import with_backbone
from omnirm.training.collate import PairCollator, checked_lengths
from omnirm.training.models import Trainable, preparer
from omnirm.training.rows import DPORow
from omnirm.training.settings import (
    TrainSettings,
    by_epoch,
    freeze,
    make_optimizer,
    newest_checkpoint,
    trainer_arguments,
)

LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
SMOOTHED = ("robust", "exo_pair", "aot", "aot_unpaired")
_COPY = "ref"  # what TRL calls the frozen copy of a model's adapters
_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")


@dataclass(frozen=True, slots=True, kw_only=True)
class DPOSettings(TrainSettings):
    """How to optimise; defaults are DUAL RM's: 1e-6, cosine, warm-up 0.1, one epoch, 2 x 8 pairs a step.

    beta: how dear it is to leave the reference, above 0.
    loss_type: one of TRL's (`LOSSES`). label_smoothing: share of pairs taken to be the wrong way round, for `SMOOTHED`.
    precompute_reference: run the reference over all rows once and keep two numbers a row, instead of a second model
        in memory.
    """

    learning_rate: float = 1e-6
    beta: float = 0.1
    loss_type: str = "sigmoid"
    label_smoothing: float = 0.0
    precompute_reference: bool = False

    def __post_init__(self) -> None:
        TrainSettings.__post_init__(self)
        if not 0 < self.beta < float("inf"):
            raise ConfigError(f"beta = {self.beta}: give a number above 0, as 0.1")
        if self.loss_type not in LOSSES:
            raise ConfigError(f"loss_type {self.loss_type!r}: write one of {', '.join(LOSSES)}")
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(f"label_smoothing = {self.label_smoothing}: give a share of at least 0 and under 0.5")
        if (self.label_smoothing > 0) > (self.loss_type in SMOOTHED):
            raise ConfigError(f"label_smoothing: {self.loss_type} takes none; write one of {', '.join(SMOOTHED)}")
        if self.loss_type == "exo_pair" and not self.label_smoothing:
            raise ConfigError("loss_type exo_pair: set label_smoothing above 0, as 0.001")


def train_dpo(
    trainable: Trainable,
    rows: Sequence[DPORow],
    settings: DPOSettings,
    output: Path,
    *,
    max_tokens: int = 4096,
    resume: bool = True,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Trains the model in place and returns the trainer.

    Args:
        trainable: the policy as it is before training, also when resuming: the reference is made of it. With adapters
            the reference is the same weights with a frozen copy of the adapters as they are now.
        rows: pairs of answers; media are still references.
        settings: see `DPOSettings`.
        output: folder of the checkpoints.
        max_tokens: of a prompt with its longer answer; a longer row is an error, nothing is cut.
        resume: continue from the newest checkpoint in `output` where there is one.
        callbacks: more trainer callbacks.

    Raises:
        SampleError: before anything is trained, for a row that teaches nothing or whose text is over `max_tokens`; in
            a batch, for a row that is over it with its media.
    """
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class PairTrainer(DPOTrainer):
        """TRL's trainer and loss on rows that the collator encodes."""

        def _get_train_sampler(self, *args: Any) -> Any:
            return by_epoch(super()._get_train_sampler(*args), settings.seed)

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset  # there are no texts to tokenize beforehand

        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            super()._save(output_dir, state_dict)
            if adapted:  # transformers would go on from the reference's adapters, and leave the policy's as they are
                shutil.rmtree(Path(output_dir or self.args.output_dir) / _COPY, ignore_errors=True)

    model, encoder = trainable.model, trainable.encoder
    lengths = checked_lengths(encoder, rows, max_tokens)
    collator = PairCollator(encoder, rows.__getitem__, preparer(trainable.settings), max_tokens)
    adapted = hasattr(model, "peft_config")
    with_backbone(model.get_base_model() if adapted else model)
    reference = None if adapted or settings.precompute_reference else frozen(model)
    freeze(model, settings.freeze)
    arguments = DPOConfig(
        **trainer_arguments(settings, output, len(rows)),
        train_sampling_strategy=settings.sampling,
        length_column_name="length",
        dataloader_pin_memory=next(model.parameters()).is_cuda,
        beta=settings.beta,
        loss_type=[settings.loss_type],
        label_smoothing=settings.label_smoothing,
        precompute_ref_log_probs=settings.precompute_reference,
        max_length=None,
    )

    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        import torch

        known = {name: torch.tensor([item[name] for item in items]) for name in _REFERENCE if name in items[0]}
        return collator([item["row"] for item in items]) | known

    trainer = PairTrainer(
        model=model,
        ref_model=reference,
        args=arguments,
        train_dataset=Dataset.from_dict({"row": list(range(len(rows))), "length": lengths}),
        data_collator=collate,
        processing_class=trainable.processor,
        callbacks=list(callbacks),
        optimizers=(make_optimizer(model, settings), None),
    )
    try:
        trainer.train(resume_from_checkpoint=newest_checkpoint(output) if resume else None)
    finally:
        if adapted and _COPY in model.peft_config:  # of no use after training
            model.delete_adapter(_COPY)
    return trainer


def frozen(model: Any) -> Any:
    """A copy that is never trained."""
    return copy.deepcopy(model).eval().requires_grad_(False)


__all__ = ["LOSSES", "DPOSettings", "train_dpo"]
