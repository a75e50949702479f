"""What comes out of preprocessing, what may go in, and every way it can fail.

For backends, collators and the judge. This file knows no decoder and opens nothing.

Errors (each is also a stdlib error, and names what, which, and what to do):

    MediaError(ValueError)
    ├── MediaNotFound(FileNotFoundError)      no such file, or nothing at that URL
    ├── MediaNotAllowed(PermissionError)      outside the allowed roots, remote while remote is off, private address
    ├── MediaUnsupported                      not a medium of the kind asked for, or no decoder for it
    ├── MediaCorrupt                          truncated, damaged or empty
    ├── MediaTooLarge                         over a limit of `Limits` (bytes, pixels, seconds, frames)
    └── MediaTimeout(TimeoutError)            over the time limit of `Limits`
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


class MediaError(ValueError):
    """A medium could not be read. Carries `reference` (what was asked for), `reason` and `remedy`."""

    def __init__(self, reference: str, reason: str, remedy: str = "") -> None:
        self.reference, self.reason, self.remedy = reference, reason, remedy
        super().__init__(f"{reference}: {reason}" + (f" ({remedy})" if remedy else ""))

    def __reduce__(self):  # three arguments, so that the error survives the way back from a worker process
        return type(self), (self.reference, self.reason, self.remedy)


class MediaNotFound(MediaError, FileNotFoundError):
    """There is nothing at that path or address."""


class MediaNotAllowed(MediaError, PermissionError):
    """The policy forbids reading that reference."""


class MediaUnsupported(MediaError):
    """The content is not of the kind asked for, or nothing here can decode it."""


class MediaCorrupt(MediaError):
    """The content is truncated, damaged or empty."""


class MediaTooLarge(MediaError):
    """The content is over a limit."""


class MediaTimeout(MediaError, TimeoutError):
    """Decoding took longer than allowed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings for one medium. Exceeding one raises `MediaTooLarge` or `MediaTimeout`; nothing is cut silently."""

    max_bytes: int = 512 * 2**20
    max_pixels: int = 64_000_000  # of one image or one frame, before any resize
    max_seconds: float = 3600.0  # of video or audio as decoded (after start/end)
    max_frames: int = 768  # sampled frames of one video
    timeout_s: float = 120.0  # decoding of one medium
    memory_bytes: int = 4 * 2**30  # address space a decoding worker process may add, where one is used


@dataclass(frozen=True, slots=True)
class Policy:
    """Which references may be read. The default reads local files anywhere and nothing remote."""

    roots: tuple[Path, ...] = ()  # empty: any local path; otherwise only below these, symbolic links resolved
    allow_remote: bool = False
    allow_hosts: tuple[str, ...] = ()  # empty: any public host once remote is allowed
    limits: Limits = field(default_factory=Limits)
    isolate: bool = False  # decode in a worker process with the time and memory limit enforced from outside


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """Pixel budget of an image; sides become multiples of `factor` (28 for Qwen2.5, 32 for Qwen3)."""

    factor: int = 28
    min_pixels: int = 4 * 28 * 28
    max_pixels: int = 16384 * 28 * 28


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """Sampling and pixel budget of a video (defaults: qwen-omni-utils). `nframes` and `fps` exclude each other."""

    factor: int = 28
    fps: float | None = None  # default 2.0 when `nframes` is None
    nframes: int | None = None
    min_frames: int = 4
    max_frames: int = 768
    start: float | None = None  # seconds
    end: float | None = None
    min_pixels: int = 128 * 28 * 28  # per frame
    max_pixels: int = 768 * 28 * 28  # per frame
    total_pixels: int = int(128000 * 28 * 28 * 0.9)  # over all frames
    with_audio: bool = False  # also return the sound track; a video without one is an error then


@dataclass(frozen=True, slots=True)
class AudioSettings:
    """Audio becomes mono float32 at `sampling_rate`; loudness is untouched."""

    sampling_rate: int = 16000
    offset: float = 0.0  # seconds
    duration: float | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The three settings together: what one model family wants."""

    image: ImageSettings = field(default_factory=ImageSettings)
    video: VideoSettings = field(default_factory=VideoSettings)
    audio: AudioSettings = field(default_factory=AudioSettings)


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A decoded image, resized to the budget."""

    pixels: np.ndarray  # uint8 [height, width, 3], RGB
    original_size: tuple[int, int]  # (height, width) as shown, after EXIF orientation
    sha256: str  # of the encoded bytes


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """A decoded clip of sound."""

    samples: np.ndarray  # float32 [n], mono, nominally in [-1, 1]
    sampling_rate: int
    decoder: str
    sha256: str

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sampling_rate


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """Sampled frames of a video, resized to the budget."""

    frames: np.ndarray  # uint8 [n, 3, height, width], RGB
    indices: tuple[int, ...]  # of the sampled frames in the source, in display order
    timestamps: tuple[float, ...]  # seconds of each sampled frame
    source_fps: float
    source_frames: int
    duration: float  # seconds
    sample_fps: float  # sampled frames per second of source
    decoder: str
    sha256: str
    audio: Audio | None = None


Media = Image | Video | Audio


def too_many_bytes(name: str, count: int, policy: Policy) -> MediaTooLarge:
    """The error for content over the byte limit."""
    limit = policy.limits.max_bytes
    return MediaTooLarge(name, f"{count} bytes or more, the limit is {limit}", "give less or raise Limits.max_bytes")
