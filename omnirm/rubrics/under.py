"""Judging samples under one rubric at a time, in one batch. For the planners that keep a rubric by what it leads to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from omnirm.errors import ConfigError
from omnirm.judgment import CallRecord, Judgment
from omnirm.sample import Sample
from omnirm.types import Rubric

if TYPE_CHECKING:
    from omnirm.judge import Judge


def judge_under(judge: Judge, pairs: Sequence[tuple[Sample, Rubric]]) -> list[Judgment]:
    """Each sample judged under its one rubric (and no other), in order, asked for in one batch.

    Raises:
        BackendError: the backend as a whole failed.
    """
    alone = [replace(sample, rubrics=(replace(rubric, weight=1.0),)) for sample, rubric in pairs]
    return judge.compare(alone)


def check_judge(judge: Judge) -> None:
    """Raises `ConfigError` for a judge that would judge everything under rubrics of its own."""
    if judge.rubrics is not None:
        raise ConfigError("the judge has rubrics of its own; give one without, the planner brings them")


def calls_of(judgment: Judgment) -> tuple[CallRecord, ...]:
    """The calls behind a judgment."""
    return tuple(one.call for one in judgment.calls)
