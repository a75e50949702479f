"""What the app's store gives and takes: judgments, jobs, sets of pairs to vote on, votes. Plain frozen values.

For everybody who talks to the `Store`. Dicts in them are JSON-ready copies: changing one changes nothing
in the store. Every time is a timezone-aware UTC datetime.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
Choice = Literal["A", "B", "tie", "both_bad", "skip"]
JOB_STATES: tuple[JobState, ...] = get_args(JobState)
CHOICES: tuple[Choice, ...] = get_args(Choice)
MOST_STRENGTH = 5


@dataclass(frozen=True, slots=True)
class StoredJudgment:
    """One judgment made in the app, with what was judged.

    kind: of the record (`pairwise`, `pointwise`, `scaled`); strategy: of a scaled one, method of a pointwise one.
    verdict, label: `A`, `B`, ..., `tie`, or None; for single scores the letter of the best candidate.
    record: what the judge gave (`to_dict`); sample: in the documented form; task: what was asked for, may be empty.
    job: id of the job that made it, "" where there was none.
    """

    id: str
    created: datetime
    kind: str
    title: str
    model: str
    strategy: str
    verdict: str | None
    confidence: float | None
    label: str | None
    modalities: tuple[str, ...]
    record: dict[str, Any]
    sample: dict[str, Any]
    task: dict[str, Any]
    job: str


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as stored. What its spec, progress and result mean is the business of who runs it."""

    id: str
    kind: str
    state: JobState
    spec: dict[str, Any]
    progress: dict[str, Any]
    error: str
    result: dict[str, Any]
    created: datetime
    started: datetime | None
    finished: datetime | None


@dataclass(frozen=True, slots=True)
class VoteSet:
    """A set of pairs to vote on. source: where it came from, for people; count: how many pairs."""

    id: str
    name: str
    source: str
    created: datetime
    count: int


@dataclass(frozen=True, slots=True)
class VotePair:
    """One pair of a set.

    pair_id: unique in the set, 1-64 characters; position: place in the set, from 0 (given by the store).
    verdict: the judge's, `A`, `B`, `tie` or None; probability_a: that A is better, in [0, 1]; judgment: its id in the
    store, "" where it is not there.
    """

    pair_id: str
    position: int
    sample: dict[str, Any]
    verdict: str | None = None
    probability_a: float | None = None
    judgment: str = ""


@dataclass(frozen=True, slots=True)
class Vote:
    """What one person said about one pair.

    choice: in the sample's own order, whatever stood where; left: the candidate that stood left.
    strength: how much better, 1 (slightly) to 5 (by far), None where it was not said.
    rubrics: criteria that were ticked; seconds: from seeing to voting; created: set by the store where it is None.
    """

    set_id: str
    pair_id: str
    annotator: str
    choice: Choice
    left: Literal["A", "B"]
    strength: int | None = None
    rubrics: tuple[str, ...] = ()
    comment: str = ""
    seconds: float | None = None
    created: datetime | None = field(default=None, compare=False)
