"""Sound of any container, rate and channel count in, mono float32 at the model's rate out.

For `prepare`, for the video loader (sound tracks) and the collators. Channels are averaged and then resampled with
soxr's HQ filter, as librosa does and so qwen-omni-utils, but as a stream: a clip is never in memory at its original
rate and channel count. Loudness is untouched. A clip that is shorter than it declares is an error. The decoders are in
`audio_readers.py`; this file knows no model and opens nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from omnirm.preprocessing import audio_readers
from omnirm.preprocessing.completeness import shortfall
from omnirm.preprocessing.sniff import require
from omnirm.preprocessing.source import Source, describe, open_source
from omnirm.preprocessing.types import Audio, AudioSettings, MediaCorrupt, MediaTooLarge, MediaUnsupported, Policy

ISOLATED_IMPORTS = ("av", "soundfile", "soxr")
RATES = (1000, 768_000)  # Hz; outside of these a header is damaged or hostile


def load_audio(ref: Any, settings: AudioSettings | None = None, policy: Policy | None = None) -> Audio:
    """Decode sound to mono float32.

    Args:
        ref: A path, `file://` or `data:` URI, URL, bytes or `Source` of WAV, FLAC, MP3, OGG, M4A, ... or of a video,
            whose sound is taken; or samples: a numpy array or torch tensor at the target rate, `(samples, rate)`,
            `(rate, samples)` or `{"array": samples, "sampling_rate": rate}`. Integers are scaled to [-1, 1], of two
            axes the shorter one is averaged.
        settings: Target rate, offset and duration (seconds); the default is the whole clip at 16 kHz.
        policy: What may be read, and the limits.

    Returns:
        Samples as float32 [n]; n is the clip's length times the rate, rounded up.

    Raises:
        MediaError: One of its kinds; see `types.py`.
    """
    settings, policy = settings or AudioSettings(), policy or Policy()
    _check(settings, describe(ref))
    if (given := _as_samples(ref)) is not None:
        return _from_samples(*given, describe(ref), settings, policy)
    source = open_source(ref, policy)
    found = require(source, "audio")
    _check_complete(source, shortfall(source, found))
    if found.format in audio_readers.SOUNDFILE_FORMATS:
        reader = audio_readers.soundfile_reader(source, settings.offset, policy)
        if reader is not None:
            return _collect(reader, source, settings, policy)
    return _collect(audio_readers.pyav_reader(source, found, policy), source, settings, policy)


def load_soundtrack(ref: Any, settings: AudioSettings | None = None, policy: Policy | None = None) -> Audio:
    """Decode the sound of a video, on the video's clock: sample 0 belongs to the first frame's time.

    A track that begins later than the picture, or pauses, is filled with silence; what lies before the picture is
    dropped; differences under 20 ms are left alone.

    Args:
        ref: The video; a `Source` or whatever `open_source` takes.
        settings: Target rate; `offset` and `duration` are seconds of the video.
        policy: What may be read, and the limits.

    Raises:
        MediaUnsupported: The video has no sound.
        MediaError: Another of its kinds; see `types.py`.
    """
    settings, policy = settings or AudioSettings(), policy or Policy()
    _check(settings, describe(ref))
    source = open_source(ref, policy)
    found = require(source, "video")
    if not found.demuxer or "audio" not in found.kinds:
        raise MediaUnsupported(source.name, "the video has no sound", "ask for it without sound")
    _check_complete(source, shortfall(source, found))
    reader = audio_readers.pyav_reader(source, found, policy, aligned=True, seek_to=settings.offset)
    return _collect(reader, source, settings, policy)


def _check(settings: AudioSettings, name: str) -> None:
    offset, duration, rate = settings.offset, settings.duration, settings.sampling_rate
    if not (offset >= 0 and math.isfinite(offset)) or (duration is not None and not duration > 0):
        raise MediaUnsupported(name, f"cannot cut from {offset} s for {duration} s", "give offset >= 0, duration > 0")
    if not RATES[0] <= rate <= RATES[1]:
        raise MediaUnsupported(name, f"cannot resample to {rate} Hz", f"give {RATES[0]} to {RATES[1]} Hz")


def _check_complete(source: Source, missing: str | None) -> None:
    if missing:
        raise MediaCorrupt(source.name, f"truncated: {missing}", "copy or download it again")


def _collect(reader: audio_readers.Reader, source: Source, settings: AudioSettings, policy: Policy) -> Audio:
    with audio_readers.decoding(source.name):
        track = Track(source.name, settings, policy)
        try:
            for rate, block in reader.blocks:
                if track.feed(block, rate, reader.skipped):
                    break
        finally:
            reader.close()
        samples = track.finish()
    return Audio(samples, settings.sampling_rate, reader.decoder, source.sha256)


class Track:
    """Collects one mono clip: cuts, limits, resamples and checks it block by block.

    Args:
        name: For messages.
        settings: Target rate, offset, duration.
        policy: Gives the limit of seconds.
    """

    def __init__(self, name: str, settings: AudioSettings, policy: Policy) -> None:
        self._name, self._settings, self._limit = name, settings, policy.limits.max_seconds
        self._rate = 0
        self._position = 0  # of the next block, in source samples from the start of the clip
        self._kept = 0  # source samples
        self._out: list[np.ndarray] = []
        self._stream: Any = None

    def feed(self, block: np.ndarray, rate: int, skipped: float = 0.0) -> bool:
        """Add the next samples, float32 [n] at `rate`; `skipped` seconds lie before the first block.

        Returns:
            True once the asked duration is complete.
        """
        if not self._rate:
            self._begin(rate, skipped)
        elif rate != self._rate:
            raise MediaUnsupported(
                self._name, f"its rate changes from {self._rate} to {rate} Hz midway", "convert it to one rate"
            )
        first, last = self._wanted
        cut = block[max(0, first - self._position) : None if last is None else max(0, last - self._position)]
        self._position += len(block)
        if len(cut):
            self._keep(cut)
        return last is not None and self._position >= last

    def _begin(self, rate: int, skipped: float) -> None:
        if not RATES[0] <= rate <= RATES[1]:
            raise MediaUnsupported(self._name, f"its sampling rate is {rate} Hz", "convert it to a usual rate")
        self._rate = rate
        self._position = round(skipped * rate)
        first, duration = int(self._settings.offset * rate), self._settings.duration
        self._wanted = (first, None if duration is None else first + int(duration * rate))
        if rate != self._settings.sampling_rate:
            import soxr

            self._stream = soxr.ResampleStream(rate, self._settings.sampling_rate, 1, dtype="float32", quality="HQ")

    def _keep(self, block: np.ndarray) -> None:
        self._kept += len(block)
        if self._kept > self._limit * self._rate:
            raise too_long(self._name, self._kept / self._rate, self._limit)
        if not np.isfinite(np.dot(block, block)) and not np.isfinite(block).all():
            raise MediaCorrupt(self._name, "holds samples that are not finite", "export it again")
        self._out.append(block if self._stream is None else self._stream.resample_chunk(block))

    def finish(self) -> np.ndarray:
        """The clip, float32 [n].

        Raises:
            MediaCorrupt: It is empty, or ends before the offset.
        """
        if not self._kept:
            if self._position and self._settings.offset:
                length, offset = self._position / self._rate, self._settings.offset
                raise MediaCorrupt(
                    self._name, f"lasts {length:.3g} s, nothing is left at {offset:g} s", "start earlier"
                )
            raise MediaCorrupt(self._name, "holds no sound", "give a clip with samples")
        if self._stream is not None:
            self._out.append(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        length = math.ceil(self._kept * (self._settings.sampling_rate / self._rate))
        samples = self._out[0] if len(self._out) == 1 else np.concatenate(self._out)
        if len(samples) < length:
            samples = np.concatenate([samples, np.zeros(length - len(samples), np.float32)])
        return np.ascontiguousarray(samples[:length], dtype=np.float32)


def too_long(name: str, seconds: float, limit: float) -> MediaTooLarge:
    """The error for sound over the limit of seconds."""
    return MediaTooLarge(
        name,
        f"{seconds:.1f} s of sound or more, the limit is {limit:g} s",
        "give a duration or raise Limits.max_seconds",
    )


def _as_samples(ref: Any) -> tuple[Any, int | None] | None:
    """Samples and their rate, where `ref` is not something to be opened."""
    if isinstance(ref, dict):
        if "array" not in ref:
            return None
        return ref["array"], ref.get("sampling_rate")
    if isinstance(ref, tuple) and len(ref) == 2:
        first, second = ref
        return (second, int(first)) if np.ndim(first) == 0 else (first, int(second))
    if isinstance(ref, np.ndarray) or (hasattr(ref, "detach") and hasattr(ref, "cpu")):
        return ref, None
    return None


def _from_samples(array: Any, rate: int | None, name: str, settings: AudioSettings, policy: Policy) -> Audio:
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
    array = np.asarray(array)
    if array.ndim not in (1, 2) or not array.size or array.dtype.kind not in "fiu":
        raise MediaUnsupported(name, f"{array.dtype} of shape {array.shape} is no sound", "give numbers of shape [n]")
    if array.ndim == 2:
        if array.shape[0] < array.shape[1]:
            array = array.T
        if array.shape[1] > 64:
            raise MediaUnsupported(name, f"shape {array.shape} has no axis of channels", "give [n] or [n, channels]")
    digest = hashlib.sha256(f"{array.shape} {array.dtype} {rate}".encode() + np.ascontiguousarray(array).tobytes())
    track = Track(name, settings, policy)
    with audio_readers.decoding(name):
        for block in _slices(array):
            if track.feed(audio_readers.mono(block), rate or settings.sampling_rate):
                break
        return Audio(track.finish(), settings.sampling_rate, "array", digest.hexdigest())


def _slices(array: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(array), 2**20):
        yield array[start : start + 2**20]
