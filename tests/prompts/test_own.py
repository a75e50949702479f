"""Rubrics of the judge's own beside given ones: PaTaRM's primary rubric and those that the prompt calls for."""

from __future__ import annotations

from typing import Any

import pytest

from omnirm.backends.scripted import ScriptedBackend
from omnirm.errors import ConfigError
from omnirm.judge import Judge
from omnirm.prompts.formats import get_format
from omnirm.sample import Sample
from omnirm.types import PairVerdict, PointScore, Rubric

RUBRICS = (Rubric("Usefulness", "helps", weight=2.0), Rubric("Length", "short"))
SAMPLE = Sample.from_dict({"id": "one", "prompt": "Name a fruit.", "candidates": ["Apple.", "Pear."]})
PAIR, POINT = get_format("pairwise-thinking"), get_format("pointwise")


def block(number: int, name: str) -> str:
    return f"<criteria {number}>{name}. x<Judge A>a</Judge A><Judge B>b</Judge B>B</criteria {number}>"


@pytest.mark.parametrize("form", [PAIR, POINT])
def test_the_prompt_shows_the_given_ones_and_asks_for_more(form: Any) -> None:
    own, given, free = (
        form.render(SAMPLE, rubrics=rubrics, own=own)
        for rubrics, own in ((RUBRICS, True), (RUBRICS, False), ((), False))
    )
    system = own.messages[0].parts[0].value
    assert "one to three more of your own" in system
    assert own.messages[1] == given.messages[1], "the list is shown as ever"
    assert (own.prefill, own.forced, own.rubrics, own.own) == (given.prefill, given.forced, RUBRICS, True)
    assert not any(line.startswith("@") for line in system.splitlines())
    for other in (given, free):
        assert "more of your own" not in other.messages[0].parts[0].value
    ours = [line for line in system.splitlines() if "Decide by" in line or "Judge by" in line]
    assert len(ours) == 1, "one way to judge"
    if form is POINT:
        assert system.count("<rubrics>") == 1
        assert "<rubrics>" not in given.messages[0].parts[0].value


def test_a_pairwise_answer_holds_given_and_own_criteria() -> None:
    rendered = PAIR.render(SAMPLE, rubrics=RUBRICS, own=True)
    thought = block(1, "Usefulness") + block(2, "Length") + block(3, "Taste")
    found = PAIR.parse(rendered, f"<think>{thought}</think>\nVerdict {rendered.nonce}: [[B]]", "stop")
    assert isinstance(found, PairVerdict)
    assert [one.rubric for one in found.criteria] == [*RUBRICS, Rubric("Taste", "x", source="generated")]


@pytest.mark.parametrize(
    ("written", "scores", "expected"),
    [
        ("3. Taste: sweet", (1, 2, 3), ["Usefulness", "Length", "Taste"]),
        ("3. Taste: sweet\n4. Colour: red", (1, 3, 4), ["Usefulness", "Taste", "Colour"]),
        ("1. Taste: sweet", (1, 2), ["Usefulness", "Length"]),  # a number that was shown stays with what was shown
        ("", (1, 2, 3), ["Usefulness", "Length"]),
    ],
)
def test_a_pointwise_answer_scores_given_and_own_rubrics(written: str, scores: Any, expected: list[str]) -> None:
    rendered = POINT.render(SAMPLE, rubrics=RUBRICS, own=True)
    key = rendered.nonce
    lines = "".join(f"Score {key} {n}: [[{n + 3}]]\n" for n in scores)
    text = f"<think>so</think>\n<rubrics>{written}</rubrics>\n<evaluation>e</evaluation>\n{lines}Total {key}: [[6]]"
    found = POINT.parse(rendered, text, "stop")
    assert isinstance(found, PointScore)
    assert [rubric.name for rubric, _ in found.scores] == expected
    assert [score for _, score in found.scores] == [n + 3.0 for n in scores][: len(expected)]
    given = POINT.render(SAMPLE, rubrics=RUBRICS)
    plain = POINT.parse(given, text.replace(key, given.nonce), "stop")
    assert {rubric.name for rubric, _ in plain.scores} <= {"Usefulness", "Length"}, "not where none were asked for"


def test_without_rubrics_or_thinking_there_is_nothing_to_add_to() -> None:
    for form in (PAIR, POINT):
        with pytest.raises(ConfigError, match="own adds to given rubrics"):
            form.render(SAMPLE, own=True)
    with pytest.raises(ConfigError, match="own adds to given rubrics"):
        POINT.render(SAMPLE, rubrics=RUBRICS, thinking=False, own=True)
    with pytest.raises(ConfigError, match="own adds to given rubrics"):
        get_format("pairwise").render(SAMPLE, rubrics=RUBRICS, own=True)
    with pytest.raises(ConfigError, match="take one"):
        PAIR.render(SAMPLE, rubrics=RUBRICS, own=True, pick=True)
    with pytest.raises(ConfigError, match="take one"):
        Judge(ScriptedBackend([]), own=True, pick=True)


def test_a_judge_asks_so_where_there_are_rubrics() -> None:
    asked: list[str] = []

    def answer(request: Any) -> str:
        asked.append(request.messages[0].parts[0].value)
        return "nothing"

    judge = Judge(ScriptedBackend(answer), format="pairwise-thinking", orders=1, rubrics=RUBRICS, own=True)
    judge.compare(SAMPLE)
    judge.score(SAMPLE)
    Judge(ScriptedBackend(answer), format="pairwise-thinking", orders=1, own=True).compare(SAMPLE)
    assert ["more of your own" in one for one in asked] == [True, True, True, False]
