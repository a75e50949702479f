"""Blocking calls of a judge in threads of their own: so many at a time, and not waited for beyond a deadline.

For `JudgeReward`. A thread cannot be stopped, so a call that hangs keeps its slot until it ends, and later calls wait
for it: with one slot, a backend that is not made for two calls at once never gets two. Threads are daemons: a judge
that hangs does not keep the program from ending.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Late:
    """In place of an answer that did not come in time."""


class Calls(Generic[T]):
    """Runs work, at most `slots` pieces at once."""

    def __init__(self, slots: int) -> None:
        self._slots = threading.BoundedSemaphore(slots)
        self._most = slots

    def run(self, work: Sequence[Callable[[], T]], timeout: float | None) -> list[T | Late]:
        """The answers in order, `Late` for what had not ended after `timeout` seconds; that is not begun any more.

        Raises:
            Exception: the first that a piece of work raised.
        """
        end = None if timeout is None else time.monotonic() + timeout
        waiting = deque(enumerate(work))
        answers: list[T | Late] = [Late() for _ in work]
        errors: list[Exception] = []
        over = threading.Event()

        def go_on() -> None:
            if not self._slots.acquire(timeout=None if end is None else max(0.0, end - time.monotonic())):
                return
            try:
                while not over.is_set():
                    try:
                        place, one = waiting.popleft()
                    except IndexError:
                        return
                    answers[place] = one()
            except Exception as error:  # carried over to the thread that waits, and raised there
                errors.append(error)
                over.set()
            finally:
                self._slots.release()

        threads = [
            threading.Thread(target=go_on, name="omnirm-reward", daemon=True) for _ in range(min(self._most, len(work)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        over.set()
        if errors:
            raise errors[0]
        return list(answers)


__all__: Sequence[Any] = ["Calls", "Late"]
