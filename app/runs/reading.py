"""Run folders read without holding them: where each row of a file begins, and its few facts, remembered per file.

For `runs`. A file is read once, line by line; when it has only grown since, the new lines alone are. A line that is
damaged or foreign is counted and named, and loses nothing else. Links are not followed. It judges and counts nothing.
"""

from __future__ import annotations

import os
import threading
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from omnirm.app.runs.facts import RowFacts, facts_of_line, modalities_of, parse_line, texts_of
from omnirm.errors import SampleError

T = TypeVar("T")

LONGEST_LINE = 64 << 20  # bytes; a longer line is no row
_TOLD = 5  # damaged lines that are named one by one
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class SampleFacts:
    """What a list needs of a sample. text_hash: of its texts, to tell samples of one id apart."""

    sample_id: str
    modalities: tuple[str, ...]
    text_hash: int


@dataclass(slots=True)
class Rows(Generic[T]):
    """The rows of one file: `facts[i]` of the line that is `lengths[i]` bytes from `offsets[i]` on."""

    path: Path
    facts: list[T] = field(default_factory=list)
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("Q"))
    broken: int = 0
    told: list[str] = field(default_factory=list)
    read: int = 0  # bytes of whole lines read so far, and how many lines
    lines: int = 0
    checksum: int = 0  # of those bytes
    unfinished: int = 0  # bytes of a last line without end
    signature: tuple[int, ...] = ()
    _numbers: dict[str, int] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """What is wrong with the file, a sentence each."""
        found = list(self.told)
        if self.broken > len(self.told):
            found.append(f"{self.path.name}: {self.broken - len(self.told):,} more lines could not be read.")
        if self.unfinished:
            found.append(f"{self.path.name}: the last line is not finished ({self.unfinished:,} bytes left out).")
        return found

    def line(self, index: int) -> bytes:
        """The line of a row. Raises `SampleError` where the file is gone or changed under us."""
        try:
            with _opened(self.path) as file:
                return os.pread(file.fileno(), self.lengths[index], self.offsets[index])
        except OSError as error:
            raise SampleError(f"{self.path.name}: {error.strerror or error}") from error

    def value(self, index: int) -> dict[str, Any]:
        """The JSON object of a row. Raises `SampleError` where it can no longer be read, or was damaged inside."""
        found = parse_line(self.line(index))
        if not isinstance(found, dict):
            raise SampleError(f"{self.path.name}: the file was written anew meanwhile; open the run again")
        return found

    def numbers(self, name: Callable[[T], str]) -> dict[str, int]:
        """The number of the first row of each name; remembered with the rows."""
        if len(self._numbers) == 0:
            for number, one in enumerate(self.facts):
                self._numbers.setdefault(name(one), number)
        return self._numbers

    def each_line(self) -> Iterator[bytes]:
        """The lines of all rows, in order, one at a time."""
        with _opened(self.path) as file:
            for offset, length in zip(self.offsets, self.lengths, strict=True):
                file.seek(offset)
                yield file.read(length)


class Reader:
    """Remembers what was read of each file, for as long as the file stays as it is.

    most_rows: rows remembered in all; the files used longest ago are forgotten first. Threads may share a reader.
    """

    def __init__(self, *, most_rows: int = 1_000_000) -> None:
        self._most, self._known, self._guard = most_rows, dict[tuple[str, str], Rows[Any]](), threading.Lock()

    def judgments(self, path: Path) -> Rows[RowFacts]:
        """The judgments of a file. Raises `SampleError` where it cannot be opened."""
        return self._rows("judgments", path, facts_of_line)

    def samples(self, path: Path) -> Rows[SampleFacts]:
        """The samples of a file. Raises `SampleError` where it cannot be opened."""
        return self._rows("samples", path, _sample_facts)

    def is_known(self, path: Path) -> bool:
        """Is there nothing new to read in the judgments of this file?"""
        known = self._known.get(("judgments", str(path)))
        try:
            return known is not None and known.signature == _signature(path)
        except OSError:
            return False

    def _rows(self, what: str, path: Path, read: Callable[[bytes], T]) -> Rows[T]:
        key = (what, str(path))
        with self._guard:  # one file at a time: two readers of a large one would only slow each other down
            try:
                signature = _signature(path)
                rows = self._known.pop(key, None)
                if rows is None or rows.signature != signature:
                    rows = _read(path, rows, read)
                    rows.signature = signature
            except OSError as error:
                raise SampleError(f"{path.name} cannot be read: {error.strerror or error}") from error
            self._known[key] = rows  # last: used last
            while len(self._known) > 1 and sum(len(one.facts) for one in self._known.values()) > self._most:
                del self._known[next(iter(self._known))]
            return rows


def text_matches(text: str, sample: Mapping[str, Any] | None, sample_id: str, record: Mapping[str, Any] | None) -> bool:
    """Does the text occur in the id, the sample's texts or what the judge wrote? Case does not matter."""
    wanted = text.casefold()
    if wanted in sample_id.casefold():
        return True
    if sample is not None and any(wanted in one.casefold() for one in texts_of(sample)):
        return True
    return record is not None and any(wanted in one.casefold() for one in _written(record))


_WRITTEN = frozenset({"text", "name", "analysis", "analysis_a", "analysis_b", "comments", "refined", "detail", "error"})


def _written(value: Any, wanted: bool = False) -> Iterator[str]:
    """The strings that people and models wrote in a record: not its keys, hashes and settings."""
    if isinstance(value, str):
        if wanted:
            yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _written(one, key in _WRITTEN)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _written(one, wanted)


def _sample_facts(line: bytes) -> SampleFacts:
    sample = parse_line(line)
    if not isinstance(sample, dict) or not isinstance(sample.get("id"), str) or "candidates" not in sample:
        raise SampleError("no sample: id or candidates are missing")
    digest = 0
    for text in texts_of(sample):
        digest = zlib.crc32(text.encode("utf-8", "surrogatepass"), digest)
    return SampleFacts(sample["id"], modalities_of(sample), digest)


def _read(path: Path, before: Rows[T] | None, read: Callable[[bytes], T]) -> Rows[T]:
    rows: Rows[T] = Rows(path)
    with _opened(path) as file:
        if before is not None and _checksum(file, before.read) == before.checksum:
            rows = Rows(
                path, list(before.facts), before.offsets[:], before.lengths[:], before.broken, list(before.told),
                before.read, before.lines, before.checksum,
            )  # fmt: skip
        file.seek(rows.read)
        while line := file.readline(LONGEST_LINE):
            if not line.endswith(b"\n"):
                if len(line) < LONGEST_LINE:
                    rows.unfinished = len(line)
                    break
                _skip_rest(file, rows, line)
                continue
            rows.lines += 1
            try:
                if line.strip():
                    facts = read(line)
                    rows.facts.append(facts)
                    rows.offsets.append(rows.read)
                    rows.lengths.append(len(line))
            except SampleError as error:
                _tell(rows, str(error))
            rows.checksum = zlib.crc32(line, rows.checksum)
            rows.read += len(line)
    return rows


def _skip_rest(file: Any, rows: Rows[Any], line: bytes) -> None:
    """Passes over a line that is too long."""
    rows.lines += 1
    _tell(rows, f"longer than {LONGEST_LINE >> 20} MB")
    while line:
        rows.checksum = zlib.crc32(line, rows.checksum)
        rows.read += len(line)
        if line.endswith(b"\n"):
            return
        line = file.readline(LONGEST_LINE)


def _tell(rows: Rows[Any], what: str) -> None:
    rows.broken += 1
    if len(rows.told) < _TOLD:
        rows.told.append(f"{rows.path.name}, line {rows.lines:,}: {what}.")


def _checksum(file: Any, count: int) -> int:
    found = 0
    while count > 0:
        block = file.read(min(count, _BLOCK))
        if not block:
            return -1
        found, count = zlib.crc32(block, found), count - len(block)
    return found


def _opened(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def _signature(path: Path) -> tuple[int, ...]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
