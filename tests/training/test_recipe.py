"""Recipes from a TOML file to a model that a judge loads: every packaged one is read, wrong ones name their file."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

import omnirm.training
from omnirm import Judge, Sample, load_backend
from omnirm.errors import BackendError, ConfigError, SampleError
from omnirm.nano.build import save_checkpoint
from omnirm.training.bt import BTRecipe
from omnirm.training.dry_run import sample_rows
from omnirm.training.models import LoraSettings
from omnirm.training.nano.stages import Recipe as Stage
from omnirm.training.recipe import METHODS, Recipe, read_recipe
from omnirm.training.rows import DPORow, SFTRow, write_rows

FOLDER = Path(omnirm.training.__path__[0]) / "recipes"
PACKAGED = sorted(FOLDER.glob("*.toml"))


@pytest.mark.parametrize("file", PACKAGED, ids=lambda file: file.stem)
def test_every_packaged_recipe_is_read(file: Path) -> None:
    found = read_recipe(file)
    assert isinstance(found, Recipe | BTRecipe | Stage)
    if isinstance(found, Recipe):
        assert isinstance(found.settings, METHODS[found.method].settings)
        assert found.init
        assert found.data
        assert json.loads(json.dumps(found.record()))["settings"] == json.loads(json.dumps(asdict(found.settings)))
        if not file.stem.startswith("nano-"):
            assert found.name == file.stem
            assert found.settings.bf16
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    assert first.startswith("# "), "the first line says what it is, for `omnirm train --list`"


def test_there_are_recipes_of_every_method() -> None:
    methods = {found.method for file in PACKAGED if isinstance(found := read_recipe(file), Recipe)}
    assert methods == set(METHODS)


@pytest.mark.parametrize(
    ("name", "learning_rate", "together", "more"),
    [  # the papers' numbers; rows together: of a step on 8 GPUs (GRPO: rollouts)
        ("grm-omni-7b-sft", 1e-5, 128, {"warmup": 0.1, "schedule": "cosine", "epochs": 1.0}),
        ("grm-omni-7b-dpo", 1e-6, 128, {"beta": 0.1, "epochs": 1.0}),
        ("dual-rm-8b-grpo", 1e-6, 128, {"generations": 4, "temperature": 1.0, "top_p": 0.9, "kl": 0.0}),
        ("dwrl-8b", 5e-7, 32, {"thoughts": 4, "clip": 0.2, "epochs": 2.0}),
    ],
)
def test_the_numbers_of_the_papers(name: str, learning_rate: float, together: int, more: dict[str, Any]) -> None:
    settings = read_recipe(FOLDER / f"{name}.toml").settings
    assert settings.learning_rate == learning_rate
    assert 8 * settings.batch_size * settings.accumulation == together
    assert {key: getattr(settings, key) for key in more} == more


# -- what is refused


def test_a_change_over_the_file() -> None:
    file = FOLDER / "grm-omni-7b-dpo.toml"
    found = read_recipe(file, ["dpo.beta=0.2", "data=my.parquet", "lora.rank=8", "dpo.freeze=[]"])
    assert (found.settings.beta, found.data, found.lora.rank, found.settings.freeze) == (0.2, "my.parquet", 8, ())
    plain = read_recipe(file)
    assert (plain.settings.beta, plain.lora) == (0.1, LoraSettings())
    with pytest.raises(ConfigError, match=r"grm-omni-7b-dpo.toml: \[dpo\]: beta = 'high'"):
        read_recipe(file, ["dpo.beta=high"])
    with pytest.raises(ConfigError, match=r"grm-omni-7b-dpo.toml: \[dpo\]: unknown \['betta'\]"):
        read_recipe(file, ["dpo.betta=0.2"])


HEAD = 'method = "sft"\nname = "x"\ninit = "nano"\ndata = "x.parquet"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "x"\n', r"method = None: write one of sft, dpo, grpo, par, dwrl, bt"),
        (HEAD.replace("sft", "ppo"), r"method = 'ppo'"),
        (HEAD.replace('"sft"', "[1]"), r"method = \[1\]"),
        (HEAD + "[dpo]\nbeta = 1.0\n", r"\[dpo\] beside method = 'sft'"),
        (HEAD + "[other]\n", r"unknown \['other'\]"),
        (HEAD + "colour = 1\n", r"unknown \['colour'\]"),
        (HEAD + "[sft]\ncolour = 1\n", r"\[sft\]: unknown \['colour'\]"),
        (HEAD + "[lora]\nrank = 1.5\n", r"\[lora\]: rank = 1.5"),
        (HEAD + '[lora]\nquantize = "4bit"\n', r"\[lora\]: quantize: quantised weights"),
        (HEAD + "sft = 3\n", r"write a table \[sft\]"),
        (HEAD + "lora = true\n", r"write a table \[lora\]"),
        (HEAD + '[meta]\nscorer = "x"\n', r"\[meta\]: unknown \['scorer'\]"),
        (HEAD.replace('data = "x.parquet"\n', ""), r"\['data'\] must be given"),
        (HEAD + "max_tokens = 0\n", r"max_tokens = 0"),
        (HEAD.replace('"x"', '"../x"'), r"name = '\.\./x'"),
        (HEAD.replace('"x"', '""'), r"name = ''"),
        (HEAD + 'settings = "x"\n', r"unknown \['settings'\]"),
        (HEAD + '[meta]\ndisrm = "nano-disrm"\n', r"\[meta\] beside method = 'sft'"),
    ],
)
def test_a_wrong_recipe_names_its_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError, match=rf"mine\.toml.*{said}"):
        read_recipe(tmp_path / "mine.toml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; recipes that come with omnirm are listed by"):
        read_recipe(tmp_path / "none.toml")


def test_data_that_is_not_there_costs_no_model(tmp_path: Path) -> None:
    recipe = Recipe("sft", "run", "no/model", str(tmp_path / "none.parquet"))
    with pytest.raises(SampleError, match=r"none\.parquet"):
        recipe.train(tmp_path)
    assert not (tmp_path / "run").exists()


# -- trained


@pytest.fixture(scope="module")
def start(tiny_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model on disk, with an `omnirm.json` of its media budgets."""
    tiny, folder = tiny_of("qwen3_vl"), tmp_path_factory.mktemp("start")
    save_checkpoint(tiny.model(), tiny.processor, folder / "model")
    media = {"image": {"min_pixels": 1024, "max_pixels": 9216}}
    (folder / "model" / "omnirm.json").write_text(json.dumps({"media": media}))
    return folder / "model"


def recipe_file(folder: Path, method: str, start: Path, **top: str) -> Path:
    kind = {"sft": SFTRow, "dpo": DPORow}[method]
    rows = [row for row in sample_rows(method, "qwen3_vl", folder / "media") if row.thinking] * 10
    write_rows(folder / "rows.parquet", rows, kind)
    head = {"method": method, "name": "run", "init": str(start), "data": str(folder / "rows.parquet"), **top}
    own = {"learning_rate": 1e-3, "batch_size": 2, "accumulation": 1, "epochs": 1.0, "save_steps": 2, "log_steps": 1,
           "workers": 0, "warmup": 0.0}  # fmt: skip
    lines = [f"{key} = {json.dumps(value)}" for key, value in head.items()]
    lines += ['device = "cpu"', f"[{method}]", *(f"{key} = {json.dumps(value)}" for key, value in own.items())]
    (folder / "mine.toml").write_text("\n".join(lines) + "\n")
    return folder / "mine.toml"


class StopAt(TrainerCallback):
    """Stops as a kill between two steps would, after the checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def losses(run: Path) -> dict[int, float]:
    last = max(run.glob("checkpoint-*"), key=lambda one: int(one.name.rpartition("-")[2]))
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return {one["step"]: one["loss"] for one in history if "loss" in one}


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_recipe_trains_resumes_and_a_judge_loads_what_came_out(start: Path, tmp_path: Path, method: str) -> None:
    file = recipe_file(tmp_path, method, start, saved_dtype="float16")
    recipe = read_recipe(file)
    final = recipe.train(tmp_path / "whole")
    assert final == tmp_path / "whole" / "run" / "final"
    steps = sorted(losses(tmp_path / "whole" / "run"))
    assert steps == list(range(1, steps[-1] + 1))
    assert steps[-1] >= 3
    recorded = json.loads((final.parent / "recipe.json").read_text())
    assert recorded["method"] == method
    assert recorded["settings"]["learning_rate"] == 1e-3
    assert {"torch", "trl", "transformers"} <= set(recorded["packages"])
    assert (final / "omnirm.json").read_bytes() == (start / "omnirm.json").read_bytes()
    # broken off in the third step, and the same command given again: same losses, same model
    with pytest.raises(KeyboardInterrupt):
        read_recipe(file).train(tmp_path / "broken", [StopAt(3)])
    assert not (tmp_path / "broken" / "run" / "final").exists()
    again = read_recipe(file).train(tmp_path / "broken")
    assert losses(tmp_path / "broken" / "run") == pytest.approx(losses(tmp_path / "whole" / "run"), rel=1e-5)
    one, other = (load_backend(str(folder), device="cpu") for folder in (final, again))
    assert all(
        torch.allclose(a, b, atol=1e-3) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True)
    )
    judgment = Judge(one).compare(Sample.from_dict({"id": "s", "prompt": "q", "candidates": ["a", "b"]}))
    assert len(judgment.calls) == 2
    assert "error" not in {call.call.finish_reason for call in judgment.calls}


def test_adapters_by_a_recipe_are_merged_in_the_end(start: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    file = recipe_file(tmp_path, "sft", start)
    final = read_recipe(file, ["lora.rank=4", "sft.max_steps=2"]).train(tmp_path)
    assert (tmp_path / "run" / "checkpoint-2" / "adapter_model.safetensors").is_file()
    before, after = (load_file(folder / "model.safetensors") for folder in (start, final))
    assert set(after) == set(before)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all("language_model" in name and "_proj" in name for name in changed)


def test_a_model_that_is_not_there_is_named(start: Path, tmp_path: Path) -> None:
    shutil.copytree(start, tmp_path / "gone")
    file = recipe_file(tmp_path, "sft", tmp_path / "gone")
    (tmp_path / "gone" / "model.safetensors").unlink()
    with pytest.raises(BackendError, match="gone"):
        read_recipe(file).train(tmp_path)
