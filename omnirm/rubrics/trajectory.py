"""What became of one rubric on one pair, and of all of them together: the records of rubric-based test-time scaling.

For strategies, run folders, studies and training data. JSON-ready and free of clocks, like `omnirm.judgment`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from omnirm.judgment import CallRecord, Judgment
from omnirm.records import from_plain, to_plain
from omnirm.types import Letter, ParseFailure, Rubric

Strategy = Literal["single", "vote", "selected", "combined", "meta"]
STRATEGIES: tuple[Strategy, ...] = ("single", "vote", "selected", "combined", "meta")


@dataclass(frozen=True, slots=True)
class Compute:
    """What a verdict took: calls of the generative model, their tokens, and responses that the DisRM was asked about.

    computed_prompt_tokens: prompt tokens that were really computed, shared beginnings once. It depends on what was
        asked together and does not count when records are compared; 0 where the backend does not tell.
    least_prompt_tokens: the least that had to be computed: each different beginning of the prompts of a call once.
    """

    calls: int = 0
    prompt_tokens: int = 0
    computed_prompt_tokens: int = field(default=0, compare=False)
    completion_tokens: int = 0
    scored: int = 0
    least_prompt_tokens: int = field(default=0, compare=False)

    def __add__(self, other: Compute) -> Compute:
        return Compute(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.computed_prompt_tokens + other.computed_prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.scored + other.scored,
            self.least_prompt_tokens + other.least_prompt_tokens,
        )


def compute_of(calls: Iterable[CallRecord], scored: int = 0) -> Compute:
    """The compute of some calls."""
    found = list(calls)
    return Compute(
        len(found),
        sum(call.prompt_tokens for call in found),
        sum(call.computed_prompt_tokens for call in found),
        sum(call.completion_tokens for call in found),
        scored,
        sum(call.least_prompt_tokens for call in found),
    )


def said(failure: ParseFailure) -> str:
    """A failure in one line: its reason, and the detail where there is one."""
    return f"{failure.reason}: {failure.detail}" if failure.detail else failure.reason


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One rubric's way: judgment, refined responses, DisRM scores before and after, meta-rewards.

    index: place in the planner's order (of the first one, where several were combined). rubrics: the one, or those that
        were combined; for `single` the sample's own, mostly none.
    comments, refined: on and of response A and B; "" where a response was not refined (`failure` says why). Media in a
        refined response are named by kind.
    changed: was the response changed? One that was not is not scored again: its t is its s.
    scores: s1, s2 (responses A and B), t1, t2 (refined); None where there is none.
    meta_rewards: by function, None where there is none; None before the DisRM was asked.
    """

    index: int
    rubrics: tuple[Rubric, ...]
    judgment: Judgment
    comments: tuple[str, str] = ("", "")
    refined: tuple[str, str] = ("", "")
    changed: tuple[bool, bool] = (False, False)
    scores: tuple[float | None, float | None, float | None, float | None] = (None, None, None, None)
    meta_rewards: Mapping[str, float | None] | None = None
    failure: str = ""
    compute: Compute = Compute()

    @property
    def name(self) -> str:
        """The rubrics' names."""
        return " + ".join(rubric.name for rubric in self.rubrics)

    @property
    def correct(self) -> bool | None:
        """Is its verdict the label? An unread verdict of a labelled pair is not."""
        return None if self.judgment.label is None else self.judgment.verdict == self.judgment.label


@dataclass(frozen=True, slots=True)
class ScaledJudgment:
    """The verdict on a pair after scaling over rubrics.

    confidence: in [0, 1]. `vote`: share of the votes behind the verdict, a tie counting half to each side, so 0.5 for
        a verdict `tie`. `meta`: share of the softmax over meta-rewards behind it. Else the judgment's own.
    ranking: places in `trajectories`, best first; rubric_confidence: softmax of each trajectory (0 where it has none).
    planned, dropped: what the planner proposed, and what it dropped with the reason.
    stopped: `all` rubrics judged, `settled` (no further rubric could change the vote), `confident`.
    fallback: what was done in place of the strategy asked for, and why; "" where nothing was.
    """

    sample_id: str
    strategy: Strategy
    verdict: Letter | None
    confidence: float | None = None
    label: Letter | None = None
    function: str = ""
    temperature: float = 1.0
    planner: str = ""
    planned: tuple[Rubric, ...] = ()
    dropped: tuple[tuple[Rubric, str], ...] = ()
    trajectories: tuple[Trajectory, ...] = ()
    ranking: tuple[int, ...] = ()
    rubric_confidence: tuple[float, ...] = ()
    votes: tuple[tuple[str, int], ...] = ()
    stopped: Literal["all", "settled", "confident"] = "all"
    compute: Compute = Compute()
    disrm: str = ""
    refiner: str = ""
    fallback: str = ""
    error: str = ""
    kind: Literal["scaled"] = "scaled"

    @property
    def judged(self) -> bool:
        """Is there a verdict?"""
        return self.verdict is not None

    @property
    def correct(self) -> bool | None:
        """Does the verdict equal the label? None without a label or without a verdict."""
        return None if self.label is None or self.verdict is None else self.verdict == self.label

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why there is no verdict, or why trajectories have none; every reason once."""
        found = [self.error] if self.error else []
        for one in self.trajectories:
            found += [*one.judgment.reasons, *([one.failure] if one.failure else [])]
        return tuple(dict.fromkeys(found))

    @property
    def top(self) -> Trajectory | None:
        """The trajectory that ranks first."""
        return self.trajectories[self.ranking[0]] if self.ranking else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return to_plain(self)

    def to_json(self) -> str:
        """One line of ASCII JSON; `from_dict` of it gives back an equal record."""
        return json.dumps(to_plain(self), allow_nan=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ScaledJudgment:
        """Raises `SampleError` for anything that `to_dict` does not give."""
        return from_plain(cls, data)
