"""Models whose finished calls are read from a record instead of being made again.

For `omnirm.runs.folder`, which keeps the record on disk. A backend, a scorer or a refiner goes in and one of the same
kind comes out, so nobody else needs to know about resuming. This file knows no file and no prompt.

What a model answered is recorded, also where nobody can make sense of it. Errors and failures are not: they are tried
again. A recorded answer is always handed on in its recorded form, the first time too, so that a resumed run cannot
differ from one that never stopped.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from omnirm.backends.base import Backend
from omnirm.errors import BackendError, SampleError
from omnirm.records import from_plain, to_plain
from omnirm.runs.compact import dump_completion, load_completion
from omnirm.runs.keys import request_key, scored_key, task_key
from omnirm.scorers.base import Scored, Scorer
from omnirm.types import Completion, ParseFailure, Part, Request

if TYPE_CHECKING:
    from omnirm.rubrics.refine import Refiner, RefineTask, Revision

T = TypeVar("T")
R = TypeVar("R")


class Record(Protocol):
    """Where finished calls are kept: plain JSON values by key. `chunk`: how many are made before they are recorded."""

    chunk: int

    def find(self, key: str) -> Any | None:
        """The recorded result of a call; None where there is none."""
        ...

    def record(self, what: str, results: Sequence[tuple[str, Any]]) -> None:
        """Keeps the results of calls made together, all or none, safely on disk when this returns."""
        ...


class RecordedBackend:
    """A `Backend` whose answers are recorded. What else the backend has (`media_settings`, ...) is passed through."""

    def __init__(self, inner: Backend, record: Record) -> None:
        self._inner, self._record = inner, record
        self.name, self.revision, self.capabilities = inner.name, inner.revision, inner.capabilities

    def __getattr__(self, name: str) -> Any:
        return _passed(self, name)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answers every request, in order; only those not yet recorded are asked for, equal ones once.

        Raises:
            BackendError: the backend failed as a whole, or gave another number of answers than it was asked for.
            OSError: the record cannot be written.
        """
        beginnings = [_beginning(request) for request in requests]
        chunks = _chunks(len(requests), self._record.chunk, lambda i: _alike(beginnings[i - 1], beginnings[i]))
        keys = [request_key(self._inner, request) for request in requests]
        call = self._inner.generate
        return _answers(self, self._record, "generate", requests, keys, chunks, call, dump_completion, load_completion)


class RecordedScorer:
    """A `Scorer` whose scores are recorded."""

    def __init__(self, inner: Scorer, record: Record) -> None:
        self._inner, self._record = inner, record
        self.name, self.revision, self.modalities = inner.name, inner.revision, inner.modalities

    def __getattr__(self, name: str) -> Any:
        return _passed(self, name)

    def score(self, items: Sequence[Scored]) -> list[float | ParseFailure]:
        """A score of each item, in order; only those not yet recorded are asked for. Raises as `generate` above."""
        keys = [scored_key(self._inner, item) for item in items]
        chunks = _chunks(len(items), self._record.chunk)
        call = self._inner.score
        return _answers(self, self._record, "score", items, keys, chunks, call, dump_score, load_score)


class RecordedRefiner:
    """A `Refiner` whose revisions are recorded.

    Media in them become JSON-ready: bytes and PIL images as `data:` URIs; references stay as they are.
    """

    def __init__(self, inner: Refiner, record: Record) -> None:
        self._inner, self._record = inner, record
        self.name, self.modalities = inner.name, inner.modalities

    def __getattr__(self, name: str) -> Any:
        return _passed(self, name)

    def refine(self, tasks: Sequence[RefineTask]) -> list[Revision | ParseFailure]:
        """A revision of each task, in order; only those not yet recorded are asked for. Raises as `generate` above."""

        def call(some: list[RefineTask]) -> list[Revision | ParseFailure]:
            return [_portable(one, self.name) for one in self._inner.refine(some)]

        keys = [task_key(self._inner, task) for task in tasks]
        chunks = _chunks(len(tasks), self._record.chunk)
        return _answers(self, self._record, "refine", tasks, keys, chunks, call, dump_revision, load_revision)


# -- asking


def _answers(
    model: Any,
    record: Record,
    what: str,
    items: Sequence[T],
    keys: list[str],
    chunks: Iterable[range],
    call: Callable[[list[T]], list[R]],
    dump: Callable[[R], Any | None],
    load: Callable[[Any], R],
) -> list[R]:
    results: dict[str, R] = {}
    for chunk in chunks:
        missing: dict[str, T] = {}
        for i in chunk:
            if keys[i] in results or keys[i] in missing:
                continue
            known = record.find(keys[i])
            try:
                if known is not None:
                    results[keys[i]] = load(known)
                    continue
            except SampleError:  # not what this version writes: as good as no record
                pass
            missing[keys[i]] = items[i]
        if not missing:
            continue
        answers = call(list(missing.values()))
        if len(answers) != len(missing):
            raise BackendError(f"{model.name} gave {len(answers)} answers to {len(missing)} requests")
        plain = [(key, dump(answer)) for key, answer in zip(missing, answers, strict=True)]
        record.record(what, [(key, one) for key, one in plain if one is not None])
        for (key, one), answer in zip(plain, answers, strict=True):
            results[key] = answer if one is None else load(one)
    return [results[key] for key in keys]


def _chunks(count: int, size: int, alike: Callable[[int], bool] = lambda _: False) -> Iterator[range]:
    """Calls in parts of `size`, up to twice that where the next call is `alike`: those share work in the backend.

    Parts depend on the whole list alone, never on what is recorded, so that a resumed run asks in the same company.
    """
    start = 0
    while start < count:
        end = min(start + size, count)
        while end < min(start + 2 * size, count) and alike(end):
            end += 1
        yield range(start, end)
        start = end


def _beginning(request: Request) -> list[Hashable]:
    parts = [part for message in request.messages for part in message.parts]
    return [part.value if isinstance(part.value, str) else id(part.value) for part in parts]


def _alike(one: list[Hashable], other: list[Hashable]) -> bool:
    """Do two prompts share at least half of their parts, from the beginning?"""
    shared = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return 2 * shared >= max(len(one), len(other), 1)


def _passed(wrapper: Any, name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"{type(wrapper).__name__} has no attribute {name!r}")
    return getattr(wrapper._inner, name)


# -- results as plain values (completions: compact.py)


def dump_score(score: float | ParseFailure) -> float | None:
    """JSON-ready; None for what is tried again: a failure, or no finite number."""
    return None if isinstance(score, ParseFailure) or not math.isfinite(score) else float(score)


def load_score(plain: Any) -> float | ParseFailure:
    """What `dump_score` wrote. Raises `SampleError` for anything else."""
    return from_plain(float, plain, "score")


def dump_revision(revision: Revision | ParseFailure) -> Any | None:
    """JSON-ready; None for a failure, which is tried again."""
    return None if isinstance(revision, ParseFailure) else to_plain(revision)


def load_revision(plain: Any) -> Revision | ParseFailure:
    """What `dump_revision` wrote. Raises `SampleError` for anything else."""
    from omnirm.rubrics.refine import Revision

    return from_plain(Revision, plain)


def _portable(revision: Revision | ParseFailure, name: str) -> Revision | ParseFailure:
    if isinstance(revision, ParseFailure):
        return revision
    try:
        return replace(revision, response=tuple(_reference(part) for part in revision.response))
    except SampleError as error:
        return ParseFailure("capability", f"{name}: {error}")


def _reference(part: Part) -> Part:
    def reference(value: Any) -> Any:
        if isinstance(value, list | tuple) and part.type == "video":
            return [reference(one) for one in value]
        if isinstance(value, str | os.PathLike):
            return os.fspath(value)
        if isinstance(value, bytes | bytearray | memoryview):
            data, kind = bytes(value), "application/octet-stream"
        elif hasattr(value, "save") and hasattr(value, "getbbox"):  # a PIL image
            stream = io.BytesIO()
            value.save(stream, "PNG")
            data, kind = stream.getvalue(), "image/png"
        else:
            raise SampleError(
                f"a revised {part.type} is a {type(value).__name__}; give a path, a URI, bytes or a PIL image"
            )
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"

    return part if part.type == "text" else replace(part, value=reference(part.value))
