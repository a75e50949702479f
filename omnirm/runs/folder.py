"""A run folder: the finished calls of a long run and the rows that came out of it, to go on with after any end.

For strategies, studies and the command line. `docs/runs.md` has the files. Resuming is running the same code again: the
wrapped models find their finished calls in the folder, everything else is deterministic and cheap.

    with RunFolder("runs/first", {"model": "nano", "rubrics": 10}) as run:
        judge = Judge(run.backend(load_backend("nano")))
        for judgment in judge.compare(samples):
            run.append("judgments", judgment)

It knows neither samples nor judgments, and reads no clock.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnirm.backends.base import Backend
from omnirm.errors import ConfigError, SampleError
from omnirm.runs.lines import LineFile, dump_line, lock, whole_lines
from omnirm.runs.recorded import RecordedBackend, RecordedRefiner, RecordedScorer
from omnirm.runs.settings import keep_settings, plain_settings
from omnirm.scorers.base import Scorer

if TYPE_CHECKING:
    from omnirm.rubrics.refine import Refiner

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_CALL = re.compile(rb'\{"key":"([0-9a-f]{64})","what":"[a-z]+","rest":([0-9]+),"result":')


class RunFolder:
    """A folder that one process at a time writes to. Closes at the end of a `with` block.

    Args:
        path: made where it is not there yet, with its parents.
        settings: all that decides the results, JSON-ready (samples' file, model, seed, number of rubrics, ...). They
            are kept in `run.json`; leave keys and passwords out.
        chunk: calls that are made before they are recorded, at least 1: what a kill can lose. More is faster with
            backends that answer many at once.

    Attributes:
        found, made: calls that were in the folder already, and those that were made, since it was opened.
        notes: what was mended when it was opened, a sentence each.

    Raises:
        ConfigError: the folder holds a run with other settings or of another form, or something that is no run;
            another process is writing to it; a setting that is not JSON-ready.
        OSError: it cannot be made, read or written.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any], *, chunk: int = 32) -> None:
        if chunk < 1:
            raise ConfigError(f"chunk {chunk}: give at least 1")
        self.path, self.chunk = Path(path), chunk
        self.settings = plain_settings(settings)
        self.found = self.made = 0
        self.notes: list[str] = []
        self._calls: dict[str, int] = {}
        self._rows: dict[str, tuple[LineFile, int]] = {}
        self._guard = threading.RLock()
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path}: is a file; name a folder for the run")
        self.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.callback(lock(self.path))
            keep_settings(self.path, self.settings)
            self._file = stack.enter_context(LineFile(self.path / "calls.jsonl"))
            self._noted(self._file)
            self._read_calls()
            self._stack = stack.pop_all()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Writes everything to disk and lets other processes in. The wrapped models cannot be asked afterwards."""
        self._stack.close()

    # -- models

    def backend(self, backend: Backend) -> RecordedBackend:
        """The backend, asked only for what this run has no answer to yet."""
        return RecordedBackend(backend, self)

    def scorer(self, scorer: Scorer) -> RecordedScorer:
        """The scorer, asked only for what this run has no score of yet."""
        return RecordedScorer(scorer, self)

    def refiner(self, refiner: Refiner) -> Refiner:
        """The refiner, asked only for what this run has not had revised yet (of a `ModelRefiner`, its backend)."""
        from omnirm.rubrics.refine import ModelRefiner

        if isinstance(refiner, ModelRefiner):
            own = copy(refiner)
            own.backend = self.backend(refiner.backend)
            return own
        return RecordedRefiner(refiner, self)

    # -- rows

    def append(self, kind: str, row: Any) -> None:
        """Adds a row to `<kind>.jsonl`.

        A resumed run appends its rows from the first one on, as before: those that are there already stay, a row that
        comes out differently (a call that failed then has an answer now) replaces it and all behind it.

        Args:
            kind: e.g. `trajectories`; lower case letters, digits, `-` and `_`.
            row: a mapping or dataclass of JSON values.

        Raises:
            ConfigError: a kind that is no such name, or `calls`.
            SampleError: a value that is not JSON (NaN included); nothing is written then.
            OSError: it cannot be written; the file ends with its last whole row then.
        """
        line = dump_line(row, f"a row of {kind}")
        with self._guard:
            file, position = self._rows_of(kind)
            if position < len(file) and file.read(position) != line:
                file.cut(position)
            if position == len(file):
                file.append([line])
            self._rows[kind] = file, position + 1

    def rows(self, kind: str) -> Iterator[dict[str, Any]]:
        """The rows of a kind that are in the folder, in order; see `read_rows`."""
        return read_rows(self.path, kind)

    def finish(self) -> None:
        """Says that all rows have been appended: cuts off what an earlier run over more samples left behind them."""
        with self._guard:
            for file, position in self._rows.values():
                if position < len(file):
                    file.cut(position)

    def flush(self) -> None:
        """Makes rows safe against a power failure too; against a kill they always are."""
        with self._guard:
            for file, _ in self._rows.values():
                file.sync()

    def _rows_of(self, kind: str) -> tuple[LineFile, int]:
        if kind not in self._rows:
            file = self._stack.enter_context(LineFile(_rows_path(self.path, kind)))
            self._noted(file)
            self._rows[kind] = file, 0
        return self._rows[kind]

    def _noted(self, file: LineFile) -> None:
        if file.note:
            self.notes.append(file.note)

    # -- calls: what `Record` asks for

    def find(self, key: str) -> Any | None:
        """The recorded result of a call, as plain JSON values; None where there is none."""
        with self._guard:
            if key not in self._calls:
                return None
            try:
                result = json.loads(self._file.read(self._calls[key]))["result"]
            except (ValueError, KeyError, TypeError):  # damaged behind its beginning
                return None
            self.found += 1
            return result

    def record(self, what: str, results: Sequence[tuple[str, Any]]) -> None:
        """Adds results of calls that were made together, and has them on disk when it returns."""
        lines = []
        for rest, (key, result) in zip(reversed(range(len(results))), results, strict=True):
            head = f'{{"key":"{key}","what":"{what}","rest":{rest},"result":'
            lines.append(head.encode() + dump_line(result, what) + b"}")
        with self._guard:
            start = len(self._file)
            self._file.append(lines)
            self._file.sync()
            self._calls.update((key, start + i) for i, (key, _) in enumerate(results))
            self.made += len(results)

    def _read_calls(self) -> None:
        """Finds the calls in the file. What was made together counts as a whole: an unfinished rest is dropped, since a
        model may answer a little differently in other company."""
        damaged, whole = 0, 0
        for i in range(len(self._file)):
            line = self._file.read(i)
            match = _CALL.match(line) if line.endswith(b"}") else None
            if match is None:
                damaged += 1
            else:
                self._calls[match[1].decode()] = i
            if match is None or match[2] == b"0":
                whole = i + 1
        if whole < len(self._file):
            self.notes.append(
                f"{self._file.path}: its last calls were not all recorded; {len(self._file) - whole} dropped"
            )
            self._file.cut(whole)
            self._calls = {key: i for key, i in self._calls.items() if i < whole}
        if damaged:
            self.notes.append(f"{self._file.path}: {damaged} lines are damaged; these calls are made again")


def read_rows(path: str | os.PathLike[str], kind: str) -> Iterator[dict[str, Any]]:
    """The rows of a kind, in order, without opening the run: for reports, and while it is still being written.

    A last line that is not finished yet is left out; no file is no rows.

    Raises:
        ConfigError: `kind` is no name of a kind.
        SampleError: a line that is not JSON, with file and line.
    """
    file = _rows_path(Path(path), kind)
    return _parsed(file) if file.exists() else iter(())


def _parsed(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(whole_lines(file), start=1):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SampleError(f"{file}:{number}: not JSON ({error}); resume the run to have it written anew") from error


def _rows_path(folder: Path, kind: str) -> Path:
    if not _KIND.fullmatch(kind) or kind == "calls":
        raise ConfigError(f"kind {kind!r}: give lower case letters, digits, - and _, and not calls")
    return folder / f"{kind}.jsonl"
