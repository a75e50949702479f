"""Options, the cache, batches with bad media in them, and isolation."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from clips import flat, make_clip, seen

import omnirm.preprocessing.preparation as prepare_module
from omnirm.preprocessing import (
    Audio,
    Image,
    ImageSettings,
    Limits,
    MediaCache,
    MediaCorrupt,
    MediaError,
    MediaItem,
    MediaNotAllowed,
    MediaNotFound,
    MediaTooLarge,
    MediaUnsupported,
    Policy,
    Settings,
    Video,
    VideoSettings,
    prepare,
    prepare_many,
)

SMALL = Settings(
    image=ImageSettings(min_pixels=784, max_pixels=112 * 112),
    video=VideoSettings(min_pixels=784, max_pixels=112 * 112),
)


@pytest.fixture
def files(tmp_path):
    """An image, a video with sound and a sound, by kind."""
    import soundfile
    from PIL import Image as Pillow

    Pillow.fromarray(flat(3, 60, 90)).save(tmp_path / "a.png")
    tone = 0.3 * np.sin(np.arange(32000) / 5).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", tone, 16000)
    clip = make_clip(tmp_path / "a.mp4", 30, 10, sound=True)
    return {"image": tmp_path / "a.png", "video": clip, "audio": tmp_path / "a.wav"}


def test_each_kind(files):
    results = {kind: prepare(path, kind, SMALL) for kind, path in files.items()}
    assert [type(results[kind]) for kind in ("image", "video", "audio")] == [Image, Video, Audio]
    assert results["image"].pixels.shape == (56, 84, 3)
    assert results["audio"].duration == 2


@pytest.mark.parametrize(
    ("options", "indices"),
    [
        ({"nframes": 4}, (0, 10, 19, 29)),
        ({"nframes": 4.0}, (0, 10, 19, 29)),
        ({"fps": 1, "min_frames": 2}, (0, 29)),
        ({"fps": 100, "max_frames": 2}, None),
        ({"video_start": 1, "video_end": 2.0, "nframes": 2}, (10, 20)),
        ({"fps": None}, (0, 6, 12, 17, 23, 29)),
    ],
)
def test_video_options(files, options, indices):
    if indices is None:
        with pytest.raises(MediaUnsupported, match="leave no number"):
            prepare(files["video"], "video", SMALL, options=options)
        return
    assert prepare(files["video"], "video", SMALL, options=options).indices == indices


def test_options_replace_the_settings_they_exclude(files):
    by_count = Settings(video=VideoSettings(nframes=8, min_pixels=784, max_pixels=784))
    assert len(prepare(files["video"], "video", by_count, options={"fps": 2}).indices) == 6
    by_rate = Settings(video=VideoSettings(fps=5.0, min_pixels=784, max_pixels=784))
    assert len(prepare(files["video"], "video", by_rate, options={"nframes": 4}).indices) == 4


def test_other_options(files):
    small = {"min_pixels": 784, "max_pixels": 28 * 56}
    assert prepare(files["image"], "image", options=small).pixels.shape == (28, 28, 3)
    assert prepare(files["video"], "video", options=small | {"nframes": 2}).frames.shape == (2, 3, 28, 28)
    assert prepare(files["video"], "video", SMALL, options={"use_audio_in_video": True}).audio is not None
    assert prepare(files["audio"], "audio", options={"offset": 0.5, "duration": 1}).duration == 1
    assert prepare(files["audio"], "audio", options={"audio_start": 0.5, "audio_end": 1.0}).duration == 0.5
    frames = [flat(i, 56, 56) for i in range(2)]
    assert prepare(frames, "video", SMALL, options={"sample_fps": 8}).timestamps == (0, 0.125)


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("video", {"frames": 3}, "video has no option 'frames'.*nframes"),
        ("image", {"fps": 2}, "image has no option 'fps'.*max_pixels"),
        ("audio", {"video_start": 2}, "audio has no option"),
        ("video", {"fps": "2"}, "fps is '2'.*number"),
        ("video", {"nframes": 2.5}, "nframes is 2.5.*whole"),
        ("video", {"fps": True}, "fps is True"),
        ("video", {"fps": float("nan")}, "fps is nan"),
        ("video", {"min_pixels": -1}, "min_pixels is -1"),
        ("video", {"use_audio_in_video": 1}, "true or false"),
        ("video", {"fps": 2, "nframes": 4}, "both fps and nframes"),
        ("video", {"max_pixels": 1}, "below min_pixels"),
        ("audio", {"offset": 1, "audio_start": 1}, "both offset"),
        ("audio", {"audio_start": 2, "audio_end": 1}, "not after"),
        ("text", {}, "no kind of medium"),
    ],
)
def test_wrong_options_say_what_is_right(files, kind, options, says):
    with pytest.raises(MediaUnsupported, match=says) as caught:
        prepare(files.get(kind, files["video"]), kind, SMALL, options=options)
    assert caught.value.remedy


def test_a_bad_medium_loses_nothing_else(files, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(files["video"].read_bytes()[:4000])
    items = [
        (files["image"], "image"),
        (tmp_path / "missing.png", "image"),
        MediaItem(tmp_path / "bad.mp4", "video"),
        (files["video"], "video", {"nframes": 2}),
        (files["video"], "video", {"nframe": 2}),
        (files["audio"], "audio"),
        (files["audio"], "image"),
        ("http://127.0.0.1/a.png", "image"),
        (None, "image"),
    ]
    wanted = [Image, MediaNotFound, MediaCorrupt, Video, MediaUnsupported, Audio, MediaUnsupported, MediaNotAllowed]
    for threads in (1, 3, None):
        results = prepare_many(items, SMALL, threads=threads)
        assert [type(result) for result in results] == [*wanted, MediaUnsupported]
    assert prepare_many([], SMALL) == []


def test_defects_are_not_taken_for_bad_media(files, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(prepare_module, "_load", broken)
    with pytest.raises(ZeroDivisionError):
        prepare_many([(files["image"], "image")] * 2, SMALL)


def test_a_pair_in_two_orders_under_three_rubrics_is_decoded_once(files, monkeypatch):
    decoded = []
    real = prepare_module._load
    monkeypatch.setattr(prepare_module, "_load", lambda *a: decoded.append(a[1].kind) or real(*a))
    cache = MediaCache()
    pair = [(files["video"], "video"), (files["image"], "image")]
    for _ in range(3):
        for order in (pair, pair[::-1]):
            assert len(prepare_many(order, SMALL, cache=cache)) == 2
    assert sorted(decoded) == ["image", "video"]
    assert (cache.stats.hits, cache.stats.misses) == (10, 2)


def test_the_cache_goes_by_content_and_settings(files, tmp_path):
    cache = MediaCache()
    first = prepare(files["image"], "image", SMALL, cache=cache)
    copy = tmp_path / "copy.png"
    copy.write_bytes(files["image"].read_bytes())
    assert prepare(copy, "image", SMALL, cache=cache) is first
    assert prepare(copy.read_bytes(), "image", SMALL, cache=cache) is first
    assert prepare(copy, "image", SMALL, cache=cache, options={"min_pixels": 10_000}) is not first
    time.sleep(0.01)
    copy.write_bytes(_png(9))
    assert prepare(copy, "image", SMALL, cache=cache).pixels[0, 0, 0] != first.pixels[0, 0, 0]
    frames = [str(files["image"]), str(files["image"])]
    assert prepare(frames, "video", SMALL, cache=cache) is prepare(list(frames), "video", SMALL, cache=cache)


def _png(index: int) -> bytes:
    import io

    from PIL import Image as Pillow

    stream = io.BytesIO()
    Pillow.fromarray(flat(index, 60, 90)).save(stream, "PNG")
    return stream.getvalue()


def test_the_policy_is_asked_even_for_what_is_cached(files, tmp_path):
    cache = MediaCache()
    prepare(files["image"], "image", SMALL, cache=cache)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(MediaNotAllowed):
        prepare(files["image"], "image", SMALL, Policy(roots=(tmp_path / "elsewhere",)), cache=cache)
    with pytest.raises(MediaTooLarge):
        prepare(files["image"], "image", SMALL, Policy(limits=Limits(max_pixels=100)), cache=cache)


def test_cached_arrays_cannot_be_changed(files):
    cache = MediaCache()
    video = prepare(files["video"], "video", SMALL, options={"use_audio_in_video": True}, cache=cache)
    for array in (video.frames, video.audio.samples):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def image_of(size: int) -> Image:
    return Image(np.zeros((size, 1, 3), np.uint8), (size, 1), "")


def test_the_cache_keeps_to_its_bound():
    cache = MediaCache(max_bytes=900)
    for key in "abc":
        cache.get(key, lambda: image_of(100))
    cache.get("a", lambda: pytest.fail("a was dropped"))
    cache.get("d", lambda: image_of(100))  # drops b, the least recently used
    cache.get("a", lambda: pytest.fail("a was dropped"))
    assert cache.stats.bytes == 900
    assert cache.get("b", lambda: image_of(1)).original_size == (1, 1)
    cache.get("huge", lambda: image_of(1000))
    assert (cache.stats.bytes, cache.stats.items) == (603, 3)
    cache.clear()
    assert (cache.stats.bytes, cache.stats.items) == (0, 0)
    with pytest.raises(ValueError, match="max_bytes"):
        MediaCache(-1)


def test_threads_wait_for_one_decoding():
    cache, calls, barrier = MediaCache(), [], threading.Barrier(8)

    def load():
        calls.append(1)
        time.sleep(0.05)
        return image_of(1)

    results = []

    def ask():
        barrier.wait()
        results.append(cache.get("key", load))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(set(map(id, results))) == 1


def test_errors_are_not_cached():
    cache, outcomes = MediaCache(), [MediaError("a", "b"), image_of(1)]

    def load():
        outcome = outcomes.pop(0)
        if isinstance(outcome, MediaError):
            raise outcome
        return outcome

    with pytest.raises(MediaError):
        cache.get("key", load)
    assert cache.get("key", load).original_size == (1, 1)


@pytest.mark.skipif(os.name != "posix", reason="worker processes need POSIX")
def test_isolated_results_are_the_same(files, tmp_path):
    isolated = Policy(isolate=True)
    plain = prepare(files["video"], "video", SMALL, options={"use_audio_in_video": True})
    apart = prepare(files["video"], "video", SMALL, isolated, {"use_audio_in_video": True})
    assert np.array_equal(plain.frames, apart.frames)
    assert np.array_equal(plain.audio.samples, apart.audio.samples)
    assert (plain.indices, plain.timestamps, plain.sha256) == (apart.indices, apart.timestamps, apart.sha256)
    pixels = prepare(files["image"].read_bytes(), "image", SMALL, isolated).pixels
    assert np.array_equal(pixels, prepare(files["image"], "image", SMALL).pixels)
    frames = [str(files["image"])] * 2
    assert seen(prepare(frames, "video", SMALL, isolated).frames) == [3, 3]
    assert prepare(flat(0, 56, 56), "image", SMALL, isolated).pixels.shape == (56, 56, 3)  # nothing to decode
    (tmp_path / "bad.mp4").write_bytes(files["video"].read_bytes()[:4000])
    with pytest.raises(MediaCorrupt, match=r"bad\.mp4"):
        prepare(tmp_path / "bad.mp4", "video", SMALL, isolated)


def test_importing_the_package_decodes_nothing():
    code = (
        "import sys, omnirm.preprocessing as p; "
        "print([m for m in ('torch', 'av', 'PIL', 'soxr', 'transformers') if m in sys.modules]); "
        "print(all(getattr(p, name) is not None for name in p.__all__), set(p.__all__) <= set(dir(p)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["[]", "True True"]
