"""Bootstrap intervals over pairs, as the reports and tables on the nano world show them."""

from __future__ import annotations

from typing import Any


def interval(values: Any) -> tuple[float, float, float]:
    """Mean and 95 % percentile bootstrap interval over pairs (2,000 resamples, seeded).

    Args:
        values: [pairs], numbers, at least one; shares or differences of shares, means over seeds.
    """
    import numpy as np
    from scipy.stats import bootstrap

    values = np.asarray(values, dtype=np.float64)
    mean = float(values.mean())
    if values.std() == 0:
        return mean, mean, mean
    found = bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(0))
    low, high = (float(x) for x in found.confidence_interval)
    return mean, low, high


def percent(mean: float, low: float, high: float, sign: str = "") -> str:
    """`12.3 [10.0, 14.5]` of shares; `sign` "+" for differences."""
    return "{:{s}.1f} [{:{s}.1f}, {:{s}.1f}]".format(*(100 * x for x in (mean, low, high)), s=sign)


__all__ = ["interval", "percent"]
