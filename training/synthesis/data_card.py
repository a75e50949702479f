"""The card of a data set: what is in it, how long, where it comes from, and what was left out and why. Markdown.

For readers of a folder of training data. It reads no clock: the same rows and settings give the same card.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from omnirm.sample import Sample, parse_rubrics
from omnirm.shown import shortened, visible
from omnirm.strict_json import loads
from omnirm.training.rows import DPORow, GRPORow, Row, SFTRow
from omnirm.training.synthesis.choices import Dropped

_SHOWN = 20  # dropped overlaps listed in a card; the file has all
_LETTERS = (("text", "T"), ("image", "I"), ("video", "V"), ("audio", "A"))
Count = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Traits:
    """What a pair is counted under. modalities: of prompt and responses; family: as `TI2T`."""

    modalities: str
    family: str


def traits(sample: Sample) -> Traits:
    """The traits of a pair; `metadata["family"]` is the family where it is a string."""
    family = sample.metadata.get("family")
    if not isinstance(family, str) or not family:
        prompt = {part.type for turn in sample.prompt for part in turn.parts}
        answers = {part.type for one in sample.candidates for part in one.parts}
        family = "2".join("".join(letter for kind, letter in _LETTERS if kind in found) for found in (prompt, answers))
    return Traits(" + ".join(kind for kind, _ in _LETTERS if kind in sample.modalities), family)


def data_card(
    name: str,
    rows: Sequence[Row],
    dropped: Sequence[Dropped],
    known: Mapping[str, Traits],
    about: Mapping[str, Mapping[str, Any]],
    *,
    count_tokens: Count | None = None,
) -> str:
    """The card as Markdown.

    Args:
        name: of the set, `sft`, `dpo` or `grpo`.
        rows: those in the set.
        dropped: what was left out of it.
        known: traits by sample id, of all pairs that went in.
        about: sections of facts (`Models`, `Settings`, ...), by name.
        count_tokens: tokens of a text, where there is a tokenizer.
    """
    head = f"# {name}.parquet\n\n{len(rows)} rows from {len({row.sample_id for row in rows})} of {len(known)} pairs."
    steps = Counter(getattr(row, "step", "pair") for row in rows)
    kinds = Counter("thinking" if row.thinking else "no thinking" for row in rows if not isinstance(row, GRPORow))
    counts = [("step", steps), ("thinking", kinds)]
    for trait in ("modalities", "family"):
        of = Counter(getattr(known[row.sample_id], trait) if row.sample_id in known else "unknown" for row in rows)
        counts.append((trait, of))
    if not any(isinstance(row, SFTRow | DPORow) for row in rows):
        del counts[1]
    lines = [head, "", "## Rows", "", "| by | | rows |", "|---|---|---:|"]
    lines += [f"| {by} | {_cell(what)} | {n} |" for by, of in counts for what, n in sorted(of.items())]
    lines += ["", "## Lengths", "", "| of | unit | least | median | 95 % | most |", "|---|---|---:|---:|---:|---:|"]
    for what, texts in _texts(rows).items():
        units: list[tuple[str, Count]] = [("characters", len)]
        units += [("tokens", count_tokens)] if count_tokens is not None else []
        for unit, count in units:
            values = [float(sum(count(text) for text in one)) for one in texts]
            shown = " | ".join(f"{x:.0f}" for x in np.quantile(values, (0, 0.5, 0.95, 1)))
            lines.append(f"| {what} | {unit} | {shown} |")
    lines += ["", "Media count nothing here.", "", "## Left out", ""]
    lines += _left_out(dropped)
    for title, facts in about.items():
        lines += ["", f"## {title}", "", "| | |", "|---|---|"]
        lines += [f"| {_cell(key)} | {_cell(value)} |" for key, value in facts.items()]
    return "\n".join(lines) + "\n"


def row_texts(row: Row) -> list[str]:
    """The texts of a row that are not of our own templates: for comparing with a benchmark."""
    if isinstance(row, GRPORow):
        sample = Sample.from_json(row.sample)
        parts = [part for turn in sample.prompt for part in turn.parts]
        parts += [part for one in sample.candidates for part in one.parts]
        return [str(part.value) for part in parts if part.type == "text"] + _rubrics(row)
    shown = [str(p.value) for m in row.prompt.messages for p in m.parts if p.type == "text" and not p.trusted]
    return [*shown, *((row.completion,) if isinstance(row, SFTRow) else (row.chosen, row.rejected))]


def _texts(rows: Iterable[Row]) -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    for row in rows:
        if isinstance(row, GRPORow):
            rubrics = _rubrics(row)
            found.setdefault("sample", []).append(row_texts(row)[: -len(rubrics)])
            found.setdefault("rubrics", []).append(rubrics)
            continue
        prompt = [str(part.value) for message in row.prompt.messages for part in message.parts if part.type == "text"]
        found.setdefault("prompt", []).append([*prompt, row.prompt.prefill])
        answers = {"completion": row.completion} if isinstance(row, SFTRow) else {
            "chosen": row.chosen, "rejected": row.rejected
        }  # fmt: skip
        for what, text in answers.items():
            found.setdefault(what, []).append([text])
    return found


def _rubrics(row: GRPORow) -> list[str]:
    """The rubrics of a row, each as one text; there is at least one."""
    return [f"{one.name}: {one.text}" for one in parse_rubrics(loads(row.rubrics))]


def _left_out(dropped: Sequence[Dropped]) -> list[str]:
    if not dropped:
        return ["Nothing."]
    reasons = Counter((one.step or "pair", one.reason) for one in dropped)
    lines = ["| what | why | how often |", "|---|---|---:|"]
    lines += [f"| {step} | {_cell(why)} | {n} |" for (step, why), n in sorted(reasons.items())]
    overlaps = [one for one in dropped if one.reason == "overlap"]
    if overlaps:
        lines += ["", "Shared with a benchmark:", "", "| pair | step | n-gram and file |", "|---|---|---|"]
        lines += [f"| {_cell(x.sample_id)} | {x.step or 'pair'} | {_cell(x.detail)} |" for x in overlaps[:_SHOWN]]
        if len(overlaps) > _SHOWN:
            lines.append(f"\nand {len(overlaps) - _SHOWN} more, in `dropped.jsonl`")
    return lines


def _cell(value: object) -> str:
    """Untrusted text within a table: on one line, no markup."""
    text = shortened(visible(" ".join(str(value).split()), newlines=False), 300)
    for mark in "\\|`*_<>[]":
        text = text.replace(mark, "\\" + mark)
    return text
