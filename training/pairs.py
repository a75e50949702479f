"""Preference pairs to train on: a file of samples, or a data set of the hub in TRL's preference format.

For the recipes that train on pairs as they are (PAR, DWRL) and for `omnirm synth`. Knows no model.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omnirm.errors import SampleError
from omnirm.sample import Candidate, Sample, read_samples
from omnirm.types import Message, Part

HUB = "hub:"
_ROLES = ("system", "user", "assistant")


def read_pairs(source: str, *, limit: int | None = None) -> list[Sample]:
    """Labelled pairs.

    Args:
        source: a file of samples (docs/samples.md), or `hub:<name>`, `hub:<name>:<split>` (train when left out) for a
            data set with the columns `chosen` and `rejected`, as texts or conversations, and where it has them `prompt`
            and `images`.
        limit: so many rows from its beginning.

    Raises:
        SampleError: a file that cannot be read, no pair with a label, or a row of another form.
    """
    if not source.startswith(HUB):
        found = [sample for sample in read_samples(source) if isinstance(sample.label, int)]
        if not found:
            raise SampleError(f"{source}: no sample has a label that prefers one candidate: nothing to train on")
        return found[:limit]
    import datasets

    name, _, split = source.removeprefix(HUB).partition(":")
    try:
        rows = datasets.load_dataset(name, split=split or "train", streaming=limit is not None)
    except (ValueError, OSError, ConnectionError) as error:
        raise SampleError(f"{source}: cannot be loaded: {error}") from error
    taken = rows if limit is None else rows.take(limit)
    return [from_preference(row, f"{name}/{number}") for number, row in enumerate(taken)]


def from_preference(row: Mapping[str, Any], sample_id: str) -> Sample:
    """A row in TRL's preference format as a labelled pair.

    Which response comes first is drawn from the id, so that no judge can learn that the first one is better.

    Raises:
        SampleError: a row of another form, or whose responses are the same.
    """
    if "chosen" not in row or "rejected" not in row:
        raise SampleError(f"{sample_id}: has the columns {', '.join(row)}; chosen and rejected are needed")
    chosen, rejected = (_turns(row[name], sample_id, name) for name in ("chosen", "rejected"))
    if "prompt" in row and row["prompt"] is not None:
        prompt = _turns(row["prompt"], sample_id, "prompt", role="user")
    else:
        shared = 0
        while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
            shared += 1
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    if not prompt or len(chosen) != 1 or len(rejected) != 1:
        raise SampleError(f"{sample_id}: no prompt with one answer each after it")
    images = [one for one in (row.get("images") or [row.get("image")]) if one is not None]
    if images:
        first, *rest = prompt
        prompt = [Message(first.role, (*(Part("image", _image(i)) for i in images), *first.parts)), *rest]
    responses = [Candidate(chosen[0].parts), Candidate(rejected[0].parts)]
    if responses[0] == responses[1]:
        raise SampleError(f"{sample_id}: chosen and rejected are the same")
    swapped = hashlib.sha256(sample_id.encode()).digest()[0] % 2
    return Sample(sample_id, tuple(prompt), tuple(responses[::-1] if swapped else responses), label=swapped)


def _turns(value: Any, sample_id: str, name: str, role: str = "assistant") -> list[Message]:
    if isinstance(value, str):
        return [Message(role, (Part("text", value),))]  # type: ignore[arg-type]
    if not isinstance(value, Sequence) or not value:
        raise SampleError(f"{sample_id}: {name} is {value!r:.60}; a text or a conversation is needed")
    return [_turn(one, sample_id, name) for one in value]


def _turn(turn: Any, sample_id: str, name: str) -> Message:
    if not isinstance(turn, Mapping) or turn.get("role") not in _ROLES:
        raise SampleError(f"{sample_id}: {name} holds {turn!r:.60}; a role and a content are needed")
    content = turn.get("content")
    pieces: Iterable[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else content or ()
    parts = [Part("text", one["text"]) for one in pieces if isinstance(one, Mapping) and one.get("text") is not None]
    return Message(turn["role"], tuple(parts))


def _image(value: Any) -> bytes:
    """The bytes of an image as `datasets` decodes it."""
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
        return value["bytes"]
    buffer = io.BytesIO()
    value.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


__all__ = ["from_preference", "read_pairs"]
