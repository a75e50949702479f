"""Scores that are asked for twice are computed once: a response and its unchanged revision, a pair under many rubrics.

For callers of any scorer. It lives in memory and as long as the object; resuming runs is `omnirm.runs`. It decodes no
medium.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from threading import Lock
from typing import Any

from omnirm.errors import BackendError, ConfigError
from omnirm.judgment import prompt_hash
from omnirm.preprocessing.source import open_source
from omnirm.preprocessing.types import MediaError
from omnirm.scorers.base import Scored, Scorer
from omnirm.types import Message, Modality, ParseFailure, Part


class CachedScorer:
    """A scorer with the memory of its last scores. Equal items of one call are scored once, too.

    Because a repeated item gets the very same number, a revision that changed nothing leaves the score exactly where it
    was, whatever else was in its batch. Failures are not remembered, nor items whose media cannot be opened here
    (remote ones): those are asked for every time.

    Args:
        scorer: the one that computes.
        entries: how many scores are remembered; the ones not asked for longest go first.

    Raises:
        ConfigError: no room for a single entry.
    """

    def __init__(self, scorer: Scorer, *, entries: int = 100_000) -> None:
        if entries < 1:
            raise ConfigError(f"entries {entries}: give at least 1")
        self.scorer = scorer
        self.name, self.revision = scorer.name, scorer.revision
        self.modalities: frozenset[Modality] = scorer.modalities
        self._entries, self._lock = entries, Lock()
        self._known: OrderedDict[str, float] = OrderedDict()

    def score(self, items: Sequence[Scored]) -> list[float | ParseFailure]:
        """As the scorer itself would.

        Raises:
            BackendError: the scorer failed as a whole, or gave another number of scores than it was asked for.
        """
        keys: list[str | int] = [item_key(item) or i for i, item in enumerate(items)]  # a number: not to be remembered
        found: dict[str | int, float | ParseFailure] = {}
        with self._lock:
            for key in keys:
                if isinstance(key, str) and key in self._known:
                    self._known.move_to_end(key)
                    found[key] = self._known[key]
        asked = {key: item for key, item in zip(keys, items, strict=True) if key not in found}
        if asked:
            scores = self.scorer.score(list(asked.values()))
            if len(scores) != len(asked):
                raise BackendError(f"{self.name} gave {len(scores)} scores for {len(asked)} responses")
            found |= zip(asked, scores, strict=True)
            with self._lock:
                for key, score in zip(asked, scores, strict=True):
                    if isinstance(key, str) and not isinstance(score, ParseFailure):
                        self._known[key] = score
                while len(self._known) > self._entries:
                    self._known.popitem(last=False)
        return [found[key] for key in keys]


def item_key(item: Scored) -> str | None:
    """SHA-256 (hex) of everything that a score can depend on: roles, texts, options, and the content of media.

    A file counts by its bytes, so a file that changed under its path is another item. None where a medium cannot be
    opened without a network.
    """
    messages = (*item.prompt, Message("assistant", item.response))
    try:
        known = tuple(replace(one, parts=tuple(_by_content(part) for part in one.parts)) for one in messages)
    except MediaError:
        return None
    return prompt_hash(known, "")


def _by_content(part: Part) -> Part:
    return part if part.type == "text" else replace(part, value=_content(part.value))


def _content(value: Any) -> Any:
    if isinstance(value, list | tuple):  # the frames of a video
        return tuple(_content(one) for one in value)
    if isinstance(value, str | PathLike | bytes | bytearray):
        return open_source(value).sha256
    return value  # an object in memory: hashed by its content anyway
