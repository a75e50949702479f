"""Measures omnirm-nano on the held-out test world and writes its model card.

    python -m omnirm.training.nano.report runs/nano/nano-genrm/final --pairs 200

Accuracy is averaged over both orders of showing a pair; an answer that could not be read counts as wrong, and coverage
stands beside it. Intervals are 95 % bootstrap intervals over pairs (percentile, 2,000 resamples, seeded).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omnirm.judgment import Judgment
from omnirm.nano.scenes import Split
from omnirm.nano.world import FAMILIES, Family, Preference, preference
from omnirm.training.nano.intervals import interval

MODALITY: dict[str, tuple[Family, ...]] = {
    "text": ("T2T",),
    "image": ("TI2T", "T2I", "TI2I"),
    "video": ("TV2T", "T2V"),
    "audio": ("TA2T", "T2A"),
}
FORMATS = ("pairwise", "pairwise-thinking")


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one family (or modality) in one format; shares in [0, 1]."""

    name: str
    format: str
    pairs: int
    accuracy: float
    low: float
    high: float
    coverage: float
    consistency: float  # of the pairs read in both orders: the same candidate in both
    rubric: float | None  # of the readings: the first criterion named is the gold one (thinking only)


def pair_figures(judgment: Judgment, pair: Preference) -> tuple[float, float, bool | None, list[bool]]:
    """Of one pair: share of orders judged right, share read, consistency, and which calls named the gold criterion."""
    right = [verdict == judgment.label for _, verdict in judgment.order_verdicts]
    accuracy = sum(right) / len(judgment.calls) if judgment.calls else 0.0
    rubrics = [
        call.criteria[0].rubric.name.strip().lower() == pair.attribute for call in judgment.calls if call.criteria
    ]
    return accuracy, judgment.coverage, judgment.position_consistent, rubrics


def summarise(name: str, format_name: str, figures: Sequence[tuple[float, float, bool | None, list[bool]]]) -> Row:
    """One row from the figures of its pairs."""
    import numpy as np

    consistent = [f[2] for f in figures if f[2] is not None]
    rubrics = [x for f in figures for x in f[3]]
    return Row(
        name,
        format_name,
        len(figures),
        *interval([f[0] for f in figures]),
        float(np.mean([f[1] for f in figures])),
        sum(consistent) / len(consistent) if consistent else 0.0,
        sum(rubrics) / len(rubrics) if rubrics else None,
    )


def measure(
    backend: Any, pairs: int, split: Split = "test", first_seed: int = 0, formats: Sequence[str] = FORMATS
) -> list[Row]:
    """Judges `pairs` test pairs of every family in each format; rows by family, then by modality."""
    from omnirm.judge import Judge
    from omnirm.training.nano.stages import drawn

    rows: list[Row] = []
    for name in formats:
        judge = Judge(backend, format=name, orders=2)
        by_family: dict[str, list[Any]] = {}
        for family in FAMILIES:
            found = [preference(first_seed + i, split, family) for i in range(pairs)]
            judgments = judge.compare([drawn(p.sample) for p in found])
            by_family[family] = [pair_figures(j, p) for j, p in zip(judgments, found, strict=True)]
            rows.append(summarise(family, name, by_family[family]))
        for modality, families in MODALITY.items():
            rows.append(summarise(modality, name, [f for family in families for f in by_family[family]]))
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, in percent."""
    out = [
        "| pairs of | format | pairs | accuracy [95 %] | coverage | position consistency | gold rubric named |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        form = "thinking" if r.format == "pairwise-thinking" else "verdict alone"
        rubric = "" if r.rubric is None else f"{100 * r.rubric:.1f}"
        out.append(
            f"| {r.name} | {form} | {r.pairs} | {100 * r.accuracy:.1f} [{100 * r.low:.1f}, {100 * r.high:.1f}] "
            f"| {100 * r.coverage:.1f} | {100 * r.consistency:.1f} | {rubric} |"
        )
    return "\n".join(out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures a checkpoint and writes `nano_report.json`; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--pairs", type=int, default=200, help="pairs per family")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS)
    parser.add_argument("--json", type=Path, default=None, help="write the rows here too")
    options = parser.parse_args(arguments)
    from omnirm.backends.hf import HFBackend

    backend = HFBackend(str(options.checkpoint), device="cpu", batch_size=64, name="nano")
    rows = measure(backend, options.pairs, options.split, options.first_seed, options.formats)
    if options.json:
        found = {
            "revision": backend.revision,
            "split": options.split,
            "first_seed": options.first_seed,
            "rows": [asdict(r) for r in rows],
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
