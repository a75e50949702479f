"""Recipes for judges: a TOML file becomes a trained model. For `omnirm train`.

    method = "dpo"                      # sft, dpo, grpo, par, dwrl; and bt for a scalar reward model
    name = "grm-omni-7b-dpo"
    init = "runs/grm-omni-7b-sft/final"
    data = "data/grm-omni/dpo.parquet"  # par and dwrl: a file of labelled samples, or hub:<name>
    [dpo]
    learning_rate = 1e-6

The run's folder, `<output>/<name>`, gets checkpoints, `recipe.json` (everything as it was set) and `final`, which
`Judge` and vLLM load. The same command given again goes on from the last checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omnirm.errors import ConfigError
from omnirm.training.dpo import DPOSettings, train_dpo
from omnirm.training.dwrl import DWRLSettings, train_dwrl
from omnirm.training.grpo import GRPOSettings, train_grpo
from omnirm.training.models import LoraSettings, Trainable, load_trainable
from omnirm.training.pairs import read_pairs
from omnirm.training.par import PARSettings, train_par
from omnirm.training.rows import DPORow, GRPORow, SFTRow, read_rows
from omnirm.training.settings import TrainSettings, made, read_table
from omnirm.training.sft import SFTSettings, train_sft_rows

RECIPE_FILE = "recipe.json"
_PACKAGES = ("omnirm", "torch", "transformers", "trl", "peft", "accelerate", "datasets")


@dataclass(frozen=True, slots=True)
class Method:
    """One way to train a judge: its settings, how its rows are read, and what trains."""

    settings: type[TrainSettings]
    read: Callable[[str], Sequence[Any]]
    train: Callable[..., Any]


METHODS: dict[str, Method] = {
    "sft": Method(SFTSettings, lambda data: read_rows(Path(data), SFTRow), train_sft_rows),
    "dpo": Method(DPOSettings, lambda data: read_rows(Path(data), DPORow), train_dpo),
    "grpo": Method(GRPOSettings, lambda data: read_rows(Path(data), GRPORow), train_grpo),
    "par": Method(PARSettings, read_pairs, train_par),
    "dwrl": Method(DWRLSettings, read_pairs, train_dwrl),
}


@dataclass(frozen=True, slots=True)
class MetaSettings:
    """Meta-rewards on line (GRPO): each rollout's own judgment is refined and scored. Off without a `disrm`.

    disrm, refiner: as `omnirm judge --disrm --refiner` take them; `model` refines with the model in training as it was
        at the start.
    """

    disrm: str = ""
    refiner: str = "model"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training run.

    name: of its folder. init: folder or hub name of the judge to start from, or `nano`; revision: of the hub.
    data: see the method. sources: what the data was made of, for the model card.
    dtype, saved_dtype: of the weights in training and in `final`; "" for what suits the device, and for the same.
    max_tokens: of a row; a longer one is an error. device: the best there is when "".
    """

    method: str
    name: str
    init: str
    data: str
    sources: tuple[str, ...] = ()
    revision: str = ""
    dtype: str = ""
    saved_dtype: str = ""
    max_tokens: int = 4096
    device: str = ""
    settings: TrainSettings = field(default_factory=TrainSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    meta: MetaSettings = field(default_factory=MetaSettings)

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or Path(self.name).name != self.name:
            raise ConfigError(f"name = {self.name!r}: the run's folder is named so; write a plain name")
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens = {self.max_tokens}: give at least 1")
        if self.meta.disrm and self.method != "grpo":
            raise ConfigError(f"[meta] beside method = {self.method!r}: meta-rewards on line are GRPO's")

    def train(self, output: Path, callbacks: Sequence[Any] = ()) -> Path:
        """Trains, and returns the folder of the final model, `<output>/<name>/final`.

        Raises:
            BackendError: the model cannot be loaded.
            SampleError: data that cannot be read or learned from.
            ConfigError: settings that do not go together.
        """
        method, folder = METHODS[self.method], output / self.name
        rows = method.read(self.data)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECIPE_FILE).write_text(json.dumps(self.record(), indent=1) + "\n", encoding="utf-8")
        trainable = load_trainable(
            self.init, device=self.device, dtype=self.dtype, lora=self.lora, revision=self.revision or None
        )
        return self.train_on(trainable, rows, folder, callbacks)

    def train_on(self, trainable: Trainable, rows: Sequence[Any], folder: Path, callbacks: Sequence[Any] = ()) -> Path:
        """Trains a model that is loaded on rows that are read."""
        extra = {"meta": self._meta(trainable)} if self.method == "grpo" else {}
        settings = replace(self.settings, use_cpu=self.settings.use_cpu or self.device == "cpu")
        trainer = METHODS[self.method].train(
            trainable, rows, settings, folder, max_tokens=self.max_tokens, callbacks=callbacks, **extra
        )
        trainer.accelerator.wait_for_everyone()
        return trainable.save(folder / "final", self.saved_dtype, trainer)

    def record(self) -> dict[str, Any]:
        """Everything as it was set, JSON-ready, with the versions of the packages that train."""
        found = {}
        for name in _PACKAGES:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        return {**asdict(self), "packages": found}

    def _meta(self, trainable: Trainable) -> Any:
        if not self.meta.disrm:
            return None
        from omnirm.backends.load import load_backend
        from omnirm.rubrics.meta import Meta
        from omnirm.rubrics.refine import ModelRefiner
        from omnirm.scorers.load import load_scorer

        source = trainable.source if self.meta.refiner == "model" else self.meta.refiner
        function: Any = getattr(self.settings, "meta_reward", "consistency")
        return Meta(load_scorer(self.meta.disrm), ModelRefiner(load_backend(source)), function)


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Any:
    """Reads a recipe of any method: this file's, a scalar reward model's (`bt`), or a stage of nano's base.

    Args:
        path: a TOML file.
        changes: `key=value` over what the file says, as `data=rows.parquet` or `dpo.beta=0.2`.

    Returns:
        Something with `name` and `train(output) -> folder of the final model`.

    Raises:
        ConfigError: no TOML, an unknown or missing key, a value of the wrong type, or an unknown method.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; recipes that come with omnirm are listed by `omnirm train --list`")
    table = read_table(path, changes)
    method = table.get("method", "bt" if "bt" in table else "nano" if "lessons" in table else None)
    if method == "bt":
        from omnirm.training.bt import read_recipe as read_bt

        return read_bt(path, changes)
    if method == "nano":
        from omnirm.training.nano.stages import read_recipe as read_stage

        return read_stage(path, changes)
    if not isinstance(method, str) or method not in METHODS:
        raise ConfigError(f"{path}: method = {method!r}: write one of {', '.join([*METHODS, 'bt'])}")
    tables = {name: table.pop(name, None) for name in ("lora", "meta", method)}
    if others := {name for name in METHODS if name in table}:
        raise ConfigError(f"{path}: [{', '.join(sorted(others))}] beside method = {method!r}")
    return made(
        path,
        Recipe,
        table,
        settings=made(path, METHODS[method].settings, tables[method], method),
        lora=made(path, LoraSettings, tables["lora"], "lora"),
        meta=made(path, MetaSettings, tables["meta"], "meta"),
    )


__all__ = ["METHODS", "RECIPE_FILE", "MetaSettings", "Method", "Recipe", "read_recipe"]
