"""Files of lines that only grow, that a kill at any byte leaves usable, and that one process at a time writes.

For run folders. Knows nothing of what is in a line.
"""

from __future__ import annotations

import fcntl
import json
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from omnirm.errors import ConfigError, SampleError
from omnirm.records import to_plain

_locked_here: set[Path] = set()  # a POSIX lock does not stop its own process


class LineFile:
    """A file of lines, open for reading and appending. Made where there is none; a last line without end is cut off.

    Args:
        path: the file. The caller sees to it that nobody else writes to it (`lock`).

    Attributes:
        note: what was cut off at opening, "" when nothing was.

    Raises:
        OSError: it cannot be opened or read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.note = path, ""
        self._ends = array("Q")  # offset behind each line
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        for line in whole_lines(path):
            self._ends.append(self._size + len(line) + 1)
        if torn := os.fstat(self._descriptor).st_size - self._size:
            os.ftruncate(self._descriptor, self._size)
            self.note = f"{path}: its last line was not finished; {torn} bytes dropped"

    def __len__(self) -> int:
        return len(self._ends)

    def __enter__(self) -> LineFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _size(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, index: int) -> bytes:
        """A line without its end. Raises `ValueError` once the file is closed."""
        start = self._ends[index - 1] if index else 0
        return os.pread(self._opened(), self._ends[index] - start - 1, start)

    def append(self, lines: Sequence[bytes]) -> None:
        """Adds lines (without their ends). All of them, or none where that fails.

        Raises:
            OSError: they cannot be written, e.g. the disk is full; it names the file.
        """
        descriptor, whole = self._opened(), False
        try:
            write_all(descriptor, b"".join(line + b"\n" for line in lines), self.path)
            whole = True
        finally:
            if not whole:
                os.ftruncate(descriptor, self._size)
        for line in lines:
            self._ends.append(self._size + len(line) + 1)

    def cut(self, count: int) -> None:
        """Keeps the first `count` lines."""
        os.ftruncate(self._opened(), self._ends[count - 1] if count else 0)
        del self._ends[count:]

    def sync(self) -> None:
        """Has the file on disk when it returns, safe against a power failure."""
        os.fsync(self._opened())

    def close(self) -> None:
        """Syncs and closes; a second time does nothing."""
        if self._descriptor >= 0:
            try:
                self.sync()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1

    def _opened(self) -> int:
        if self._descriptor < 0:
            raise ValueError(f"{self.path} is closed: its run folder is")
        return self._descriptor


def whole_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file without their ends; a last one without end is left out."""
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1]


def dump_line(value: Any, what: str) -> bytes:
    """A value (dataclasses and mappings of JSON values) as one line of ASCII JSON, without its end.

    Raises:
        SampleError: it is not JSON, NaN included; the message begins with `what`.
    """
    try:
        return json.dumps(to_plain(value), allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise SampleError(f"{what}: is not JSON ({error}); write None for a number that there is not") from error


def write_all(descriptor: int, data: bytes, path: Path) -> None:
    """Writes all of `data`. Raises `OSError`, with the file's name, where it cannot."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def lock(folder: Path) -> Callable[[], None]:
    """Keeps other writers out of a folder, until the returned function is called or the process ends in any way.

    Raises:
        ConfigError: there is one already, in another process or in this.
    """
    own = folder.resolve()
    if own in _locked_here:  # before the file is opened: closing it again would end the lock
        raise ConfigError(f"{folder}: is open in this process already; close it first or name another folder")
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock not inherited by worker processes
    except (BlockingIOError, PermissionError) as error:
        os.close(descriptor)
        raise ConfigError(f"{folder}: another process writes to it; wait for it or name another folder") from error
    _locked_here.add(own)

    def release() -> None:
        _locked_here.discard(own)
        os.close(descriptor)

    return release
