"""The papers' table in small: arithmetic by hand, arms that are their recipes, and judging with nano itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omnirm.errors import ConfigError
from omnirm.nano.world import FAMILIES, preference
from omnirm.training.experiments import table as script
from omnirm.training.experiments.table import (
    ARMS,
    REFINABLE,
    Found,
    Plan,
    cells_of,
    differences,
    judged,
    main,
    measure,
    text_table,
    train,
    with_lists,
)


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm not in ("base", "sft", "grpo-zero")])
def test_an_arm_starts_from_the_sft_of_its_seed_on_the_rows_of_the_synthesis(
    arm: Any, asked_recipes: list[Any], tmp_path: Path
) -> None:
    final = train(arm, 1, tmp_path)
    sft, own = asked_recipes
    method = arm.partition("-")[0]
    assert (sft.name, sft.init, sft.settings.seed) == ("sft-1", "nano", 1)
    assert (own.name, own.init) == (f"{arm}-1", str(tmp_path / "sft-1" / "final"))
    assert (sft.data, own.data) == (str(tmp_path / "synth/sft.parquet"), str(tmp_path / f"synth/{method}.parquet"))
    if method == "grpo":
        assert (own.settings.seed, own.settings.reward) == (1, "rule" if arm == "grpo-rule" else "meta")
    assert train(arm, 1, tmp_path) == final
    assert len(asked_recipes) == 2, "what is there is not made again"


def test_grpo_zero_starts_from_the_base_without_sft(asked_recipes: list[Any], tmp_path: Path) -> None:
    train("grpo-zero", 1, tmp_path, "some/folder")
    (own,) = asked_recipes
    assert (own.name, own.init, own.settings.seed, own.settings.reward) == ("grpo-zero-1", "some/folder", 1, "rule")
    assert train("base", 0, tmp_path, "some/folder") == Path("some/folder")


def test_the_base_is_nano_as_it_ships(asked_recipes: list[Any], tmp_path: Path) -> None:
    assert (train("base", 0, tmp_path) / "model.safetensors").is_file()
    assert not asked_recipes


def _found() -> Found:
    """Two pairs a family, two seeds: sft right in 0.5 and 1, then 0 and 1 of the orders; dpo always; base never."""
    sft = np.array([[0.5, 1.0], [0.0, 1.0]])
    found: Found = {}
    for family in FAMILIES:
        found["base", False, family] = np.zeros((1, 2))
        found["sft", False, family] = sft
        found["dpo", False, family] = np.ones((2, 2))
    for family in REFINABLE:
        found["sft", True, family] = np.array([[1.0], [0.5]])
    return found


def test_cells_are_means_over_seeds_orders_and_pairs() -> None:
    cells = {(one.arm, one.verifier, one.group): one for one in cells_of(_found())}
    text, image, whole = (cells["sft", False, name] for name in ("text", "image", "all"))
    assert (text.pairs, text.seeds, text.accuracy, text.spread) == (2, 2, 0.625, (0.75, 0.5))
    assert (image.pairs, whole.pairs) == (6, 16), "three families have images"
    assert (whole.accuracy, whole.low, whole.high) == (
        0.625,
        pytest.approx(0.44, abs=0.05),
        pytest.approx(0.81, abs=0.05),
    )
    assert (cells["dpo", False, "all"].low, cells["dpo", False, "all"].high) == (1.0, 1.0)
    assert cells["sft", True, "text"].accuracy == 0.75
    assert cells["sft", True, "all"].pairs == 4
    assert cells["sft", True, "image"].pairs == 1, "TI2T alone can be refined"


def test_the_tables_by_hand() -> None:
    found = _found()
    shown = text_table(cells_of(found), {"sft": [60.0, 80.0], "base": []}).splitlines()
    assert shown[0].startswith("| judge | meta-verifier | T2T | TI2T |")
    assert shown[0].endswith("| text | image | video | audio | all | seconds |")
    assert shown[1].count("---") == shown[0].count("|") - 1
    assert [tuple(line.split("|")[1:3]) for line in shown[2:]] == [
        (" base ", "  "), (" sft ", "  "), (" dpo ", "  "), (" sft ", " yes "),
    ]  # fmt: skip
    (sft,) = (line for line in shown if line.startswith("| sft |  |"))
    assert sft.endswith("| 70 |")
    minus = differences(found)
    assert "| dpo - sft | +37.5 [+0.0, +75.0] |" in minus, "two pairs: 0.75 and 0"
    assert "| sft - base |" in minus
    assert "| sft with meta-verifier - sft | +50.0 [+50.0, +50.0] |" in minus, "on the first pair, that both have"
    assert "grpo" not in minus


def test_judging_with_nano_alone_and_with_the_meta_verifier(tmp_path: Path) -> None:
    from omnirm.backends.load import nano_folder
    from omnirm.training.nano.stages import drawn

    shown = [drawn(preference(seed, "validation", "TI2T").sample) for seed in range(2)]
    pairs = with_lists(shown, tmp_path / "lists", 2)
    assert pairs == with_lists(shown, tmp_path / "lists", 2)
    assert all(len(pair.rubrics) == 2 and pair.label is not None for pair in pairs)
    without = replace(pairs[0], id="without", rubrics=())
    plan = Plan(rubrics=2, temperature=1.0)
    assert judged(nano_folder(), tmp_path / "none", [without], plan, verifier=False) == [0.0], "no list, no answer"
    for verifier, values in ((False, {0.0, 0.5, 1.0}), (True, {0.0, 1.0})):
        folder = tmp_path / str(verifier)
        found = judged(nano_folder(), folder, pairs, plan, verifier=verifier)
        assert len(found) == 2
        assert set(found) <= values
        calls = (folder / "calls.jsonl").read_text()
        assert judged(nano_folder(), folder, pairs, plan, verifier=verifier) == found
        assert (folder / "calls.jsonl").read_text() == calls, "nothing is asked again"
    with pytest.raises(ConfigError):
        judged(nano_folder(), tmp_path / "True", pairs, Plan(rubrics=3), verifier=True)


def test_every_arm_is_measured_on_its_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def judged(model: Path, folder: Path, pairs: Any, plan: Plan, *, verifier: bool) -> list[float]:
        asked.append((model.name, folder.name))
        return [1.0] * len(pairs)

    monkeypatch.setattr(script, "train", lambda arm, seed, root, base: root / f"{arm}-{seed}")
    monkeypatch.setattr(script, "judged", judged)
    monkeypatch.setattr(script, "with_lists", lambda pairs, folder, count, base: pairs)
    found = measure(("base", "sft"), (0, 1), tmp_path, Plan(test_pairs=3, meta_pairs=2), "validation")
    assert {family for arm, verifier, family in found if verifier} == set(REFINABLE)
    assert {family for arm, verifier, family in found if not verifier} == set(FAMILIES)
    assert found["base", False, "T2A"].shape == (1, 3), "a model that is not trained has no seeds"
    assert found["sft", True, "T2T"].shape == (2, 2)
    assert len(set(asked)) == len(asked) == 3 * (len(FAMILIES) + len(REFINABLE))


def test_without_rows_it_says_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no rows yet"):
        main(["--root", str(tmp_path)])
