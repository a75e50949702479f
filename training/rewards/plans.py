"""What a judge has to be asked to reward completions, and what its judgments are as rewards: the three modes.

For `JudgeReward`. A plan is made, its samples are judged in whatever batches, and the plan joins what came back. Pure:
it asks nobody. A reward is a number in [0, 1], or None with a reason.

    pointwise    total / 10 of the response judged on its own (or P("Yes") as it is)
    reference    P(response better than the reference), in both orders
    group        r_i = mean over the others j of P(i better than j), j a completion of the same prompt
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from omnirm.errors import ConfigError
from omnirm.judgment import Judgment, PointJudgment
from omnirm.rubrics.trajectory import ScaledJudgment
from omnirm.sample import Sample
from omnirm.training.rewards.rows import Row

Mode = Literal["pointwise", "reference", "group"]
Outcome = Literal["probability", "win", "rank"]

POINTS = 10.0  # the highest total
ENOUGH = 0.5  # share of a completion's pairs in the group that must be readable
_WON = {"A": 1.0, "tie": 0.5, "B": 0.0}


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward in [0, 1], or None and why there is none."""

    value: float | None
    reason: str = ""


Judged = Mapping[str, Reward]  # by the sample's id; what is not in it was not answered
RowOrNot = Row | Reward  # a row, or why it is none


@dataclass(frozen=True, slots=True)
class Plan:
    """Samples to judge, each with an id of its own, and how rewards are made of what came back, one for each row."""

    samples: tuple[Sample, ...]
    join: Callable[[Judged], list[Reward]]


def plan_points(rows: Sequence[RowOrNot]) -> Plan:
    """Every response on its own."""
    asked = [row if isinstance(row, Reward) else row.sample() for row in rows]

    def join(judged: Judged) -> list[Reward]:
        return [one if isinstance(one, Reward) else _of(judged, one) for one in asked]

    return Plan(_unique(asked), join)


def plan_references(rows: Sequence[RowOrNot]) -> Plan:
    """Every response against its row's reference. One that equals it is as good: 1/2, and nobody is asked."""
    asked: list[Sample | Reward] = []
    for row in rows:
        if isinstance(row, Reward):
            asked.append(row)
        elif row.reference is None:
            asked.append(Reward(None, "the row has no reference"))
        elif row.reference.key == row.response.key:
            asked.append(Reward(0.5))
        else:
            asked.append(row.sample(row.reference))

    def join(judged: Judged) -> list[Reward]:
        return [one if isinstance(one, Reward) else _of(judged, one) for one in asked]

    return Plan(_unique(asked), join)


def plan_groups(
    rows: Sequence[RowOrNot], *, opponents: int | None = None, ranked: bool = False, size: int | None = None
) -> Plan:
    """Every response against others of the same prompt and rubrics.

    Equal responses tie without being asked about, and have the same reward. With `opponents` = k, responses stand in a
    ring (by a hash, so the order of rows does not matter) and each meets the k / 2 before and behind it.

    A response has a reward where at least half of its pairs were readable, over those:

        probability, win    the mean, so a group in which all pairs were read has the mean 1/2
        rank                share of the other rewarded ones whose mean is lower, equal ones counting half

    Args:
        rows: of whole groups; those that are no rows are in no group.
        opponents: an even number, or None for all.
        ranked: see `rank`.
        size: completions of a prompt, where the caller knows it: groups of another size are refused.

    Raises:
        ConfigError: a prompt has one completion only, all over, or not `size` of them.
    """
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if isinstance(row, Row):
            groups.setdefault(row.group, []).append(i)
    _check_groups(rows, groups, size)
    meetings: dict[int, list[tuple[int, Sample | None, bool]]] = {}  # row -> (other, sample, is the row its A?)
    for members in groups.values():
        ring = sorted(members, key=lambda i: (_row(rows, i).response.key, i))
        for i, j in _pairs(ring, opponents):
            first, second = _row(rows, i), _row(rows, j)
            sample = None if first.response.key == second.response.key else first.sample(second.response)
            meetings.setdefault(i, []).append((j, sample, True))
            meetings.setdefault(j, []).append((i, sample, False))

    def join(judged: Judged) -> list[Reward]:
        shares = [row if isinstance(row, Reward) else _share(meetings.get(i, []), judged) for i, row in enumerate(rows)]
        return _ranks(shares, list(groups.values())) if ranked else shares

    return Plan(_unique([sample for met in meetings.values() for _, sample, _ in met]), join)


def point_reward(judgment: PointJudgment) -> Reward:
    """The reward of a response judged on its own."""
    score = judgment.candidates[0].score if judgment.candidates else None
    if score is None:
        return Reward(None, _why(judgment.reasons))
    return _checked(score / POINTS if judgment.method == "rubric" else score)


def pair_reward(judgment: Judgment | ScaledJudgment, outcome: Outcome) -> Reward:
    """P(the first is better) as the judge has it, or 1, 1/2, 0 for the verdict (`win`).

    A judge of both orders must have a verdict in each: one order alone may only show a liking for a place.
    """
    if judgment.verdict is None:
        return Reward(None, _why(judgment.reasons))
    if isinstance(judgment, Judgment) and any(verdict is None for _, verdict in judgment.order_verdicts):
        return Reward(None, "read in one order only: " + _why(judgment.reasons))
    if outcome == "win":
        return Reward(_WON[judgment.verdict])
    if isinstance(judgment, Judgment):
        probability = judgment.probability_a
    elif judgment.confidence is None or judgment.verdict == "tie":
        probability = _WON[judgment.verdict]
    else:
        probability = judgment.confidence if judgment.verdict == "A" else 1 - judgment.confidence
    return _checked(probability)


def _checked(value: float | None) -> Reward:
    if value is None or not math.isfinite(value):
        return Reward(None, f"the judge gave {value}")
    return Reward(min(max(value, 0.0), 1.0))


def _why(reasons: Sequence[str]) -> str:
    return (reasons[0] if reasons else "no reason given")[:200]


def _of(judged: Judged, sample: Sample) -> Reward:
    return judged.get(sample.id, Reward(None, "not answered"))


def _unique(asked: Sequence[Sample | Reward | None]) -> tuple[Sample, ...]:
    return tuple({one.id: one for one in asked if isinstance(one, Sample)}.values())


def _row(rows: Sequence[RowOrNot], index: int) -> Row:
    row = rows[index]
    assert isinstance(row, Row)
    return row


def _check_groups(rows: Sequence[RowOrNot], groups: Mapping[str, list[int]], size: int | None) -> None:
    whole = all(isinstance(row, Row) for row in rows)
    for members in groups.values():
        if size is not None and whole and len(members) % size:
            raise ConfigError(
                f"mode group: a prompt has {len(members)} completions in this batch and group_size is {size}; whole "
                "groups must come in one call: per_device_train_batch_size x steps_per_generation must be a multiple "
                "of num_generations on every process"
            )
    if groups and whole and all(len(members) == 1 for members in groups.values()):
        raise ConfigError(
            f"mode group: {len(rows)} rows, each of another prompt (or with other rubrics), so there is nothing to "
            "compare: let all completions of a prompt come in one call, or take mode pointwise or reference"
        )


def _pairs(ring: Sequence[int], opponents: int | None) -> list[tuple[int, int]]:
    """Who meets whom, each pair once, in the order of the ring."""
    n = len(ring)
    if opponents is None or opponents >= n - 1:
        return [(ring[a], ring[b]) for a in range(n) for b in range(a + 1, n)]
    places = {(min(a, b), max(a, b)) for a in range(n) for b in [(a + d) % n for d in range(1, opponents // 2 + 1)]}
    return [(ring[a], ring[b]) for a, b in sorted(places)]


def _share(met: Sequence[tuple[int, Sample | None, bool]], judged: Judged) -> Reward:
    if not met:
        return Reward(None, "alone in its group")
    found = [(Reward(0.5) if sample is None else _of(judged, sample), first) for _, sample, first in met]
    shares = [one.value if first else 1 - one.value for one, first in found if one.value is not None]
    if len(shares) < max(1, ENOUGH * len(met)):
        reason = next(one.reason for one, _ in found if one.value is None)
        return Reward(None, f"{len(shares)} of {len(met)} pairs readable: {reason}")
    return Reward(math.fsum(shares) / len(shares))


def _ranks(shares: Sequence[Reward], groups: Sequence[Sequence[int]]) -> list[Reward]:
    ranks = list(shares)
    for members in groups:
        known = {i: round(value, 12) for i in members if (value := shares[i].value) is not None}
        for i, mine in known.items():
            others = [value for j, value in known.items() if j != i]
            beaten = sum(1.0 if value < mine else 0.5 for value in others if value <= mine)
            ranks[i] = Reward(beaten / len(others)) if others else Reward(None, "nothing else in its group was judged")
    return ranks


__all__ = [
    "Judged",
    "Mode",
    "Outcome",
    "Plan",
    "Reward",
    "pair_reward",
    "plan_groups",
    "plan_points",
    "plan_references",
    "point_reward",
]
