"""From all judgments of a pair to one verdict: by votes, or by the highest meta-reward. For the strategies.

Arithmetic on finished records; it asks no model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from omnirm.rubrics.meta import Meta
from omnirm.rubrics.trajectory import ScaledJudgment, Trajectory
from omnirm.scoring.meta_reward import weighted_vote


def votes(trajectories: Sequence[Trajectory]) -> tuple[tuple[str, int], ...]:
    """How many rubrics say A, B, tie; a verdict that could not be read is no vote."""
    found = [t.judgment.verdict for t in trajectories]
    return tuple(sorted(Counter(verdict for verdict in found if verdict is not None).items()))


def voted(base: ScaledJudgment, instead: str = "") -> ScaledJudgment:
    """The verdict of the vote; rubrics that say what it says rank first.

    Args:
        base: with its trajectories.
        instead: why there is a vote in place of meta-rewards. Then each rubric counts by the probability that its
            judgment gives its verdict, else by 1.
    """
    verdicts = [t.judgment.verdict for t in base.trajectories]
    weights = [(t.judgment.confidence or 0.0) if instead else 1.0 for t in base.trajectories]
    verdict, share = weighted_vote(verdicts, weights)
    return replace(
        base,
        verdict=verdict,
        confidence=None if share is None else max(share, 1 - share),
        ranking=tuple(sorted(range(len(weights)), key=lambda i: (verdicts[i] != verdict, -weights[i]))),
        fallback=f"vote weighted by verdict probabilities: {instead}" if instead else "",
    )


def by_meta_reward(base: ScaledJudgment, meta: Meta, *, allow_fallback: bool = False) -> ScaledJudgment:
    """The verdict under the rubric that ranks first. Where no rubric has a meta-reward: a vote if that is allowed,
    else no verdict and the `error` why."""
    ranking, confidence = meta.rank(base.trajectories, base.temperature)
    top = base.trajectories[ranking[0]]
    if (top.meta_rewards or {}).get(meta.function) is None:
        why = next((t.failure for t in base.trajectories if t.failure), "every verdict is a tie")
        if allow_fallback:
            return voted(base, f"no rubric has a meta-reward: {why}")
        return replace(base, ranking=ranking, error=f"no rubric has a meta-reward: {why}")
    verdict = top.judgment.verdict
    agreeing = [c for t, c in zip(base.trajectories, confidence, strict=True) if t.judgment.verdict == verdict]
    return replace(
        base,
        verdict=verdict,
        confidence=min(1.0, math.fsum(agreeing)),
        ranking=ranking,
        rubric_confidence=confidence,
    )
