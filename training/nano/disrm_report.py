"""Measures a reward model on the held-out nano world: pair accuracy, refined responses, calibration.

    python -m omnirm.training.nano.disrm_report runs/nano-disrm/final --pairs 200 --json runs/disrm.json

An item that could not be scored makes its pairs wrong, and coverage stands beside. Equal scores count as half right.
Intervals are 95 % bootstrap intervals over requests (percentile, 2,000 resamples, seeded): pairs of one request go
together.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from omnirm.nano.scenes import Split
from omnirm.nano.world import FAMILIES, Family
from omnirm.nano.writer import Drawing
from omnirm.scorers.base import Scored, Scorer
from omnirm.scoring.aggregate import sigmoid
from omnirm.training.nano.disrm_data import Graded, graded
from omnirm.types import Part

_BINS = 10
#: kinds of comparison: the two candidates; one with itself mended; the two mended ones; all others; against damaged
KINDS = ("candidates", "refined", "both refined", "other", "damaged")
#: of refined ones: towards better and towards worse, in the attribute that matters or in another one
MENDS = ("mended, matters", "mended, other", "spoilt, matters", "spoilt, other")


@dataclass(frozen=True, slots=True)
class Compared:
    """One pair with its scores' difference. margin: `s_better - s_worse`; None where one of the two has no score.

    first_is_better: does the better one stand first in the row? For calibration, which asks about the first one.
    """

    request: str
    kind: str
    mend: str  # one of MENDS, "" for other kinds
    decisive: bool  # do they differ in the attribute that matters?
    margin: float | None
    first_is_better: bool

    @property
    def right(self) -> float:
        """1, 0, or 0.5 for equal scores."""
        if self.margin is None:
            return 0.0
        return 0.5 if self.margin == 0 else float(self.margin > 0)


@dataclass(frozen=True, slots=True)
class Row:
    """Accuracy on one group of pairs; shares in [0, 1]."""

    family: str
    group: str
    requests: int
    pairs: int
    accuracy: float
    low: float
    high: float
    coverage: float
    margin: float  # mean of s_better - s_worse


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of the reliability curve: pairs whose P(first better) lies in [low, high)."""

    low: float
    high: float
    pairs: int
    predicted: float  # mean probability
    observed: float  # share in which the first one is better


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the card of a reward model needs."""

    rows: tuple[Row, ...]
    reliability: tuple[Bin, ...]
    ece: float


def reliability(margins: Sequence[float], first_is_better: Sequence[bool]) -> tuple[tuple[Bin, ...], float]:
    """The curve of `P(first better) = sigmoid(s_first - s_second)`, and its expected calibration error.

    `ECE = sum_b n_b / n |observed_b - predicted_b|` over ten bins of equal width.

    Args:
        margins: `s_first - s_second` of each pair.
        first_is_better: the labels, same length.

    Returns:
        The bins that are not empty, and the ECE in [0, 1] (0 without pairs).
    """
    members: dict[int, list[tuple[float, bool]]] = {}
    for margin, label in zip(margins, first_is_better, strict=True):
        p = sigmoid(margin)
        members.setdefault(min(int(p * _BINS), _BINS - 1), []).append((p, label))
    bins, error = [], 0.0
    for b, found in sorted(members.items()):
        predicted = math.fsum(p for p, _ in found) / len(found)
        observed = sum(label for _, label in found) / len(found)
        bins.append(Bin(b / _BINS, (b + 1) / _BINS, len(found), predicted, observed))
        error += len(found) / len(margins) * abs(observed - predicted)
    return tuple(bins), error


def compare(scorer: Scorer, rows: Sequence[Graded]) -> list[Compared]:
    """Scores every response of the rows, all in one call, and compares each pair of different grade."""
    items = []
    for row in rows:
        prompt = tuple(replace(m, parts=_drawn(m.parts)) for m in row.pair.sample.prompt)
        items += [Scored(prompt, _drawn(r.parts)) for r in row.responses]
    scores = iter(scorer.score(items))
    found = []
    for row in rows:
        own = [s if isinstance(s, float) else None for s in (next(scores) for _ in row.responses)]
        found += [_compared(row, better, worse, own[better], own[worse]) for better, worse in row.pairs]
    return found


def _compared(row: Graded, better: int, worse: int, high: float | None, low: float | None) -> Compared:
    a, b = row.responses[better], row.responses[worse]
    roles, decisive, mend = {a.role, b.role}, a.grade[0] != b.grade[0], ""
    if b.role == "damaged":
        kind = "damaged"
    elif roles == {"A", "B"}:
        kind = "candidates"
    elif roles in ({"A", "A mended"}, {"B", "B mended"}):
        kind = "refined"
        mend = f"{'mended' if a.role.endswith('mended') else 'spoilt'}, {'matters' if decisive else 'other'}"
    elif roles == {"A mended", "B mended"}:
        kind = "both refined"
    else:
        kind = "other"
    margin = None if high is None or low is None else high - low
    return Compared(row.pair.sample.id, kind, mend, decisive, margin, better < worse)


def _drawn(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Media as bytes."""
    return tuple(replace(p, value=p.value.render()[0]) if isinstance(p.value, Drawing) else p for p in parts)


def summarise(family: str, group: str, found: Sequence[Compared]) -> Row:
    """One row from its pairs."""
    import numpy as np

    by_request: dict[str, list[float]] = {}
    for one in found:
        by_request.setdefault(one.request, []).append(one.right)
    sums = np.array([sum(v) for v in by_request.values()])
    counts = np.array([len(v) for v in by_request.values()])
    picks = np.random.default_rng(0).integers(len(sums), size=(2000, len(sums)))
    resampled = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = (float(x) for x in np.percentile(resampled, [2.5, 97.5]))
    margins = [one.margin for one in found if one.margin is not None]
    accuracy, coverage = float(sums.sum() / counts.sum()), len(margins) / len(found)
    mean = math.fsum(margins) / len(margins) if margins else 0.0
    return Row(family, group, len(sums), len(found), accuracy, low, high, coverage, mean)


def measure(scorer: Scorer, pairs: int, split: Split = "test", first_seed: int = 0) -> Report:
    """Measures on `pairs` requests of every family, media shown and in words: rows by family, then over all of them."""
    named: dict[str, list[Compared]] = {}
    for family in FAMILIES:
        for in_words in (False,) if family == "T2T" else (False, True):
            rows = [_row(first_seed + i, split, family, in_words) for i in range(pairs)]
            named[f"{family} in words" if in_words else family] = compare(scorer, rows)
    text = [one for name, found in named.items() if name == "T2T" or name.endswith("in words") for one in found]
    shown = [one for name, found in named.items() if name != "T2T" and not name.endswith("in words") for one in found]
    table: list[Row] = []
    for name, found in (*named.items(), ("all in text", text), ("all with media", shown)):
        groups = {kind: [one for one in found if one.kind == kind] for kind in KINDS}
        groups |= {mend: [one for one in found if one.mend == mend] for mend in MENDS}
        groups |= {
            "all, matters": [one for one in found if one.decisive],
            "all, other": [one for one in found if not one.decisive and one.kind != "damaged"],
        }
        table += [summarise(name, group, members) for group, members in groups.items() if members]
    every = [one for found in named.values() for one in found if one.kind != "damaged" and one.margin is not None]
    signed = [one.margin if one.first_is_better else -one.margin for one in every if one.margin is not None]
    bins, error = reliability(signed, [one.first_is_better for one in every])
    return Report(tuple(table), bins, error)


def _row(seed: int, split: Split, family: Family, in_words: bool) -> Graded:
    return graded(seed, split, family, in_words, kind="any" if seed % 4 == 3 else "mended")


def text_report(report: Report) -> str:
    """The report as Markdown tables, in percent."""
    out = ["| responses | pairs of | requests | pairs | accuracy [95 %] | coverage | mean margin |"]
    out.append("|---|---|---|---|---|---|---|")
    for r in report.rows:
        accuracy = f"{100 * r.accuracy:.1f} [{100 * r.low:.1f}, {100 * r.high:.1f}]"
        out.append(
            f"| {r.family} | {r.group} | {r.requests} | {r.pairs} | {accuracy} | {100 * r.coverage:.1f} "
            f"| {r.margin:.2f} |"
        )
    out += ["", f"Expected calibration error: {100 * report.ece:.1f} %", ""]
    out += ["| P(first better) | pairs | predicted | observed |", "|---|---|---|---|"]
    for b in report.reliability:
        out.append(f"| {b.low:.1f}-{b.high:.1f} | {b.pairs} | {100 * b.predicted:.1f} | {100 * b.observed:.1f} |")
    return "\n".join(out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures a checkpoint and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--pairs", type=int, default=200, help="requests per family")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None, help="write the figures here too")
    options = parser.parse_args(arguments)
    from omnirm.scorers.scalar_head import ScalarHead

    scorer = ScalarHead(str(options.checkpoint), device="cpu", batch_size=64)
    report = measure(scorer, options.pairs, options.split, options.first_seed)
    if options.json:
        found = {"revision": scorer.revision, "split": options.split, "first_seed": options.first_seed}
        options.json.write_text(json.dumps(found | asdict(report), indent=1) + "\n", encoding="utf-8")
    print(text_report(report))


if __name__ == "__main__":
    main()
