"""Video through decord, which brings its own FFmpeg but hangs or crashes on some damaged files.

Never chosen by itself for that reason; for whoever asks for it by name and trusts the files. Knows nothing of sampling
or resizing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from omnirm.preprocessing.decoders.base import (
    RESTORE,
    PendingFrame,
    StreamInfo,
    VideoReader,
    check_deadline,
    check_pixels,
)
from omnirm.preprocessing.sniff import Sniffed
from omnirm.preprocessing.source import Source
from omnirm.preprocessing.types import Limits, MediaCorrupt


class DecordDecoder:
    """The decoder protocol on decord."""

    name = "decord"

    def version(self) -> str:
        """Version of decord."""
        import decord

        return str(decord.__version__)

    @contextmanager
    def open(self, source: Source, found: Sniffed, limits: Limits, deadline: float) -> Iterator[VideoReader]:
        """See `Decoder.open`."""
        with source.open() as stream:
            yield _Reader(source, stream, limits)


class _Reader:
    def __init__(self, source: Source, stream: Any, limits: Limits) -> None:
        import decord

        self._name, self._limits, self._failure = source.name, limits, decord.DECORDError
        try:
            self._video = decord.VideoReader(str(source.path) if source.path else stream)
            frames, fps = len(self._video), float(self._video.get_avg_fps())
            times = self._video.get_frame_timestamp(range(frames)) if frames else []
        except (self._failure, RuntimeError) as error:
            raise MediaCorrupt(self._name, f"cannot be opened as video: {_last_line(error)}", RESTORE) from error
        if not frames or fps <= 0:
            raise MediaCorrupt(self._name, "its video stream holds no frames", RESTORE)
        self.info = StreamInfo(frames, fps, frames / fps, [float(start) for start, _ in times])

    def read(self, indices: Sequence[int], deadline: float) -> Iterator[PendingFrame]:
        """See `VideoReader.read`."""
        for count, index in enumerate(indices):
            check_deadline(self._name, deadline)
            try:
                frame = self._video[index]
            except (self._failure, RuntimeError, IndexError) as error:
                raise MediaCorrupt(
                    self._name,
                    f"only {count} of the {len(indices)} wanted frames can be decoded: {_last_line(error)}",
                    RESTORE,
                ) from error
            check_pixels(self._name, frame.shape[0], frame.shape[1], self._limits)
            yield frame.asnumpy


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["unknown error"])[0][-200:]
