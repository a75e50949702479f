"""Decoded media that several requests share, within a bound of bytes.

For `prepare` and whoever judges the same media under many rubrics and in both orders. Knows neither files nor decoders:
keys are whatever the caller tells apart by (content hash and settings).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass

from omnirm.preprocessing.types import Image, Media, Video


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache did so far: `hits` and `misses` count calls of `get`; `bytes` and `items` are what it holds now."""

    hits: int
    misses: int
    items: int
    bytes: int


class MediaCache:
    """Least recently used media are dropped when the bound is reached. Safe to share between threads.

    Two threads that ask for the same medium at the same time decode it once. Errors are not kept. What comes out is
    shared, so its arrays are read-only.
    """

    def __init__(self, max_bytes: int = 2 * 2**30) -> None:
        """A cache of at most `max_bytes` of decoded pixels and samples; 0 keeps nothing."""
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}; give 0 or more")
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._media: OrderedDict[Hashable, tuple[Media, int]] = OrderedDict()
        self._loading: dict[Hashable, Future[Media]] = {}
        self._bytes = self._hits = self._misses = 0

    def get(self, key: Hashable, load: Callable[[], Media]) -> Media:
        """The medium under `key`, from the cache or else from `load`, whose errors pass through."""
        with self._lock:
            if key in self._media:
                self._media.move_to_end(key)
                self._hits += 1
                return self._media[key][0]
            pending = self._loading.get(key)
            if pending is None:
                self._misses += 1
                own: Future[Media] = Future()
                self._loading[key] = own
            else:
                self._hits += 1
        if pending is not None:
            return pending.result()
        try:
            media = load()
        except BaseException as error:
            with self._lock:
                del self._loading[key]
            own.set_exception(error)
            raise
        size = freeze(media)
        with self._lock:
            del self._loading[key]
            if size <= self._max_bytes:
                self._media[key] = media, size
                self._bytes += size
            while self._bytes > self._max_bytes:
                self._bytes -= self._media.popitem(last=False)[1][1]
        own.set_result(media)
        return media

    def clear(self) -> None:
        """Drop everything it holds; the counts go on."""
        with self._lock:
            self._media.clear()
            self._bytes = 0

    @property
    def stats(self) -> CacheStats:
        """Counts up to now."""
        with self._lock:
            return CacheStats(self._hits, self._misses, len(self._media), self._bytes)


def freeze(media: Media) -> int:
    """Make the arrays of a medium read-only; returns how many bytes they take."""
    if isinstance(media, Video):
        arrays = [media.frames] + ([media.audio.samples] if media.audio is not None else [])
    else:
        arrays = [media.pixels if isinstance(media, Image) else media.samples]
    for array in arrays:
        array.flags.writeable = False
    return sum(array.nbytes for array in arrays)
