"""What every training recipe may set, what the trainers of transformers and TRL make of it, and reading it from TOML.

For the recipes (`sft.py`, `dpo.py`, `grpo.py`, ...). Each has its own settings on top of `TrainSettings`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from omnirm.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How to optimise. Defaults suit a pretrained model of some billion parameters.

    batch_size: rows a step and device; a step of the optimiser takes batch_size x accumulation x devices.
    max_steps: of the optimiser, over `epochs` where it is above 0.
    warmup: share of the steps, 0 to 1.
    sampling: random, sequential (for a curriculum) or group_by_length, where the recipe knows lengths.
    optimizer: adamw, or muon (see `omnirm.training.muon`) with `muon_lr` for matrices.
    freeze: parameters with one of these words in their name stay as they are.
    report_to: none, trackio, wandb or tensorboard; several with commas.
    use_cpu: even where there is a GPU; a recipe with `device = "cpu"` sets it.
    """

    learning_rate: float = 1e-5
    batch_size: int = 2
    accumulation: int = 8
    epochs: float = 1.0
    max_steps: int = -1
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    adam_beta2: float = 0.999
    schedule: str = "cosine"
    min_lr_rate: float = 0.0
    sampling: str = "random"
    optimizer: str = "adamw"
    muon_lr: float = 0.02
    freeze: tuple[str, ...] = ()
    bf16: bool = False
    gradient_checkpointing: bool = False
    save_steps: int = 500
    log_steps: int = 20
    workers: int = 1
    seed: int = 0
    report_to: str = "none"
    use_cpu: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulation", "save_steps", "log_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: give at least 1")
        if not 0 <= self.warmup <= 1:
            raise ConfigError(f"warmup = {self.warmup}: give a share of the steps, 0 to 1")
        if self.optimizer not in ("adamw", "muon"):
            raise ConfigError(f"optimizer {self.optimizer!r}: write adamw or muon")
        if self.sampling not in ("random", "sequential", "group_by_length"):
            raise ConfigError(f"sampling {self.sampling!r}: write random, sequential or group_by_length")

    def steps(self, rows: int) -> int:
        """Steps of the optimiser that so many rows make on one device, at least 1."""
        if self.max_steps > 0:
            return self.max_steps
        return max(1, int(rows * self.epochs) // (self.batch_size * self.accumulation))


def trainer_arguments(settings: TrainSettings, output: Path, rows: int) -> dict[str, Any]:
    """What the settings are as keyword arguments of `TrainingArguments` and TRL's configurations, which inherit it."""
    import torch

    lowest = {"min_lr_rate": settings.min_lr_rate} if settings.schedule == "cosine_with_min_lr" else None
    return {
        "output_dir": str(output),
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulation,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps,
        "warmup_steps": int(settings.steps(rows) * settings.warmup),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "adam_beta2": settings.adam_beta2,
        "lr_scheduler_type": settings.schedule,
        "lr_scheduler_kwargs": lowest,
        "bf16": settings.bf16,
        "use_cpu": settings.use_cpu or not torch.cuda.is_available(),
        "gradient_checkpointing": settings.gradient_checkpointing,
        "save_steps": settings.save_steps,
        "save_total_limit": 2,
        "logging_steps": settings.log_steps,
        "dataloader_num_workers": settings.workers,
        "dataloader_prefetch_factor": 4 if settings.workers else None,
        "remove_unused_columns": False,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "report_to": settings.report_to.split(","),
        "disable_tqdm": None,
    }


def make_optimizer(model: Any, settings: TrainSettings) -> Any:
    """The optimiser for `Trainer(optimizers=(..., None))`; None lets the trainer make its AdamW."""
    if settings.optimizer == "adamw":
        return None
    from omnirm.training.muon import MuonAdamW, muon_groups

    groups = muon_groups(model, settings.learning_rate, settings.muon_lr)
    return MuonAdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def freeze(model: Any, words: Sequence[str]) -> None:
    """Lets parameters with one of the words in their name stay as they are."""
    for name, weight in model.named_parameters():
        if any(word in name for word in words):
            weight.requires_grad_(False)


def newest_checkpoint(output: Path) -> str | None:
    """The folder of the newest whole checkpoint to go on from, None where there is none.

    Trainers write a checkpoint file by file, its `trainer_state.json` last: one that a kill left unfinished is passed
    over, and written anew when training comes there.
    """
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

    found = [one for one in output.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if one.name.rpartition("-")[2].isdigit()]
    found.sort(key=lambda one: int(one.name.rpartition("-")[2]), reverse=True)
    return next((str(one) for one in found if _whole(one)), None)


def _whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return any(checkpoint.glob("*.safetensors")) or any(checkpoint.glob("global_step*"))


def by_epoch(sampler: Any, seed: int) -> Any:
    """A trainer's sampler, whose order depends on seed and epoch alone.

    transformers groups rows by length with the process's own random numbers, which a resumed run has not drawn as often
    as one that was never stopped: from its second epoch on it would see the rows in another order.
    """
    from transformers.trainer_pt_utils import LengthGroupedSampler

    if not isinstance(sampler, LengthGroupedSampler):
        return sampler
    import torch

    class ByEpoch(LengthGroupedSampler):
        def set_epoch(self, epoch: int) -> None:
            self.generator = torch.Generator().manual_seed(seed + epoch)

    own = ByEpoch(sampler.batch_size, lengths=sampler.lengths)
    own.set_epoch(0)
    return own


# -- recipe files


def read_table(path: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """A TOML file as plain values.

    Args:
        path: the file.
        changes: `key=value` over what the file says, as `layers=2` or `bt.seed=1`; the value is TOML, or a bare text.

    Raises:
        ConfigError: no TOML, or a change of another form.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    for change in changes:
        _set(data, change)
    return data


def made(path: Path, cls: type[T], table: Any, where: str = "", **extra: Any) -> T:
    """A dataclass of plain fields from a TOML table.

    Args:
        path: of the recipe, for messages.
        cls: a dataclass; fields of these types: str, bool, int, float, tuple[str, ...], and Literal of texts.
        table: the values; None for an empty table.
        where: name of the table, for messages.
        extra: fields that do not come from this table.

    Raises:
        ConfigError: unknown or missing keys, or a value of another type.
    """
    at = f"{path}: [{where}]" if where else str(path)
    if not isinstance(table, Mapping | None):
        raise ConfigError(f"{path}: {where} is {table!r}; write a table [{where}]")
    found = dict(table or {})
    known = {f.name: f for f in fields(cls) if f.name not in extra}  # type: ignore[arg-type]
    if unknown := set(found) - set(known):
        raise ConfigError(f"{at}: unknown {sorted(unknown)}; known are {sorted(known)}")
    needed = {n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    if missing := needed - set(found):
        raise ConfigError(f"{at}: {sorted(missing)} must be given")
    values = {name: _typed(at, name, str(known[name].type), value) for name, value in found.items()}
    try:
        return cls(**values, **extra)
    except ConfigError as error:
        raise ConfigError(f"{at}: {error}") from error


def _typed(at: str, name: str, kind: str, value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": number and isinstance(value, int),
        "float": number,
        "float | None": number,
        "tuple[str, ...]": isinstance(value, list) and all(isinstance(v, str) for v in value),
    }.get(kind, isinstance(value, str))
    if not fits:
        raise ConfigError(f"{at}: {name} = {value!r}: needs a value of type {kind}")
    return float(value) if kind.startswith("float") else tuple(value) if kind.startswith("tuple") else value


def _set(data: dict[str, Any], change: str) -> None:
    """Puts one `key=value` into parsed TOML."""
    key, equals, text = change.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not key:
        raise ConfigError(f"--set {change!r}: write key=value, as layers=2 or bt.seed=1")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.split(".")
    for table in tables:
        data = data.setdefault(table, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {change!r}: {table} is no table")
    data[last] = value


__all__ = [
    "TrainSettings",
    "by_epoch",
    "freeze",
    "made",
    "make_optimizer",
    "newest_checkpoint",
    "read_table",
    "trainer_arguments",
]
