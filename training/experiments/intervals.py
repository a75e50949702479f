"""Bootstrap intervals over pairs, as the tables show them."""

from __future__ import annotations

from typing import Any

_RESAMPLES = 2000


def interval(values: Any) -> tuple[float, float, float]:
    """Mean and 95 % bootstrap interval over pairs of what [pairs] says, the mean over seeds."""
    import numpy as np

    drawn = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def percent(mean: float, low: float, high: float, sign: str = "") -> str:
    """`12.3 [10.0, 14.5]` of shares; `sign` "+" for differences."""
    return "{:{s}.1f} [{:{s}.1f}, {:{s}.1f}]".format(*(100 * x for x in (mean, low, high)), s=sign)


__all__ = ["interval", "percent"]
