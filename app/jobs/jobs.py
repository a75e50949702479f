"""Work that outlives a page and a server: a queue of jobs in the store, a few threads that do them, progress to watch.

For the web app and whatever runs long. A kind of job is a handler: a function of a `JobContext`, which tells it what to
do, where to keep its files, how to say how far it is, and when to stop. This file knows no judging and no widget.

    service = JobService(store, folder, {"judge": handler})
    service.start()
    for status in service.watch(service.submit("judge", spec)):
        print(status.state, status.progress.detail)
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnirm.app.jobs.values import (
    Cancelled,
    Handler,
    JobContext,
    JobStatus,
    Progress,
    Stopped,
    after_crash,
    read_crashes,
    read_progress,
)
from omnirm.app.store.database import StoreError
from omnirm.errors import ConfigError, OmnirmError
from omnirm.preprocessing.types import MediaError
from omnirm.records import to_plain
from omnirm.runs.lines import lock

if TYPE_CHECKING:
    from omnirm.app.store.store import JobRow, Store

__all__ = ["Cancelled", "Handler", "JobContext", "JobService", "JobStatus", "Progress"]

MOST_CRASHES = 3  # ends of the process in a row, without progress between them, that a job is tried again after
_SAVE_EVERY = 1.0  # seconds between two writes of a running job's progress
_TELL_EVERY = 2.0  # seconds after which a watcher hears again, changed or not
_STOP_WITHIN = 60.0  # seconds that `stop` waits for the part that is under way
_TRY_AGAIN, _TRIES = 2.0, 10  # seconds between two tries to write to a store that cannot be written to
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Live:
    """A job that runs in this process."""

    progress: Progress
    crashes: Mapping[str, int]
    told: float = field(default_factory=time.monotonic)
    saved: float = float("-inf")
    cancelled: bool = False

    def now(self) -> Progress:
        """The progress with what has passed since it was told taken off the time left, in whole seconds."""
        if self.progress.eta_s is None:
            return self.progress
        return replace(self.progress, eta_s=float(round(max(0.0, self.progress.eta_s - time.monotonic() + self.told))))


class JobService:
    """The jobs of one data folder. Oldest first; a job that was under way when the process ended comes before all.

    Args:
        store: keeps the jobs.
        folder: each job gets a folder of its own below it.
        handlers: what to do, by kind of job. An `OmnirmError` or `MediaError` that one raises is what the user reads;
            anything else, too, ends that job alone.
        workers: jobs that run at once, at least 1.
        most_queued: jobs that may wait.

    Raises:
        ConfigError: a number below 1.
    """

    def __init__(
        self, store: Store, folder: Path, handlers: Mapping[str, Handler], *, workers: int = 1, most_queued: int = 200
    ) -> None:
        for name, value in (("workers", workers), ("most_queued", most_queued)):
            if value < 1:
                raise ConfigError(f"{name} {value}: give at least 1")
        self._store, self._folder, self._handlers = store, Path(folder), dict(handlers)
        self._workers, self._most_queued = workers, most_queued
        self._changed = threading.Condition()  # guards what follows; notified at every change of any job
        self._changes = 0
        self._queue: deque[str] = deque(row.id for row in self._rows("queued"))
        self._live: dict[str, _Live] = {}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._release: Callable[[], None] | None = None

    # -- life

    def start(self) -> None:
        """Begins to work. Jobs that were running when the process ended go to the front of the queue.

        One that has ended the process again and again without getting any further fails instead.

        Raises:
            ConfigError: the service runs already, or another one on the same folder, in whatever process.
            OSError: the folder cannot be made.
        """
        if self._release is not None:
            raise ConfigError("the job service runs already")
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._release = lock(self._folder)
        except ConfigError as e:
            raise ConfigError(
                f"{self._folder}: another omnirm works there; stop it, or give another data folder"
            ) from e
        self._stopping.clear()
        interrupted = [row for row in self._rows("running") if self._taken_up(row)]
        with self._changed:
            self._queue = deque(dict.fromkeys(row.id for row in (*interrupted, *self._rows("queued"))))
            self._tell()
        for number in range(self._workers):
            thread = threading.Thread(target=self._work, name=f"omnirm-jobs-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Ends the work at the next point where a running job can be left; it goes on from there at the next start.

        Returns when all threads have ended, or after a minute where a job does not come to such a point.
        """
        with self._changed:
            self._stopping.set()
            self._tell()
        until = time.monotonic() + _STOP_WITHIN
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if self._threads:
            _log.warning("%d jobs did not stop within %.0f s", len(self._threads), _STOP_WITHIN)
        elif self._release is not None:
            self._release()
            self._release = None

    # -- jobs

    def submit(self, kind: str, spec: Mapping[str, Any]) -> str:
        """Puts a job at the end of the queue and returns its id.

        Raises:
            ConfigError: an unknown kind, or as many jobs wait as may.
        """
        if kind not in self._handlers:
            raise ConfigError(f"kind of job {kind!r}: give one of {', '.join(sorted(self._handlers))}")
        with self._changed:
            if len(self._queue) >= self._most_queued:
                raise ConfigError(f"{len(self._queue)} jobs are waiting already, no more fit in; try again later")
            id = self._store.add_job(kind, dict(spec))
            self._queue.append(id)
            self._tell()
        return id

    def status(self, id: str) -> JobStatus:
        """A job as it stands now. Raises `ConfigError` for an unknown id."""
        return self._status(self._row(id))

    def recent(self, limit: int = 50) -> list[JobStatus]:
        """The latest jobs, newest first."""
        return [self._status(row) for row in self._store.jobs(limit=limit, newest_first=True)]

    def cancel(self, id: str) -> bool:
        """Ends a job that waits or runs; one that runs stops at its next check. False where it was over already.

        Raises:
            ConfigError: an unknown id.
        """
        self._row(id)
        with self._changed:
            told = {"progress": to_plain(replace(self._live[id].progress, eta_s=None))} if id in self._live else {}
            done = self._store.update_job(id, only_if=("queued", "running"), state="cancelled", finished=_now(), **told)
            if done:
                if id in self._queue:
                    self._queue.remove(id)
                if id in self._live:
                    self._live[id].cancelled = True
                self._tell()
        return done

    def watch(self, id: str, *, every: float = 0.25) -> Iterator[JobStatus]:
        """The job's status at each change and at least every 2 seconds, until it is over or the service stops.

        Args:
            id: of the job.
            every: least time between two statuses in seconds; changes in between are told together.

        Raises:
            ConfigError: an unknown id.
        """
        last, told = None, 0.0
        while True:
            with self._changed:
                seen = self._changes
            status = self.status(id)
            if status != last or time.monotonic() - told >= _TELL_EVERY:
                last, told = status, time.monotonic()
                yield status
            if status.over or self._stopping.wait(every):
                return
            with self._changed:
                self._changed.wait_for(lambda seen=seen: self._changes != seen, timeout=1.0)  # type: ignore[misc]

    def wait(self, id: str, timeout: float | None = None) -> JobStatus:
        """The job's status when it is over, or as it stands after `timeout` seconds or when the service stops.

        Raises:
            ConfigError: an unknown id.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._changed:
                seen = self._changes
            status = self.status(id)
            left = None if until is None else until - time.monotonic()
            if status.over or self._stopping.is_set() or (left is not None and left <= 0):
                return status
            with self._changed:
                self._changed.wait_for(lambda seen=seen: self._changes != seen, timeout=left)  # type: ignore[misc]

    def _row(self, id: str) -> JobRow:
        row = self._store.job(id)
        if row is None:
            raise ConfigError(f"job {id!r}: there is none of that id")
        return row

    def _rows(self, *states: str) -> list[JobRow]:
        return self._store.jobs(states=states, limit=1_000_000)

    def _status(self, row: JobRow) -> JobStatus:
        position = None
        with self._changed:
            live = self._live.get(row.id) if row.state == "running" else None
            if row.state == "queued":
                position = self._queue.index(row.id) if row.id in self._queue else 0
        progress = live.now() if live else read_progress(row.progress)
        return JobStatus(
            row.id, row.kind, row.state, progress, position, row.error, row.result, row.created, row.started,
            row.finished,
        )  # fmt: skip

    def _tell(self) -> None:
        """Wakes all who wait for a change. The lock must be held."""
        self._changes += 1
        self._changed.notify_all()

    # -- work

    def _taken_up(self, row: JobRow) -> bool:
        """Puts a job that was under way back into the queue; False where it has ended the process too often."""
        crashes = after_crash(row.progress)
        if crashes["crashes"] > MOST_CRASHES:
            error = f"the app ended {crashes['crashes']} times while this job ran, so it is not tried again"
            self._store.update_job(row.id, only_if=("running",), state="failed", error=error, finished=_now())
            return False
        kept = {**to_plain(read_progress(row.progress)), **crashes}
        return self._store.update_job(row.id, only_if=("running",), state="queued", progress=kept)

    def _work(self) -> None:
        while (row := self._next()) is not None:
            try:
                self._run(row)
            finally:
                with self._changed:
                    self._live.pop(row.id, None)
                    self._tell()

    def _next(self) -> JobRow | None:
        """The oldest job that waits, now running; None when the service stops."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._stopping.is_set())
                if self._stopping.is_set():
                    return None
                id = self._queue.popleft()
                try:
                    row = self._claimed(id)
                except StoreError:
                    _log.exception("job %s could not be begun", id)
                    self._queue.appendleft(id)
                    self._changed.wait(_TRY_AGAIN)
                    continue
                if row is not None:
                    self._live[id] = _Live(read_progress(row.progress), read_crashes(row.progress))
                    self._tell()
                    return row

    def _claimed(self, id: str) -> JobRow | None:
        row = self._store.job(id)
        if row is None or not self._store.update_job(
            id, only_if=("queued",), state="running", started=row.started or _now()
        ):
            return None
        return row

    def _run(self, row: JobRow) -> None:
        try:
            if row.kind not in self._handlers:
                raise ConfigError(f"this omnirm knows no jobs of the kind {row.kind!r}")
            folder = self._folder / row.id
            folder.mkdir(exist_ok=True)
            context = JobContext(
                row.id, dict(row.spec), folder, lambda progress: self._report(row.id, progress),
                lambda: self._check(row.id),
            )  # fmt: skip
            result = dict(self._handlers[row.kind](context))
            self._ended(row.id, state="done", result=result)
        except Stopped:
            self._left(row.id)
        except Cancelled:
            self._ended(row.id, state="cancelled")
        except (OmnirmError, MediaError) as e:
            self._ended(row.id, state="failed", error=_line(str(e)) or type(e).__name__)
        except Exception as e:  # the boundary: whatever a handler or a model does, the other jobs go on
            _log.exception("job %s (%s) failed", row.id, row.kind)
            self._ended(row.id, state="failed", error=_line(f"unexpected {type(e).__name__}: {e}"))

    def _report(self, id: str, progress: Progress) -> None:
        with self._changed:
            live = self._live[id]
            live.progress, live.told = progress, time.monotonic()
            due = live.told - live.saved >= _SAVE_EVERY
            if due:
                live.saved = live.told
            self._tell()
        if due:
            self._save(id)

    def _check(self, id: str) -> None:
        if self._live[id].cancelled:
            raise Cancelled("the job was cancelled")
        if self._stopping.is_set():
            raise Stopped("the service stops")

    def _left(self, id: str) -> None:
        """Leaves a job for the next start; that the process ends now is not the job's doing."""
        self._save(id, stopped=True)

    def _save(self, id: str, **more: Any) -> None:
        """Keeps the progress; without it a job is no worse off."""
        plain = {**to_plain(self._live[id].progress), **self._live[id].crashes, **more}
        try:
            self._store.update_job(id, only_if=("running",), progress=plain)
        except StoreError:
            _log.exception("progress of job %s could not be written", id)

    def _ended(self, id: str, **changes: Any) -> None:
        """Notes the end of a job, unless it was cancelled before.

        Tried again for a while: a full disk must not end the thread that does all jobs. A job whose end could not be
        noted is `running` in the store, and taken up again at the next start.
        """
        progress = to_plain(replace(self._live[id].progress, eta_s=None))
        for _ in range(_TRIES):
            try:
                self._store.update_job(id, only_if=("running",), progress=progress, finished=_now(), **changes)
                return
            except StoreError:
                _log.exception("the end of job %s could not be written", id)
                if self._stopping.wait(_TRY_AGAIN):
                    return


def _now() -> datetime:
    return datetime.now(UTC)


def _line(text: str) -> str:
    return " ".join(text.split())
