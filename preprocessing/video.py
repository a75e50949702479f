"""Video reference in; sampled, resized frames out, with their times and, on request, the sound track.

For `prepare` and the collators. Sampling and sizes are those of qwen-omni-utils (`sampling.py`). Frames are decoded one
after the other and each is resized in a second thread while the next are decoded, so a clip is never in memory at full
resolution. Also takes frames that are already apart: a list of images, an array or a tensor. Knows no model.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from omnirm.preprocessing.completeness import shortfall
from omnirm.preprocessing.decoders import choose_decoder
from omnirm.preprocessing.decoders.base import RESTORE, PendingFrame, StreamInfo, check_deadline
from omnirm.preprocessing.decoders.pillow import FORMATS as ANIMATIONS
from omnirm.preprocessing.resize import FrameResizer
from omnirm.preprocessing.sampling import FRAME_FACTOR, Sampling, frame_size, sample
from omnirm.preprocessing.sniff import require
from omnirm.preprocessing.source import Source, describe, open_source
from omnirm.preprocessing.types import (
    Audio,
    AudioSettings,
    ImageSettings,
    Limits,
    MediaCorrupt,
    MediaError,
    MediaTooLarge,
    MediaUnsupported,
    Policy,
    Video,
    VideoSettings,
)

DEFAULT_SAMPLE_FPS = 2.0  # of frames that come without a clock
_AHEAD = 2  # decoded frames waiting for each resizing thread


def load_video(
    ref: Any,
    settings: VideoSettings | None = None,
    policy: Policy | None = None,
    *,
    audio: AudioSettings | None = None,
    sample_fps: float | None = None,
    decoder: str | None = None,
) -> Video:
    """Sample the frames of a video and resize them to the pixel budget.

    Args:
        ref: A path, `file://` or `data:` URI, URL, bytes or `Source` of a video or an animated GIF, WEBP or PNG. Or
            frames that were sampled already: a list of image references (as `load_image` takes), or an array or tensor
            [n, height, width, 3] or [n, 3, height, width]; all of them are used, an odd number is made even by
            repeating the last.
        settings: Sampling and budget; the default is that of qwen-omni-utils.
        policy: What may be read, and the limits.
        audio: Rate of the sound track (its offset and duration come from `settings`), where `settings.with_audio`.
        sample_fps: Frames per second of frames given as a list or array; default 2.
        decoder: Name of a decoder (see `decoders`); default the best usable one.

    Returns:
        Frames as uint8 [n, 3, height, width], n even and at least 2, sides multiples of `settings.factor`, upright. A
        clip with fewer frames than that, or than `settings.nframes`, has frames repeated in `indices`.

    Raises:
        MediaError: One of its kinds; see `types.py`. A wanted frame that cannot be decoded is `MediaCorrupt`.
        ValueError: `decoder` is no decoder.
        ImportError: `decoder` is not usable here.
    """
    settings, policy = settings or VideoSettings(), policy or Policy()
    check_settings(settings, describe(ref))
    if isinstance(ref, list | tuple) or hasattr(ref, "__array_interface__") or hasattr(ref, "detach"):
        return _from_frames(ref, settings, policy, sample_fps or DEFAULT_SAMPLE_FPS)
    source = open_source(ref, policy)
    found = require(source, "video")
    if missing := shortfall(source, found):
        raise MediaCorrupt(source.name, f"truncated: {missing}", RESTORE)
    chosen = choose_decoder("pillow" if found.format in ANIMATIONS else decoder)
    deadline = time.monotonic() + policy.limits.timeout_s
    with _Soundtrack(source, settings, policy, audio) as sound:
        with chosen.open(source, found, policy.limits, deadline) as reader:
            info = reader.info
            sampling = _sample(settings, info, source.name, policy.limits)
            wanted = sorted(set(sampling.indices))
            frames = _resized(reader.read(wanted, deadline), sampling.indices, wanted, settings, source.name, deadline)
        track = sound.result()
    return Video(
        frames=frames,
        indices=sampling.indices,
        timestamps=tuple(info.timestamps[i] for i in sampling.indices),
        source_fps=info.fps,
        source_frames=info.frames,
        duration=info.duration,
        sample_fps=sampling.fps,
        decoder=chosen.name,
        sha256=source.sha256,
        audio=track,
    )


def check_settings(settings: VideoSettings, name: str) -> None:
    """Refuse settings that contradict themselves.

    Raises:
        MediaUnsupported: They do; the message says which.
    """
    if settings.fps is not None and settings.nframes is not None:
        raise MediaUnsupported(name, "both fps and nframes are set", "give one of them")
    if settings.fps is not None and not 0 < settings.fps < float("inf"):
        raise MediaUnsupported(name, f"cannot sample {settings.fps} frames a second", "give fps above 0")
    if settings.nframes is not None and settings.nframes < 1:
        raise MediaUnsupported(name, f"cannot sample {settings.nframes} frames", "give nframes of 1 or more")
    if settings.max_frames < FRAME_FACTOR or settings.min_frames > settings.max_frames:
        raise MediaUnsupported(
            name,
            f"min_frames {settings.min_frames} and max_frames {settings.max_frames} leave no number of frames",
            f"give max_frames of at least {FRAME_FACTOR} and min_frames",
        )
    for label, value in (("start", settings.start), ("end", settings.end)):
        if value is not None and not 0 <= value < float("inf"):
            raise MediaUnsupported(name, f"{label} is {value} s", "give seconds from 0 on")


def _sample(settings: VideoSettings, info: StreamInfo, name: str, limits: Limits) -> Sampling:
    try:
        sampling = sample(settings, info.frames, info.fps)
    except ValueError as error:
        raise MediaUnsupported(name, str(error), "change start and end") from error
    if sampling.frames / info.fps > limits.max_seconds:
        raise MediaTooLarge(
            name,
            f"{sampling.frames / info.fps:.1f} s of video, the limit is {limits.max_seconds:g}",
            "set start and end, or raise Limits.max_seconds",
        )
    _check_count(len(sampling.indices), name, limits)
    return sampling


def _check_count(count: int, name: str, limits: Limits) -> None:
    if count > limits.max_frames:
        raise MediaTooLarge(
            name,
            f"{count} sampled frames, the limit is {limits.max_frames}",
            "sample fewer or raise Limits.max_frames",
        )


def _resized(
    frames: Iterator[PendingFrame],
    indices: Sequence[int],
    wanted: Sequence[int],
    settings: VideoSettings,
    name: str,
    deadline: float,
) -> np.ndarray:
    """Convert and resize frames beside their decoding, each into all the places that show it."""
    places: dict[int, list[int]] = {}
    for place, index in enumerate(indices):
        places.setdefault(index, []).append(place)
    film = _Film(len(indices), settings, name, deadline)
    workers = max(1, min(4, _cores() // 2))
    running: deque[Future[None]] = deque()
    with ThreadPoolExecutor(workers, "omnirm-resize", initializer=_one_thread) as pool:
        for index, frame in zip(wanted, frames, strict=True):
            running.append(pool.submit(film.add, frame, places[index]))
            while len(running) > _AHEAD * workers or (film.frames is None and running):
                running.popleft().result()
        for task in running:
            task.result()
    assert film.frames is not None
    return film.frames


class _Film:
    """Collects resized frames; the first one decides the size. Safe to `add` from several threads after the first."""

    def __init__(self, count: int, settings: VideoSettings, name: str, deadline: float) -> None:
        self.frames: np.ndarray | None = None
        self._count, self._settings, self._name, self._deadline = count, settings, name, deadline
        self._own = threading.local()

    def add(self, frame: PendingFrame, places: Sequence[int]) -> None:
        check_deadline(self._name, self._deadline)
        pixels = frame()
        height, width = pixels.shape[:2]
        if self.frames is None:
            try:
                size = frame_size(height, width, self._count, self._settings)
            except ValueError as error:
                raise MediaUnsupported(self._name, str(error), "crop it, or change the pixel budget") from error
            self.frames = np.empty((self._count, 3, *size), np.uint8)
        resizer = getattr(self._own, "resizer", None)
        if resizer is None or resizer.size != (height, width):
            resizer = self._own.resizer = FrameResizer(height, width, *self.frames.shape[2:])
        resizer(pixels, self.frames[places[0]])
        for place in places[1:]:
            self.frames[place] = self.frames[places[0]]


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)  # of this thread only: the decoder keeps the other cores busy


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Soundtrack:
    """Decodes the sound track, if it is wanted, while the frames are decoded."""

    def __init__(self, source: Source, settings: VideoSettings, policy: Policy, audio: AudioSettings | None) -> None:
        self._source, self._settings, self._policy, self._audio = source, settings, policy, audio or AudioSettings()
        self._pool: ThreadPoolExecutor | None = None
        self._task: Future[Audio] | None = None

    def __enter__(self) -> _Soundtrack:
        if self._settings.with_audio:
            from omnirm.preprocessing.audio import load_soundtrack

            start, end = self._settings.start or 0.0, self._settings.end
            cut = AudioSettings(self._audio.sampling_rate, start, None if end is None else end - start)
            self._pool = ThreadPoolExecutor(1, "omnirm-sound", initializer=_one_thread)
            self._task = self._pool.submit(load_soundtrack, self._source, cut, self._policy)
        return self

    def result(self) -> Audio | None:
        return self._task.result() if self._task else None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if self._pool is None or self._task is None:
            return
        self._pool.shutdown(wait=True, cancel_futures=True)
        if isinstance(error, MediaError) and self._task.done() and not self._task.cancelled():
            own = self._task.exception()
            if isinstance(own, MediaUnsupported):  # "no sound" says more than what else is wrong
                raise own from error


def _from_frames(ref: Any, settings: VideoSettings, policy: Policy, sample_fps: float) -> Video:
    """Frames that are apart already: images or an array."""
    from omnirm.preprocessing.image import load_image

    name = f"<{len(ref)} frames>" if isinstance(ref, list | tuple) else describe(ref)
    if settings.with_audio:
        raise MediaUnsupported(name, "frames without a file have no sound", "give the sound as audio of its own")
    if settings.start is not None or settings.end is not None:
        raise MediaUnsupported(name, "start and end need a video with a clock", "give the frames wanted only")
    if not 0 < sample_fps < float("inf"):
        raise MediaUnsupported(name, f"sample_fps is {sample_fps}", "give a number above 0")
    if not isinstance(ref, list | tuple) and getattr(ref, "ndim", 0) != 4:
        raise MediaUnsupported(name, f"shape {tuple(ref.shape)} is no video", "give [n, h, w, 3] or [n, 3, h, w]")
    if len(ref) == 0:
        raise MediaCorrupt(name, "it has no frames", "give at least one")
    count = len(ref) + len(ref) % FRAME_FACTOR
    _check_count(count, name, policy.limits)
    deadline = time.monotonic() + policy.limits.timeout_s
    film, digest = _Film(count, settings, name, deadline), hashlib.sha256()
    whole = ImageSettings(factor=1, min_pixels=1, max_pixels=policy.limits.max_pixels)
    first: tuple[int, int] | None = None
    for index, frame in enumerate(_checked(ref)):
        image = load_image(frame, whole, policy)
        size = image.original_size
        first = first or size
        if size != first:
            raise MediaUnsupported(
                name,
                f"frame {index} has {size[1]} x {size[0]} pixels, the first {first[1]} x {first[0]}",
                "give frames of one size",
            )
        digest.update(bytes.fromhex(image.sha256))
        film.add(_as_is(image.pixels), range(index, count) if index == len(ref) - 1 else (index,))
    assert film.frames is not None
    indices = tuple(min(i, len(ref) - 1) for i in range(count))
    return Video(
        frames=film.frames,
        indices=indices,
        timestamps=tuple(i / sample_fps for i in indices),
        source_fps=sample_fps,
        source_frames=len(ref),
        duration=len(ref) / sample_fps,
        sample_fps=sample_fps,
        decoder="frames",
        sha256=digest.hexdigest(),
    )


def _checked(frames: Iterable[Any]) -> Iterator[Any]:
    """Numbers in a list are values, not frames."""
    for frame in frames:
        if isinstance(frame, int | float):
            raise MediaUnsupported(f"<frame {frame!r}>", "is a number, not an image", "give image references")
        yield frame


def _as_is(pixels: np.ndarray) -> PendingFrame:
    return lambda: np.ascontiguousarray(pixels)
