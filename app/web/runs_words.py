"""Figures of runs in words: numbers, intervals, times, and what a chart or a comparison says. For `runs_views`."""

from __future__ import annotations

from datetime import datetime

from omnirm.app.runs.statistics import Comparison, RunSummary, Share


def interval(share: Share | None) -> str:
    """`71 % (62–79)`; a dash where there is none."""
    if share is None:
        return "–"
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f}–{100 * share.high:.0f})"


def number(value: float | None) -> str:
    """A count as people read it: 1,234 and 1.2 million; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value < 1e6 else f"{value / 1e6:,.1f} million"


def ago(moment: datetime | None, now: datetime) -> str:
    """`5 minutes ago`; the date where it is longer than a week."""
    if moment is None:
        return ""
    seconds = (now - moment).total_seconds()
    for unit, size, most in (("minute", 60, 60), ("hour", 3600, 24), ("day", 86400, 7)):
        count = int(seconds // size)
        if count < 1:
            return "just now" if unit == "minute" else ""
        if count < most:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return moment.strftime("%d %b %Y")


def duration(seconds: float) -> str:
    """`12 s`, `5 min`, `1.5 h`."""
    if seconds < 1:
        return "less than a second"
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def says(found: Comparison) -> str:
    """The comparison in a sentence."""
    if not found.in_both:
        return "These runs share no sample, so there is nothing to compare."
    if found.difference is None:
        return "The samples in both have no labels: the runs can only be compared by their verdicts."
    better = "first" if found.difference.value > 0 else "second"
    if found.difference.low <= 0 <= found.difference.high:
        return "No clear difference: the interval of the difference holds zero."
    return f"The {better} run is right more often, beyond what chance would explain."


def points(share: Share | None) -> str:
    """A paired difference: `+2.5 points (-1.0 to +6.0)`; a dash where there is none."""
    if share is None:
        return "–"
    return f"{100 * share.value:+.1f} points ({100 * share.low:+.1f} to {100 * share.high:+.1f})"


def chance(p_value: float | None) -> str:
    """A p-value as it is written in papers."""
    if p_value is None:
        return "–"
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def captions(summary: RunSummary) -> dict[str, tuple[str, str]]:
    """Title and sentence of each chart."""
    groups = summary.by_modality
    lowest = min(groups, key=lambda one: one[1].value) if len(groups) > 1 else None
    error = summary.calibration_error
    rows = max(1, summary.rows)
    return {
        "modality": (
            "Accuracy by modality",
            f"Lowest on {lowest[0]}: {interval(lowest[1])}." if lowest
            else f"All labelled samples: {interval(groups[0][1])}." if groups
            else "Needs labels and stored samples.",
        ),
        "confidence": (
            "Confidence",
            "How sure the judge was." if any(b.right + b.wrong + b.unlabelled for b in summary.bins)
            else "No judgment has a confidence.",
        ),
        "reliability": (
            "Reliability",
            f"Confidence and accuracy are {100 * error:.0f} points apart on average." if error is not None
            else "Needs labels and a confidence.",
        ),
        "balance": (
            "Verdicts",
            ", ".join(f"{key} {100 * count / rows:.0f} %" for key, count in summary.verdicts)
            + (" (outlines: the labels)." if summary.labels else ".") if summary.verdicts else "No judgment yet.",
        ),
        "tokens": (
            "Tokens",
            f"{number(round((summary.prompt_tokens + summary.completion_tokens) / rows))} a judgment on average."
            if summary.prompt_tokens else "No tokens were counted.",
        ),
    }  # fmt: skip
