"""Video through torchcodec, which needs FFmpeg's shared libraries on the system.

For whoever asks for it by name, and where PyAV cannot be loaded: its pixels are the reference. Knows nothing of
sampling or resizing.
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

_BATCH = 4  # frames decoded at a time, which bounds what is in memory at full size


class TorchcodecDecoder:
    """The decoder protocol on torchcodec."""

    name = "torchcodec"

    def version(self) -> str:
        """Version of torchcodec; raises ImportError where FFmpeg's libraries are missing."""
        import torchcodec
        from torchcodec.decoders import VideoDecoder

        try:
            VideoDecoder(b"no video")  # importing loads no native library, using it does
        except (RuntimeError, ValueError) as error:
            if "load libtorchcodec" in str(error):
                reason = "FFmpeg's shared libraries are missing, or of a version that does not fit torch"
                raise ImportError(reason) from error
        return str(torchcodec.__version__)

    @contextmanager
    def open(self, source: Source, found: Sniffed, limits: Limits, deadline: float) -> Iterator[VideoReader]:
        """See `Decoder.open`."""
        yield _Reader(source, limits)


class _Reader:
    def __init__(self, source: Source, limits: Limits) -> None:
        from torchcodec.decoders import VideoDecoder

        self._name = source.name
        try:
            self._decoder = VideoDecoder(
                source.read() if source.path is None else str(source.path), dimension_order="NHWC"
            )
        except (RuntimeError, ValueError) as error:
            raise MediaCorrupt(self._name, f"cannot be opened as video: {_first_line(error)}", RESTORE) from error
        about = self._decoder.metadata
        check_pixels(self._name, about.height or 0, about.width or 0, limits)
        if not about.num_frames:
            raise MediaCorrupt(self._name, "its video stream holds no frames", RESTORE)
        fps, duration = float(about.average_fps or 25.0), float(about.duration_seconds or 0.0)
        start = float(about.begin_stream_seconds or 0.0)
        self.info = StreamInfo(
            about.num_frames, fps, duration or about.num_frames / fps, _EvenTimes(about.num_frames, start, fps)
        )

    def read(self, indices: Sequence[int], deadline: float) -> Iterator[PendingFrame]:
        """See `VideoReader.read`."""
        for first in range(0, len(indices), _BATCH):
            check_deadline(self._name, deadline)
            batch = list(indices[first : first + _BATCH])
            try:
                frames = self._decoder.get_frames_at(batch).data
            except (RuntimeError, IndexError, ValueError) as error:
                raise MediaCorrupt(
                    self._name,
                    f"only {first} or a few more of {len(indices)} wanted frames can be decoded: {_first_line(error)}",
                    RESTORE,
                ) from error
            for frame in frames:
                yield frame.numpy


class _EvenTimes(Sequence[float]):
    """Time stamps where the library tells none before decoding."""

    def __init__(self, frames: int, start: float, fps: float) -> None:
        self._frames, self._start, self._fps = frames, start, fps

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._frames))]
        if not -self._frames <= index < self._frames:
            raise IndexError(index)
        return self._start + (index % self._frames) / self._fps


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["unknown error"])[0][:200]
