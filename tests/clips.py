"""Videos made in code whose frames can be told apart: frame i is a flat gray of level `level(i)`."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np


def level(index: int) -> int:
    """Gray level of frame `index`; neighbours are 7 apart, and it repeats after 32."""
    return 20 + 7 * (index % 32)


def flat(index: int, height: int, width: int) -> np.ndarray:
    """Frame `index`, uint8 [height, width, 3]."""
    return np.full((height, width, 3), level(index), np.uint8)


def make_clip(
    path: Path,
    frames: int = 20,
    fps: int = 10,
    size: tuple[int, int] = (64, 96),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    times: Sequence[float] | None = None,
    second_size: tuple[int, int] | None = None,
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a clip.

    Args:
        times: Seconds of each frame, for a variable rate; default `i / fps`.
        second_size: Also write a second video stream of this size, whose frames are all black.
        sound: Also write a tone of 440 Hz as long as the frames.
        options: Of the codec.
    """
    import av

    with av.open(str(path), "w") as out:
        streams = []
        for height, width in filter(None, (size, second_size)):
            stream = out.add_stream(codec, rate=fps)
            stream.height, stream.width, stream.pix_fmt = height, width, pixel_format
            stream.options = options or ({"crf": "10"} if codec == "libx264" else {})
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            streams.append(stream)
        tone = out.add_stream("aac", rate=16000, layout="mono") if sound else None
        for index in range(frames):
            for stream in streams:
                pixels = flat(index, stream.height, stream.width)
                frame = av.VideoFrame.from_ndarray(pixels if stream is streams[0] else pixels * 0, format="rgb24")
                if times is not None:
                    frame.pts, frame.time_base = round(times[index] * 1000), Fraction(1, 1000)
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
        if tone is not None:
            wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(16000 * frames / fps)) / 16000).astype(np.float32)
            for at in range(0, len(wave) - 1023, 1024):
                piece = av.AudioFrame.from_ndarray(wave[None, at : at + 1024], format="fltp", layout="mono")
                piece.sample_rate, piece.pts = 16000, at
                out.mux(tone.encode(piece))
            out.mux(tone.encode(None))
    return path


def turn(path: Path, degrees: int) -> Path:
    """Set the rotation (clockwise, as players apply it) in the header of an MP4."""
    data = bytearray(path.read_bytes())
    one = 1 << 16
    matrix = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees]
    a, b, c, d = matrix
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def seen(frames: np.ndarray) -> list[int]:
    """Which frames these are, by their level: uint8 [n, 3, h, w] to the index below 32 of each."""
    return [round((float(frame.mean()) - 20) / 7) for frame in frames]
