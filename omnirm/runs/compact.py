"""Completions as small JSON values, and back exactly. For the record of a run; it opens no file and asks no model.

Log-probabilities take most of the room, so they are packed: pieces as lengths of the text they make up, the tracked
strings once, all numbers as one base64 string: 4 bytes each where that is exact (what models give), else 8.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from omnirm.errors import SampleError
from omnirm.records import from_plain, to_plain
from omnirm.types import Completion, TokenLogprob


def dump_completion(completion: Completion) -> Any | None:
    """The completion as JSON values; None for an error, which is no answer to keep."""
    if completion.finish_reason == "error":
        return None
    plain = to_plain(replace(completion, logprobs=()))
    del plain["logprobs"]
    if completion.logprobs:
        plain["logprobs"] = _pack(completion.text, completion.logprobs)
    return plain


def load_completion(plain: Any) -> Completion:
    """What `dump_completion` wrote, as an equal completion.

    Raises:
        SampleError: it is anything else.
    """
    if not isinstance(plain, dict):
        raise SampleError(f"completion: {type(plain).__name__} instead of an object")
    completion = from_plain(Completion, {key: value for key, value in plain.items() if key != "logprobs"})
    if "logprobs" not in plain:
        return completion
    try:
        return replace(completion, logprobs=_unpack(completion.text, plain["logprobs"]))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, struct.error) as error:
        raise SampleError(f"completion: log-probabilities are not of the recorded form ({error})") from error


def _pack(text: str, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    pieces = [one.text for one in tokens]
    kinds = list(dict.fromkeys(tuple(one.top) for one in tokens))  # mostly one: the same strings at every position
    packed: dict[str, Any] = {
        "pieces": [len(one) for one in pieces] if "".join(pieces) == text else pieces,
        "keys": [list(kind) for kind in kinds],
        "values": _pack_numbers([float(value) for one in tokens for value in (one.logprob, *one.top.values())]),
    }
    if len(kinds) > 1:
        index = {kind: i for i, kind in enumerate(kinds)}
        packed["which"] = [index[tuple(one.top)] for one in tokens]
    return packed


def _unpack(text: str, packed: Mapping[str, Any]) -> tuple[TokenLogprob, ...]:
    pieces = packed["pieces"]
    if isinstance(pieces[0], int):
        if min(pieces) < 0 or sum(pieces) != len(text):
            raise ValueError("the pieces do not make up the text")
        pieces = [text[end - length : end] for length, end in zip(pieces, accumulate(pieces), strict=True)]
    elif not all(isinstance(piece, str) for piece in pieces):
        raise TypeError("a piece is no text")
    keys = [packed["keys"][i] for i in packed.get("which", [0] * len(pieces))]
    numbers = _unpack_numbers(packed["values"])
    if len(numbers) != len(keys) + sum(map(len, keys)):
        raise ValueError(f"{len(numbers)} numbers for {len(pieces)} pieces")
    rest = iter(numbers)
    return tuple(
        TokenLogprob(piece, next(rest), {key: next(rest) for key in own})
        for piece, own in zip(pieces, keys, strict=True)
    )


def _pack_numbers(values: list[float]) -> str:
    kind, data = "d", struct.pack(f"<{len(values)}d", *values)
    try:
        short = struct.pack(f"<{len(values)}f", *values)
        if list(struct.unpack(f"<{len(values)}f", short)) == values:
            kind, data = "f", short
    except OverflowError:  # beyond what 4 bytes hold
        pass
    return f"{kind}:{base64.b64encode(data).decode()}"


def _unpack_numbers(packed: str) -> tuple[float, ...]:
    kind, _, data = packed.partition(":")
    if kind not in ("d", "f"):
        raise ValueError(f"numbers of kind {kind!r}")
    raw = base64.b64decode(data, validate=True)
    return struct.unpack(f"<{len(raw) // struct.calcsize(f'<{kind}')}{kind}", raw)
