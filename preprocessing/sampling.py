"""Which frames of a video are looked at, and how large they become: the arithmetic of qwen-omni-utils.

For `video.py`. Pure numbers: no file, no decoder, no pixel. Where the reference raises on short clips, frames are
repeated instead, so that every clip gives at least two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from omnirm.preprocessing.resize import ceil_by_factor, floor_by_factor, round_by_factor, smart_resize
from omnirm.preprocessing.types import VideoSettings

FRAME_FACTOR = 2  # frames come in pairs: the vision towers merge two into one step
DEFAULT_FPS = 2.0
MAX_TOKENS = 768  # visual tokens of one frame at most, whatever the settings say


@dataclass(frozen=True, slots=True)
class Sampling:
    """The frames to take.

    `indices` ascend and may repeat; `frames` is how many frames of the source lie between start and end; `fps` is the
    rate of the sampled frames on the source's clock.
    """

    indices: tuple[int, ...]
    frames: int
    fps: float


def frame_range(frames: int, fps: float, start: float | None, end: float | None) -> tuple[int, int]:
    """First and last frame of a time range.

    Args:
        frames: In the whole video, at least 1.
        fps: Average rate, above 0.
        start: Seconds; None for the beginning. Beyond the video it means its end.
        end: Seconds; None for the end.

    Raises:
        ValueError: No frame lies in the range.
    """
    duration = frames / fps
    first, last = 0, frames - 1
    if start is not None:
        first = math.ceil(max(0.0, min(start, duration)) * fps)
    if end is not None:
        last = min(math.floor(max(0.0, min(end, duration)) * fps), frames - 1)
    if first > last:
        span = f"from {start or 0:g} s to {'its end' if end is None else f'{end:g} s'}"
        raise ValueError(f"no frame lies {span}; the video has {frames} frames in {duration:g} s")
    return first, last


def frame_count(settings: VideoSettings, frames: int, fps: float) -> int:
    """How many frames to sample out of `frames` at `fps`: even, at least 2.

    With `settings.nframes`, that number rounded to even, even if it is more than there are; otherwise at
    `settings.fps`, at least `min_frames` and at most `max_frames` or all there are.
    """
    if settings.nframes is not None:
        return max(FRAME_FACTOR, round_by_factor(settings.nframes, FRAME_FACTOR))
    least = ceil_by_factor(settings.min_frames, FRAME_FACTOR)
    most = floor_by_factor(settings.max_frames, FRAME_FACTOR)
    count = frames / fps * (DEFAULT_FPS if settings.fps is None else settings.fps)
    count = min(min(max(count, least), most), frames)
    return max(FRAME_FACTOR, floor_by_factor(count, FRAME_FACTOR))


def sample(settings: VideoSettings, frames: int, fps: float) -> Sampling:
    """The frames to take of a video of `frames` frames at `fps`.

    Raises:
        ValueError: Nothing lies between start and end.
    """
    import torch

    first, last = frame_range(frames, fps, settings.start, settings.end)
    within = last - first + 1
    count = frame_count(settings, within, fps)
    indices = torch.linspace(first, last, count).round().long()  # its float32 decides which way halves go
    return Sampling(tuple(indices.tolist()), within, count / within * fps)


def frame_size(height: int, width: int, frames: int, settings: VideoSettings) -> tuple[int, int]:
    """Size of each of `frames` sampled frames under the budget per frame and over all frames.

    Raises:
        ValueError: The budgets contradict each other, or the aspect ratio is over 200.
    """
    ceiling = min(MAX_TOKENS * settings.factor**2, settings.total_pixels / frames * FRAME_FACTOR)
    budget = min(settings.max_pixels, max(ceiling, int(settings.min_pixels * 1.05)))
    return smart_resize(height, width, settings.factor, settings.min_pixels, budget)
