"""Animated WEBP and PNG through Pillow, which composes their frames as a browser does.

For `video.py`, in place of a video decoder, for these two formats that FFmpeg's readers do not (always) take. One frame
is in memory at a time. Transparent parts are laid on white. Knows nothing of sampling or resizing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

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
from omnirm.preprocessing.types import Limits, MediaCorrupt, MediaError, MediaTooLarge

FORMATS = ("webp", "png")
_FAULTS = (OSError, SyntaxError, ValueError, KeyError, IndexError, EOFError, struct.error)
_STILL_S = 0.1  # shown for this long where a file says 0, as browsers do


class PillowDecoder:
    """The decoder protocol on Pillow, for animations."""

    name = "pillow"

    def version(self) -> str:
        """Version of Pillow."""
        import PIL

        return str(PIL.__version__)

    @contextmanager
    def open(self, source: Source, found: Sniffed, limits: Limits, deadline: float) -> Iterator[VideoReader]:
        """See `Decoder.open`. A still picture is a clip of one frame."""
        import PIL.Image

        with source.open() as stream:
            try:
                image = PIL.Image.open(stream, formats=(found.format.upper(),))
            except PIL.Image.DecompressionBombError as error:
                raise MediaTooLarge(source.name, str(error), "give a smaller one") from error
            except _FAULTS as error:
                raise MediaCorrupt(source.name, f"truncated or damaged: {error}", RESTORE) from error
            check_pixels(source.name, image.height, image.width, limits)
            yield _Reader(source.name, image, deadline)


class _Reader:
    def __init__(self, name: str, image: Any, deadline: float) -> None:
        self._name, self._image = name, image
        times, now = [], 0.0
        for index in range(getattr(image, "n_frames", 1)):
            check_deadline(name, deadline)
            self._show(index)
            times.append(now)
            now += float(image.info.get("duration", 0)) / 1000 or _STILL_S
        self.info = StreamInfo(len(times), len(times) / now, now, times)

    def _show(self, index: int) -> None:
        try:
            self._image.seek(index)
            self._image.load()
        except _FAULTS as error:
            raise MediaCorrupt(self._name, f"frame {index} cannot be decoded: {error}", RESTORE) from error
        except MediaError:
            raise

    def read(self, indices: Sequence[int], deadline: float) -> Iterator[PendingFrame]:
        """See `VideoReader.read`."""
        import PIL.Image

        for index in indices:
            check_deadline(self._name, deadline)
            self._show(index)
            frame = self._image.convert("RGBA")
            white = PIL.Image.new("RGB", frame.size, (255, 255, 255))
            white.paste(frame, mask=frame.getchannel("A"))
            yield np.array(white).copy
