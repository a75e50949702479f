"""The store of media: what it takes, what it refuses and what it says then; on real files."""

from __future__ import annotations

import base64
import http.server
import io
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import av
import numpy as np
import pytest
from made_media import encoded_image, encoded_sound, encoded_video, photo
from PIL import Image

from omnirm.app.media_store import MediaStore, UploadLimits, UploadRefused
from omnirm.errors import OmnirmError
from omnirm.preprocessing.types import Policy
from omnirm.sample import Sample

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@contextmanager
def answering(content: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that gives `content` for every path, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/x.png", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def store(tmp_path):
    return MediaStore(tmp_path / "data" / "media", policy=Policy())


def files(store: MediaStore) -> list[str]:
    return sorted(file.name for file in store.folder.rglob("*") if file.is_file())


def test_a_picture_is_kept_under_what_it_holds(store, tmp_path):
    png = encoded_image("png")
    medium = store.add(png)
    assert (medium.kind, medium.width, medium.height, medium.seconds, medium.bytes) == ("image", 90, 60, None, len(png))
    assert medium.path.read_bytes() == png
    assert medium.path == store.folder / medium.ref[:2] / medium.ref == store.path(medium.ref)
    assert medium.ref.endswith(".png")
    (tmp_path / "cat.html").write_bytes(png)  # the name says something else, and is not believed
    again = store.add(tmp_path / "cat.html", roots=[tmp_path])
    assert (again.ref, again.name) == (medium.ref, "cat.html")
    assert files(store) == [medium.ref]


@pytest.mark.parametrize(
    ("made", "kind", "ending"),
    [
        (lambda: encoded_image("jpeg"), "image", "jpg"),
        (lambda: encoded_image("webp"), "image", "webp"),
        (lambda: encoded_image("tiff"), "image", "tif"),
        (lambda: encoded_video("mp4"), "video", "mp4"),
        (lambda: encoded_video("webm", "libvpx-vp9"), "video", "webm"),
        (lambda: encoded_sound("WAV"), "audio", "wav"),
        (lambda: encoded_sound("MP3"), "audio", "mp3"),
        (lambda: encoded_sound("FLAC"), "audio", "flac"),
    ],
    ids=["jpeg", "webp", "tiff", "mp4", "webm", "wav", "mp3", "flac"],
)
def test_kinds_are_told_by_content(store, made, kind, ending):
    medium = store.add(made())
    assert (medium.kind, medium.ref.partition(".")[2]) == (kind, ending)
    if kind == "video":
        assert (medium.width, medium.height) == (96, 64)
        assert medium.seconds == pytest.approx(1.5, abs=0.15)
    if kind == "audio":
        assert (medium.width, medium.height) == (None, None)
        assert medium.seconds == pytest.approx(1.0, abs=0.06)


def animated_gif() -> bytes:
    frames = [Image.fromarray(photo(seed=i)) for i in range(4)]
    out = io.BytesIO()
    frames[0].save(out, "gif", save_all=True, append_images=frames[1:], duration=250)
    return out.getvalue()


def test_an_animation_is_a_video_unless_a_picture_is_wanted(store):
    gif = animated_gif()
    assert (store.add(gif).kind, store.add(gif).seconds) == ("video", pytest.approx(1.0, abs=0.3))
    assert store.add(gif, expected="image").kind == "image"
    assert store.add(encoded_image("gif")).kind == "image"
    assert len(files(store)) == 2


def test_a_film_without_a_picture_is_sound(store):
    out = io.BytesIO()
    with av.open(out, "w", format="webm") as container:  # as browsers record from a microphone
        track = container.add_stream("libopus", rate=48000, layout="mono")
        for at in range(0, 48000, 960):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, at
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    medium = store.add(out.getvalue())
    assert (medium.kind, medium.width) == ("audio", None)


def test_a_data_uri_is_taken_and_its_declared_type_is_not_believed(store):
    png = encoded_image("png")
    text = base64.b64encode(png).decode()
    assert store.add(f"data:text/html;base64,{text}").ref == store.add(png).ref
    with pytest.raises(UploadRefused, match="SVG"):
        store.add("data:image/png;base64," + base64.b64encode(SVG).decode())
    with pytest.raises(UploadRefused, match="base64 is damaged"):
        store.add("data:image/png;base64,@@@@")


REFUSED = {
    "an SVG called a picture": (SVG, "SVG"),
    "a page": (b"<!doctype html><script>alert(1)</script>", "HTML"),
    "a page behind spaces": (b"\xef\xbb\xbf \n<html><body onload=alert(1)>", "HTML"),
    "a PDF": (b"%PDF-1.7\n", "PDF"),
    "a program": (b"\x7fELF" + bytes(60), "PROGRAM"),
    "an archive": (b"PK\x03\x04" + bytes(60), "ZIP"),
    "a playlist that names other files": (b"#EXTM3U\nfile:///etc/passwd\n", "PLAYLIST"),
    "a list of files to join": (b"ffconcat version 1.0\nfile /etc/passwd\n", "PLAYLIST"),
    "a text": (b"only words", "TEXT"),
    "noise": (bytes(range(1, 200)), "not recognised"),
    "nothing": (b"", "empty"),
    "a PNG header alone": (b"\x89PNG\r\n\x1a\n", "damaged"),
    "half a picture": (encoded_image("png")[:900], "damaged"),
    "half a film": (encoded_video("mp4")[:4000], "truncated|damaged"),
    "half a sound": (encoded_sound("WAV")[:4000], "truncated"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_medium_is_refused_with_what_it_is(store, tmp_path, name):
    content, said = REFUSED[name]
    (tmp_path / "picture.png").write_bytes(content)
    for source in (content, tmp_path / "picture.png"):
        with pytest.raises(UploadRefused, match=said) as caught:
            store.add(source, roots=[tmp_path])
        assert str(tmp_path) not in str(caught.value)
    assert files(store) == []


def test_the_error_is_one_of_omnirm_and_says_what_to_do(store):
    with pytest.raises(OmnirmError) as caught:
        store.add(encoded_sound("WAV"), expected="image")
    assert isinstance(caught.value, ValueError)
    assert "it is WAV, not an image; give an image" in str(caught.value)


def test_a_mislabelled_kind_is_refused(store):
    for content, expected in (
        (encoded_image("png"), "audio"),
        (encoded_image("jpeg"), "video"),
        (encoded_video("mp4"), "image"),
        (encoded_sound("WAV"), "video"),
        (encoded_video("mp4"), "audio"),  # no sound in it
    ):
        with pytest.raises(UploadRefused):
            store.add(content, expected=expected)
    with pytest.raises(UploadRefused, match="no kind of medium"):
        store.add(encoded_image("png"), expected="text")


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that declares a huge picture."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def test_limits_of_bytes_pixels_and_seconds(tmp_path):
    small = MediaStore(tmp_path / "media", policy=Policy(), limits=UploadLimits(200_000, 90 * 60, 1.2))
    assert small.add(encoded_image("png")).kind == "image"
    assert small.add(encoded_sound("WAV")).kind == "audio"
    for content, said in (
        (encoded_image("png", photo(61, 90)), "90 x 61 pixels"),
        (bomb(9_000, 9_000), "9000 x 9000 pixels"),
        (bomb(60_000, 60_000), "too large to decode"),
        (encoded_video("mp4"), "pixels"),
        (encoded_video("mp4", size=(32, 32), frames=24), r"3\.0 s of video"),
        (encoded_sound("WAV", seconds=1.5), "s of sound"),
        (bytes(200_001), "200001 bytes"),
    ):
        with pytest.raises(UploadRefused, match=said) as caught:
            small.add(content)
        assert "give a smaller file (at most 0.1907 MB, 5400 pixels and 1.2 s)" in str(caught.value)
        assert "Limits." not in str(caught.value)
    with pytest.raises(UploadRefused, match="limit is 200000"):
        small.add("data:image/png;base64," + "A" * 300_000)


def test_the_whole_store_has_a_limit(tmp_path):
    pictures = [encoded_image("png", photo(seed=i)) for i in range(3)]
    room = len(pictures[0]) + len(pictures[1]) + 100
    first = MediaStore(tmp_path / "media", policy=Policy(), limits=UploadLimits(max_store_bytes=room))
    first.add(pictures[0])
    again = MediaStore(
        tmp_path / "media", policy=Policy(), limits=UploadLimits(max_store_bytes=room)
    )  # after a restart
    again.add(pictures[1])
    with pytest.raises(UploadRefused, match="used up"):
        again.add(pictures[2])
    assert again.add(pictures[0]).ref == first.add(pictures[0]).ref  # what is there already costs nothing


def test_files_elsewhere_are_not_read(store, tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.png").write_bytes(encoded_image("png"))
    (inside / "link.png").symlink_to(outside / "secret.png")
    (inside / "up").symlink_to(outside, target_is_directory=True)
    os.mkfifo(inside / "pipe.png")
    for source in (
        outside / "secret.png",
        str(outside / "secret.png"),
        (outside / "secret.png").as_uri(),
        f"{inside}/../outside/secret.png",
        inside / "link.png",
        inside / "up" / "secret.png",
        f"file://{inside}/%2e%2e/outside/secret.png",
        f"file://otherhost{outside}/secret.png",
        "/etc/passwd",
        "//etc/passwd",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        r"\\server\share\secret.png",
        r"..\..\secret.png",
        f"{inside}/a.png\0.txt",
        "/proc/self/environ",
        "/dev/zero",
        inside / "pipe.png",
        inside,
        "~/.ssh/id_rsa",
        "",
        ".",
    ):
        with pytest.raises(UploadRefused) as caught:
            store.add(source, roots=[inside])
        assert str(outside) not in str(caught.value)
    assert files(store) == []
    (inside / "mine.png").write_bytes(encoded_image("png"))
    (inside / "near.png").symlink_to(inside / "mine.png")  # a link that stays below the root is only a name
    assert store.add(inside / "near.png", roots=[inside]).ref == store.add(inside / "mine.png", roots=[inside]).ref
    with pytest.raises(UploadRefused, match="upload it instead"):
        store.add(inside / "mine.png")


def test_outside_nothing_is_told_about_what_exists(store, tmp_path):
    def said(path) -> str:
        with pytest.raises(UploadRefused) as caught:
            store.add(path)
        return str(caught.value)

    (tmp_path / "there.png").write_bytes(b"x")
    assert said(tmp_path / "there.png") == said(tmp_path / "absent" / "there.png")


def test_files_of_the_store_and_of_its_uploads_are_taken(store):
    (store.uploads / "one.png").write_bytes(encoded_image("png"))
    medium = store.add(store.uploads / "one.png")
    assert store.add(medium.path).ref == medium.ref
    assert store.add(str(medium.path), expected="image").path == medium.path


def test_remote_media_are_off_by_default(store, tmp_path):
    with answering(encoded_image("png")) as (url, asked):
        with pytest.raises(UploadRefused, match="remote"):
            store.add(url)
        on = MediaStore(tmp_path / "other" / "media", policy=Policy(allow_remote=True))
        port = url.rpartition(":")[2].partition("/")[0]
        for address in (
            url,
            f"http://localhost:{port}/x.png",
            f"http://[::1]:{port}/x.png",
            f"http://[::ffff:127.0.0.1]:{port}/x.png",
            f"http://2130706433:{port}/x.png",
            f"http://0x7f.1:{port}/x.png",
            f"http://127.1:{port}/x.png",
            f"http://user@127.0.0.1:{port}/x.png",
            "http://169.254.169.254/latest/meta-data/",
            "http://10.0.0.1/x.png",
            "ftp://127.0.0.1/x.png",
            "gopher://127.0.0.1/x.png",
        ):
            with pytest.raises(UploadRefused):
                on.add(address)
        assert asked == []


@pytest.mark.parametrize(
    "ref",
    [
        *("", ".", "..", "../../omnirm.db", "/etc/passwd", "a" * 64, "a" * 64 + ".png", "A" * 64 + ".png"),
        *("a" * 64 + ".png\n", "a" * 64 + ".png/..", "a" * 64 + "./../x", "%2e%2e/omnirm.db", "\0", 7, None),
    ],
)
def test_a_reference_is_nothing_else(store, ref):
    with pytest.raises(UploadRefused):
        store.path(ref)


def test_a_link_in_the_store_is_not_followed(store, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    ref = "ab" * 32 + ".png"
    (store.folder / "ab").mkdir()
    (store.folder / "ab" / ref).symlink_to(tmp_path / "secret")
    with pytest.raises(UploadRefused):
        store.path(ref)


def test_a_sample_is_taken_in_with_all_its_media(store, tmp_path):
    media = {"a.png": encoded_image("png"), "b.mp4": encoded_video("mp4"), "c.wav": encoded_sound("WAV")}
    for name, content in media.items():
        (tmp_path / name).write_bytes(content)
    data = {
        "prompt": [{"type": "image", "image": "a.png"}, "Which?"],
        "candidates": [
            [{"type": "video", "video": "b.mp4", "nframes": 4}],
            [{"type": "audio", "audio": "c.wav"}, {"type": "video", "video": ["a.png", "a.png"]}],
        ],
        "label": 1,
    }
    sample = Sample.from_dict(data, base=tmp_path)
    taken = store.take_in(sample, roots=[tmp_path])
    assert replace(taken, prompt=sample.prompt, candidates=sample.candidates) == sample
    assert taken.candidates[0].parts[0].options == {"nframes": 4}
    assert len(files(store)) == 3
    for part in (*taken.prompt[0].parts, *taken.candidates[0].parts, *taken.candidates[1].parts):
        for value in part.value if isinstance(part.value, tuple) else (part.value,):
            assert part.type == "text" or value.startswith(str(store.folder))
    assert store.take_in(taken) == taken
    with pytest.raises(UploadRefused, match=r"prompt\[0\]: a.png: lies outside"):
        store.take_in(sample)


def test_a_picture_in_memory_is_refused_with_what_to_do(store):
    sample = Sample.from_dict({"prompt": "q", "candidates": [[{"type": "image", "image": photo()}], "b"]})
    with pytest.raises(UploadRefused, match=r"candidates\[0\]"):
        store.take_in(sample)


def test_many_at_once_leave_one_whole_file(store):
    png, refs, problems = encoded_image("png"), [], []

    def add() -> None:
        try:
            refs.append(store.add(png).ref)
        except UploadRefused as error:
            problems.append(error)

    threads = [threading.Thread(target=add) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(set(refs)) == 1
    assert files(store) == [refs[0]]


def test_media_can_be_measured_in_a_process_of_their_own(tmp_path):
    apart = MediaStore(tmp_path / "media", policy=Policy(isolate=True))
    assert apart.add(encoded_video("mp4")).seconds == pytest.approx(1.5, abs=0.15)
    with pytest.raises(UploadRefused, match="damaged"):
        apart.add(encoded_image("png")[:900])
