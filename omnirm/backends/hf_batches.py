"""Which requests are answered together: like lengths, and those that begin alike side by side.

For `hf.py`. Looks at requests only: no tokens, no media.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from os import PathLike, fspath
from typing import Any

from omnirm.types import Part, Request

_WINDOW = 32  # batches: requests are sorted within so many, so that shared media stay close together
_MEDIUM = 1000  # characters of text that a medium counts for
_BRANCHES = 4  # times the batch size: at most so many requests in one batch, however much they share


@dataclass(frozen=True, slots=True)
class _Outline:
    """A request as one string: equal beginnings mean equal prompts so far. `beginning` goes to the end of the first
    part that is not of our own template: requests about the same sample have it in common."""

    text: str
    beginning: str


def batches(requests: Sequence[Request], size: int, alike: Callable[[Request], Any]) -> Iterator[list[int]]:
    """Indices of the requests, each once.

    A batch costs at most `size`: 1 for a request, and for one that follows another that begins alike only the fraction
    that differs. `alike`: what must be equal within a batch (sortable).
    """
    for start in range(0, len(requests), size * _WINDOW):
        seen: dict[int, int] = {}
        window = range(start, min(start + size * _WINDOW, len(requests)))
        outlines = {i: _outline(requests[i], seen) for i in window}
        keys = {i: alike(requests[i]) for i in window}
        families = [
            list(family)
            for _, family in groupby(
                sorted(window, key=lambda i: (keys[i], outlines[i].beginning, outlines[i].text)),
                key=lambda i: (keys[i], outlines[i].beginning),
            )
        ]
        families.sort(key=lambda family: (keys[family[0]], max(len(outlines[i].text) for i in family)))
        for _, group in groupby(families, key=lambda family: keys[family[0]]):
            yield from _filled(list(group), {i: one.text for i, one in outlines.items()}, size)


def _filled(families: Sequence[Sequence[int]], texts: dict[int, str], size: int) -> Iterator[list[int]]:
    batch: list[int] = []
    cost = 0.0
    for family in families:
        costs = [1.0, *(1 - _common(texts[a], texts[b]) / len(texts[b]) for a, b in pairwise(family))]
        if batch and (cost + sum(costs) > size or len(batch) + len(family) > _BRANCHES * size):
            yield batch
            batch, cost = [], 0.0
        for i, one in zip(family, costs, strict=True):
            if batch and (cost + one > size or len(batch) == _BRANCHES * size):
                yield batch
                batch, cost, one = [], 0.0, 1.0
            batch.append(i)
            cost += one
    if batch:
        yield batch


def _outline(request: Request, seen: dict[int, int]) -> _Outline:
    text, beginning = "", ""
    for message in request.messages:
        text += f"\0{message.role}\0"
        for part in message.parts:
            text += part.value if part.type == "text" else _medium(part, seen).ljust(_MEDIUM)
            if not beginning and not part.trusted:
                beginning = text
    text += f"\0{request.prefill}"
    return _Outline(text, beginning or text)


def _medium(part: Part, seen: dict[int, int]) -> str:
    value = fspath(part.value) if isinstance(part.value, PathLike) else part.value
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    # pixels or samples count by object
    name = hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else f"{seen.setdefault(id(value), len(seen))}"
    return f"\0{part.type} {name} {sorted(part.options.items())}\0"


def _common(one: str, other: str) -> int:
    """Length of the common beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
