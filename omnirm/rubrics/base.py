"""What a rubric planner is: samples in, rubrics for each out. Knows no judgment and no reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from omnirm.judgment import CallRecord
from omnirm.sample import Sample
from omnirm.types import ParseFailure, Rubric


@dataclass(frozen=True, slots=True)
class RubricSet:
    """The rubrics proposed for one sample, in the planner's order, and what it took.

    dropped: proposed and not kept, each with the reason. failure: why there are none (`rubrics` is empty then).
    """

    rubrics: tuple[Rubric, ...] = ()
    dropped: tuple[tuple[Rubric, str], ...] = ()
    failure: ParseFailure | None = None
    calls: tuple[CallRecord, ...] = ()


@runtime_checkable
class Planner(Protocol):
    """Proposes rubrics. `name` goes into records."""

    name: str

    def plan(self, samples: Sequence[Sample]) -> list[RubricSet]:
        """The rubrics for each sample, in order; many samples are asked for in one batch."""
        ...
