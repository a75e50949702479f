"""What becomes a row of training data and what does not: the settings, and notes of all that is dropped. Pure.

For `omnirm.training.synthesis.row_making`. Knows no prompt and no answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Generic, Literal, TypeVar, get_args

from omnirm.errors import ConfigError
from omnirm.rubrics.trajectory import Trajectory
from omnirm.sample import Sample
from omnirm.training.synthesis.answers import Answer
from omnirm.training.synthesis.explorer import Explored, Method
from omnirm.training.synthesis.filters import LEAST, MOST, worth_exploring
from omnirm.types import ParseFailure, Rubric

T = TypeVar("T")
ThinkingOn = Literal["text", "all", "none"]
Pick = Literal["right", "top"]
RightOverWrong = Literal["judgment", "both", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSettings:
    """How rows are made of explored pairs; changing it asks no model again.

    thinking_on: which pairs carry the thinking prompt (`text`: those without any medium); the others the verdict alone.
    pick: the SFT trajectory is the best of the `right` ones, or the `top` one, and then only where it is right.
    founded: a judgment to imitate must follow from its own criteria (see `founded`): with two orders one of two
        thoughtless readings is always right.
    eps: margin of DPO pairs on the DisRM's scale; or eps_quantile: the share of the margins that is dropped.
    right_over_wrong: kinds of DPO pairs whose chosen one must be right and whose rejected one must be wrong.
    pair_limit: DPO pairs of each kind from one sample, the widest first; None for all.
    least, most: shares of right rollouts between which a pair is kept for RL, where there are rollouts.
    sft_margin: pointwise margin over which a pair is kept for SFT; None for no such filter.
    seed: of the order in which the rubrics of a pair are listed.

    Raises:
        ConfigError: a choice that does not exist, or eps and a quantile.
    """

    method: Method = "dual-rm"
    thinking_on: ThinkingOn = "text"
    pick: Pick = "right"
    founded: bool = True
    eps: float | None = None
    eps_quantile: float | None = None
    right_over_wrong: RightOverWrong = "judgment"
    pair_limit: int | None = 4
    least: Fraction = LEAST
    most: Fraction = MOST
    sft_margin: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("thinking_on", ThinkingOn), ("pick", Pick), ("right_over_wrong", RightOverWrong)):
            if (value := getattr(self, name)) not in get_args(known):
                raise ConfigError(f"{name} {value!r}: give one of {', '.join(get_args(known))}")
        if self.eps is not None and self.eps_quantile is not None:
            raise ConfigError("eps is a margin and eps_quantile the share of margins to drop: give one of them")
        if self.eps is not None and not (self.eps >= 0 and math.isfinite(self.eps)):
            raise ConfigError(f"eps {self.eps}: give a margin of 0 or more")
        if self.eps_quantile is not None and not 0 <= self.eps_quantile < 1:
            raise ConfigError(f"eps_quantile {self.eps_quantile}: give a share from 0 to less than 1")
        if self.pair_limit is not None and self.pair_limit < 1:
            raise ConfigError(f"pair_limit {self.pair_limit}: give at least 1")
        worth_exploring([True], self.least, self.most)

    def thinks(self, sample: Sample) -> bool:
        """Does this pair carry the thinking prompt?"""
        return self.thinking_on == "all" or (self.thinking_on == "text" and sample.modalities <= {"text"})

    def good(self, one: Trajectory) -> bool:
        """Is it right, and founded where that is asked for?"""
        return bool(one.correct) and (founded(one) or not self.founded)


@dataclass(frozen=True, slots=True)
class Dropped:
    """What did not become a row of a set (`sft`, `dpo`, `grpo`), and why. `step` is "" for the whole pair."""

    set: str
    sample_id: str
    step: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Made(Generic[T]):
    """The rows of a set, what was dropped, and the margins that were asked for by kind of DPO pair."""

    rows: tuple[T, ...]
    dropped: tuple[Dropped, ...]
    eps: tuple[tuple[str, float | None], ...] = ()


def listed(one: Explored, seed: int) -> list[tuple[int, Rubric]]:
    """The rubrics of a pair in the order in which lists show them, each with its place in the plan: drawn by seed and
    id, so that no place is better than another."""
    found = list(enumerate(one.judgment.planned))
    Random(f"{seed} {one.sample.id}").shuffle(found)
    return found


def ranked(one: Explored) -> list[Trajectory]:
    """Trajectories with a meta-reward, best first; equal ones in the planner's order."""
    found = [t for t in one.judgment.trajectories if one.reward(t) is not None]
    return sorted(found, key=lambda t: -(one.reward(t) or 0.0))


def founded(one: Trajectory) -> bool:
    """Does the verdict follow from the judge's own criteria? No, where each names its winner and none names that of the
    verdict, or more name the other response."""
    winners = [criterion.verdict for criterion in one.judgment.criteria]
    verdict = one.judgment.verdict
    if not winners or None in winners or verdict not in ("A", "B"):
        return True
    ahead = winners.count(verdict) - winners.count("B" if verdict == "A" else "A")
    return ahead >= 0 and verdict in winners


def worth(one: Explored, settings: RowSettings) -> list[Trajectory]:
    """For each rubric with a meta-reward its best reading, a good one if there is any; in the planner's order."""
    best: dict[int, Trajectory] = {}
    for t in sorted(ranked(one), key=lambda t: (not settings.good(t), not t.correct)):
        best.setdefault(t.index, t)
    return [best[index] for index in sorted(best)]


@dataclass(frozen=True, slots=True)
class Dropper:
    """Notes what is dropped of one pair."""

    set: str
    sample_id: str
    into: list[Dropped]

    def __call__(self, step: str, reason: str, detail: str = "") -> None:
        kind, _, rest = reason.partition(": ")
        self.into.append(Dropped(self.set, self.sample_id, step, kind, "; ".join(x for x in (rest, detail) if x)))

    def read(self, step: str, answer: Answer | ParseFailure) -> Answer | None:
        """The answer, or None and a note where it was not accepted."""
        if isinstance(answer, ParseFailure):
            self(step, f"format {answer.reason}", answer.detail)
            return None
        return answer
