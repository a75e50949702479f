"""Every packaged recipe rehearsed: two real steps on a random model of each family, saved, loaded back and asked."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import omnirm.training
from omnirm.errors import ConfigError
from omnirm.nano.build import FAMILIES, Family
from omnirm.training.dry_run import STEPS, family_of, pairs, rehearse, sample_rows
from omnirm.training.recipe import METHODS, Recipe, read_recipe
from omnirm.training.rows import DPORow, GRPORow, SFTRow

FOLDER = Path(omnirm.training.__path__[0]) / "recipes"
JUDGES = [file.stem for file in sorted(FOLDER.glob("*.toml")) if isinstance(read_recipe(file), Recipe)]
#: one of each method runs by default, on the family that is quickest; without bf16, which a CPU takes its time for
QUICK = {"grm-omni-7b-sft", "grm-omni-7b-dpo", "dual-rm-8b-grpo", "patarm-8b", "dwrl-8b"}


def check(recipe: Recipe, family: str, folder: Path) -> Any:
    found = rehearse(replace(recipe, init=f"somewhere/{family.replace('_', '-').replace('2-5', '2.5')}-7B"), folder)
    assert found.family == family
    assert found.rows == len(pairs(found.family, folder / "media"))
    assert len(found.losses) == STEPS
    assert all(math.isfinite(loss) for loss in found.losses)
    assert found.answer
    assert found.folder.is_relative_to(folder)
    assert list(found.folder.glob("*.safetensors"))
    assert any(line.startswith(f"max_steps = {STEPS} (recipe: -1)") for line in found.changed)
    return found


@pytest.mark.parametrize("name", sorted(QUICK))
def test_one_recipe_of_each_method(tmp_path: Path, name: str) -> None:
    recipe = read_recipe(FOLDER / f"{name}.toml")
    check(replace(recipe, settings=replace(recipe.settings, bf16=False)), "qwen3_vl", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", JUDGES)
def test_every_recipe_on_every_family(tmp_path: Path, name: str, family: Family) -> None:
    check(read_recipe(FOLDER / f"{name}.toml"), family, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS))
def test_adapters_are_rehearsed_too_and_not_quantised(tmp_path: Path, method: str) -> None:
    name = next(n for n in sorted(QUICK) if read_recipe(FOLDER / f"{n}.toml").method == method)
    recipe = read_recipe(FOLDER / f"{name}.toml", ["lora.rank=4", "lora.quantize=4bit"])
    found = check(recipe, "qwen2_5_omni", tmp_path)
    assert any(line.startswith("quantize = ''") for line in found.changed)


def test_the_quick_ones_are_one_of_each_method() -> None:
    assert sorted(read_recipe(FOLDER / f"{name}.toml").method for name in QUICK) == sorted(METHODS)


@pytest.mark.parametrize(
    ("source", "family"),
    [
        ("nano", "qwen2_5_omni"), ("Qwen/Qwen2.5-Omni-7B", "qwen2_5_omni"), ("Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl"),
        ("Qwen/Qwen3-Omni-30B-A3B-Instruct", "qwen3_omni"), ("runs/my-qwen3-vl-sft/final", "qwen3_vl"),
        ("runs/dual-rm-8b-sft/final", "qwen3_vl"), ("elsewhere/grm-omni-7b-sft/final", "qwen2_5_omni"),
        ("runs/table/sft-0/final", "qwen2_5_omni"),
    ],
)  # fmt: skip
def test_the_family_of_a_name(source: str, family: str) -> None:
    assert family_of(source) == family


@pytest.mark.parametrize("name", JUDGES)
def test_every_recipe_begins_with_a_model_of_a_known_family(name: str) -> None:
    assert family_of(read_recipe(FOLDER / f"{name}.toml").init) in FAMILIES


def test_the_family_of_a_folder_is_its_configs(tmp_path: Path) -> None:
    (tmp_path / "Qwen3-VL").mkdir()
    (tmp_path / "Qwen3-VL" / "config.json").write_text('{"model_type": "qwen2_5_omni_thinker"}')
    assert family_of(str(tmp_path / "Qwen3-VL")) == "qwen2_5_omni"
    (tmp_path / "Qwen3-VL" / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ConfigError, match="of no known family"):
        family_of(str(tmp_path / "Qwen3-VL"))
    with pytest.raises(ConfigError, match="'grm-omni-7b-sft': of no known family"):
        family_of("grm-omni-7b-sft")
    for damaged in ("", "[1]", "\xff"):
        (tmp_path / "Qwen3-VL" / "config.json").write_text(damaged, encoding="latin-1")
        with pytest.raises(ConfigError, match="Qwen3-VL"):
            family_of(str(tmp_path / "Qwen3-VL"))


@pytest.mark.parametrize("family", FAMILIES)
def test_made_up_rows_are_of_every_modality_that_the_family_takes(tmp_path: Path, family: Family) -> None:
    rows = sample_rows("sft", family, tmp_path)
    kinds = {part.type for row in rows for message in row.prompt.messages for part in message.parts}
    assert kinds == {"text", "image", "video", "audio"} - ({"audio"} if family == "qwen3_vl" else set())
    assert {row.thinking for row in rows} == {True, False}
    media = [part.value for row in rows for m in row.prompt.messages for part in m.parts if part.type != "text"]
    assert all(Path(value).is_file() for value in media)


def test_made_up_pairs_differ_in_their_verdict_alone(tmp_path: Path) -> None:
    for row in sample_rows("dpo", "qwen2_5_omni", tmp_path):
        assert isinstance(row, DPORow)
        flipped = row.chosen.translate(str.maketrans("AB", "BA"))[-6:]
        assert row.rejected[-6:] == flipped
        assert row.rejected[:-6] == row.chosen[:-6]
    assert all(isinstance(row, SFTRow) for row in sample_rows("sft", "qwen2_5_omni", tmp_path))
    assert all(isinstance(row, GRPORow) for row in sample_rows("grpo", "qwen2_5_omni", tmp_path))
    assert {row.label for row in sample_rows("grpo", "qwen2_5_omni", tmp_path)} <= {"A", "B"}
