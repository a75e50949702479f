"""Rewards asked for one by one, as verl does, judged many at once; and one judge for each setting in a process.

For `rewards/verl.py`, which verl loads from its path and not as a module: what has to be there once lives here.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from omnirm.training.rewards.plans import Reward
from omnirm.training.rewards.trl import JudgeReward

WINDOW = 0.05  # seconds in which calls are gathered


class Gathered:
    """Calls for single rows that come within a moment are one call of the reward.

    Args:
        reward: pointwise or with references; a group cannot be known from one row.
        window: seconds to wait for more.
        most: so many are asked at once without waiting.
    """

    def __init__(self, reward: JudgeReward, window: float = WINDOW, most: int = 256) -> None:
        self.reward, self.window, self.most = reward, window, most
        self._waiting: WeakKeyDictionary[Any, list[tuple[Mapping[str, Any], asyncio.Future[Reward]]]] = (
            WeakKeyDictionary()
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, row: Mapping[str, Any]) -> Reward:
        """The reward of one row: keys `prompt`, `completion` and the columns that `JudgeReward` looks at."""
        loop = asyncio.get_running_loop()
        waiting = self._waiting.setdefault(loop, [])
        future: asyncio.Future[Reward] = loop.create_future()
        waiting.append((row, future))
        if len(waiting) >= self.most:
            self._flush(loop)
        elif len(waiting) == 1:
            loop.call_later(self.window, self._flush, loop)
        return await future

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = self._waiting.pop(loop, [])
        if batch:
            task = loop.create_task(self._judge(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _judge(self, batch: Sequence[tuple[Mapping[str, Any], asyncio.Future[Reward]]]) -> None:
        try:
            found = await asyncio.to_thread(rewards_of, self.reward, [row for row, _ in batch])
        except Exception as error:  # belongs to every caller
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), one in zip(batch, found, strict=True):
            if not future.done():
                future.set_result(one)


def rewards_of(reward: JudgeReward, rows: Sequence[Mapping[str, Any]]) -> list[Reward]:
    """The rewards of rows in one call; a column that only some rows have is None in the others."""
    names = {name for row in rows for name in row} - {"prompt", "completion"}
    columns = {name: [row.get(name) for row in rows] for name in names}
    return reward.rewards([row["prompt"] for row in rows], [row["completion"] for row in rows], **columns)


_SHARED: dict[str, Gathered] = {}
_LOCK = threading.Lock()


def shared(window: float, most: int, settings: Mapping[str, Any]) -> Gathered:
    """The reward of those settings, the same one in all of a process."""
    name = json.dumps([window, most, settings], sort_keys=True)
    with _LOCK:
        if name not in _SHARED:
            _SHARED[name] = Gathered(JudgeReward(**settings), window, most)
        return _SHARED[name]


__all__ = ["WINDOW", "Gathered", "rewards_of", "shared"]
