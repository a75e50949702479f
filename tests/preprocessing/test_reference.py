"""What `prepare` gives against what qwen-omni-utils gives, for every real file it can read.

The reference reads video with torchcodec where FFmpeg's shared libraries are, and with decord otherwise (torchcodec's
absence makes it fail, not fall back, so the test chooses). Where the two differ on purpose is in docs/preprocessing.md.
"""

from __future__ import annotations

import importlib
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import make_clip

from omnirm.preprocessing import (
    AudioSettings,
    MediaCorrupt,
    Settings,
    available_decoders,
    prepare,
    smart_resize,
)

VIDEOS = [
    "decord/flipping_a_pancake.mkv",
    "decord/unordered.mov",
    "decord/video_0.mov",
    "decord/video_90.mov",
    "decord/video_180.mov",
    "decord/video_270.mov",
    "gradio/bad_video_sample.mp4",
    "gradio/muted_video_sample.mp4",
    "gradio/playable_but_bad_container.mp4",
    "gradio/rectangles.gif",
    "gradio/video_sample.ogg",
    "gradio/video_sample.webm",
    "omnireward_demo/1.mp4",
    "omnireward_demo/2.avi",
    "omnireward_demo/3.mp4",
    "torchcodec/av1_video.mkv",
    "torchcodec/bt709_full_range.mp4",
    "torchcodec/h264_10bits.mp4",
    "torchcodec/h265_10bits.mp4",
    "torchcodec/h265_video.mp4",
    "torchcodec/nasa_13013.mp4",
    "videoscore/video1.mp4",
]
# decord brings an old FFmpeg: two files it cannot read, 10-bit it reduces in its own way, and in two it seeks to other
# frames than those asked for (torchcodec and PyAV agree on them).
NOT_BY_DECORD = {"gradio/rectangles.gif", "torchcodec/av1_video.mkv"}
OTHER_PIXELS_BY_DECORD = {
    "omnireward_demo/2.avi",
    "torchcodec/h264_10bits.mp4",
    "torchcodec/h265_10bits.mp4",
    "torchcodec/h265_video.mp4",
}
DAMAGED = {"decord/corrupted.mp4"}
SOUNDS = [
    "gradio/audio_sample.wav",
    "gradio/cantina.wav",
    "gradio/cate_blanch.mp3",
    "torchcodec/nasa_13013.mp4.audio.mp3",
    "torchcodec/sine_mono_s16.wav",
    "torchcodec/sine_mono_s32.wav",
    "torchcodec/sine_mono_s32_8000.wav",
]
IMAGES = ["omnireward_demo/1.jpg", "omnireward_demo/2.jpg", "omnireward_demo/3.jpg"]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"nframes": 4},
    {"fps": 5.0, "max_frames": 12},
    {"fps": 1.0, "min_frames": 2, "min_pixels": 50 * 784, "max_pixels": 200 * 784},
    {"video_start": 0.5, "video_end": 2.5},
    {"total_pixels": 1500 * 784, "min_pixels": 20 * 784},
]


@pytest.fixture(scope="module")
def reference():
    """`process_mm_info`, its video backend chosen among the usable ones."""
    package = pytest.importorskip("qwen_omni_utils")
    vision = importlib.import_module("qwen_omni_utils.v2_5.vision_process")
    usable = {status.name for status in available_decoders() if status.usable}
    backend = next((name for name in ("torchcodec", "decord") if name in usable), None)
    if backend is None:
        pytest.skip("the reference has no usable video backend")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vision, "FORCE_QWENVL_VIDEO_READER", backend)
        vision.get_video_reader_backend.cache_clear()

        def process(kind: str, path: Path, options: dict[str, Any] | None = None, *, sound: bool = False) -> Any:
            part = {"type": kind, kind: str(path), **(options or {})}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sounds, images, videos, _ = package.process_mm_info(
                    [{"role": "user", "content": [part]}], sound, return_video_kwargs=True, return_video_metadata=True
                )
            results = {"image": images, "video": videos, "audio": sounds}
            return results if sound else results[kind][0]

        process.backend = backend  # type: ignore[attr-defined]
        yield process
        vision.get_video_reader_backend.cache_clear()


def check_video(ours: Any, theirs: Any, exact_pixels: bool = True) -> None:
    frames, about = theirs
    assert ours.indices == tuple(int(i) for i in about["frames_indices"])
    assert ours.frames.shape == tuple(frames.shape)
    if exact_pixels:
        assert np.abs(ours.frames - frames.numpy()).mean() <= 0.05


@pytest.mark.parametrize("name", VIDEOS)
def test_videos(media, reference, name):
    if reference.backend == "decord" and name in NOT_BY_DECORD:
        pytest.skip("decord cannot read it")
    theirs = reference("video", media / name)
    ours = prepare(media / name, "video")
    check_video(ours, theirs, not (reference.backend == "decord" and name in OTHER_PIXELS_BY_DECORD))
    if reference.backend == "torchcodec":
        assert ours.source_frames == theirs[1]["total_num_frames"]
        # FFmpeg 5 knows no duration of the last packets of some files, and so makes the clip a frame or two shorter
        assert ours.source_fps == pytest.approx(theirs[1]["fps"], rel=2 / ours.source_frames)


def test_no_file_is_forgotten(media):
    kinds = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".gif", ".ogg", ".wav", ".mp3", ".jpg"}
    there = {path.relative_to(media).as_posix() for path in media.rglob("*") if path.suffix in kinds}
    assert there == {*VIDEOS, *SOUNDS, *IMAGES, *DAMAGED}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    "name", ["torchcodec/nasa_13013.mp4", "gradio/muted_video_sample.mp4", "gradio/video_sample.webm"]
)
def test_video_options(media, reference, name, options):
    check_video(prepare(media / name, "video", options=options), reference("video", media / name, options))


@pytest.mark.parametrize("times", [[0, 0.1, 0.2, 1.0, 1.1, 3.0, 3.05, 3.1, 4.0, 4.4], [i * i / 50 for i in range(30)]])
def test_variable_frame_rate(tmp_path, reference, times):
    clip = make_clip(tmp_path / "a.mkv", len(times), 10, size=(112, 140), times=times)
    ours = prepare(clip, "video")
    if reference.backend == "decord":  # goes by the header's rate, which says nothing here
        assert ours.source_frames == len(times)
        return
    check_video(ours, reference("video", clip))


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("span", [(0.0, None), (0.25, 1.5)])
def test_sounds(media, reference, name, span):
    start, end = span
    if end is not None and name == "gradio/audio_sample.wav":
        pytest.skip("shorter than the cut")
    options = {} if end is None else {"audio_start": start, "audio_end": end}
    ours, theirs = prepare(media / name, "audio", options=options).samples, reference("audio", media / name, options)
    assert abs(len(ours) - len(theirs)) <= 1
    count = min(len(ours), len(theirs))
    assert np.abs(ours[:count] - theirs[:count]).max() <= 2e-3


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the reference needs the ffmpeg program here")
@pytest.mark.parametrize("name", ["torchcodec/nasa_13013.mp4", "decord/flipping_a_pancake.mkv"])
def test_sound_tracks(media, reference, name):
    theirs = reference("video", media / name, sound=True)
    ours = prepare(media / name, "video", options={"use_audio_in_video": True})
    check_video(ours, theirs["video"][0])
    count = min(len(ours.audio.samples), len(theirs["audio"][0]))
    assert count / 16000 == pytest.approx(ours.duration, abs=0.2)
    assert np.abs(ours.audio.samples[:count] - theirs["audio"][0][:count]).max() <= 2e-3


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("options", [{}, {"max_pixels": 100 * 784}, {"min_pixels": 1500 * 784}], ids=str)
def test_images(media, reference, name, options):
    theirs = np.asarray(reference("image", media / name, options)).astype(int)
    ours = prepare(media / name, "image", options=options).pixels
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() <= 0.05


# Where we differ on purpose; each row is in docs/preprocessing.md.


def test_frame_lists_are_not_snapped_to_56(media, reference):
    frames = [str(media / name) for name in IMAGES[:1]] * 2
    theirs, _ = _frame_list(frames)
    ours = prepare(frames, "video")
    height, width = prepare(frames[0], "image", Settings()).original_size
    settings = Settings().video
    assert ours.frames.shape[2:] == smart_resize(height, width, 28, settings.min_pixels, settings.max_pixels)
    assert all(side % 28 == 0 for side in theirs.shape[2:])


def _frame_list(frames: list[str]) -> Any:
    package = importlib.import_module("qwen_omni_utils")
    content = [{"type": "video", "video": frames}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, _, videos = package.process_mm_info(
            [{"role": "user", "content": content}], False, return_video_metadata=True
        )
    return videos[0]


def test_short_clips_are_read(tmp_path, reference):
    clip = make_clip(tmp_path / "a.mp4", 1, 10)
    with pytest.raises(AttributeError, match="read_video"):  # hides its cause
        reference("video", clip)
    assert prepare(clip, "video").indices == (0, 0)


def test_damage_is_named(media, reference):
    with pytest.raises(AttributeError, match="read_video"):
        reference("video", media / "decord" / "corrupted.mp4")
    with pytest.raises(MediaCorrupt, match=r"corrupted\.mp4"):
        prepare(media / "decord" / "corrupted.mp4", "video")


def test_rate_of_the_sound_is_a_setting(media, reference):
    settings = replace(Settings(), audio=AudioSettings(sampling_rate=8000))
    ours = prepare(media / "gradio" / "cantina.wav", "audio", settings)
    theirs = reference("audio", media / "gradio" / "cantina.wav")
    assert len(ours.samples) == pytest.approx(len(theirs) / 2, abs=1)
