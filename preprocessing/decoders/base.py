"""What a video decoder is to the rest of preprocessing: a name, whether it works here, and a way to open a clip.

For `video.py`, which samples and resizes, and for `omnirm doctor`. Knows nothing of sampling, budgets or models. A
decoder hands out whole frames one by one, so that a clip is never in memory at full resolution.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from omnirm.preprocessing.sniff import Sniffed
from omnirm.preprocessing.source import Source
from omnirm.preprocessing.types import Limits, MediaTimeout, MediaTooLarge

RESTORE = "record or download it again, or repair it with a video tool"

# A decoded frame before its conversion: calling it gives uint8 [height, width, 3] RGB as shown. Conversion is deferred
# so that it can run beside the decoding of the next frames; call it once and soon, from any thread.
PendingFrame = Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What is known of a video stream before any frame is decoded.

    `timestamps` holds the presentation time in seconds of every frame, in display order.
    """

    frames: int
    fps: float
    duration: float
    timestamps: Sequence[float]


class VideoReader(Protocol):
    """One open clip."""

    info: StreamInfo

    def read(self, indices: Sequence[int], deadline: float) -> Iterator[PendingFrame]:
        """The frames at `indices` (ascending, no repeats), in that order and every one of them.

        Args:
            indices: Positions in display order.
            deadline: On the clock of `time.monotonic`; passing it raises `MediaTimeout`.

        Raises:
            MediaCorrupt: A wanted frame cannot be decoded. Never are fewer frames returned than asked for.
            MediaTooLarge: A frame has more pixels than the limits allow.
            MediaTimeout: The deadline passed.
        """
        ...


class Decoder(Protocol):
    """A library that decodes video."""

    name: str

    def version(self) -> str:
        """Version of the library; raises ImportError or OSError where it cannot be loaded."""
        ...

    def open(
        self, source: Source, found: Sniffed, limits: Limits, deadline: float
    ) -> AbstractContextManager[VideoReader]:
        """Open a clip, whose format is `found`, and learn its frames.

        Raises:
            MediaUnsupported: Not a video, or of a format or codec this decoder has not got.
            MediaCorrupt: Damaged or empty.
            MediaTooLarge: Frames over the limit of pixels.
            MediaTimeout: The deadline passed.
        """
        ...


def check_deadline(name: str, deadline: float) -> None:
    """Raise `MediaTimeout` where the time for a clip is over."""
    if time.monotonic() > deadline:
        raise MediaTimeout(
            name, "decoding takes longer than the limit", "give a shorter clip or raise Limits.timeout_s"
        )


def check_pixels(name: str, height: int, width: int, limits: Limits) -> None:
    """Raise `MediaTooLarge` where frames have more pixels than the limits allow."""
    if height * width > limits.max_pixels:
        raise MediaTooLarge(
            name,
            f"its frames have {width} x {height} pixels, the limit is {limits.max_pixels} in all",
            "give a smaller video or raise Limits.max_pixels",
        )
