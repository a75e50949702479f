"""What rubric scaling is worth on a labelled set: accuracy by rank, votes and best-of-N, margins, ranges, confidence.

For the study command and notebooks. From judgments of the strategy `meta` (each rubric of a pair with its meta-rewards)
it computes the figures of the meta-reward papers for a user's own models: accuracy of the rubric at each rank under
each meta-reward and without any ranking, Vote@N and best-of-N, the margin from top to bottom, ranges of the rewards,
confidence by temperature. Intervals are percentile bootstrap intervals over pairs. It calls no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnirm.errors import ConfigError
from omnirm.rubrics.trajectory import ScaledJudgment, Trajectory
from omnirm.scoring.meta_reward import FUNCTIONS, best_of, confidence, ranked, vote_at

UNRANKED = "planner's order"
RANKINGS: tuple[str, ...] = (*FUNCTIONS, UNRANKED)
TEMPERATURES = (1.0, 5.0, 10.0)
_RESAMPLES = 2000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over `pairs` pairs with its 95 % interval: shares in [0, 1], margins in [-1, 1]."""

    value: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True, slots=True)
class RankingStudy:
    """One way of ranking the rubrics.

    by_rank[r]: accuracy of the verdict under the rubric at rank r + 1. vote[n], best[n]: Vote@N and best-of-N for
    N = n + 1. margin: accuracy at the top minus accuracy at the last rank, paired. rewards: minimum, quartiles and
    maximum of the meta-reward over all rubrics (empty for the planner's order). confidence: by temperature, the mean
    softmax confidence by rank.
    """

    ranking: str
    by_rank: tuple[Figure, ...]
    vote: tuple[Figure, ...]
    best: tuple[Figure, ...]
    margin: Figure
    above_mean: Figure  # top rank minus the mean over all rubrics, paired
    rewards: tuple[float, ...]
    confidence: tuple[tuple[float, tuple[float, ...]], ...]


@dataclass(frozen=True, slots=True)
class Study:
    """All of it.

    left_out: pairs that were not studied, with the reason. rubrics: of a pair, at most. mean: accuracy of a rubric
    drawn at random. coverage: share of the rubrics whose verdict could be read; rewarded: of those that have a
    consistency meta-reward. compute: means for a pair.
    """

    pairs: int
    left_out: tuple[tuple[str, str], ...]
    rubrics: int
    mean: Figure
    coverage: float
    rewarded: float
    rankings: tuple[RankingStudy, ...]
    compute: dict[str, float]


def study(judgments: Sequence[ScaledJudgment], *, seed: int = 0) -> Study:
    """The figures of labelled judgments.

    Pairs without a label A or B, or without a rubric that was judged, are left out and named. A verdict that could not
    be read, and a tie, are not right; rubrics without a meta-reward rank last. Where a pair has fewer rubrics than
    others, deeper ranks have fewer pairs, and Vote@N and best-of-N of more rubrics than it has take all it has.

    Args:
        judgments: of the strategy `meta`; others are left out.
        seed: of the bootstrap, at least 0.

    Raises:
        ConfigError: no pair is left.
    """
    kept, left_out = [], []
    for one in judgments:
        if one.label not in ("A", "B"):
            left_out.append((one.sample_id, "no label A or B"))
        elif not one.trajectories:
            left_out.append((one.sample_id, one.error or "no rubric was judged"))
        elif one.strategy != "meta":
            left_out.append((one.sample_id, f"strategy {one.strategy} gives no meta-rewards"))
        else:
            kept.append(one)
    if not kept:
        raise ConfigError("nothing to study: no labelled pair has a judged rubric")
    boot = _Bootstrap(len(kept), seed)
    most = max(len(one.trajectories) for one in kept)
    right = _table([[bool(t.correct) for t in one.trajectories] for one in kept], most)
    means = np.nanmean(right, axis=1)
    every = [t for one in kept for t in one.trajectories]
    return Study(
        pairs=len(kept),
        left_out=tuple(left_out),
        rubrics=most,
        mean=boot.mean(means),
        coverage=float(np.mean([t.judgment.verdict is not None for t in every])),
        rewarded=float(np.mean([_reward(t, "consistency") is not None for t in every])),
        rankings=tuple(_ranking(name, kept, most, means, boot) for name in RANKINGS),
        compute={
            name: float(np.mean([getattr(one.compute, name) for one in kept]))
            for name in (
                "calls",
                "prompt_tokens",
                "computed_prompt_tokens",
                "least_prompt_tokens",
                "completion_tokens",
                "scored",
            )
        },
    )


def _ranking(name: str, kept: Sequence[ScaledJudgment], most: int, means: Floats, boot: _Bootstrap) -> RankingStudy:
    orders = [_order(one.trajectories, name) for one in kept]
    verdicts = [[one.trajectories[i].judgment.verdict for i in order] for one, order in zip(kept, orders, strict=True)]
    right_rows = [[v == one.label for v in row] for one, row in zip(kept, verdicts, strict=True)]
    right = _table(right_rows, most)
    votes = [[vote_at(row, n) == one.label for one, row in zip(kept, verdicts, strict=True)] for n in _upto(most)]
    best = [[best_of(row, n) for row in right_rows] for n in _upto(most)]
    last = np.array([row[-1] for row in right_rows], dtype=float)
    rewards: list[float] = []
    by_temperature: list[tuple[float, tuple[float, ...]]] = []
    if name != UNRANKED:
        by_pair = [[_number(_reward(t, name)) for t in one.trajectories] for one in kept]
        flat = np.array([x for row in by_pair for x in row])
        flat = flat[np.isfinite(flat)]
        rewards = np.quantile(flat, (0, 0.25, 0.5, 0.75, 1)).tolist() if flat.size else []
        for temperature in TEMPERATURES:
            shares = [confidence(row, temperature)[order] for row, order in zip(by_pair, orders, strict=True)]
            ranks = np.nanmean(_table([list(row) for row in shares], most), axis=0)
            by_temperature.append((temperature, tuple(float(x) for x in ranks)))
    return RankingStudy(
        ranking=name,
        by_rank=tuple(boot.mean(right[:, r]) for r in range(most)),
        vote=tuple(boot.mean(np.array(column, dtype=float)) for column in votes),
        best=tuple(boot.mean(np.array(column, dtype=float)) for column in best),
        margin=boot.mean(right[:, 0] - last),
        above_mean=boot.mean(right[:, 0] - means),
        rewards=tuple(rewards),
        confidence=tuple(by_temperature),
    )


def _order(trajectories: Sequence[Trajectory], name: str) -> list[int]:
    if name == UNRANKED:
        return list(range(len(trajectories)))
    return ranked([_number(_reward(t, name)) for t in trajectories])


def _reward(one: Trajectory, name: str) -> float | None:
    return (one.meta_rewards or {}).get(name)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _upto(most: int) -> range:
    return range(1, most + 1)


def _table(rows: Sequence[Sequence[Any]], width: int) -> Floats:
    """Rows of unequal length as one array, NaN where a row ends early."""
    table = np.full((len(rows), width), np.nan)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table


class _Bootstrap:
    """The same resamples of pairs for every figure, so that differences stay paired."""

    def __init__(self, pairs: int, seed: int) -> None:
        drawn = np.random.default_rng(seed).multinomial(pairs, np.full(pairs, 1 / pairs), _RESAMPLES)
        self._times: Floats = drawn.astype(np.float64)  # [resamples, pairs]: how often each pair was drawn

    def mean(self, values: Floats) -> Figure:
        """Mean of the values that are there, with the 95 % percentile interval over resampled pairs."""
        known = np.isfinite(values)
        if not known.any():
            return Figure(0.0, 0.0, 0.0, 0)
        total = self._times @ np.where(known, values, 0.0)
        count = self._times @ known.astype(np.float64)
        means = total[count > 0] / count[count > 0]
        value = float(values[known].mean())
        low, high = (float(x) for x in np.quantile(means, (0.025, 0.975)))
        return Figure(value, min(low, value), max(high, value), int(known.sum()))  # but for rounding within anyway
