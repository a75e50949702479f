"""What a run's judgments say in numbers, and how two runs differ on the same samples. Pure: no files, no widgets.

Shares of rows have Wilson intervals; means and paired differences have percentile bootstrap intervals over rows
(2,000 resamples, seeded). All intervals are 95 %. A verdict that could not be read, and a tie where the label is none,
are not right; coverage stands beside accuracy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, fsum, lgamma, log, sqrt
from statistics import NormalDist

from omnirm.app.runs.facts import RowFacts

_RESAMPLES = 2000
_Z = NormalDist().inv_cdf(0.975)
BINS = 10  # of confidence, from 0 to 1


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `of`: its value and 95 % interval, each in [0, 1] (a difference: in [-1, 1]). `of` is at least 1."""

    value: float
    low: float
    high: float
    count: float
    of: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Judgments with a confidence in [low, high): how many are right, wrong, and without a label.

    mean: their mean confidence (of the labelled ones); right_share: None where none is labelled.
    """

    low: float
    high: float
    right: int
    wrong: int
    unlabelled: int
    mean: float | None = None
    right_share: Share | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The figures of a run. None where there is nothing to compute one from.

    accuracy: of the labelled rows, unread ones counting as wrong; accuracy_read: of those with a verdict.
    consistency: of the readings in both orders, those that said the same both times.
    by_modality: accuracy by what a sample holds besides text. verdicts, labels: counts.
    calibration_error: mean distance of confidence and accuracy over the bins, weighted (expected calibration error).
    tokens: in all; reasons: why rows have no verdict, most frequent first.
    """

    rows: int
    judged: int
    labelled: int
    coverage: Share | None
    accuracy: Share | None
    accuracy_read: Share | None
    consistency: Share | None
    by_modality: tuple[tuple[str, Share], ...]
    verdicts: tuple[tuple[str, int], ...]
    labels: tuple[tuple[str, int], ...]
    bins: tuple[Bin, ...]
    calibration_error: float | None
    calls: int
    prompt_tokens: int
    completion_tokens: int
    tokens_by_row: tuple[int, ...]
    reasons: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A sample on which two runs differ; `number_a`, `number_b`: its rows in them."""

    sample_id: str
    number_a: int
    number_b: int
    verdict_a: str | None
    verdict_b: str | None
    label: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs on the samples that both have.

    both_right, only_a, only_b, neither: of the labelled ones. difference: accuracy of A minus that of B, paired.
    p_value: exact McNemar test of only_a against only_b. same_verdict: of all in both.
    differing: samples with different verdicts, in A's order. other_content: samples of one id whose texts differ.
    repeated: rows left out because an earlier one has the same id.
    """

    in_both: int
    alone_a: int
    alone_b: int
    labelled: int
    both_right: int
    only_a: int
    only_b: int
    neither: int
    accuracy_a: Share | None
    accuracy_b: Share | None
    difference: Share | None
    p_value: float | None
    same_verdict: int
    differing: tuple[Difference, ...]
    other_content: int = 0
    repeated: int = 0


def share(count: int, of: int) -> Share | None:
    """A share with its Wilson score interval (Wilson 1927); None of nothing.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n). By hand, since a page should not wait seconds for SciPy.
    """
    if not of:
        return None
    p, square = count / of, _Z * _Z / of
    middle, half = p + square / 2, _Z * sqrt(p * (1 - p) / of + square / (4 * of))
    low, high = (middle - half) / (1 + square), (middle + half) / (1 + square)
    return Share(p, max(0.0, min(low, p)), min(1.0, max(high, p)), count, of)


def mean_share(values: Iterable[float], *, seed: int = 0) -> Share | None:
    """The mean of values of rows with its bootstrap interval; None of nothing.

    Resampling rows is drawing how often each different value occurs, so it costs no more for many rows.
    """
    counts = Counter(values)
    total = sum(counts.values())
    if not total:
        return None
    import numpy as np

    known = np.array(list(counts), dtype=float)
    times = np.array(list(counts.values()), dtype=float)
    means = np.random.default_rng(seed).multinomial(total, times / total, _RESAMPLES) @ known / total
    value = float(known @ times / total)
    low, high = (float(x) for x in np.quantile(means, (0.025, 0.975)))
    return Share(value, min(low, value), max(high, value), value * total, total)


def modality_group(modalities: Sequence[str]) -> str:
    """What a sample holds besides text: `image`, `image + audio`; `text` where it holds nothing else."""
    return " + ".join(one for one in modalities if one != "text") or "text"


def summarise(facts: Sequence[RowFacts], modalities: Sequence[Sequence[str]]) -> RunSummary:
    """The figures of rows; `modalities` are those of each row's sample, () where they are not known."""
    labelled = [one for one in facts if one.label is not None]
    read = [one for one in labelled if one.verdict is not None]
    right = sum(one.correct is True for one in labelled)
    judged = sum(one.verdict is not None for one in facts)
    groups: dict[str, list[bool]] = {}
    for one, kinds in zip(facts, modalities, strict=True):
        if one.label is not None and kinds:
            groups.setdefault(modality_group(kinds), []).append(one.correct is True)
    by_modality = ((name, share(sum(rows), len(rows))) for name, rows in sorted(groups.items(), key=_largest_first))
    bins = _bins(facts)
    return RunSummary(
        rows=len(facts),
        judged=judged,
        labelled=len(labelled),
        coverage=share(judged, len(facts)),
        accuracy=share(right, len(labelled)),
        accuracy_read=share(right, len(read)),
        consistency=_consistency(facts),
        by_modality=tuple((name, found) for name, found in by_modality if found is not None),
        verdicts=_counted(one.verdict or "unread" for one in facts),
        labels=_counted(one.label for one in labelled if one.label is not None),
        bins=bins,
        calibration_error=_calibration_error(bins),
        calls=sum(one.calls for one in facts),
        prompt_tokens=sum(one.prompt_tokens for one in facts),
        completion_tokens=sum(one.completion_tokens for one in facts),
        tokens_by_row=tuple(one.prompt_tokens + one.completion_tokens for one in facts),
        reasons=tuple(Counter(one.reason for one in facts if one.verdict is None).most_common()),
    )


def compare(
    a: Sequence[RowFacts], b: Sequence[RowFacts], texts_a: dict[str, int] | None = None,
    texts_b: dict[str, int] | None = None, *, seed: int = 0,
) -> Comparison:  # fmt: skip
    """Two runs row by row, matched by sample id; `texts_*`: hashes of the samples' texts by id, where known."""
    rows_a, rows_b = _by_id(a), _by_id(b)
    both = [id for id in rows_a if id in rows_b]
    cells: Counter[tuple[bool, bool]] = Counter()
    differing, same = [], 0
    for id in both:
        one, other = a[rows_a[id]], b[rows_b[id]]
        label = one.label if one.label is not None else other.label
        if label is not None:
            cells[(one.verdict == label, other.verdict == label)] += 1
        if one.verdict == other.verdict:
            same += 1
        else:
            differing.append(Difference(id, rows_a[id], rows_b[id], one.verdict, other.verdict, label))
    only_a, only_b = cells[True, False], cells[False, True]
    both_right, labelled = cells[True, True], sum(cells.values())
    texts_a, texts_b = texts_a or {}, texts_b or {}
    return Comparison(
        in_both=len(both),
        alone_a=len(rows_a) - len(both),
        alone_b=len(rows_b) - len(both),
        labelled=labelled,
        both_right=both_right,
        only_a=only_a,
        only_b=only_b,
        neither=cells[False, False],
        accuracy_a=share(both_right + only_a, labelled),
        accuracy_b=share(both_right + only_b, labelled),
        difference=mean_share(
            [1.0] * only_a + [-1.0] * only_b + [0.0] * (labelled - only_a - only_b), seed=seed
        ),
        p_value=mcnemar(only_a, only_b) if labelled else None,
        same_verdict=same,
        differing=tuple(differing),
        other_content=sum(id in texts_a and id in texts_b and texts_a[id] != texts_b[id] for id in both),
        repeated=len(a) - len(rows_a) + len(b) - len(rows_b),
    )  # fmt: skip


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact McNemar test: the chance of a split at least as uneven, were each differing row as likely right for one run
    as for the other. 2 · Σ_{k ≤ min} C(n, k) / 2^n, at most 1; 1 where none differ.
    """
    n, least = only_a + only_b, min(only_a, only_b)
    logs = (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2) for k in range(least + 1))
    return min(1.0, 2 * fsum(exp(one) for one in logs))


def _consistency(facts: Sequence[RowFacts]) -> Share | None:
    twice = [one for one in facts if one.in_both_orders]
    if all(one.in_both_orders == 1 for one in twice):
        return share(sum(one.agreeing for one in twice), len(twice))
    return mean_share(one.agreeing / one.in_both_orders for one in twice)


def _bins(facts: Sequence[RowFacts]) -> tuple[Bin, ...]:
    sorted_in: list[list[RowFacts]] = [[] for _ in range(BINS)]
    for one in facts:
        if one.confidence is not None and one.verdict is not None:
            sorted_in[min(int(one.confidence * BINS), BINS - 1)].append(one)
    found = []
    for i, rows in enumerate(sorted_in):
        known = [one for one in rows if one.correct is not None]
        right = sum(one.correct is True for one in known)
        mean = sum(one.confidence or 0.0 for one in known) / len(known) if known else None
        wrong, unlabelled = len(known) - right, len(rows) - len(known)
        found.append(Bin(i / BINS, (i + 1) / BINS, right, wrong, unlabelled, mean, share(right, len(known))))
    return tuple(found)


def _calibration_error(bins: Sequence[Bin]) -> float | None:
    known = [(one.mean, one.right_share) for one in bins if one.mean is not None and one.right_share is not None]
    total = sum(right.of for _, right in known)
    return sum(right.of * abs(mean - right.value) for mean, right in known) / total if total else None


def _by_id(facts: Sequence[RowFacts]) -> dict[str, int]:
    found: dict[str, int] = {}
    for number, one in enumerate(facts):
        found.setdefault(one.sample_id, number)
    return found


def _counted(values: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Counts in the order A, B, tie, other candidates, unread."""
    counts = Counter(values)
    order = {"A": 0, "B": 1, "tie": 2, "unread": 4}
    return tuple(sorted(counts.items(), key=lambda one: (order.get(one[0], 3), len(one[0]), one[0])))


def _largest_first(group: tuple[str, list[bool]]) -> tuple[int, str]:
    return -len(group[1]), group[0]
