"""What a job says and is told: its progress, its status, the context of its handler, the order to stop.

For `omnirm.app.jobs.jobs` and those who write handlers or show jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from omnirm.errors import OmnirmError, SampleError
from omnirm.records import from_plain

OVER = ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. done, total: calls of models, finished and known to be needed; both 0 where nobody knows yet.

    eta_s: seconds that are probably left; None where nothing is known to tell it from.
    """

    step: str = ""
    done: int = 0
    total: int = 0
    detail: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as it stands. state: `queued`, `running`, `done`, `failed` or `cancelled`.

    position: jobs that come before it, 0 for the next one; None unless queued. error: one line; "" unless failed.
    started, finished: None where it has not. Times are in UTC.
    """

    id: str
    kind: str
    state: str
    progress: Progress
    position: int | None
    error: str
    result: Mapping[str, Any]
    created: datetime
    started: datetime | None
    finished: datetime | None

    @property
    def over(self) -> bool:
        """Has it ended, in whatever way?"""
        return self.state in OVER


class Cancelled(OmnirmError):
    """The job is to stop. For handlers: let it pass."""


class Stopped(Cancelled):
    """The service stops; the job goes on at the next start."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """What a handler gets. `folder` is the job's own, made, and the same after a restart."""

    job_id: str
    spec: dict[str, Any]
    folder: Path
    _report: Callable[[Progress], None]
    _check: Callable[[], None]

    def report(self, progress: Progress) -> None:
        """Says how far the job is. Cheap: call it at every change."""
        self._report(progress)

    def check(self) -> None:
        """Call it every few seconds, between parts of the work. Raises `Cancelled` where the job is to stop."""
        self._check()


Handler = Callable[[JobContext], Mapping[str, Any]]


def read_progress(plain: Mapping[str, Any]) -> Progress:
    """The progress in a row; none where another version wrote what this one cannot read."""
    try:
        return from_plain(Progress, {key: plain[key] for key in Progress.__slots__ if key in plain})
    except SampleError:
        return Progress()


def read_crashes(plain: Mapping[str, Any]) -> dict[str, int]:
    """How often the process ended while the job ran, and how far it was the last time."""
    return {key: plain[key] if isinstance(plain.get(key), int) else 0 for key in ("crashes", "crashed_at")}


def after_crash(plain: Mapping[str, Any]) -> dict[str, int]:
    """The same after another end of the process: one that came after some progress begins a new count."""
    before, done = read_crashes(plain), read_progress(plain).done
    if plain.get("stopped"):
        return before
    further = done > before["crashed_at"]
    return {"crashes": 1 if further else before["crashes"] + 1, "crashed_at": max(done, before["crashed_at"])}
