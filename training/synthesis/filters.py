"""Which pairs are worth training on, by how a judge fares with them: PaTaRM's two filters. Pure functions on numbers.

Paper: "PaTaRM: Bridging Pairwise and Pointwise Signals via Preference-Aware Task-Adaptive Reward Modeling".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from omnirm.errors import ConfigError

LEAST, MOST = Fraction(1, 8), Fraction(6, 8)
MARGIN = 2.0  # points of the scale 0 to 10


def share_right(right: Sequence[bool | None]) -> Fraction:
    """#{right} / #{rollouts}; a rollout that could not be read (None) is not right.

    Raises:
        ConfigError: no rollout at all.
    """
    if not right:
        raise ConfigError("no rollouts: there is no share of right ones")
    return Fraction(sum(one is True for one in right), len(right))


def worth_exploring(right: Sequence[bool | None], least: Fraction = LEAST, most: Fraction = MOST) -> bool:
    """For RL: is the judge right in 1/8 to 6/8 of its rollouts (both ends included)?

    A pair that it never gets right gives no signal, and one that it nearly always gets right none that it needs.

    Raises:
        ConfigError: no rollout, or bounds that are no shares in order.
    """
    if not 0 <= least <= most <= 1:
        raise ConfigError(f"shares of right rollouts from {least} to {most}: give 0 <= least <= most <= 1")
    return least <= share_right(right) <= most


def wide_enough(margin: float | None, least: float = MARGIN) -> bool:
    """For SFT: is the pointwise score of the chosen response more than `least` above that of the rejected one?

    A margin that could not be had (None, NaN) is not wide enough.
    """
    return margin is not None and math.isfinite(margin) and round(margin, 9) > least
