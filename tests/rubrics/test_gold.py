"""Gold rubrics: from files, mappings and samples."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from scripted_rubrics import names, pair

from omnirm.errors import SampleError
from omnirm.nano.world import preference
from omnirm.rubrics.base import Planner
from omnirm.rubrics.gold import GoldPlanner, read_rubrics
from omnirm.types import Rubric


@pytest.mark.parametrize(
    ("more", "rubrics"),
    [
        ({"metadata": {"gold_rubric": "It is short."}}, (Rubric("It is short.", source="gold"),)),
        ({"metadata": {"gold_rubric": {"name": "Form", "text": "x"}}}, (Rubric("Form", "x", source="gold"),)),
        (
            {"metadata": {"gold_rubrics": ["Form", {"name": "Truth", "weight": 2}]}},
            (Rubric("Form", source="gold"), Rubric("Truth", weight=2.0, source="gold")),
        ),
        ({"metadata": {"gold_rubrics": ["More"], "gold_rubric": "One"}}, (Rubric("More", source="gold"),)),
        ({"metadata": {"gold_rubrics": [], "gold_rubric": "One"}}, (Rubric("One", source="gold"),)),
        ({"metadata": {"gold_rubric": "Meta"}, "rubrics": ["Own"]}, (Rubric("Own", source="gold"),)),
        ({"rubrics": [{"name": "Own", "source": "survey"}]}, (Rubric("Own", source="survey"),)),
    ],
)
def test_a_sample_brings_its_own(more: dict, rubrics: tuple[Rubric, ...]) -> None:
    (one,) = GoldPlanner().plan([pair("a", "b", **more)])
    assert (one.rubrics, one.failure, one.calls) == (rubrics, None, ())


@pytest.mark.parametrize(
    ("metadata", "reason", "said"),
    [
        ({}, "missing", "sample s has no gold rubric"),
        ({"gold_rubric": None}, "missing", "sample s"),
        ({"gold_rubric": ""}, "missing", "sample s"),
        ({"gold_rubric": "  "}, "malformed", "metadata.gold_rubric[0].name"),
        ({"gold_rubric": 3}, "malformed", "metadata.gold_rubric"),
        ({"gold_rubrics": [["x"]]}, "malformed", "metadata.gold_rubrics[0]"),
        ({"gold_rubrics": [{"name": "x", "weight": -1}]}, "malformed", "weight"),
        ({"gold_rubrics": [{"name": "x", "weight": 0}]}, "malformed", "no gold rubric has a weight"),
        ({"gold_rubric": {"text": "x"}}, "malformed", "name"),
        ({"gold_rubric": {"criterion": "x"}}, "malformed", "criterion"),
    ],
)
def test_a_sample_without_a_usable_one_loses_only_itself(metadata: dict, reason: str, said: str) -> None:
    bad, good = GoldPlanner().plan([pair("a", "b", metadata=metadata), pair("a", "b", rubrics=["Form"])])
    assert (bad.rubrics, bad.failure.reason) == ((), reason)
    assert said in bad.failure.detail
    assert names(good.rubrics) == ["Form"]


def test_a_mapping_goes_first_and_others_keep_their_own() -> None:
    planner = GoldPlanner({"x": [Rubric("Mapped")], "y": []})
    done = planner.plan([pair("a", "b", id=id, rubrics=["Own"]) for id in "xyz"])
    assert [names(one.rubrics) for one in done] == [["Mapped"], ["Own"], ["Own"]]
    assert done[0].rubrics[0].source == "gold"
    assert isinstance(planner, Planner)


def test_repetitions_are_dropped() -> None:
    (one,) = GoldPlanner({"s": [Rubric("Form"), Rubric("form.")]}).plan([pair("a", "b")])
    assert names(one.rubrics) == ["Form"]
    assert one.dropped == ((Rubric("form.", source="gold"), "repeats Form"),)


def test_json_and_toml_say_the_same(tmp_path: Path) -> None:
    in_json, in_toml = tmp_path / "rubrics.json", tmp_path / "rubrics.toml"
    in_json.write_text(json.dumps({"s": [{"name": "Form", "text": "Ein Ü."}], "t": "Truth"}), encoding="utf-8")
    in_toml.write_text('t = "Truth"\n[[s]]\nname = "Form"\ntext = "Ein Ü."\n', encoding="utf-8")
    expected = {"s": (Rubric("Form", "Ein Ü."),), "t": (Rubric("Truth"),)}
    assert read_rubrics(in_json) == read_rubrics(str(in_toml)) == expected
    (one,) = GoldPlanner(in_toml).plan([pair("a", "b")])
    assert one.rubrics == (Rubric("Form", "Ein Ü.", source="gold"),)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("r.yaml", "", ".yaml"),
        ("r.json", "{", "not JSON"),
        ("r.json", '["x"]', "no object"),
        ("r.json", '{"s": 3}', "s"),
        ("r.json", '{"s": ["x"], "s": ["y"]}', "twice"),
        ("r.json", '{"s": [{"name": "x", "weight": NaN}]}', "NaN"),
        ("r.json", '{"s": [{"name": "\\ud800"}]}', "surrogate"),
        ("r.toml", "s = [", "r.toml"),
        ("r.toml", "s = 1979-05-27", "s"),
        ("r.toml", b"\xff", "UTF-8"),
        ("missing.json", None, "No such file"),
    ],
)
def test_a_file_of_another_form_says_where(tmp_path: Path, name: str, content: str | bytes | None, said: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SampleError, match=re.escape(said)) as caught:
        GoldPlanner(path)
    assert str(path) in str(caught.value)


def test_nano_pairs_bring_their_gold_rubric() -> None:
    made = preference(3, "train", "T2T")
    (one,) = GoldPlanner().plan([made.sample])
    assert names(one.rubrics) == [made.attribute]
