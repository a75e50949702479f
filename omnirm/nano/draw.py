"""Draws the nano world's scenes: PNG, MP4 and WAV bytes, in code, seeded.

For the generators; knows nothing of samples. Pictures are 84 x 84 pixels, so that one visual token of a Qwen vision
tower (28 x 28 pixels) covers one cell of a 3 x 3 grid. Clips last two seconds at 4 frames a second, tunes up to one
second at 16 kHz.
"""

from __future__ import annotations

import io
import math
import wave
from random import Random
from typing import Any

import numpy as np

from omnirm.nano.scenes import Scene

SIDE, CELL = 84, 28
FRAMES, FPS = 8, 4
RATE, NOTE_SECONDS = 16_000, 0.25
RGB = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (40, 70, 220),
    "yellow": (235, 205, 30),
    "purple": (150, 50, 180),
    "black": (25, 25, 25),
}
BASE_HERTZ = {"low": 220.0, "medium": 466.0, "high": 988.0}
_COUNT = {"one": 1, "two": 2, "three": 3, "four": 4}


def _shape(draw: Any, kind: str, x: float, y: float, r: float, fill: tuple[int, int, int]) -> None:
    if kind == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif kind == "square":
        draw.rectangle((x - r * 0.88, y - r * 0.88, x + r * 0.88, y + r * 0.88), fill=fill)
    elif kind == "triangle":
        draw.polygon(((x, y - r), (x - r, y + r * 0.85), (x + r, y + r * 0.85)), fill=fill)
    else:
        w = r * 0.36
        draw.rectangle((x - r, y - w, x + r, y + w), fill=fill)
        draw.rectangle((x - w, y - r, x + w, y + r), fill=fill)


def _style(scene: Scene, rng: Random) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    shade = rng.randint(232, 255)
    fill = tuple(min(255, max(0, c + rng.randint(-12, 12))) for c in RGB[scene["color"]])
    return (shade, shade, shade), fill  # type: ignore[return-value]


def picture_array(scene: Scene, rng: Random) -> np.ndarray:
    """A picture: uint8 [84, 84, 3]. The objects stand in one row of the grid, in columns chosen at random."""
    from PIL import Image, ImageDraw

    background, fill = _style(scene, rng)
    image = Image.new("RGB", (SIDE, SIDE), background)
    draw = ImageDraw.Draw(image)
    row = ("top", "middle", "bottom").index(scene["place"])
    for column in sorted(rng.sample(range(3), _COUNT[scene["count"]])):
        x = column * CELL + CELL / 2 + rng.uniform(-1.5, 1.5)
        y = row * CELL + CELL / 2 + rng.uniform(-1.5, 1.5)
        _shape(draw, scene["shape"], x, y, rng.uniform(9.5, 12), fill)
    return np.asarray(image)


def clip_array(scene: Scene, rng: Random) -> np.ndarray:
    """A clip: uint8 [8, 84, 84, 3]. One or two objects cross the picture in parallel lanes."""
    from PIL import Image, ImageDraw

    background, fill = _style(scene, rng)
    lanes = rng.sample(range(3), _COUNT[scene["count"]])
    radius = rng.uniform(9.5, 12)
    jitter = rng.uniform(-1.5, 1.5)
    frames = []
    for i in range(FRAMES):
        image = Image.new("RGB", (SIDE, SIDE), background)
        draw = ImageDraw.Draw(image)
        along = CELL / 2 + (SIDE - CELL) * i / (FRAMES - 1)
        if scene["direction"] in ("left", "up"):
            along = SIDE - along
        for lane in lanes:
            across = lane * CELL + CELL / 2 + jitter
            x, y = (along, across) if scene["direction"] in ("left", "right") else (across, along)
            _shape(draw, scene["shape"], x, y, radius, fill)
        frames.append(np.asarray(image))
    return np.stack(frames)


def tune_array(scene: Scene, rng: Random) -> np.ndarray:
    """A tune: float32 [n] at 16 kHz in [-1, 1]: 2 to 4 notes of a quarter of a second each."""
    n = _COUNT[scene["notes"]]
    step = {"rising": 1.26, "falling": 1 / 1.26, "flat": 1.0}[scene["contour"]]
    first = BASE_HERTZ[scene["pitch"]] * rng.uniform(0.97, 1.03) * step ** (-(n - 1) / 2)
    length = int(RATE * NOTE_SECONDS)
    t = np.arange(length) / RATE
    envelope = np.minimum(1.0, np.minimum(t / 0.01, np.maximum(0.0, (0.21 - t) / 0.03)))
    notes = []
    for i in range(n):
        phase = first * step**i * t
        if scene["timbre"] == "pure":
            tone = np.sin(2 * math.pi * phase)
        else:  # a band-limited sawtooth
            tone = sum(np.sin(2 * math.pi * phase * k) / k for k in range(1, 7)) * 0.6
        notes.append(tone * envelope)
    loudness = rng.uniform(0.3, 0.6)
    return (np.concatenate(notes) * loudness).astype(np.float32)


def png(array: np.ndarray) -> bytes:
    """PNG bytes of uint8 [h, w, 3]."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def mp4(frames: np.ndarray, fps: int = FPS) -> bytes:
    """MP4 (H.264, yuv420p) bytes of uint8 [t, h, w, 3]."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "15", "preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    """WAV (16-bit mono) bytes of float32 [n]."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return out.getvalue()


def render(scene: Scene, rng: Random) -> tuple[bytes, str]:
    """The scene as a media file: its bytes and the file name's suffix."""
    if scene.kind == "picture":
        return png(picture_array(scene, rng)), ".png"
    if scene.kind == "clip":
        return mp4(clip_array(scene, rng)), ".mp4"
    if scene.kind == "tune":
        return wav(tune_array(scene, rng)), ".wav"
    raise ValueError(f"a {scene.kind!r} has no media file")
