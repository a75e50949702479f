"""Rows of training data for judges: a rendered prompt with one answer (SFT), a better and a worse one (DPO), or a pair
with a fixed list of rubrics (GRPO).

Rows are kept in Parquet, so that they can be made once and read by whatever trains. A prompt is kept as it was shown,
part by part, with what is ours marked apart from what is not (`Part.trusted`); a medium is a path or an address. This
file knows neither models nor formats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from omnirm.errors import SampleError
from omnirm.strict_json import loads
from omnirm.types import Message, Part

Step = Literal["planning", "selection", "judgment", "picking", "refinement"]
STEPS: tuple[str, ...] = get_args(Step)

R = TypeVar("R", "SFTRow", "DPORow", "GRPORow")


@dataclass(frozen=True, slots=True)
class Shown:
    """What the model sees: messages whose media are references, and how the assistant's turn begins."""

    messages: tuple[Message, ...]
    prefill: str = ""

    def to_json(self) -> str:
        """One line of JSON.

        Raises:
            SampleError: a medium that is neither a path nor an address.
        """
        turns = []
        for message in self.messages:
            parts = []
            for part in message.parts:
                if not isinstance(part.value, str):
                    raise SampleError(f"a {part.type} is a {type(part.value).__name__}: name a file or an address")
                plain: dict[str, Any] = {"type": part.type, "value": part.value}
                plain |= {"trusted": True} if part.trusted else {}
                plain |= {"options": dict(part.options)} if part.options else {}
                parts.append(plain)
            turns.append({"role": message.role, "parts": parts})
        return json.dumps({"messages": turns, "prefill": self.prefill}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Shown:
        """Raises `SampleError` for anything that `to_json` does not give."""
        try:
            data = loads(text)
            messages = tuple(
                Message(one["role"], tuple(_part(part) for part in one["parts"])) for one in data["messages"]
            )
            prefill = data["prefill"]
        except (ValueError, KeyError, TypeError) as error:
            raise SampleError(f"prompt {text[:80]!r}: not of the documented form ({error})") from error
        if not isinstance(prefill, str) or any(m.role not in ("system", "user", "assistant") for m in messages):
            raise SampleError(f"prompt {text[:80]!r}: not of the documented form")
        return cls(messages, prefill)


@dataclass(frozen=True, slots=True)
class SFTRow:
    """A prompt and the answer to learn.

    sample_id, step, thinking: of what. meta_reward: of the trajectory that the answer is from; None where it has none.
    """

    sample_id: str
    step: str
    thinking: bool
    prompt: Shown
    completion: str
    meta_reward: float | None = None


@dataclass(frozen=True, slots=True)
class DPORow:
    """A prompt, a better and a worse answer to it. meta_chosen, meta_rejected: their meta-rewards."""

    sample_id: str
    step: str
    thinking: bool
    prompt: Shown
    chosen: str
    rejected: str
    meta_chosen: float | None = None
    meta_rejected: float | None = None


@dataclass(frozen=True, slots=True)
class GRPORow:
    """A labelled pair with the rubrics that every rollout of its group is shown.

    sample: JSON of `Sample.to_json`. rubrics: JSON list of K rubrics as `dump_rubric` gives them. scores: JSON list [K]
    of [s1, s2, t1, t2]: what the DisRM says of the responses as they are, and of both after a revision under that
    rubric; null where there is none. label: `A` or `B`, in the sample's order.
    """

    sample_id: str
    sample: str
    rubrics: str
    scores: str
    label: str


Row = SFTRow | DPORow | GRPORow


def write_rows(path: Path, rows: Iterable[Row], kind: type[Row]) -> int:
    """Writes a Parquet file (whole or not at all) and gives back the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f.name for f in fields(kind)]
    schema = pa.schema([(name, _arrow(name)) for name in names])
    table = pa.Table.from_pylist([_plain(row, names) for row in rows], schema=schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    pq.write_table(table, unfinished)
    unfinished.replace(path)
    return table.num_rows


def read_rows(path: Path, kind: type[R]) -> list[R]:
    """The rows of a Parquet file.

    Raises:
        SampleError: no such file, not Parquet, without a row, or not of that kind.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise SampleError(f"{path}: cannot be read as Parquet: no such file")
    try:
        found = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise SampleError(f"{path}: cannot be read as Parquet: {error}") from error
    if not found:
        raise SampleError(f"{path}: holds no row; there is nothing to train on")
    return [_row(path, number, one, kind) for number, one in enumerate(found)]


def _row(path: Path, number: int, data: Mapping[str, Any], kind: type[R]) -> R:
    known = {f.name: f.type for f in fields(kind)}
    if missing := set(known) - set(data):
        raise SampleError(f"{path}: row {number} lacks {sorted(missing)}: it is no {kind.__name__}")
    values: dict[str, Any] = {}
    for name, annotation in known.items():
        value = data[name]
        wanted = {"str": str, "bool": bool, "Shown": str, "float | None": float | int | None}[str(annotation)]
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise SampleError(f"{path}: row {number}: {name} is {value!r:.60}; a {kind.__name__} has none such")
        try:
            values[name] = Shown.from_json(str(value)) if name == "prompt" else None if value != value else value
        except SampleError as error:
            raise SampleError(f"{path}: row {number}: {error}") from error
    return kind(**values)


def _plain(row: Row, names: Sequence[str]) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in names}
    return {name: value.to_json() if isinstance(value, Shown) else value for name, value in values.items()}


def _arrow(name: str) -> Any:
    import pyarrow as pa

    return pa.bool_() if name == "thinking" else pa.float64() if name.startswith("meta_") else pa.string()


def _part(data: Mapping[str, Any]) -> Part:
    if data["type"] not in ("text", "image", "video", "audio") or not isinstance(data["value"], str):
        raise ValueError(f"no part of a message: {data!r:.60}")
    options = data.get("options", {})
    if not isinstance(options, dict) or not all(isinstance(value, bool | int | float) for value in options.values()):
        raise ValueError(f"options {options!r:.60}")
    trusted = data.get("trusted", False) is True and data["type"] == "text"
    return Part(data["type"], data["value"], options, trusted)


__all__ = ["STEPS", "DPORow", "GRPORow", "Row", "SFTRow", "Shown", "Step", "read_rows", "write_rows"]
