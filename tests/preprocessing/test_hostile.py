"""Mutated media: each of hundreds ends in a result or a typed error, in its time, and the process that asked lives on.

Seeds are files made in code and, where there is one, the folder of real media; mutations are seeded, so a failure names
a mutant that can be made again. Everything is decoded in worker processes, as for files of strangers.
"""

from __future__ import annotations

import io
import os
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_media import encoded_image, encoded_sound, encoded_video, photo

from omnirm.preprocessing import prepare, worker
from omnirm.preprocessing.audio import load_audio
from omnirm.preprocessing.types import (
    Image,
    Limits,
    MediaCorrupt,
    MediaError,
    MediaTimeout,
    MediaTooLarge,
    Policy,
    Settings,
    Video,
    VideoSettings,
)

LIMITS = Limits(max_bytes=2**22, max_pixels=4_000_000, max_seconds=120, timeout_s=20.0, memory_bytes=2**30)
POLICY = Policy(isolate=True, limits=LIMITS)
SETTINGS = Settings(video=VideoSettings(nframes=4, min_pixels=28 * 28, max_pixels=56 * 56))
SLACK_S = 20.0  # replacing a worker on a busy machine is not the medium's time
Seed = tuple[str, str, bytes]  # name, kind, content


@pytest.fixture(scope="module", autouse=True)
def _no_workers_left_behind():
    yield
    worker.shutdown()


def made_seeds() -> list[Seed]:
    pixels = photo(48, 64)
    images = [(k, "image", encoded_image(k, pixels)) for k in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]
    images.append(("progressive JPEG", "image", encoded_image("JPEG", pixels, progressive=True)))
    images.append(("LZW TIFF", "image", encoded_image("TIFF", pixels, compression="tiff_lzw")))
    pages = [photo(48, 64, seed=i) for i in range(3)]
    from PIL import Image as Pillow

    for kind in ("GIF", "WEBP", "PNG"):
        stream = io.BytesIO()
        first, *rest = (Pillow.fromarray(page) for page in pages)
        first.save(stream, kind, save_all=True, append_images=rest, duration=200)
        images.append((f"animated {kind}", "video", stream.getvalue()))
    sounds = [
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("MP3", None),
        ("AIFF", "PCM_16"),
    ]
    audio = [(f"{k} {s}", "audio", encoded_sound(k, s, 0.4, 16000)) for k, s in sounds]
    audio.append(("OGG OPUS", "audio", encoded_sound("OGG", "OPUS", 0.4, 48000)))
    clips = [("mp4", "mpeg4"), ("matroska", "mpeg4"), ("webm", "libvpx"), ("avi", "mpeg4"), ("mov", "libx264")]
    clips.append(("mpegts", "mpeg2video"))
    video = []
    for container, codec in clips:
        fps, sound = (25, "mp2") if container == "mpegts" else (8, None if container in ("avi", "webm") else "aac")
        video.append((f"{container} {codec}", "video", encoded_video(container, codec, 10, fps, (32, 48), sound)))
    return (
        images
        + audio
        + video
        + [(f"sound of {n}", "audio", c) for n, _, c in video if n.startswith(("mp4", "matroska"))]
    )


def real_seeds(folder: Path) -> list[Seed]:
    kinds = {".jpg": "image", ".gif": "image", ".wav": "audio", ".mp3": "audio"}
    kinds |= dict.fromkeys((".mp4", ".mov", ".mkv", ".webm", ".avi", ".ogg"), "video")
    seeds = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in kinds and path.stat().st_size < 140_000:
            seeds.append((path.name, kinds[path.suffix], path.read_bytes()))
    return seeds


def mutate(content: bytes, other: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """One mutation of a file; `other` is a file of another format."""
    data = bytearray(content)
    length = len(data)
    at = int(rng.integers(length))
    match rng.integers(9):
        case 0:
            return "truncated", content[:at]
        case 1:
            for _ in range(int(rng.integers(1, 40))):
                data[int(rng.integers(length))] ^= 1 << int(rng.integers(8))
            return "bits flipped", bytes(data)
        case 2:  # where sizes, counts and offsets stand
            for _ in range(int(rng.integers(1, 12))):
                data[int(rng.integers(min(length, 256)))] = int(rng.choice([0, 1, 127, 128, 255]))
            return "header bytes", bytes(data)
        case 3:
            span = int(rng.integers(1, max(2, length // 3)))
            data[at : at + span] = bytes(len(data[at : at + span]))
            return "zero-filled", bytes(data)
        case 4:
            size = int(rng.integers(4, 64))
            return "header swapped", other[:size] + content[size:]
        case 5:
            span = int(rng.integers(1, max(2, length // 3)))
            return "part removed", content[:at] + content[at + span :]
        case 6:
            span = int(rng.integers(1, max(2, length // 3)))
            return "part repeated", content[: at + span] + content[at:]
        case 7:
            data[at : at + 400] = rng.bytes(len(data[at : at + 400]))
            return "noise", bytes(data)
        case _:
            cut = int(rng.integers(len(other)))
            return "spliced", content[:at] + other[cut:]


def mutants(seeds: list[Seed], count: int, salt: int) -> Iterator[tuple[str, str, bytes]]:
    for number in range(count):
        rng = np.random.default_rng([salt, number])
        name, kind, content = seeds[number % len(seeds)]
        how, mutant = mutate(content, seeds[int(rng.integers(len(seeds)))][2], rng)
        yield f"mutant {number} of salt {salt}: {name} {how}", kind, mutant


def outcome(kind: str, content: bytes) -> str:
    """How a medium ends, as one word; fails if it ends in anything but a good result or a typed error."""
    start = time.monotonic()
    try:
        medium = prepare(content, kind, SETTINGS, POLICY)
    except MediaError as error:
        ended = "crash" if "crashed" in error.reason else type(error).__name__
        ended = ended if error.reference and error.reason else "error without a reason"
    else:
        ended = "result"
        if isinstance(medium, Image):
            assert medium.pixels.dtype == np.uint8
            assert medium.pixels.shape[2] == 3
        elif isinstance(medium, Video):
            assert medium.frames.shape[0] == len(medium.indices) == len(medium.timestamps)
            assert medium.frames.shape[0] > 0
        else:
            assert medium.samples.dtype == np.float32
            assert 0 < len(medium.samples) <= LIMITS.max_seconds * 16000
            assert np.isfinite(medium.samples).all()
    assert time.monotonic() - start < LIMITS.timeout_s + SLACK_S
    return ended


def run(seeds: list[Seed], count: int, salt: int, capsys: pytest.CaptureFixture[str]) -> None:
    untouched = {name: outcome(kind, content) for name, kind, content in seeds}
    tally: Counter[tuple[str, str]] = Counter()
    slowest = (0.0, "")
    for label, kind, content in mutants(seeds, count, salt):
        start = time.monotonic()
        try:
            ended = outcome(kind, content)
        except Exception as error:
            raise AssertionError(f"{label}: {error!r}") from error
        slowest = max(slowest, (time.monotonic() - start, label))
        tally[kind, ended] += 1
    with capsys.disabled():
        print(f"\n{count} mutants of {len(seeds)} files; slowest {slowest[0]:.1f} s ({slowest[1]})")
        for kind in ("image", "audio", "video"):
            print(f"  {kind}: " + ", ".join(f"{ended} {n}" for (k, ended), n in sorted(tally.items()) if k == kind))
    assert sum(tally.values()) == count
    assert not [key for key in tally if key[1] in ("crash", "MediaTimeout", "error without a reason")]
    good = [name for name, ended in untouched.items() if ended == "result"]
    assert len(good) >= 0.8 * len(seeds), untouched  # the seeds themselves are fine, so the mutants mean something
    assert sum(n for (_, ended), n in tally.items() if ended == "result") < count


def test_mutants_of_media_made_in_code(capsys):
    run(made_seeds(), 520, 1, capsys)


def test_mutants_of_real_media(media, capsys):
    run(real_seeds(media), 230, 2, capsys)


# Files built to hurt


def box(name: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    return (len(content) + 8 if size is None else size).to_bytes(4, "big") + name + content


def chunk(name: bytes, data: bytes) -> bytes:
    """A part of a PNG file."""
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


NASTY: dict[str, tuple[str, bytes]] = {
    "mp4 with a box of no end": ("video", box(b"ftyp", b"isom\0\0\0\0isom") + box(b"moov", b"\0" * 8, 2**32 - 1)),
    "mp4 with boxes in boxes": ("video", box(b"ftyp", b"isom\0\0\0\0isom") + box(b"moov") * 50_000),
    "mp4 of nothing": ("video", box(b"ftyp", b"isom\0\0\0\0isom")),
    "mkv of nothing": ("video", b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x23" + b"\0" * 300),
    "mkv of endless voids": ("video", b"\x1aE\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" 
                             + b"\xec\x80" * 10**6),
    "ts of empty packets": ("video", (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 20_000),
    "mp3 of one frame a thousand times cut": ("audio", b"\xff\xfb\x90\x44" * 100_000),
    "wav of no samples": ("audio", encoded_sound("WAV", seconds=0.0)),
    "wav of 65535 channels": ("audio", b"RIFF\xff\0\0\0WAVEfmt \x10\0\0\0\x01\0\xff\xff\x44\xac\0\0" + b"\0" * 200),
    "wav of 4 GHz": ("audio", b"RIFF\xff\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\xff\xff\xff\xff\0\0\0\0\2\0\x10\0"
                     b"data\x10\0\0\0" + b"\1" * 16),
    "flac of a header": ("audio", b"fLaC\0\0\0\x22" + b"\xff" * 34),
    "ogg of empty pages": ("audio", (b"OggS" + b"\0" * 22 + b"\0") * 50_000),
    "png with a text bomb": ("image", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0\x90wS\xde"
                             + chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 10**8, 9))),
    "gif of frames without end": ("video", b"GIF89a\x10\0\x10\0\xf0\0\0\0\0\0\xff\xff\xff"
                                  + b",\0\0\0\0\x10\0\x10\0\0\x02\x02\x4c\x01\0" * 100_000),
    "jpeg of markers": ("image", b"\xff\xd8" + b"\xff\xe0\0\x02" * 500_000),
    "tiff that points at itself": ("image", b"II*\0\x08\0\0\0\0\0\x08\0\0\0"),
    "webp of a header": ("image", b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\0\0\0\2\0\0\0" + b"\0" * 6),
    "bmp of a header": ("image", b"BM" + b"\xff" * 60),
    "playlist as video": ("video", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
    "html as audio": ("audio", b"<!DOCTYPE html>" + b"x" * 1000),
    "zeros": ("video", bytes(100_000)),
    "one byte": ("image", b"\xff"),
}  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
def test_files_built_to_hurt(name):
    kind, content = NASTY[name]
    ended = outcome(kind, content)
    assert ended != "crash"
    assert ended != "result" or name.startswith("gif")  # which is large, but sound


def test_a_decoder_that_dies_costs_one_row_only():
    """The batch goes on after a crash, a hang and a memory hog."""
    good = encoded_sound("WAV")
    fates = [os.abort, time.sleep, bytearray]
    arguments = {os.abort: (), time.sleep: (60,), bytearray: (2**33,)}
    ends = []
    for fate in fates:
        with pytest.raises((MediaCorrupt, MediaTimeout, MediaTooLarge)) as caught:
            worker.run_isolated(fate, *arguments[fate], limits=Limits(timeout_s=0.5, memory_bytes=2**28))
        ends.append(type(caught.value))
        assert worker.run_isolated(load_audio, good).duration == pytest.approx(1.0, abs=0.01)
    assert ends == [MediaCorrupt, MediaTimeout, MediaTooLarge]
