"""Which frames of a video come out, in what shape, and how a bad video ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from clips import flat, level, make_clip, seen, turn
from hypothesis import given
from hypothesis import strategies as st

from omnirm.preprocessing import (
    Limits,
    MediaCorrupt,
    MediaTimeout,
    MediaTooLarge,
    MediaUnsupported,
    Policy,
    VideoSettings,
    available_decoders,
    load_video,
)
from omnirm.preprocessing.decoders import choose_decoder
from omnirm.preprocessing.sampling import frame_count, frame_range

SMALL = VideoSettings(min_pixels=28 * 28, max_pixels=112 * 112)


def settings(**changes) -> VideoSettings:
    return VideoSettings(**({"min_pixels": 28 * 28, "max_pixels": 112 * 112} | changes))


def test_samples_two_frames_a_second(tmp_path):
    video = load_video(make_clip(tmp_path / "a.mp4", frames=30, fps=10), SMALL)
    assert video.indices == (0, 6, 12, 17, 23, 29)
    assert seen(video.frames) == list(video.indices)
    assert video.timestamps == pytest.approx([i / 10 for i in video.indices])
    assert (video.source_fps, video.source_frames, video.duration) == (pytest.approx(10), 30, pytest.approx(3))
    assert video.sample_fps == pytest.approx(2)
    assert video.frames.shape == (6, 3, 56, 84)
    assert video.frames.dtype == np.uint8
    assert video.frames.flags.c_contiguous
    assert (video.decoder, len(video.sha256), video.audio) == ("pyav", 64, None)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"nframes": 4}, (0, 10, 19, 29)),
        ({"nframes": 5}, (0, 10, 19, 29)),  # 2.5 pairs round to 2
        ({"fps": 1.0}, (0, 10, 19, 29)),  # at least min_frames
        ({"fps": 1.0, "min_frames": 2}, (0, 29)),
        ({"fps": 100.0, "max_frames": 8}, (0, 4, 8, 12, 17, 21, 25, 29)),
        ({"start": 1.0, "end": 2.0, "nframes": 2}, (10, 20)),
        ({"start": 1.95, "nframes": 2}, (20, 29)),
        ({"end": 0.5, "nframes": 2}, (0, 5)),
        ({"end": 100.0, "nframes": 2}, (0, 29)),
        ({"start": 2.0, "end": 2.0}, (20, 20)),
    ],
)
def test_which_frames(tmp_path, changes, wanted):
    video = load_video(make_clip(tmp_path / "a.mp4", frames=30, fps=10), settings(**changes))
    assert video.indices == wanted
    assert seen(video.frames) == list(wanted)


@pytest.mark.parametrize("container", ["mp4", "mkv", "webm", "avi", "mov", "ts", "flv"])
def test_containers_with_and_without_a_frame_count(tmp_path, container):
    codec = "libvpx-vp9" if container == "webm" else "mpeg4" if container == "avi" else "libx264"
    video = load_video(make_clip(tmp_path / f"a.{container}", frames=25, fps=10, codec=codec), settings(nframes=6))
    assert video.source_frames == 25
    assert video.source_fps == pytest.approx(10, rel=0.05)
    assert seen(video.frames) == list(video.indices)


@pytest.mark.parametrize(
    ("codec", "pixel_format", "container"),
    [
        ("libx264", "yuv420p10le", "mp4"),
        ("libx264", "yuv444p", "mp4"),
        ("libx265", "yuv420p", "mp4"),
        ("libx265", "yuv420p10le", "mkv"),
        ("mjpeg", "yuvj422p", "avi"),
        ("ffv1", "bgra", "mkv"),
        ("mpeg2video", "yuv420p", "mkv"),
    ],
)
def test_codecs_and_pixel_formats(tmp_path, codec, pixel_format, container):
    clip = make_clip(tmp_path / f"a.{container}", 20, 10, codec=codec, pixel_format=pixel_format)
    video = load_video(clip, settings(nframes=8))
    assert seen(video.frames) == list(video.indices)


@pytest.mark.parametrize(
    "options", [{}, {"bf": "0"}, {"g": "5"}, {"bf": "6", "b-pyramid": "none"}, {"x264-params": "open-gop=1:keyint=6"}]
)
def test_shortcuts_give_the_frames_that_full_decoding_gives(tmp_path, options):
    import av

    from omnirm.preprocessing.decoders.pyav import _PyAVReader
    from omnirm.preprocessing.sniff import require
    from omnirm.preprocessing.source import open_source

    path = tmp_path / "a.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt, stream.options = 96, 128, "yuv420p", options
        noise = rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)
        for i in range(60):
            window = noise[i : i + 96, 2 * i : 2 * i + 128].copy()
            out.mux(stream.encode(av.VideoFrame.from_ndarray(window, format="rgb24")))
        out.mux(stream.encode(None))
    with av.open(str(path)) as container:
        every = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    source = open_source(path)
    reader = _PyAVReader(source, require(source, "video"), Limits(), time.monotonic() + 60)
    for wanted in ([0], [59], [3, 4, 5], [7, 31, 58], list(range(0, 60, 7)), list(range(60))):
        got = [frame() for frame in reader.read(wanted, time.monotonic() + 60)]
        assert len(got) == len(wanted)
        assert all(np.array_equal(frame, every[i]) for frame, i in zip(got, wanted, strict=True))


def test_variable_frame_rate(tmp_path):
    times = [0, 0.1, 0.2, 1.0, 1.1, 3.0, 3.05, 3.1, 4.0, 4.4]
    video = load_video(make_clip(tmp_path / "a.mp4", 10, 10, times=times), settings(nframes=10))
    assert video.timestamps == pytest.approx(times, abs=2e-3)
    assert seen(video.frames) == list(range(10))
    assert video.source_fps == pytest.approx(10 / video.duration)


@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_rotation_is_applied(tmp_path, degrees, corner):
    import av

    path = tmp_path / "a.mp4"
    pixels = np.zeros((56, 112, 3), np.uint8)
    pixels[:28, :28] = 250  # bright corner at the top left
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 56, 112, "yuv420p"
        for _ in range(4):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode(None))
    video = load_video(turn(path, degrees), settings(nframes=2))
    assert video.frames.shape[2:] == ((112, 56) if degrees != 180 else (56, 112))
    bright = video.frames[0].mean(axis=0) > 128
    assert bright[corner]
    assert bright.mean() == pytest.approx(1 / 8, abs=0.02)


def test_best_of_several_streams(tmp_path):
    video = load_video(
        make_clip(tmp_path / "a.mkv", 10, 10, size=(112, 112), second_size=(28, 28)), settings(nframes=4)
    )
    assert seen(video.frames) == list(video.indices)  # the other stream is black


@pytest.mark.parametrize(("frames", "wanted"), [(1, (0, 0)), (2, (0, 1)), (3, (0, 2)), (5, (0, 1, 3, 4))])
def test_short_videos_give_at_least_two_frames(tmp_path, frames, wanted):
    video = load_video(make_clip(tmp_path / "a.mp4", frames, 10), SMALL)
    assert video.indices == wanted
    assert seen(video.frames) == list(wanted)


def test_more_frames_than_there_are_repeats_them(tmp_path):
    video = load_video(make_clip(tmp_path / "a.mp4", 3, 10), settings(nframes=8))
    assert video.indices == (0, 0, 1, 1, 1, 1, 2, 2)
    assert seen(video.frames) == list(video.indices)


@pytest.mark.parametrize("size", [(33, 51), (64, 66), (7, 301)])
def test_odd_sizes(tmp_path, size):
    video = load_video(make_clip(tmp_path / "a.avi", 6, 10, size=size, codec="mpeg4"), settings(nframes=4))
    assert video.frames.shape[2] % 28 == video.frames.shape[3] % 28 == 0
    assert seen(video.frames) == list(video.indices)


def test_budget_over_all_frames(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", 40, 10, size=(224, 224))
    few = load_video(clip, VideoSettings(nframes=4, min_pixels=784, total_pixels=4 * 100 * 784))
    many = load_video(clip, VideoSettings(nframes=40, min_pixels=784, total_pixels=4 * 100 * 784))
    assert few.frames.shape[2:] == (224, 224)
    assert many.frames.shape[2:] == (112, 112)  # 20 tokens a frame, in pairs


def test_animated_gif_and_webp(tmp_path):
    from PIL import Image

    frames = [Image.fromarray(flat(i, 56, 84)) for i in range(6)]
    for name in ("a.gif", "a.webp", "a.png"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=200, loop=0, **options)
        video = load_video(tmp_path / name, settings(nframes=6))
        assert (seen(video.frames), video.source_frames) == (list(range(6)), 6), name
        assert video.source_fps == pytest.approx(5), name
        assert video.decoder == ("pyav" if name == "a.gif" else "pillow")


def test_transparent_animation_lies_on_white(tmp_path):
    from PIL import Image

    frames = [Image.fromarray(np.full((28, 28, 4), (i, 0, 0, 0), np.uint8), "RGBA") for i in range(3)]
    frames[0].save(
        tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=100, lossless=True, exact=True
    )
    assert load_video(tmp_path / "a.webp", settings(nframes=2)).frames.min() == 255


def test_sound_is_cut_with_the_frames(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", 40, 10, sound=True)
    whole = load_video(clip, settings(with_audio=True))
    part = load_video(clip, settings(with_audio=True, start=1.0, end=2.5))
    assert whole.audio is not None
    assert whole.audio.duration == pytest.approx(4, abs=0.1)
    assert part.audio is not None
    assert part.audio.duration == pytest.approx(1.5, abs=0.01)
    assert part.audio.samples == pytest.approx(whole.audio.samples[16000:40000], abs=2e-2)
    assert load_video(clip, SMALL).audio is None


def test_sound_asked_of_a_silent_video(tmp_path):
    with pytest.raises(MediaUnsupported, match="no sound"):
        load_video(make_clip(tmp_path / "a.mp4"), settings(with_audio=True))


@pytest.mark.parametrize("as_what", ["array", "channels first", "tensor", "arrays", "files"])
def test_frames_given_apart(tmp_path, as_what):
    import torch
    from PIL import Image

    frames = np.stack([flat(i, 56, 84) for i in range(5)])
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{i}.png")
    given = {
        "array": frames,
        "channels first": frames.transpose(0, 3, 1, 2),
        "tensor": torch.from_numpy(frames).permute(0, 3, 1, 2),
        "arrays": list(frames),
        "files": [str(tmp_path / f"{i}.png") for i in range(5)],
    }[as_what]
    video = load_video(given, SMALL, sample_fps=4.0)
    assert video.indices == (0, 1, 2, 3, 4, 4)  # made even
    assert seen(video.frames) == list(video.indices)
    assert (video.source_frames, video.sample_fps, video.duration) == (5, 4.0, 1.25)
    assert video.timestamps == (0, 0.25, 0.5, 0.75, 1.0, 1.0)


@pytest.mark.parametrize(
    ("frames", "changes", "says"),
    [
        ([], {}, "no frames"),
        ([flat(0, 28, 28), flat(0, 28, 56)], {}, "frame 1 has 56 x 28"),
        (np.zeros((2, 3), np.uint8), {}, "is no video"),
        ([1, 2], {}, "is a number"),
        ([flat(0, 28, 28)] * 2, {"with_audio": True}, "no sound"),
        ([flat(0, 28, 28)] * 2, {"start": 1.0}, "clock"),
        (["missing.png"], {}, "no such file"),
    ],
)
def test_unusable_frames_say_why(frames, changes, says):
    with pytest.raises(ValueError, match=says):
        load_video(frames, settings(**changes))


@pytest.mark.parametrize(
    ("limits", "error", "says"),
    [
        (Limits(max_pixels=64 * 95), MediaTooLarge, "96 x 64 pixels"),
        (Limits(max_seconds=1.9), MediaTooLarge, "2.0 s of video"),
        (Limits(max_frames=3), MediaTooLarge, "4 sampled frames"),
        (Limits(max_bytes=100), MediaTooLarge, "bytes"),
        (Limits(timeout_s=0), MediaTimeout, "longer than the limit"),
    ],
)
def test_limits(tmp_path, limits, error, says):
    with pytest.raises(error, match=says) as caught:
        load_video(make_clip(tmp_path / "a.mp4"), SMALL, Policy(limits=limits))
    assert "a.mp4" in str(caught.value)
    assert caught.value.remedy


def test_a_part_of_a_long_video_is_within_the_limit(tmp_path):
    policy = Policy(limits=Limits(max_seconds=1.0))
    assert load_video(make_clip(tmp_path / "a.mp4"), settings(start=0.5, end=1.0), policy).indices[0] == 5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fps": 2.0, "nframes": 4}, "both fps and nframes"),
        ({"fps": 0.0}, "0.0 frames a second"),
        ({"nframes": 0}, "0 frames"),
        ({"min_frames": 10, "max_frames": 4}, "leave no number"),
        ({"start": 5.0}, "no frame lies from 5 s"),
        ({"start": 1.5, "end": 1.0}, "no frame lies from 1.5 s to 1 s"),
        ({"start": float("nan")}, "start is nan"),
        ({"max_pixels": 100}, "below min_pixels"),
    ],
)
def test_contradictory_settings_say_why(tmp_path, changes, says):
    with pytest.raises(MediaUnsupported, match=says):
        load_video(make_clip(tmp_path / "a.mp4"), settings(**changes))


def test_a_cut_off_video_never_gives_fewer_frames(tmp_path):
    whole = make_clip(tmp_path / "a.mkv", 60, 10, size=(240, 320)).read_bytes()
    fast = make_clip(tmp_path / "b.mp4", 60, 10, size=(240, 320)).read_bytes()
    for data in (whole, fast):
        for share in (0.02, 0.3, 0.6, 0.9, 0.99):
            with pytest.raises((MediaCorrupt, MediaUnsupported)) as caught:
                load_video(data[: int(len(data) * share)], settings(nframes=30))
            assert caught.value.reason


def test_a_cut_off_gif_never_gives_fewer_frames(tmp_path):
    from PIL import Image

    frames = [Image.fromarray(flat(i, 30, 40)) for i in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    data = (tmp_path / "a.gif").read_bytes()
    for length in range(20, len(data)):
        with pytest.raises(MediaCorrupt):
            load_video(data[:length], SMALL)


def test_a_hole_in_a_wanted_part_is_an_error_and_elsewhere_is_not(tmp_path):
    import av

    path = make_clip(tmp_path / "a.mp4", 60, 10, options={"g": "20"})
    with av.open(str(path)) as container:
        spans = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    at, size = spans[20]  # second of three groups of pictures
    data[at : at + size] = b"\xff" * size
    with pytest.raises(MediaCorrupt, match="decoded"):
        load_video(bytes(data), settings(nframes=6))
    assert seen(load_video(bytes(data), settings(nframes=2, end=1.5)).frames) == [0, 15]


def test_garbage_and_other_media(tmp_path):
    from PIL import Image

    with pytest.raises(MediaUnsupported, match="nothing that is recognised"):
        load_video(b"\x01\x02\x03" * 1000)
    Image.fromarray(flat(0, 30, 30)).save(tmp_path / "a.mp4", "JPEG")
    with pytest.raises(MediaUnsupported, match="JPEG, not a video"):
        load_video(tmp_path / "a.mp4")
    with pytest.raises(MediaUnsupported, match="PLAYLIST"):
        load_video(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")


def test_wrong_extension_is_no_matter(tmp_path):
    clip = make_clip(tmp_path / "a.mp4").rename(tmp_path / "a.png")
    assert load_video(clip, SMALL).source_frames == 20


def test_files_of_others(media: Path):
    assert load_video(media / "decord" / "unordered.mov").indices == (0, 1, 2, 3)
    with pytest.raises(MediaCorrupt, match=r"corrupted\.mp4: .*decoded"):
        load_video(media / "decord" / "corrupted.mp4")


@pytest.mark.parametrize("name", ["torchcodec", "decord"])
def test_other_decoders_give_the_same_frames(tmp_path, name):
    status = next(s for s in available_decoders() if s.name == name)
    if not status.usable:
        assert status.reason
        assert status.install
        with pytest.raises(ImportError, match="not usable"):
            choose_decoder(name)
        pytest.skip(f"{name}: {status.reason}")
    clip = make_clip(tmp_path / "a.mp4", 30, 10)
    ours, theirs = load_video(clip, SMALL), load_video(clip, SMALL, decoder=name)
    assert theirs.decoder == name
    assert theirs.indices == ours.indices
    assert theirs.timestamps == pytest.approx(ours.timestamps, abs=0.02)
    assert np.abs(theirs.frames.astype(int) - ours.frames).mean() < 0.05


def test_choice_of_decoder(monkeypatch):
    assert choose_decoder().name == "pyav"
    assert [s.name for s in available_decoders() if s.automatic] == ["pyav", "torchcodec"]
    monkeypatch.setenv("OMNIRM_VIDEO_DECODER", "vlc")
    with pytest.raises(ValueError, match="no video decoder 'vlc'"):
        choose_decoder()


_MEMORY = """
import sys, torch, av
from omnirm.preprocessing import load_video, VideoSettings
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024
before = peak()
video = load_video(sys.argv[1], VideoSettings(min_pixels=784, max_pixels=100 * 784))
print(len(video.frames), peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_stays_far_below_the_frames_at_full_size(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", 240, 2, size=(720, 1280), options={"preset": "ultrafast"})
    run = subprocess.run([sys.executable, "-c", _MEMORY, str(clip)], capture_output=True, text=True, check=True)
    frames, added = map(int, run.stdout.split())
    assert frames == 240
    assert added < 250  # MiB; the sampled frames at full size take 633


@given(
    frames=st.integers(1, 5000),
    fps=st.floats(0.5, 120),
    rate=st.floats(0.1, 10),
    least=st.integers(2, 20),
    more=st.integers(0, 800),
)
def test_number_of_frames_is_even_and_within_bounds(frames, fps, rate, least, more):
    count = frame_count(VideoSettings(fps=rate, min_frames=least, max_frames=least + more), frames, fps)
    assert count % 2 == 0
    assert 2 <= count <= max(2, min(least + more, frames))


@given(frames=st.integers(1, 5000), fps=st.floats(0.5, 120), start=st.floats(0, 100), length=st.floats(0, 100))
def test_time_range_stays_inside(frames, fps, start, length):
    try:
        first, last = frame_range(frames, fps, start, start + length)
    except ValueError as error:
        assert "no frame lies" in str(error)  # noqa: PT017
        return
    assert 0 <= first <= last < frames


def test_levels_are_told_apart():
    assert seen(np.stack([flat(i, 4, 4).transpose(2, 0, 1) for i in range(32)])) == list(range(32))
    assert level(31) < 255
