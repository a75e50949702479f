"""Speed and memory of preprocessing against qwen_omni_utils.process_mm_info, same outputs.

    python tests/benchmarks/bench_preprocessing.py [--quick] [--json FILE] [--rows NAME ...] [--pairs N]

For each row, reference and ours run in turn in one process, at least 9 times; the median and range of the ratio
reference time / our time count, since single timings on shared machines do not. Peak memory is that of a child process
for each side, over what it had before the call. "judged" is a pair of such media in two orders under three rubrics: six
times two media for the reference, decoded once with a `MediaCache` here. Media are made in code and kept in the
system's temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

RUBRICS, ORDERS = 3, 2


@dataclass(frozen=True)
class Row:
    """One kind of media: `parts` are (kind, file name), `sound` asks for the sound tracks too."""

    name: str
    parts: tuple[tuple[str, str], ...]
    sound: bool = False


ROWS = {
    row.name: row
    for row in (
        Row("video 60 s 1080p", (("video", "1080p.mp4"),)),
        Row("video 10 s 720p + sound", (("video", "720p.mp4"),), sound=True),
        Row("video 5 min 480p", (("video", "480p.mp4"),)),
        Row("24 large JPEGs", tuple(("image", f"photo{i}.jpg") for i in range(24))),
        Row("audio 10 min", (("audio", "sound.mp3"),)),
    )
}
QUICK = {
    row.name: row
    for row in (
        Row("video 6 s 1080p", (("video", "quick1080p.mp4"),)),
        Row("video 4 s 720p + sound", (("video", "quick720p.mp4"),), sound=True),
        Row("video 20 s 480p", (("video", "quick480p.mp4"),)),
        Row("4 large JPEGs", tuple(("image", f"photo{i}.jpg") for i in range(4))),
        Row("audio 1 min", (("audio", "quick.mp3"),)),
    )
}
# file: height, width, seconds, frames per second, sound
CLIPS = {
    "1080p.mp4": (1080, 1920, 60, 30, False),
    "720p.mp4": (720, 1280, 10, 30, True),
    "480p.mp4": (480, 854, 300, 30, False),
    "quick1080p.mp4": (1080, 1920, 6, 30, False),
    "quick720p.mp4": (720, 1280, 4, 30, True),
    "quick480p.mp4": (480, 854, 20, 30, False),
}
SOUNDS = {"sound.mp3": 600, "quick.mp3": 60}


def texture(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth blobs of several sizes with a little grain, uint8 [height, width, 3]."""
    from PIL import Image

    total = np.zeros((height, width, 3), np.float32)
    for size, strength in ((128, 1.0), (32, 0.5), (8, 0.2)):
        grid = rng.integers(0, 256, (height // size + 2, width // size + 2, 3), dtype=np.uint8)
        total += strength * np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))
    total = (total - total.min()) * (250 / (total.max() - total.min()))
    return (total + rng.normal(0, 2, total.shape)).clip(0, 255).astype(np.uint8)


def make_clip(path: Path, height: int, width: int, seconds: int, fps: int, sound: bool) -> None:
    """A camera that pans over a scene with moving things; H.264 with x264's own defaults."""
    import av

    rng = np.random.default_rng(0)
    scene = texture(height + 128, width + 256, rng)
    things = [(texture(height // 5, height // 5, rng), rng.random(4)) for _ in range(4)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        track = out.add_stream("aac", rate=44100, layout="stereo") if sound else None
        for index in range(seconds * fps):
            now = index / fps
            x, y = int(128 + 120 * np.sin(now * 0.2)), int(64 + 60 * np.sin(now * 0.13))
            picture = scene[y : y + height, x : x + width].copy()
            for thing, (a, b, c, d) in things:
                side = len(thing)
                left = int((width - side) * (0.5 + 0.5 * np.sin(now * (0.2 + 0.5 * a) + 6 * b)))
                top = int((height - side) * (0.5 + 0.5 * np.cos(now * (0.2 + 0.5 * c) + 6 * d)))
                picture[top : top + side, left : left + side] = thing
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
        if track is not None:
            encode_sound(out, track, seconds, 44100)


def encode_sound(out: Any, track: Any, seconds: int, rate: int) -> None:
    """Chords that change, with noise, in stereo."""
    import av

    rng = np.random.default_rng(1)
    step = track.codec_context.frame_size or 1152
    for at in range(0, seconds * rate - step, step):
        now = (at + np.arange(step)) / rate
        pitch = 220 * 2 ** (int(at / rate) % 12 / 12)
        wave = sum(np.sin(2 * np.pi * pitch * k * now) / k for k in (1, 2, 3, 5)) * 0.2
        both = np.stack([wave, wave * 0.7]) + rng.normal(0, 0.01, (2, step))
        piece = av.AudioFrame.from_ndarray(both.astype(np.float32), format="fltp", layout="stereo")
        piece.sample_rate, piece.pts = rate, at
        out.mux(track.encode(piece))
    out.mux(track.encode(None))


def make_media(folder: Path, names: set[str]) -> None:
    """Write what is missing of the files `names`."""
    import av
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(names):
        if (folder / name).exists():
            continue
        print(f"making {name} ...", flush=True)
        unfinished = folder / f"unfinished-{name}"
        if name in CLIPS:
            make_clip(unfinished, *CLIPS[name])
        elif name in SOUNDS:
            with av.open(str(unfinished), "w") as out:
                encode_sound(out, out.add_stream("libmp3lame", rate=44100, layout="stereo"), SOUNDS[name], 44100)
        else:
            index = int(name.removeprefix("photo").removesuffix(".jpg"))
            Image.fromarray(texture(3000, 4000, np.random.default_rng(index))).save(unfinished, "JPEG", quality=90)
        unfinished.rename(folder / name)


def reference(row: Row, folder: Path) -> Any:
    """(sounds, images, videos) of qwen-omni-utils."""
    from qwen_omni_utils import process_mm_info

    content = [{"type": kind, kind: str(folder / name)} for kind, name in row.parts]
    return process_mm_info([{"role": "user", "content": content}], row.sound, return_video_metadata=True)


def ours(row: Row, folder: Path, cache: Any = None) -> Any:
    """The same media of this project."""
    from omnirm.preprocessing import prepare_many

    items = []
    for kind, name in row.parts:
        options = {"use_audio_in_video": row.sound} if kind == "video" else {}
        items.append((folder / name, kind, options))
    results = prepare_many(items, cache=cache)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def choose_reference() -> str:
    """Give the reference the best video decoder that works here; returns its name."""
    from omnirm.preprocessing import available_decoders

    usable = {status.name for status in available_decoders() if status.usable}
    name = "torchcodec" if "torchcodec" in usable else "decord"
    os.environ["FORCE_QWENVL_VIDEO_READER"] = name
    return name


def check(row: Row, folder: Path) -> str:
    """Compare the outputs; returns the differences in words."""
    sounds, images, videos = reference(row, folder)
    results = ours(row, folder)
    found: list[str] = []
    for index, (kind, _) in enumerate(row.parts):
        mine = results[index]
        if kind == "video":
            frames, about = videos[index]
            assert mine.indices == tuple(int(i) for i in about["frames_indices"]), "sampled frames differ"
            assert mine.frames.shape == tuple(frames.shape), "sizes differ"
            pixels = statistics.fmean(
                float(np.abs(a.astype(np.float32) - b.numpy()).mean()) for a, b in zip(mine.frames, frames, strict=True)
            )
            found.append(f"{len(frames)} frames {mine.frames.shape[3]}x{mine.frames.shape[2]}, pixels {pixels:.4f}/255")
            assert pixels <= 0.05, found
        if kind == "image":
            pixels = float(np.abs(mine.pixels.astype(np.int16) - np.asarray(images[index])).mean())
            found.append(f"pixels {pixels:.4f}/255")
            assert pixels <= 0.05, found
        if kind == "audio" or row.sound:
            samples = mine.samples if kind == "audio" else mine.audio.samples
            count = min(len(samples), len(sounds[index]))
            assert abs(len(samples) - len(sounds[index])) <= 1600, "lengths differ"
            sound = float(np.abs(samples[:count] - sounds[index][:count]).max())
            found.append(f"sound {sound:.1e}")
            assert sound <= 2e-3, found
    return found[0] if row.parts[0][0] == "image" else ", ".join(found)


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def judged_ours(row: Row, folder: Path) -> None:
    """What a judge asks for: the media once for every order and rubric."""
    from omnirm.preprocessing import MediaCache

    cache = MediaCache(8 * 2**30)
    for _ in range(ORDERS * RUBRICS):
        ours(row, folder, cache)


def measure(row: Row, folder: Path, pairs: int) -> dict[str, Any]:
    """Times of interleaved pairs; who goes first alternates."""
    differences = check(row, folder)
    single, judged, times_reference, times_ours = [], [], [], []
    for pair in range(pairs):
        runs = {"reference": lambda: reference(row, folder), "ours": lambda: ours(row, folder)}
        order = list(runs) if pair % 2 == 0 else list(runs)[::-1]
        times = {name: seconds(runs[name]) for name in order}
        together = seconds(lambda: judged_ours(row, folder))
        times_reference.append(times["reference"])
        times_ours.append(times["ours"])
        single.append(times["reference"] / times["ours"])
        judged.append(ORDERS * RUBRICS * times["reference"] / together)
    return {
        "row": row.name,
        "same": differences,
        "pairs": pairs,
        "reference_s": statistics.median(times_reference),
        "ours_s": statistics.median(times_ours),
        "single": [statistics.median(single), min(single), max(single)],
        "judged": [statistics.median(judged), min(judged), max(judged)],
    }


def memory(side: str, row: Row, folder: Path, *, quick: bool) -> float:
    """Peak memory in MiB that one call adds in a process of its own."""
    command = [sys.executable, __file__, "--child", side, "--rows", row.name, "--folder", str(folder)]
    run = subprocess.run(command + ["--quick"] * quick, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"the {side} process failed: {run.stderr[-2000:]}")
    return float(run.stdout.split()[-1])


def child(side: str, row: Row, folder: Path) -> None:
    """Print the memory that one call adds, after the imports."""
    import av  # noqa: F401
    import librosa
    import qwen_omni_utils  # noqa: F401
    import soxr  # noqa: F401
    import torch  # noqa: F401

    assert callable(librosa.load)  # imported lazily
    before = peak_mib()
    result = (reference if side == "reference" else ours)(row, folder)
    print(len(result), peak_mib() - before)


def peak_mib() -> float:
    """Peak resident memory of this process (getrusage would count the parent's, too)."""
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short media, three pairs")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--rows", nargs="*", help="only these rows")
    parser.add_argument("--pairs", type=int, help="default 9, with --quick 3")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "omnirm-bench-media-1")
    parser.add_argument("--child", choices=("reference", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    table = QUICK if options.quick else ROWS
    unknown = set(options.rows or ()) - set(table)
    if unknown:
        parser.error(f"no rows {sorted(unknown)}; there are {list(table)}")
    rows = [table[name] for name in options.rows or table]
    decoder = choose_reference()
    if options.child:
        child(options.child, rows[0], options.folder)
        return
    names = {name for row in rows for _, name in row.parts}
    make_media(options.folder, names)
    from omnirm.preprocessing.decoders import choose_decoder

    mine = choose_decoder()
    print(f"reference: qwen_omni_utils with {decoder}; ours: {mine.name} {mine.version()}; {os.cpu_count()} cores")
    if decoder != "torchcodec":
        print("torchcodec is not usable here (it needs FFmpeg's shared libraries): the reference reads with decord")
    print(f"{'row':26}{'reference':>11}{'ours':>9}{'single pass':>22}{'judged pair':>24}{'memory MiB':>16}")
    results = []
    for row in rows:
        result = measure(row, options.folder, options.pairs or (3 if options.quick else 9))
        result["memory_mib"] = {
            side: memory(side, row, options.folder, quick=options.quick) for side in ("reference", "ours")
        }
        results.append(result)
        single, judged = (
            "{:.2f}x ({:.2f}-{:.2f})".format(*result["single"]),
            "{:.1f}x ({:.1f}-{:.1f})".format(*result["judged"]),
        )
        peak = "{reference:.0f} / {ours:.0f}".format(**result["memory_mib"])
        print(
            f"{row.name:26}{result['reference_s']:10.2f}s{result['ours_s']:8.2f}s{single:>22}{judged:>24}{peak:>16}",
            f"\n    {result['same']}",
            flush=True,
        )
    if options.json:
        about = {"reference_decoder": decoder, "decoder": mine.name, "cores": os.cpu_count(), "quick": options.quick}
        media = {name: asdict(row) for name, row in table.items()}
        options.json.write_text(json.dumps({**about, "rows": results, "media": media}, indent=2) + "\n")


if __name__ == "__main__":
    main()
