"""What docs/rubrics.md shows does what it says there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from scripted_rubrics import judge, lines, model, names, pair, section, writes

from omnirm.rubrics.base import RubricSet
from omnirm.rubrics.decomposed import DecomposedPlanner
from omnirm.rubrics.gold import read_rubrics
from omnirm.rubrics.primary import primary_rubrics
from omnirm.types import Rubric

PAGE = (Path(__file__).parent.parent.parent / "docs" / "rubrics.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return found


def test_the_example_runs() -> None:
    backend = model(
        planning=writes("Form: A list.", "Number: Three.", "Truth", "Tone"), selection=lambda request: "2]]"
    )
    code = block("python").replace('load_backend("nano")', "backend_")
    assert "backend_" in code
    space: dict = {"backend_": backend}
    exec(compile(code, "rubrics.md", "exec"), space)
    assert names(space["critical"]) == ["Number", "Truth", "Tone"]
    assert space["judgment"].judged


def test_the_files_can_be_read(tmp_path: Path) -> None:
    gold, library = tmp_path / "rubrics.json", tmp_path / "mine.toml"
    gold.write_text(block("json"), encoding="utf-8")
    library.write_text(block("toml"), encoding="utf-8")
    assert set(read_rubrics(gold)) == set(json.loads(block("json")))
    assert "9-10: nothing is lost" in primary_rubrics(library)["translation"].text


def test_the_tasks_are_those_of_the_library() -> None:
    listed = re.search(r"Tasks:\n(.*?)\. `library", PAGE, re.DOTALL)[1]
    assert re.findall(r"`([^`]+)`", listed) == list(primary_rubrics())


def test_the_table_of_weights() -> None:
    class Given:
        name = "given"

        def plan(self, samples):
            return [RubricSet((Rubric("Fruit", weight=3), Rubric("Coarse")))]

    parts = {"Fruit": ["plum", "pear"], "Coarse": ["red", "blue", "round"]}
    backend = model(decompose=lambda request: lines(request, parts[section(request, "rubrics")[3:]]))
    (one,) = DecomposedPlanner(Given(), backend, judge(backend)).plan([pair("plum pear red blue", "round")])
    assert {rubric.name: rubric.weight for rubric in one.rubrics} == {"plum": 1.5, "pear": 1.5, "red": 0.5, "blue": 0.5}


def test_the_accuracy_that_explains_agreement() -> None:
    said = re.search(r"at (\d+) % accuracy each, on .*? = ([\d.]+) %", PAGE)
    p = int(said[1]) / 100
    assert float(said[2]) == pytest.approx(100 * (p * p + (1 - p) * (1 - p)))
