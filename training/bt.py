"""Trains a scalar reward model by Bradley-Terry with TRL's RewardTrainer, on text, images, video and audio alike.

    omnirm train bt training/recipes/nano-disrm.toml --set init="runs/nano/nano-base-media/final"

`L = -log sigmoid(s_chosen - s_rejected - m)`, with m = 0 where a row has no margin. Reads top to bottom: recipe, rows,
model, trainer. The run's folder has checkpoints; the same command given again goes on from the last one.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from omnirm.errors import ConfigError
from omnirm.training.disrm_data import NanoRows, lesson
from omnirm.training.preferred import Preferred, PreferredCollator, from_samples
from omnirm.types import Part

NANO = "nano"


@dataclass(frozen=True, slots=True)
class BTSettings:
    """How to optimise. Defaults suit a pretrained model of some billion parameters: 1e-5, cosine, one epoch.

    batch_size: rows a step and device (a row of a sample file is one pair).
    freeze: parameters with one of these words in their name stay as they are.
    """

    learning_rate: float = 1e-5
    batch_size: int = 4
    accumulation: int = 4
    epochs: float = 1.0
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    adam_beta2: float = 0.999
    schedule: str = "cosine"
    min_lr_rate: float = 0.0
    sampling: str = "random"  # or sequential for a curriculum
    optimizer: str = "adamw"  # or muon: see omnirm.training.muon
    muon_lr: float = 0.02
    freeze: tuple[str, ...] = ("visual", "audio_tower")
    bf16: bool = False
    gradient_checkpointing: bool = False
    save_steps: int = 500
    log_steps: int = 20
    workers: int = 1
    seed: int = 0
    report_to: str = "none"


@dataclass(frozen=True, slots=True)
class BTRecipe:
    """One training run.

    name: of its folder below the output folder; init: folder or hub name of the model to start from (a reward model,
    or any text, Qwen-VL or Qwen-Omni model, which gets a new head); data: a file of labelled samples, or `nano` for
    graded responses of the nano world, as the table `[nano]` says; layers: keep so many of the text model's
    first layers, 0 for all; dtype, saved_dtype: of the weights in training and in the final folder; max_tokens: a
    longer row is an error; device: the best there is when "".
    """

    name: str
    init: str
    data: str
    layers: int = 0
    dtype: str = "float32"
    saved_dtype: str = "float32"
    max_tokens: int = 4096
    device: str = ""
    bt: BTSettings = field(default_factory=BTSettings)
    nano: NanoRows | None = None


def read_recipe(path: Path, changes: Sequence[str] = ()) -> BTRecipe:
    """Reads a TOML file.

    Args:
        path: the file.
        changes: `key=value` over what the file says, as `layers=2` or `bt.seed=1`; the value is TOML, or a bare text.

    Raises:
        ConfigError: no TOML, an unknown or missing key, or a value of the wrong type.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    for change in changes:
        _set(data, change)
    tables = {name: data.pop(name, None) for name in ("bt", "nano")}
    for name, table in tables.items():
        if not isinstance(table, Mapping | None):
            raise ConfigError(f"{path}: {name} is {table!r}; write a table [{name}]")
    settings = BTSettings(**_checked(path, BTSettings, tables["bt"] or {}))
    nano = None if tables["nano"] is None else NanoRows(**_checked(path, NanoRows, tables["nano"]))
    recipe = BTRecipe(**_checked(path, BTRecipe, data), bt=settings, nano=nano)
    if (recipe.data == NANO) != (nano is not None):
        raise ConfigError(f'{path}: data = {recipe.data!r}: data = "nano" and a table [nano] go together')
    if nano is not None and nano.rows < settings.batch_size:
        raise ConfigError(f"{path}: nano.rows = {nano.rows}: give at least one batch")
    if settings.optimizer not in ("adamw", "muon"):
        raise ConfigError(f"{path}: optimizer {settings.optimizer!r}: write adamw or muon")
    if settings.sampling not in ("random", "sequential"):
        raise ConfigError(f"{path}: sampling {settings.sampling!r}: write random or sequential")
    return recipe


def train(recipe: BTRecipe, output: Path, callbacks: Sequence[Any] = ()) -> Path:
    """Trains and returns the folder of the final model, `<output>/<name>/final`, which `ScalarHead` loads.

    Raises:
        BackendError: the model cannot be loaded.
        SampleError: the file of samples is not of the documented form, or has no preference in it.
    """
    import torch

    from omnirm.backends.hf_inputs import InputEncoder
    from omnirm.backends.hf_load import SETTINGS_FILE, checkpoint_settings, torch_dtype
    from omnirm.scorers.reward_model import (
        RewardModel,
        TextProcessor,
        keep_layers,
        load_reward_model,
        save_reward_model,
    )

    rows, build = _rows(recipe)
    torch.manual_seed(recipe.bt.seed)
    device = recipe.device or ("cuda" if torch.cuda.is_available() else "cpu")
    model, processor = load_reward_model(recipe.init, device, torch_dtype(recipe.dtype, device), new_head=True)
    if recipe.layers:
        if not isinstance(model, RewardModel):
            raise ConfigError("layers: only Qwen-VL and Qwen-Omni models can be cut; leave it out")
        keep_layers(model, recipe.layers)
    for name, weight in model.named_parameters():
        weight.requires_grad_(not any(part in name for part in recipe.bt.freeze))
    encoder = InputEncoder(processor, open_turn=False)
    if isinstance(processor, TextProcessor):
        encoder.modalities = frozenset({"text"})
        prepare: Callable[[Part], Any] = _no_media
    else:
        prepare = _preparer(checkpoint_settings(recipe.init, processor))
    collator = PreferredCollator(encoder, build, prepare, recipe.max_tokens)
    folder = output / recipe.name
    train_bt(model, processor.tokenizer, rows, collator, recipe.bt, folder, callbacks=callbacks)
    final = save_reward_model(model, processor, folder / "final", torch_dtype(recipe.saved_dtype, device))
    if (own := Path(recipe.init) / SETTINGS_FILE).is_file():  # media budgets go with the model
        shutil.copy(own, final)
    return final


def train_bt(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Any],
    collator: PreferredCollator,
    settings: BTSettings,
    output: Path,
    resume: bool = True,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Trains the model in place and returns the trainer.

    Args:
        model: one whose forward takes the collator's batch of N responses and returns `logits` [N, 1].
        tokenizer: its tokenizer (only for saving and the padding id).
        rows: what the collator's `build` understands: JSON-ready values.
        collator: encodes rows.
        settings: see `BTSettings`.
        output: folder of the checkpoints.
        resume: continue from the newest checkpoint in `output` where there is one.
        callbacks: more trainer callbacks.
    """
    from datasets import Dataset
    from transformers.trainer_utils import get_last_checkpoint
    from trl import RewardConfig, RewardTrainer

    class PreferenceTrainer(RewardTrainer):
        """TRL's trainer and loss on rows that the collator encodes, each response once."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset  # there are no texts to tokenize beforehand

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            pairs = inputs.pop("pairs")

            def paired(margin: Any = None, **batch: Any) -> Any:  # chosen, then rejected, as TRL's loss wants them
                output = model(**batch)
                output.logits = output.logits[pairs.T.reshape(-1)]
                return output

            return super().compute_loss(paired, inputs, *args, **kwargs)

    steps = max(1, int(len(rows) * settings.epochs) // (settings.batch_size * settings.accumulation))
    lowest = {"min_lr_rate": settings.min_lr_rate} if settings.schedule == "cosine_with_min_lr" else None
    arguments = RewardConfig(
        output_dir=str(output),
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=settings.epochs,
        warmup_steps=int(steps * settings.warmup),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        adam_beta2=settings.adam_beta2,
        lr_scheduler_type=settings.schedule,
        lr_scheduler_kwargs=lowest,
        bf16=settings.bf16,
        gradient_checkpointing=settings.gradient_checkpointing,
        save_steps=settings.save_steps,
        save_total_limit=2,
        logging_steps=settings.log_steps,
        dataloader_num_workers=settings.workers,
        dataloader_prefetch_factor=4 if settings.workers else None,
        dataloader_pin_memory=next(model.parameters()).is_cuda,
        dataloader_drop_last=len(rows) >= settings.batch_size,
        remove_unused_columns=False,
        train_sampling_strategy=settings.sampling,
        max_length=None,
        disable_dropout=True,
        seed=settings.seed,
        data_seed=settings.seed,
        report_to=settings.report_to,
        disable_tqdm=None,
    )
    trainer = PreferenceTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"row": list(rows)}),
        data_collator=lambda batch: collator([item["row"] for item in batch]),
        processing_class=tokenizer,
        callbacks=list(callbacks),
        optimizers=(_optimizer(model, settings), None),
    )
    last = get_last_checkpoint(str(output)) if resume and output.is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    return trainer


def _rows(recipe: BTRecipe) -> tuple[list[int], Callable[[int], Preferred]]:
    """Light rows, and what makes a preference of one."""
    if (nano := recipe.nano) is not None:
        return list(range(nano.rows)), lambda place: lesson(place, nano).preferred
    from omnirm.sample import read_samples

    found = from_samples(read_samples(recipe.data))
    return list(range(len(found))), found.__getitem__


def _preparer(settings: Any) -> Callable[[Part], Any]:
    from omnirm.nano.writer import Drawing
    from omnirm.preprocessing import Policy
    from omnirm.preprocessing import prepare as decode

    def prepare(part: Part) -> Any:
        value = part.value.render()[0] if isinstance(part.value, Drawing) else part.value
        return decode(value, part.type, settings, Policy(), part.options)  # type: ignore[arg-type]

    return prepare


def _no_media(part: Part) -> Any:
    raise ValueError(f"a {part.type} for a model that reads text only")


def _optimizer(model: Any, settings: BTSettings) -> Any:
    """None lets the trainer make its AdamW."""
    if settings.optimizer == "adamw":
        return None
    from omnirm.training.muon import MuonAdamW, muon_groups

    groups = muon_groups(model, settings.learning_rate, settings.muon_lr)
    return MuonAdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)


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


def _checked(path: Path, cls: type, found: Mapping[str, Any]) -> dict[str, Any]:
    """The values for a dataclass of plain fields, in their types."""
    known = {f.name: f for f in fields(cls) if f.name not in ("bt", "nano")}
    if unknown := set(found) - set(known):
        raise ConfigError(f"{path}: unknown {sorted(unknown)}; known are {sorted(known)}")
    if missing := {n for n, f in known.items() if f.default is MISSING} - set(found):
        raise ConfigError(f"{path}: {sorted(missing)} must be given")
    values: dict[str, Any] = {}
    for name, value in found.items():
        kind = str(known[name].type)
        fits = {
            "str": isinstance(value, str),
            "bool": isinstance(value, bool),
            "int": isinstance(value, int) and not isinstance(value, bool),
            "float": isinstance(value, int | float) and not isinstance(value, bool),
            "tuple[str, ...]": isinstance(value, list) and all(isinstance(v, str) for v in value),
        }[kind]
        if not fits:
            raise ConfigError(f"{path}: {name} = {value!r}: needs a value of type {kind}")
        values[name] = {"float": float, "tuple[str, ...]": tuple}.get(kind, lambda v: v)(value)
    return values


__all__ = ["BTRecipe", "BTSettings", "read_recipe", "train", "train_bt"]
