"""Tiny random-weight checkpoints of every family, and small media files made in code, for the tests in this folder."""

from __future__ import annotations

import json
import shutil
import string
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from omnirm.nano.build import Family, Size, build_model, build_processor, save_checkpoint, train_tokenizer
from omnirm.prompts.formats import get_format
from omnirm.sample import Sample

AUDIO_SECONDS = 8
TOP_LEVEL = {  # family -> config class of the full checkpoint, which holds the thinker
    "qwen2_5_omni": "Qwen2_5OmniConfig",
    "qwen3_omni": "Qwen3OmniMoeConfig",
}


def factor(family: Family) -> int:
    """Side of a visual token in pixels."""
    return 28 if family == "qwen2_5_omni" else 32


def size(family: Family) -> Size:
    """Hidden 64, two layers; 4 to 64 visual tokens an image."""
    area = factor(family) ** 2
    return Size(
        hidden=64, layers=2, intermediate=128, vision_hidden=64, vision_layers=2, audio_hidden=64, audio_layers=1,
        min_pixels=4 * area, max_pixels=64 * area, mel_bins=32, audio_seconds=AUDIO_SECONDS,
    )  # fmt: skip


@cache
def _corpus() -> tuple[str, ...]:
    sample = Sample.from_dict({"prompt": "Name a fruit.", "candidates": ["An apple.", "A pear."]})
    prompts = [get_format(name).render(sample) for name in ("pairwise", "pairwise-thinking", "p-yes")]
    texts = [p.value for r in prompts for m in r.messages for p in m.parts if p.type == "text"]
    return (*texts, *(f"{word} " * 50 for word in ("Yes", "No", "tie", "Verdict", "user", "apple")), string.printable)


def build(family: Family, folder: Path) -> Path:
    """A checkpoint of the thinker (or the VL model), with an `omnirm.json` of small media budgets."""
    import torch

    tokenizer = train_tokenizer(family, _corpus(), vocab_size=700)
    model = build_model(family, tokenizer, size(family))
    words = model.get_input_embeddings().weight
    with torch.no_grad():  # as initialised, it repeats its last token whatever stands before; so, it babbles on
        for weight in model.parameters():
            weight.mul_(12 if weight is words else 8 if weight.dim() > 1 else 1)
        words[list(tokenizer.get_added_vocab().values())] = 0
        words[len(tokenizer) :] = 0
    save_checkpoint(model, build_processor(family, tokenizer, size(family)), folder)
    area = factor(family) ** 2
    image = {"min_pixels": 4 * area, "max_pixels": 16 * area}
    media = {"image": image, "video": image | {"max_frames": 6}}
    (folder / "omnirm.json").write_text(json.dumps({"media": media}), encoding="utf-8")
    return folder


def build_full(family: Family, thinker: Path, folder: Path) -> Path:
    """What the hub has for the Omni families: a config with the thinker's inside, weights prefixed `thinker.`."""
    import transformers
    from safetensors.torch import load_file, save_file

    shutil.copytree(thinker, folder)
    (folder / "config.json").unlink()
    config = transformers.AutoConfig.from_pretrained(thinker)
    cls = getattr(transformers, TOP_LEVEL[family])
    cls(thinker_config=config.to_dict(), enable_audio_output=False).save_pretrained(folder)
    weights = {f"thinker.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@dataclass(frozen=True, slots=True)
class Files:
    """Media of each kind: two images and clips of different sizes and lengths."""

    images: tuple[Path, Path]
    videos: tuple[Path, Path]  # both with sound
    silent: Path
    audios: tuple[Path, Path]


def make_files(folder: Path) -> Files:
    """Writes PNG, MP4 (with and without sound) and WAV files."""
    import soundfile
    from PIL import Image

    rng = np.random.default_rng(0)
    images = []
    for i, (height, width) in enumerate(((120, 90), (64, 200))):
        images.append(folder / f"{i}.png")
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(images[-1])
    audios = []
    for i, seconds in enumerate((1.0, 2.35)):
        audios.append(folder / f"{i}.wav")
        soundfile.write(audios[-1], _tone(440 * (i + 1), seconds, 16000), 16000)
    videos = [write_video(folder / f"{i}.mp4", seconds=2.0 + i, pitch=300 * (i + 1)) for i in range(2)]
    silent = write_video(folder / "silent.mp4", seconds=2.0, pitch=None, colour=(40, 40, 220))
    return Files((images[0], images[1]), (videos[0], videos[1]), silent, (audios[0], audios[1]))


def write_video(
    path: Path, *, seconds: float, pitch: float | None, colour: tuple[int, int, int] = (200, 40, 40), rate: int = 8
) -> Path:
    """An H.264 clip of a moving square, with an AAC tone of that pitch where one is given."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        sound: Any = container.add_stream("aac", rate=16000, layout="mono") if pitch else None
        for i in range(int(seconds * rate)):
            picture = np.full((64, 96, 3), 30, dtype=np.uint8)
            picture[20:44, 3 * i % 72 : 3 * i % 72 + 24] = colour
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
        if sound is not None:
            samples = _tone(pitch or 0, seconds, 16000)
            for start in range(0, len(samples), 1024):
                frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 16000, start
                container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path


def _tone(pitch: float, seconds: float, rate: int) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)).astype(np.float32)
