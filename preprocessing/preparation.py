"""One call for any medium: settings and per-part options applied, decoded once, isolated where the policy says so.

For backends and collators. `prepare` reads one medium, `prepare_many` a batch in which a bad one loses nothing else.
With a `MediaCache`, a pair judged in two orders under three rubrics is decoded once. Knows no decoder and no model.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from omnirm.preprocessing.cache import MediaCache
from omnirm.preprocessing.source import Source, describe, open_source
from omnirm.preprocessing.types import (
    AudioSettings,
    ImageSettings,
    Media,
    MediaError,
    MediaUnsupported,
    Policy,
    Settings,
    VideoSettings,
)

Kind = Literal["image", "video", "audio"]

ISOLATED_IMPORTS = ("av", "PIL.Image", "soundfile", "soxr", "torch")  # not counted against a worker's memory limit

# Options of a content part, in Qwen's names: what kind of medium takes them, and how they are read.
_OPTIONS: dict[str, tuple[tuple[Kind, ...], type]] = {
    "min_pixels": (("image", "video"), int),
    "max_pixels": (("image", "video"), int),
    "total_pixels": (("video",), int),
    "fps": (("video",), float),
    "nframes": (("video",), int),
    "min_frames": (("video",), int),
    "max_frames": (("video",), int),
    "video_start": (("video",), float),
    "video_end": (("video",), float),
    "sample_fps": (("video",), float),
    "use_audio_in_video": (("video",), bool),
    "offset": (("audio",), float),
    "duration": (("audio",), float),
    "audio_start": (("audio",), float),
    "audio_end": (("audio",), float),
}


@dataclass(frozen=True, slots=True)
class MediaItem:
    """One medium of a batch: what `prepare` takes."""

    ref: Any
    kind: Kind
    options: Mapping[str, Any] = field(default_factory=dict)


class _Job(NamedTuple):
    """Settings of one medium with its options applied; hashable, and light enough to send to another process."""

    kind: Kind
    settings: ImageSettings | VideoSettings | AudioSettings
    sound: AudioSettings
    sample_fps: float | None


def prepare(
    ref: Any,
    kind: Kind,
    settings: Settings | None = None,
    policy: Policy | None = None,
    options: Mapping[str, Any] | None = None,
    cache: MediaCache | None = None,
) -> Media:
    """Read one medium.

    Args:
        ref: What `load_image`, `load_video` or `load_audio` takes.
        kind: `"image"`, `"video"` or `"audio"`.
        settings: What the model wants; the default is Qwen2.5-Omni's.
        policy: What may be read, and the limits. With `isolate`, encoded media are decoded in a worker process.
        options: Of this medium, over the settings, in the names of the Qwen processors. Image: `min_pixels`,
            `max_pixels`. Video: these and `fps` or `nframes`, `min_frames`, `max_frames`, `total_pixels`,
            `video_start`, `video_end`, `use_audio_in_video`, and `sample_fps` for a list of frames. Audio: `offset` and
            `duration`, or `audio_start` and `audio_end`. All in pixels, frames and seconds.
        cache: Where to look first and to leave the result; its arrays are read-only then.

    Returns:
        `Image`, `Video` or `Audio`.

    Raises:
        MediaError: One of its kinds; `MediaUnsupported` for an option that is unknown, wrong or contradictory.
    """
    policy = policy or Policy()
    job = _job(describe_any(ref), kind, settings or Settings(), options or {})
    ref, digest = _opened(ref, job, policy)

    def load() -> Media:
        return _load_isolated(ref, job, policy) if policy.isolate and digest else _load(ref, job, policy)

    if cache is None or digest is None:
        return load()
    return cache.get((digest, job, policy.limits), load)


def prepare_many(
    items: Iterable[MediaItem | tuple[Any, ...]],
    settings: Settings | None = None,
    policy: Policy | None = None,
    *,
    cache: MediaCache | None = None,
    threads: int | None = None,
) -> list[Media | MediaError]:
    """Read several media at once.

    Args:
        items: `MediaItem`s, or tuples (ref, kind) or (ref, kind, options).
        settings: As for `prepare`.
        policy: As for `prepare`.
        cache: As for `prepare`; equal items are then decoded once.
        threads: Media decoded at the same time; default one per core, at most 4.

    Returns:
        For each item, in order, its medium, or the error that stands for it.
    """

    def one(item: MediaItem) -> Media | MediaError:
        try:
            return prepare(item.ref, item.kind, settings, policy, item.options, cache)
        except MediaError as error:
            return error

    work = [item if isinstance(item, MediaItem) else MediaItem(*item) for item in items]
    threads = threads or min(4, os.cpu_count() or 1)
    if threads == 1 or len(work) < 2:
        return [one(item) for item in work]
    with ThreadPoolExecutor(min(threads, len(work)), "omnirm-prepare") as pool:
        return list(pool.map(one, work))


def describe_any(ref: Any) -> str:
    """How messages call a reference, lists of frames included."""
    return f"<{len(ref)} frames>" if isinstance(ref, list | tuple) else describe(ref)


def _job(name: str, kind: Kind, settings: Settings, options: Mapping[str, Any]) -> _Job:
    if kind not in ("image", "video", "audio"):
        raise MediaUnsupported(name, f"{kind!r} is no kind of medium", "say image, video or audio")
    values = {key: _value(name, kind, key, value) for key, value in options.items() if value is not None}
    if kind == "image":
        return _Job(kind, replace(settings.image, **values), settings.audio, None)
    if kind == "audio":
        return _Job(kind, replace(settings.audio, **_cut(name, values)), settings.audio, None)
    if "fps" in values and "nframes" in values:
        raise MediaUnsupported(name, "both fps and nframes are given", "give one of them")
    if "fps" in values:
        values["nframes"] = None
    if "nframes" in values and values["nframes"] is not None:
        values["fps"] = None
    for theirs, ours in (("video_start", "start"), ("video_end", "end"), ("use_audio_in_video", "with_audio")):
        if theirs in values:
            values[ours] = values.pop(theirs)
    sample_fps = values.pop("sample_fps", None)
    return _Job(kind, replace(settings.video, **values), settings.audio, sample_fps)


def _value(name: str, kind: Kind, key: str, value: Any) -> Any:
    known = [option for option, (kinds, _) in _OPTIONS.items() if kind in kinds]
    if key not in known:
        raise MediaUnsupported(name, f"{kind} has no option {key!r}", f"there are {', '.join(known)}")
    wanted = _OPTIONS[key][1]
    if wanted is bool:
        if isinstance(value, bool):
            return value
        raise MediaUnsupported(name, f"{key} is {value!r}", "give true or false")
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or (wanted is int and value != int(value)):
        raise MediaUnsupported(name, f"{key} is {value!r}", f"give a{' whole' if wanted is int else ''} number")
    if value < 0:
        raise MediaUnsupported(name, f"{key} is {value!r}", "give a number that is not negative")
    return wanted(value)


def _cut(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """`audio_start` and `audio_end` as offset and duration."""
    if not {"audio_start", "audio_end"} & values.keys():
        return values
    if {"offset", "duration"} & values.keys():
        raise MediaUnsupported(name, "both offset/duration and audio_start/audio_end are given", "give one pair")
    start, end = values.get("audio_start", 0.0), values.get("audio_end")
    if end is not None and end <= start:
        raise MediaUnsupported(name, f"audio_end {end:g} is not after audio_start {start:g}", "swap them")
    return {"offset": start, "duration": None if end is None else end - start}


def _opened(ref: Any, job: _Job, policy: Policy) -> tuple[Any, str | None]:
    """Check the reference against the policy; with a digest of its content where it is encoded."""
    if isinstance(ref, list | tuple) and job.kind == "video":
        if not all(_is_encoded(frame) for frame in ref):
            return ref, None
        frames = [open_source(frame, policy) for frame in ref]
        return frames, " ".join(frame.sha256 for frame in frames)
    if not _is_encoded(ref):
        return ref, None
    source = open_source(ref, policy)
    return source, source.sha256


def _is_encoded(ref: Any) -> bool:
    return isinstance(ref, str | bytes | bytearray | memoryview | os.PathLike | Source)


def _load(ref: Any, job: _Job, policy: Policy) -> Media:
    settings = job.settings
    if isinstance(settings, ImageSettings):
        from omnirm.preprocessing.image import load_image

        return load_image(ref, settings, policy)
    if isinstance(settings, AudioSettings):
        from omnirm.preprocessing.audio import load_audio

        return load_audio(ref, settings, policy)
    from omnirm.preprocessing.video import load_video

    return load_video(ref, settings, policy, audio=job.sound, sample_fps=job.sample_fps)


def _load_isolated(ref: Any, job: _Job, policy: Policy) -> Media:
    from omnirm.preprocessing.worker import run_isolated

    run: Callable[..., Any] = run_isolated
    return run(_load, ref, job, replace(policy, isolate=False), limits=policy.limits)
