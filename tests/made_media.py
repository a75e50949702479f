"""Small media made in code, for the tests of preprocessing."""

from __future__ import annotations

import io

import numpy as np


def photo(height: int = 60, width: int = 90, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise, uint8 [height, width, 3]: compresses and resizes like a photograph."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (7 + c) + seed) * np.cos(y / (9 - c)) * 90 + 128 for c in range(3)]
    return (np.stack(waves, axis=-1) + rng.normal(0, 8, (height, width, 3))).clip(0, 255).astype(np.uint8)


def tone(seconds: float, rate: int, channels: int = 1, frequency: float = 440.0) -> np.ndarray:
    """A tone that differs by channel, float32 [n, channels]."""
    t = np.arange(int(seconds * rate)) / rate
    waves = [0.4 * np.sin(2 * np.pi * frequency * (1 + 0.5 * c) * t) for c in range(channels)]
    return np.stack(waves, axis=-1).astype(np.float32)


def encoded_image(kind: str, pixels: np.ndarray | None = None, **options: object) -> bytes:
    """A picture in a format of Pillow."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(photo() if pixels is None else pixels).save(stream, kind, **options)
    return stream.getvalue()


def encoded_sound(
    kind: str, subtype: str | None = None, seconds: float = 1.0, rate: int = 22050, channels: int = 2
) -> bytes:
    """A tone in a format of libsndfile."""
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, tone(seconds, rate, channels), rate, format=kind, subtype=subtype)
    return stream.getvalue()


def encoded_video(
    container: str = "mp4",
    codec: str = "mpeg4",
    frames: int = 12,
    fps: int = 8,
    size: tuple[int, int] = (64, 96),
    sound: str | None = None,
    sound_delay: float = 0.0,
    sound_seconds: float | None = None,
) -> bytes:
    """A short video, with a tone as its sound where a codec for it is given."""
    import av

    stream = io.BytesIO()
    rate = 48000
    with av.open(stream, "w", format=container) as out:
        video = out.add_stream(codec, rate=fps)
        video.height, video.width, video.pix_fmt = size[0], size[1], "yuv420p"
        audio = out.add_stream(sound, rate=rate, layout="mono") if sound else None
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(photo(*size, seed=index), format="rgb24")
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            samples = tone(sound_seconds or frames / fps, rate)[:, 0]
            step = audio.codec_context.frame_size or 1024
            for at in range(0, len(samples) - step, step):
                piece = av.AudioFrame.from_ndarray(samples[None, at : at + step], format="fltp", layout="mono")
                piece.sample_rate, piece.pts = rate, at + int(sound_delay * rate)
                out.mux(audio.encode(piece))
            out.mux(audio.encode(None))
    return stream.getvalue()
