"""The records of rubric scaling: sums of compute, what counts as right, what a reader finds in them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from omnirm.judgment import CallRecord, Decoding, Judgment, ModelInfo
from omnirm.rubrics.trajectory import Compute, ScaledJudgment, Trajectory, compute_of, said
from omnirm.types import ParseFailure, Rubric

CALL = CallRecord(
    0, 0, "p", "t", "k", "", "", "stop", 8, prompt_tokens=100, completion_tokens=7, computed_prompt_tokens=40
)


def judged(verdict, label="A", error="") -> Judgment:
    return Judgment("s", "pairwise", verdict, ModelInfo("m"), Decoding(0.0, 1.0, 0), "0", label=label, error=error)


def test_compute_adds_up():
    assert compute_of([CALL, CALL], scored=3) == Compute(2, 200, 80, 14, 3)
    total = compute_of([CALL]) + Compute(scored=2) + compute_of([])
    assert (total.calls, total.prompt_tokens, total.computed_prompt_tokens, total.completion_tokens) == (1, 100, 40, 7)
    assert total.scored == 2


def test_shared_beginnings_are_no_part_of_what_makes_records_equal():
    alone, beside = compute_of([CALL]), compute_of([replace(CALL, computed_prompt_tokens=5)])
    assert alone == beside
    assert alone.computed_prompt_tokens != beside.computed_prompt_tokens
    one = ScaledJudgment("s", "vote", "A", compute=alone)
    assert one == replace(one, compute=beside)
    assert one != replace(one, compute=alone + compute_of([CALL]))


@pytest.mark.parametrize(
    ("verdict", "label", "rubric", "whole"),
    [
        ("A", "A", True, True),
        ("B", "A", False, False),
        ("tie", "A", False, False),
        (None, "A", False, None),
        ("A", None, None, None),
        ("tie", "tie", True, True),
    ],
)
def test_right_and_wrong(verdict, label, rubric, whole):
    assert Trajectory(0, (), judged(verdict, label)).correct is rubric
    assert ScaledJudgment("s", "vote", verdict, label=label).correct is whole


def test_every_reason_once():
    broken = Trajectory(0, (), judged(None, error="no medium"), failure="no verdict could be read")
    one = ScaledJudgment("s", "meta", None, trajectories=(broken, broken), error="nothing")
    assert one.reasons == ("nothing", "no medium", "no verdict could be read")
    assert ScaledJudgment("s", "vote", "A").reasons == ()


def test_the_top_and_the_names():
    plain = Trajectory(0, (Rubric("One"),), judged("A"))
    both = Trajectory(1, (Rubric("One"), Rubric("Two")), judged("B"))
    one = ScaledJudgment("s", "meta", "B", trajectories=(plain, both), ranking=(1, 0))
    assert (one.top, one.top.name, plain.name) == (both, "One + Two", "One")
    assert ScaledJudgment("s", "vote", None).top is None


def test_a_failure_in_one_line():
    assert said(ParseFailure("truncated", "no end")) == "truncated: no end"
    assert said(ParseFailure("malformed")) == "malformed"
