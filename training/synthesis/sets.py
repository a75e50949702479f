"""Synthesis of training data: labelled preference pairs in, data sets for SFT, DPO and GRPO with their cards out.

For `omnirm synth` and Python users; `docs/synthesis.md`. It reads top to bottom: pairs are explored batch by batch
(`explorer`: the only step that asks models, every call recorded in the run folder), rows are made of what was
found (`row_making`: pure), those that share text with a benchmark are taken out (`ngrams`), the sets are written.

    with RunFolder(folder, settings) as run:
        explored = explore(explorer, samples, run)
        sets = make_sets(explored, RowSettings(), Benchmarks([Path("benchmark.jsonl")]))
        write_sets(sets, folder, explored, about={})

Running the same again after any end gives the same files, byte for byte, as `docs/runs.md` has it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from omnirm.runs import RunFolder
from omnirm.sample import Sample
from omnirm.training.rows import DPORow, GRPORow, Row, SFTRow, write_rows
from omnirm.training.synthesis.choices import Dropped, Made, RowSettings
from omnirm.training.synthesis.data_card import data_card, row_texts, traits
from omnirm.training.synthesis.explorer import Explored, Explorer
from omnirm.training.synthesis.ngrams import Benchmarks
from omnirm.training.synthesis.row_making import dpo_rows, grpo_rows, sft_rows

SETS: dict[str, type[Row]] = {"sft": SFTRow, "dpo": DPORow, "grpo": GRPORow}


@dataclass(frozen=True, slots=True)
class DataSets:
    """The three sets; `eps`: the margin that DPO pairs of each kind lie apart, None where there is no pair at all."""

    sft: tuple[SFTRow, ...]
    dpo: tuple[DPORow, ...]
    grpo: tuple[GRPORow, ...]
    dropped: tuple[Dropped, ...]
    eps: tuple[tuple[str, float | None], ...]

    def rows(self, name: str) -> tuple[Row, ...]:
        """The rows of a set by its name."""
        return getattr(self, name)


def explore(
    explorer: Explorer, samples: Iterable[Sample], run: RunFolder | None = None, *, at_once: int = 32
) -> Iterator[Explored]:
    """Explores pairs, a batch of models' calls for so many at once; in their order.

    Where there is a run folder, samples, judgments (one trajectory a reading) and what is beside them go into it. Give
    the same `at_once` to go on with a run: models may answer a little differently in other company.

    Raises:
        BackendError: a model failed as a whole. What was found so far has been given.
    """
    rest = iter(samples)
    while batch := list(islice(rest, at_once)):
        for one in explorer.explore(batch):
            if run is not None:
                run.append("samples", one.sample.to_dict())
                run.append("judgments", one.judgment.to_dict())
                run.append("explored", one.record())
            yield one
    if run is not None:
        run.finish()


def make_sets(explored: Sequence[Explored], settings: RowSettings, benchmarks: Benchmarks | None = None) -> DataSets:
    """All rows of all sets; those that share an n-gram with a benchmark are dropped."""
    sft, dpo, grpo = sft_rows(explored, settings), dpo_rows(explored, settings), grpo_rows(explored, settings)
    dropped = [*sft.dropped, *dpo.dropped, *grpo.dropped]
    return DataSets(
        _without_overlaps("sft", sft, benchmarks, dropped),
        _without_overlaps("dpo", dpo, benchmarks, dropped),
        _without_overlaps("grpo", grpo, benchmarks, dropped),
        tuple(dropped),
        dpo.eps,
    )


def write_sets(
    sets: DataSets,
    folder: Path,
    explored: Sequence[Explored],
    about: Mapping[str, Mapping[str, Any]],
    *,
    count_tokens: Callable[[str], int] | None = None,
) -> dict[str, int]:
    """Writes `<set>.parquet` with its card `<set>.md` for each set, and `dropped.jsonl`; gives the rows of each.

    Args:
        sets: what to write.
        folder: the run's, or another.
        explored: all pairs that went in.
        about: see `data_card`.
        count_tokens: likewise.

    Raises:
        SampleError: a medium that is neither a path nor an address.
        OSError: it cannot be written.
    """
    known = {one.sample.id: traits(one.sample) for one in explored}
    margins = {f"eps of {kind} pairs": "no pair" if eps is None else f"{eps:.6g}" for kind, eps in sets.eps}
    counts: dict[str, int] = {}
    for name, kind in SETS.items():
        rows = sets.rows(name)
        counts[name] = write_rows(folder / f"{name}.parquet", rows, kind)
        facts = {**about, **({"Margins": margins} if name == "dpo" and margins else {})}
        out = [one for one in sets.dropped if one.set == name]
        card = data_card(name, rows, out, known, facts, count_tokens=count_tokens)
        _write(folder / f"{name}.md", card)
    _write(folder / "dropped.jsonl", "".join(json.dumps(asdict(one)) + "\n" for one in sets.dropped))
    return counts


def _without_overlaps(name: str, made: Made[Any], benchmarks: Benchmarks | None, dropped: list[Dropped]) -> Any:
    if benchmarks is None:
        return made.rows
    kept = []
    for row in made.rows:
        found = benchmarks.overlap(row_texts(row))
        if found is None:
            kept.append(row)
        else:
            step = getattr(row, "step", "")
            dropped.append(Dropped(name, row.sample_id, step, "overlap", f'"{found.ngram}" in {found.file}'))
    return tuple(kept)


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
