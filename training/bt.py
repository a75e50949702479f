"""Trains a scalar reward model by Bradley-Terry with TRL's RewardTrainer, on text, images, video and audio alike.

    omnirm train training/recipes/nano-disrm.toml --set init="runs/nano/nano-base-media/final"

`L = -log sigmoid(s_chosen - s_rejected - m)`, with m = 0 where a row has no margin. Reads top to bottom: recipe, rows,
model, trainer. The run's folder has checkpoints; the same command given again goes on from the last one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omnirm.errors import ConfigError
from omnirm.training.models import preparer
from omnirm.training.nano.disrm_data import NanoRows, lesson
from omnirm.training.preferred import Preferred, PreferredCollator, from_samples
from omnirm.training.settings import (
    TrainSettings,
    freeze,
    made,
    make_optimizer,
    newest_checkpoint,
    read_table,
    trainer_arguments,
)
from omnirm.types import Part

NANO = "nano"


@dataclass(frozen=True, slots=True, kw_only=True)
class BTSettings(TrainSettings):
    """How to optimise. A row of a sample file is one pair."""

    batch_size: int = 4
    accumulation: int = 4
    freeze: tuple[str, ...] = ("visual", "audio_tower")


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

    def train(self, output: Path, callbacks: Sequence[Any] = ()) -> Path:
        """See `train`."""
        return train(self, output, callbacks)


def read_recipe(path: Path, changes: Sequence[str] = ()) -> BTRecipe:
    """Reads a TOML file.

    Args:
        path: the file.
        changes: `key=value` over what the file says, as `layers=2` or `bt.seed=1`; the value is TOML, or a bare text.

    Raises:
        ConfigError: no TOML, an unknown or missing key, or a value of the wrong type.
    """
    data = read_table(path, changes)
    data.pop("method", None)
    tables = {name: data.pop(name, None) for name in ("bt", "nano")}
    settings = made(path, BTSettings, tables["bt"], "bt")
    nano = None if tables["nano"] is None else made(path, NanoRows, tables["nano"], "nano")
    recipe = made(path, BTRecipe, data, bt=settings, nano=nano)
    if (recipe.data == NANO) != (nano is not None):
        raise ConfigError(f'{path}: data = {recipe.data!r}: data = "nano" and a table [nano] go together')
    if nano is not None and nano.rows < settings.batch_size:
        raise ConfigError(f"{path}: nano.rows = {nano.rows}: give at least one batch")
    if settings.sampling == "group_by_length":
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
    freeze(model, recipe.bt.freeze)
    encoder = InputEncoder(processor, open_turn=False)
    if isinstance(processor, TextProcessor):
        encoder.modalities = frozenset({"text"})
        prepare: Callable[[Part], Any] = _no_media
    else:
        prepare = preparer(checkpoint_settings(recipe.init, processor))
    collator = PreferredCollator(encoder, build, prepare, recipe.max_tokens)
    folder = output / recipe.name
    settings = replace(recipe.bt, use_cpu=recipe.bt.use_cpu or recipe.device == "cpu")
    train_bt(model, processor.tokenizer, rows, collator, settings, folder, callbacks=callbacks)
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

    arguments = RewardConfig(
        **trainer_arguments(settings, output, len(rows)),
        dataloader_pin_memory=next(model.parameters()).is_cuda,
        dataloader_drop_last=len(rows) >= settings.batch_size,
        train_sampling_strategy=settings.sampling,
        max_length=None,
        disable_dropout=True,
    )
    trainer = PreferenceTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"row": list(rows)}),
        data_collator=lambda batch: collator([item["row"] for item in batch]),
        processing_class=tokenizer,
        callbacks=list(callbacks),
        optimizers=(make_optimizer(model, settings), None),
    )
    trainer.train(resume_from_checkpoint=newest_checkpoint(output) if resume else None)
    return trainer


def _rows(recipe: BTRecipe) -> tuple[list[int], Callable[[int], Preferred]]:
    """Light rows, and what makes a preference of one."""
    if (nano := recipe.nano) is not None:
        return list(range(nano.rows)), lambda place: lesson(place, nano).preferred
    from omnirm.sample import read_samples

    found = from_samples(read_samples(recipe.data))
    return list(range(len(found))), found.__getitem__


def _no_media(part: Part) -> Any:
    raise ValueError(f"a {part.type} for a model that reads text only")


__all__ = ["BTRecipe", "BTSettings", "read_recipe", "train", "train_bt"]
