"""One-pass selection: the judge chooses one rubric of a list and judges by it alone."""

from __future__ import annotations

from typing import Any

import pytest

from omnirm.backends.scripted import ScriptedBackend
from omnirm.errors import ConfigError
from omnirm.judge import Judge
from omnirm.prompts.formats import get_format
from omnirm.rubrics.gold import GoldPlanner
from omnirm.rubrics.strategies import ScaledJudge
from omnirm.sample import Sample
from omnirm.types import PairVerdict, ParseFailure, Rubric

RUBRICS = (Rubric("Truth", "holds"), Rubric("Length", "short"))
SAMPLE = Sample.from_dict({"id": "one", "prompt": "Name a fruit.", "candidates": ["Apple.", "Pear."]})
FORM = get_format("pairwise-thinking")


def block(number: int, name: str = "Length") -> str:
    return f"<criteria {number}>{name}. x<Judge A>a</Judge A><Judge B>b</Judge B>B</criteria {number}>"


def test_the_prompt_asks_for_one_block_of_the_list() -> None:
    picked, given = (FORM.render(SAMPLE, rubrics=RUBRICS, pick=pick) for pick in (True, False))
    (system,) = picked.messages[0].parts
    assert "Choose the one that should decide" in system.value
    assert "leave no criterion out" not in system.value
    assert "one block for each criterion" not in system.value
    first, listed, *shown = picked.messages[1].parts
    assert first.value == f"# {picked.nonce} rubrics\n"
    assert "1. Truth" in listed.value
    assert not listed.trusted
    rest = "".join(part.value for part in given.messages[1].parts)
    assert listed.value in rest, "elsewhere the list comes last"
    before, _, after = rest.partition(f"\n{first.value}{listed.value}")
    assert "".join(part.value for part in shown) == f"\n{before}{after}", "the rest is the same"
    assert (picked.forced, picked.prefill, picked.track) == (given.forced, given.prefill, given.track)
    assert "Choose" not in given.messages[0].parts[0].value


@pytest.mark.parametrize(
    ("thought", "expected"),
    [
        (block(2), RUBRICS[1]), (block(1, "Truth"), RUBRICS[0]),
        (block(1), RUBRICS[1]),  # the name says which
        (block(1, "Smell"), "a block of no listed criterion"), (block(2, ""), "a block of no listed criterion"),
        (block(7), RUBRICS[1]), ("so", "0 blocks"),
        (block(1, "Truth") + block(2), "2 blocks"), (block(2) + block(2), "2 blocks"),
        (block(2) + "<criteria 9>", "2 blocks"),
    ],
)  # fmt: skip
def test_exactly_one_block_of_the_list_is_read(thought: str, expected: Any) -> None:
    rendered = FORM.render(SAMPLE, rubrics=RUBRICS, pick=True)
    found = FORM.parse(rendered, f"<think>{thought}</think>\nVerdict {rendered.nonce}: [[B]]", "stop")
    if isinstance(expected, str):
        assert isinstance(found, ParseFailure)
        assert (found.reason, found.detail.startswith(expected)) == ("malformed", True)
    else:
        assert isinstance(found, PairVerdict)
        assert [one.rubric for one in found.criteria] == [expected]


def test_without_rubrics_or_thinking_there_is_nothing_to_pick() -> None:
    with pytest.raises(ConfigError, match="pick chooses one of given rubrics"):
        FORM.render(SAMPLE, pick=True)
    with pytest.raises(ConfigError, match="pick chooses one of given rubrics"):
        get_format("pairwise").render(SAMPLE, rubrics=RUBRICS, pick=True)
    with pytest.raises(ConfigError, match="take pairwise-thinking"):
        Judge(ScriptedBackend([]), format="pairwise", pick=True)


def test_a_judge_picks_while_judging_and_so_does_the_strategy() -> None:
    asked: list[Any] = []

    def answer(request: Any) -> str:
        asked.append(request)
        return f"{block(2)}</think>{request.forced[1]}B]]"

    sample = Sample.from_dict({**SAMPLE.to_dict(), "rubrics": [{"name": r.name, "text": r.text} for r in RUBRICS]})
    judge = Judge(ScriptedBackend(answer), format="pairwise-thinking", orders=1, pick=True)
    judgment = judge.compare(sample)
    assert (judgment.verdict, [one.rubric.name for one in judgment.criteria]) == ("B", ["Length"])
    scaled = ScaledJudge(judge, GoldPlanner(), "selected").compare(sample)
    assert (scaled.verdict, len(asked)) == ("B", 2), "one call each"
    assert all("Choose the one" in request.messages[0].parts[0].value for request in asked)
    with pytest.raises(ConfigError, match="give a judge without pick"):
        ScaledJudge(judge, GoldPlanner(), "vote")
