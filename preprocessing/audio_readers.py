"""Decoders of sound: each yields mono blocks at the source's own rate.

For `audio.py` alone. soundfile reads what it can (WAV, FLAC, OGG, MP3, AIFF, ...), PyAV the rest and the sound tracks
of videos; both bring their own libraries. Every block checks the clock, and a clip that ends before its declared
length raises. Resampling, cutting and limits are not known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from omnirm.preprocessing.sniff import Sniffed
from omnirm.preprocessing.source import Source
from omnirm.preprocessing.types import MediaCorrupt, MediaError, MediaTimeout, MediaTooLarge, MediaUnsupported, Policy

SOUNDFILE_FORMATS = ("wav", "flac", "ogg", "mp3", "aiff", "au", "caf")
_BLOCK = 2**20  # values (frames times channels) decoded at once
_SLACK_S = 0.1  # a compressed clip may be this much shorter than declared: encoder delay and padding
_ALIGNED_S = 0.02  # differences between the clocks of sound and picture below this are left alone
_GAP_S = 0.1  # a pause in the time stamps longer than this is silence
_SEEK_S = 10.0  # offsets beyond this are sought, nearer ones decoded and dropped

Blocks = Iterator[tuple[int, np.ndarray]]


@dataclass(slots=True)
class Reader:
    """An open decoder: `blocks` yields (rate, mono float32 samples)."""

    blocks: Blocks
    decoder: str
    close: Callable[[], Any]
    skipped: float = 0.0  # seconds of the clip before the first block; known once that block is out


class decoding:  # noqa: N801 - reads as a phrase in `with`
    """Turns what the decoders raise on damaged files into the errors of `types.py`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, MediaError):
            return
        if isinstance(error, MemoryError):
            raise MediaTooLarge(self._name, "not enough memory to decode it", "give a shorter clip") from error
        if isinstance(error, OSError | ValueError | RuntimeError | EOFError | LookupError | OverflowError):
            raise MediaCorrupt(self._name, f"truncated or damaged: {error}", "export or download it again") from error


class Clock:
    """Raises `MediaTimeout` once a medium has taken too long."""

    def __init__(self, name: str, policy: Policy) -> None:
        self._name, self._seconds = name, policy.limits.timeout_s
        self._deadline = time.monotonic() + self._seconds

    def check(self) -> None:
        if time.monotonic() > self._deadline:
            raise MediaTimeout(self._name, f"decoding took over {self._seconds:g} s", "raise Limits.timeout_s")


def mono(block: np.ndarray) -> np.ndarray:
    """Average of the channels of samples [n] or [n, channels] of any number type, as float32 in [-1, 1]."""
    if block.ndim == 2 and block.shape[1] == 1:
        block = block[:, 0]
    kind, size = block.dtype.kind, block.dtype.itemsize
    if block.dtype == np.int16:  # sums of these are exact in 32 bits, and cheaper than floats
        total = block if block.ndim == 1 else block.sum(axis=1, dtype=np.int32) if block.shape[1] > 2 else None
        if total is None:
            total = np.add(block[:, 0], block[:, 1], dtype=np.int32)
        channels = 1 if block.ndim == 1 else block.shape[1]
        return np.multiply(total, np.float32(1 / 32768 / channels), dtype=np.float32)
    if kind == "i":
        block = block.astype(np.float64) / 2.0 ** (8 * size - 1)
    elif kind == "u":
        block = block.astype(np.float64) / 2.0 ** (8 * size - 1) - 1.0
    if block.ndim == 2:
        total = block[:, 0].astype(np.float32)
        for channel in range(1, block.shape[1]):
            total += block[:, channel]
        block = total * np.float32(1 / len(block[0]))
    return block.astype(np.float32, copy=False)


def soundfile_reader(source: Source, offset: float, policy: Policy) -> Reader | None:
    """A reader on libsndfile, already at `offset` seconds; None where it does not know the codec."""
    import soundfile

    stream = source.open()
    try:
        sound = soundfile.SoundFile(stream.fileno() if source.path else stream, closefd=False)
    except (soundfile.LibsndfileError, OSError, ValueError, RuntimeError):
        stream.close()
        return None

    def close() -> None:
        sound.close()
        stream.close()

    rate, declared = sound.samplerate, sound.frames
    first = int(offset * rate)
    if first > 0 and first < declared and sound.seekable():
        sound.seek(first)
    else:
        first = 0
    return Reader(_soundfile_blocks(sound, source, declared - first, policy), "soundfile", close, first / max(1, rate))


def _soundfile_blocks(sound: Any, source: Source, declared: int, policy: Policy) -> Blocks:
    clock = Clock(source.name, policy)
    frames = max(1024, _BLOCK // max(1, sound.channels))
    whole = sound.subtype.startswith(("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW"))
    dtype = "int16" if sound.subtype == "PCM_16" else "float32"
    slack = 0 if whole else int(_SLACK_S * sound.samplerate)
    if sound.format in ("MP3", "MPEG"):
        slack = declared  # libsndfile only estimates it; `completeness.py` looks at the frames themselves
    read = 0
    while read < declared:
        clock.check()
        block = sound.read(min(frames, declared - read), dtype=dtype, always_2d=True)
        if not len(block):
            break
        read += len(block)
        yield sound.samplerate, mono(block)
    if read < declared - slack:
        raise _ends_early(source, read / sound.samplerate, declared / sound.samplerate)


def pyav_reader(
    source: Source, found: Sniffed, policy: Policy, *, aligned: bool = False, seek_to: float = 0.0
) -> Reader:
    """A reader on FFmpeg.

    Args:
        source: What to read.
        found: Its format, whose demuxer is forced.
        policy: For the time limit.
        aligned: Put the sound on the clock of the video's picture.
        seek_to: Seconds that will be cut off anyway; sought where that is worth it and safe.

    Raises:
        MediaUnsupported: There is no sound in it.
    """
    import av

    stream = source.open()
    with decoding(source.name):
        try:
            container = av.open(
                stream, format=found.demuxer or None, metadata_errors="ignore", timeout=policy.limits.timeout_s
            )
        except BaseException:
            stream.close()
            raise

    def close() -> None:
        container.close()
        stream.close()

    tracks = [track for track in container.streams.audio if track.codec_context is not None]
    if not tracks:
        close()
        raise MediaUnsupported(source.name, "there is no sound in it", "give a medium with sound, or ask without")
    track = max(tracks, key=lambda t: (bool(t.disposition & av.stream.Disposition.default), t.channels, -t.index))
    reader = Reader(iter(()), "pyav", close)
    origin = _picture_start(container) if aligned else None
    reader.blocks = _pyav_blocks(container, track, source, policy, reader, origin, seek_to if aligned else 0.0)
    return reader


def _picture_start(container: Any) -> float:
    """Time of the first picture in seconds."""
    for video in container.streams.video:
        if video.start_time is not None and video.time_base is not None:
            return float(video.start_time * video.time_base)
    return 0.0 if container.start_time is None else container.start_time / 1e6


def _pyav_blocks(
    container: Any, track: Any, source: Source, policy: Policy, reader: Reader, origin: float | None, seek_to: float
) -> Blocks:
    clock = Clock(source.name, policy)
    sought = False
    if origin is not None and seek_to > _SEEK_S and track.time_base is not None:
        sought = True
        container.seek(int((origin + seek_to - 1.0) / track.time_base), stream=track)
    pending: list[np.ndarray] = []
    rate, held, seconds, expected = 0, 0, 0.0, None
    for packet in container.demux(track):
        clock.check()
        if packet.is_corrupt:
            raise MediaCorrupt(source.name, f"damaged {seconds:.2f} s into its sound", "export or download it again")
        for frame in packet.decode():
            block = _frame_to_mono(frame)
            if origin is not None and frame.time is not None:
                at = frame.time - origin
                if expected is None:
                    block = _align(block, at, frame.sample_rate, reader, sought)
                elif at - expected > _GAP_S:
                    yield from _silence(at - expected, frame.sample_rate, pending)
                    pending, held = [], 0
                expected = at + frame.samples / frame.sample_rate
            if rate and frame.sample_rate != rate and pending:
                yield rate, np.concatenate(pending)
                pending, held = [], 0
            rate = frame.sample_rate
            pending.append(block)
            held += len(block)
            seconds += len(block) / rate
            if held >= _BLOCK // 4:
                yield rate, np.concatenate(pending)
                pending, held = [], 0
    if pending:
        yield rate, np.concatenate(pending)
    if track.duration and track.time_base and not sought:
        declared = float(track.duration * track.time_base)
        if seconds < declared - _SLACK_S - 3 * (track.frame_size or 1024) / max(rate, 1000):
            raise _ends_early(source, seconds, declared)


def _align(block: np.ndarray, at: float, rate: int, reader: Reader, sought: bool) -> np.ndarray:
    """The first block on the picture's clock: silence before it, or (told to the collector) how much to cut off."""
    if sought or at < -_ALIGNED_S:
        reader.skipped = at
    elif at > _ALIGNED_S:
        return np.concatenate([np.zeros(round(at * rate), np.float32), block])
    return block


def _silence(seconds: float, rate: int, pending: list[np.ndarray]) -> Blocks:
    if pending:
        yield rate, np.concatenate(pending)
    left = round(seconds * rate)
    while left > 0:
        yield rate, np.zeros(min(left, _BLOCK // 4), np.float32)
        left -= _BLOCK // 4


def _frame_to_mono(frame: Any) -> np.ndarray:
    values = frame.to_ndarray()
    channels = len(frame.layout.channels)
    return mono(values.T if frame.format.is_planar else values.reshape(-1, channels))


def _ends_early(source: Source, got: float, declared: float) -> MediaCorrupt:
    return MediaCorrupt(
        source.name, f"truncated: {got:.2f} s of sound of {declared:.2f} s declared", "copy or download it again"
    )
