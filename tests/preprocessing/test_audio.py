"""Any sound ends as the mono samples librosa would give, loudness untouched, or in a typed error; never shorter."""

from __future__ import annotations

import base64
import io
import resource
import struct
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from made_media import encoded_image, encoded_sound, encoded_video, photo, tone

from omnirm.preprocessing.audio import load_audio, load_soundtrack
from omnirm.preprocessing.completeness import shortfall
from omnirm.preprocessing.sniff import sniff
from omnirm.preprocessing.source import open_source
from omnirm.preprocessing.types import (
    AudioSettings,
    Limits,
    MediaCorrupt,
    MediaNotFound,
    MediaTimeout,
    MediaTooLarge,
    MediaUnsupported,
    Policy,
)

FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAV", "ULAW"),
    ("WAV", "MS_ADPCM"),
    ("WAVEX", "PCM_16"),
    ("RF64", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("CAF", "PCM_16"),
]
AV_FORMATS = [("mp4", "aac"), ("mov", "pcm_s16le"), ("matroska", "libopus"), ("matroska", "flac"), ("webm", "libopus")]
AV_FORMATS += [("mpegts", "aac"), ("adts", "aac"), ("avi", "pcm_s16le"), ("ipod", "alac"), ("asf", "wmav2")]


def sound_in(container: str, codec: str, samples: np.ndarray, rate: int) -> bytes:
    """A file with sound only, made by FFmpeg."""
    import av

    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as out:
        layout = "stereo" if samples.shape[1] == 2 else "mono"
        track = out.add_stream(codec, rate=rate, layout=layout)
        track.codec_context.bit_rate = 128_000
        resampler = av.AudioResampler(format=track.codec_context.format, layout=layout, rate=rate)
        step = track.codec_context.frame_size or 1024
        for at in range(0, len(samples), step):
            piece = np.ascontiguousarray(samples[at : at + step].T)
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, at
            for ready in resampler.resample(frame):
                out.mux(track.encode(ready))
        out.mux(track.encode(None))
    return stream.getvalue()


def sweep(seconds: float, rate: int, channels: int) -> np.ndarray:
    """A tone that rises, so that no two moments sound alike; float32 [n, channels]."""
    t = np.arange(int(seconds * rate)) / rate
    return np.repeat(0.4 * np.sin(2 * np.pi * (200 + 900 * t) * t)[:, None], channels, axis=1).astype(np.float32)


def librosa_load(path, **options):
    return pytest.importorskip("librosa").load(path, sr=16000, **options)[0]


@pytest.mark.parametrize(("kind", "subtype"), FORMATS, ids=lambda v: v)
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (48000, 2)])
def test_formats_of_libsndfile_equal_librosa(kind, subtype, rate, channels, write):
    content = encoded_sound(kind, subtype, 0.7, rate, channels)
    audio = load_audio(content)
    expected = librosa_load(write("sound.bin", content))
    assert audio.samples.dtype == np.float32
    assert audio.sampling_rate == 16000
    assert audio.decoder == "soundfile"
    assert abs(audio.duration - 0.7) < 0.15
    assert len(audio.samples) == len(expected)
    np.testing.assert_allclose(audio.samples, expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
def test_channels_are_averaged(channels):
    audio = load_audio(encoded_sound("WAV", "FLOAT", 0.5, 16000, channels))
    np.testing.assert_allclose(audio.samples, tone(0.5, 16000, channels).mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("rate", [1000, 7999, 11025, 44100, 96000, 192000])
def test_length_is_that_of_the_clip_at_any_rate(rate):
    audio = load_audio(encoded_sound("WAV", "PCM_16", 0.5, rate, 1))
    assert len(audio.samples) == int(np.ceil(int(0.5 * rate) * 16000 / rate))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 3.0])
def test_loudness_is_untouched(scale):
    stream = io.BytesIO()
    import soundfile

    soundfile.write(stream, tone(0.3, 16000) * scale, 16000, format="WAV", subtype="FLOAT")
    np.testing.assert_allclose(load_audio(stream.getvalue()).samples, tone(0.3, 16000)[:, 0] * scale, rtol=1e-6)


@pytest.mark.parametrize(("container", "codec"), AV_FORMATS, ids=lambda v: v)
@pytest.mark.parametrize("channels", [1, 2])
def test_formats_of_ffmpeg_hold_the_tone(container, codec, channels):
    rate = 48000
    samples = sweep(1.0, rate, channels)
    audio = load_audio(sound_in(container, codec, samples, rate))
    assert abs(audio.duration - 1.0) < 0.15
    expected = load_audio((samples, rate)).samples
    lag = int(np.argmax(np.correlate(audio.samples[:14000], expected[2000:10000], "valid"))) - 2000
    assert abs(lag) <= 1200  # encoders that do not write their delay shift it by up to 75 ms
    error = audio.samples[4000 + lag : 10000 + lag] - expected[4000:10000]
    assert np.sqrt(np.mean(error**2)) < 0.1


def test_real_sound_equals_librosa(media):
    files = sorted([*media.rglob("*.wav"), *media.rglob("*.mp3")])
    assert files
    for path in files:
        for options in ({}, {"offset": 0.5}, {"offset": 0.25, "duration": 1.5}, {"duration": 0.1}):
            expected = librosa_load(path, **options)
            got = load_audio(path, AudioSettings(**options)).samples
            assert len(got) == len(expected), path
            np.testing.assert_allclose(got, expected, atol=2e-3)


def test_the_recorded_reference_of_a_real_file(media):
    """The upstream's own decode of the same file; resampling aside, nothing may change it."""
    path = media / "torchcodec" / "sine_mono_s32_8000.wav"
    if not path.exists():
        pytest.skip("no such file")
    audio = load_audio(path, AudioSettings(sampling_rate=8000))
    crossings = np.count_nonzero(np.diff(np.signbit(audio.samples)))
    assert len(audio.samples) == 32000
    assert crossings / 2 / audio.duration == pytest.approx(440, abs=2)


def test_references_of_every_kind_give_the_same(tmp_path):
    content = encoded_sound("WAV")
    path = tmp_path / "sound.png"  # names do not matter
    path.write_bytes(content)
    refs = [path, str(path), f"file://{path}", content, open_source(path), open_source(content)]
    refs.append("data:audio/mpeg;base64," + base64.b64encode(content).decode())
    sounds = [load_audio(ref) for ref in refs]
    assert len({sound.sha256 for sound in sounds}) == 1
    for sound in sounds:
        np.testing.assert_array_equal(sound.samples, sounds[0].samples)


@pytest.mark.parametrize(
    ("offset", "duration"), [(0.0, None), (0.25, None), (0.5, 0.25), (0.0, 0.1), (0.9, 5.0), (0.3333, 0.3333)]
)
def test_cutting(offset, duration):
    samples = tone(1.0, 16000)[:, 0]
    settings = AudioSettings(offset=offset, duration=duration)
    first = int(offset * 16000)
    expected = samples[first : None if duration is None else first + int(duration * 16000)]
    for ref in (samples, encoded_sound("WAV", "FLOAT", 1.0, 16000, 1), encoded_sound("FLAC", "PCM_24", 1.0, 16000, 1)):
        np.testing.assert_allclose(load_audio(ref, settings).samples, expected, atol=1e-6)
    video_sound = load_audio(sound_in("matroska", "flac", samples[:, None], 16000), settings).samples
    np.testing.assert_allclose(video_sound, expected, atol=1e-4)


def test_arrays_of_every_kind():
    torch = pytest.importorskip("torch")
    stereo = tone(0.5, 16000, 2)
    one = stereo.mean(axis=1)
    whole = (one * 32767).astype(np.int16)
    for ref in (one, torch.from_numpy(one), stereo, stereo.T, (one, 16000), (16000, one), one.astype(np.float64)):
        np.testing.assert_allclose(load_audio(ref).samples, one, atol=1e-6)
    np.testing.assert_allclose(load_audio(whole).samples, one, atol=1e-4)
    np.testing.assert_allclose(load_audio({"array": whole, "sampling_rate": 16000}).samples, one, atol=1e-4)
    np.testing.assert_allclose(load_audio((whole.astype(np.int32) * 65536, 16000)).samples, one, atol=1e-4)
    np.testing.assert_allclose(load_audio((whole.astype(np.int32) + 32768).astype(np.uint16)).samples, one, atol=1e-4)
    assert len(load_audio((one, 8000)).samples) == 2 * len(one)
    assert load_audio(one).decoder == "array"
    assert load_audio(one).sha256 != load_audio(one[::-1]).sha256 != load_audio((one[::-1], 8000)).sha256


@pytest.mark.parametrize(
    ("ref", "error"),
    [
        (np.zeros(0), MediaUnsupported),
        (np.zeros((2, 3, 4)), MediaUnsupported),
        (np.zeros((100, 100)), MediaUnsupported),
        (np.array(["a"]), MediaUnsupported),
        (np.array([1 + 1j]), MediaUnsupported),
        (np.full(100, np.nan), MediaCorrupt),
        ((np.zeros(100), 1), MediaUnsupported),
        ((np.zeros(100), 10**9), MediaUnsupported),
        (encoded_image("PNG"), MediaUnsupported),
        (b"<html><audio src=x></html>", MediaUnsupported),
        (b"nothing in particular", MediaUnsupported),
        (b"#EXTM3U\n/etc/passwd", MediaUnsupported),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", MediaUnsupported),
        (b"RIFF\0\0\0\0WAVEfmt ", MediaCorrupt),
        (None, MediaUnsupported),
    ],
)
def test_what_is_no_sound(ref, error):
    with pytest.raises(error):
        load_audio(ref)


@pytest.mark.parametrize(
    "settings",
    [
        AudioSettings(offset=-1),
        AudioSettings(offset=float("nan")),
        AudioSettings(offset=float("inf")),
        AudioSettings(duration=0),
        AudioSettings(duration=-1),
        AudioSettings(sampling_rate=0),
        AudioSettings(sampling_rate=10**9),
    ],
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(MediaUnsupported):
        load_audio(encoded_sound("WAV"), settings)


def test_nothing_left_at_the_offset():
    for ref in (
        tone(1.0, 16000)[:, 0],
        encoded_sound("WAV"),
        encoded_sound("MP3"),
        sound_in("mp4", "aac", tone(1, 48000), 48000),
    ):
        with pytest.raises(MediaCorrupt, match=r"lasts 1.* nothing is left at 9 s"):
            load_audio(ref, AudioSettings(offset=9.0))


def test_sound_that_is_not_finite():
    samples = tone(0.5, 16000)[:, 0].copy()
    samples[5000] = np.nan
    stream = io.BytesIO()
    import soundfile

    soundfile.write(stream, samples, 16000, format="WAV", subtype="FLOAT")
    with pytest.raises(MediaCorrupt, match="finite"):
        load_audio(stream.getvalue())


@pytest.mark.parametrize(("kind", "subtype"), FORMATS, ids=lambda v: v)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_sound_is_never_just_shorter(kind, subtype, share):
    content = encoded_sound(kind, subtype, 3.0, 48000 if subtype == "OPUS" else 22050)
    with pytest.raises((MediaCorrupt, MediaUnsupported)):
        load_audio(content[: int(len(content) * share)])


DECLARING = [each for each in AV_FORMATS if each[0] not in ("mpegts", "adts", "asf")]


@pytest.mark.parametrize(("container", "codec"), DECLARING, ids=lambda v: v)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_containers_are_never_just_shorter(container, codec, share):
    content = sound_in(container, codec, tone(3.0, 48000), 48000)
    with pytest.raises((MediaCorrupt, MediaUnsupported)):
        load_audio(content[: int(len(content) * share)])


def test_truncated_real_sound(media):
    for path in sorted([*media.rglob("*.wav"), *media.rglob("*.mp3")]):
        content = path.read_bytes()
        found = sniff(content[:4096])
        half = content[: len(content) // 2]
        if found.format == "wav" or shortfall(open_source(half), found):  # an MP3 need not declare its length
            with pytest.raises(MediaCorrupt):
                load_audio(half)


def test_a_hole_in_the_middle_of_an_mp3_is_noticed():
    content = bytearray(encoded_sound("MP3", None, 20.0))
    middle = len(content) // 2
    content[middle : middle + 20_000] = bytes(20_000)
    with pytest.raises(MediaCorrupt):
        load_audio(bytes(content))


def test_wav_of_unknown_length_is_accepted():
    content = bytearray(encoded_sound("WAV", "PCM_16", 1.0))
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    assert load_audio(bytes(content)).duration == pytest.approx(1.0, abs=0.01)


def test_limits_of_seconds_and_bytes():
    policy = Policy(limits=Limits(max_seconds=1.0))
    for content in (
        encoded_sound("WAV", None, 2.0),
        encoded_sound("OGG", "OPUS", 2.0, 48000),
        sound_in("mp4", "aac", tone(2, 48000), 48000),
    ):
        with pytest.raises(MediaTooLarge, match="1 s"):
            load_audio(content, policy=policy)
        assert load_audio(content, AudioSettings(duration=0.9), policy).duration == pytest.approx(0.9, abs=0.01)
    with pytest.raises(MediaTooLarge, match="bytes"):
        load_audio(encoded_sound("WAV"), policy=Policy(limits=Limits(max_bytes=1000)))
    with pytest.raises(MediaTooLarge):
        load_audio(np.zeros(40_000, np.float32), policy=policy)


def test_the_time_limit_is_watched_while_decoding():
    policy = Policy(limits=Limits(timeout_s=0.0))
    for content in (encoded_sound("WAV"), sound_in("mp4", "aac", tone(2, 48000), 48000)):
        with pytest.raises(MediaTimeout):
            load_audio(content, policy=policy)


def test_an_audio_bomb_stops_at_the_limit_with_little_memory():
    """Hours of silence in little more than a megabyte; peak memory is taken in a process of its own."""
    script = textwrap.dedent(
        """
        import io, resource, sys
        import numpy as np, soundfile, soxr
        from omnirm.preprocessing.audio import load_audio
        from omnirm.preprocessing.types import Limits, MediaTooLarge, Policy
        stream = io.BytesIO()
        with soundfile.SoundFile(stream, "w", 8000, 8, format="FLAC", subtype="PCM_16") as out:
            for _ in range(60):
                out.write(np.zeros((8000 * 120, 8), np.int16))
        content = stream.getvalue()
        assert len(content) < 3_000_000, len(content)
        load_audio(content, policy=Policy(limits=Limits(max_seconds=1e9))) if "warm" in sys.argv else None
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            load_audio(content, policy=Policy(limits=Limits(max_seconds=600)))
        except MediaTooLarge as error:
            assert "600 s" in str(error)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150 * 1024


def test_a_header_that_declares_years_is_refused_at_once():
    content = bytearray(encoded_sound("FLAC", "PCM_16"))
    content[21] = content[21] & 0xF0 | 0x0F  # the number of samples in STREAMINFO: 36 bits
    content[22:26] = b"\xff\xff\xff\xff"
    start = time.monotonic()
    with pytest.raises((MediaTooLarge, MediaCorrupt)):
        load_audio(bytes(content))
    assert time.monotonic() - start < 5


# Sound tracks


def onset(samples: np.ndarray, rate: int = 16000) -> float:
    return float(np.argmax(np.abs(samples) > 0.1)) / rate


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("delay", [0.0, 0.6])
def test_soundtracks_lie_on_the_pictures_clock(container, delay):
    codec = "mpeg2video" if container == "mpegts" else "mpeg4"
    content = encoded_video(container, codec, frames=25, fps=25, sound="aac", sound_delay=delay, sound_seconds=1.0)
    track = load_soundtrack(content)
    assert onset(track.samples) == pytest.approx(delay, abs=0.08)
    later = load_soundtrack(content, AudioSettings(offset=0.25, duration=0.6))
    np.testing.assert_allclose(later.samples[200:-200], track.samples[4200:13400], atol=2e-3)


def test_far_offsets_are_the_same_as_decoding_from_the_start():
    content = encoded_video("mp4", "mpeg4", frames=80, fps=4, sound="aac", sound_seconds=20.0)
    whole = load_soundtrack(content).samples
    part = load_soundtrack(content, AudioSettings(offset=15.0, duration=2.0)).samples
    assert len(part) == 32000
    np.testing.assert_allclose(part[200:-200], whole[15 * 16000 : 17 * 16000][200:-200], atol=2e-3)


def test_a_video_without_sound_says_so():
    for content in (encoded_video(), encoded_image("GIF", photo())):
        with pytest.raises(MediaUnsupported, match="sound"):
            load_soundtrack(content)
    with pytest.raises(MediaUnsupported, match="sound"):
        load_audio(encoded_video())
    with pytest.raises(MediaUnsupported, match="not a video"):
        load_soundtrack(encoded_sound("WAV"))


def test_real_soundtracks(media):
    lengths = {
        "gradio/playable_but_bad_container.mp4": 79872,
        "gradio/video_sample.ogg": 79872,
        "gradio/video_sample.webm": 79872,
        "decord/flipping_a_pancake.mkv": 165884,
        "torchcodec/nasa_13013.mp4": 208896,
    }
    for name, length in lengths.items():
        track = load_soundtrack(media / name)
        assert len(track.samples) == length, name
        silent = name.startswith("gradio")
        assert bool(np.abs(track.samples).max() > 0.01) is not silent, name
    for name in ("gradio/muted_video_sample.mp4", "omnireward_demo/1.mp4", "omnireward_demo/2.avi"):
        with pytest.raises(MediaUnsupported, match="no sound"):
            load_soundtrack(media / name)


def test_the_two_tracks_of_one_film_agree(media):
    film, sound = (media / "torchcodec" / name for name in ("nasa_13013.mp4", "nasa_13013.mp4.audio.mp3"))
    a, b = load_soundtrack(film).samples, load_audio(sound).samples
    assert np.corrcoef(a[20000:100000], b[20000:100000])[0, 1] > 0.95


def test_missing_files_are_missing(tmp_path):
    for load in (load_audio, load_soundtrack):
        with pytest.raises(MediaNotFound):
            load(tmp_path / "nothing.wav")


def test_open_files_are_closed(tmp_path):
    path = tmp_path / "sound.wav"
    path.write_bytes(encoded_sound("WAV"))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for _ in range(min(soft, 300)):
        load_audio(path)
        with pytest.raises(MediaUnsupported):
            load_soundtrack(path)
    for index in range(20):
        with pytest.raises((MediaCorrupt, MediaUnsupported)):
            load_audio(encoded_sound("WAV")[: 20 + index])


def test_sniffing_needs_no_name():
    assert sniff(struct.pack(">I", 32) + b"ftypM4A " + b"\0" * 20).kinds == ("audio",)
    assert sniff(b"\xff\xfb\x90\x44" + b"\0" * 50).format == "mp3"
    assert sniff(b"\xff\xf1\x50\x80" + b"\0" * 50).format == "aac"
    assert sniff(b"\xff\xff\xff\xff" + b"\0" * 50) is None
    assert sniff(b"") is None
