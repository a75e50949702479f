"""Every kind of picture ends as the RGB pixels a viewer would show, in the size Qwen wants, or in a typed error."""

from __future__ import annotations

import base64
import io
import resource
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_media import encoded_image, encoded_sound, encoded_video, photo
from PIL import Image as Pillow

from omnirm.preprocessing import image as module
from omnirm.preprocessing.image import image_size, load_image
from omnirm.preprocessing.source import open_source
from omnirm.preprocessing.types import (
    ImageSettings,
    Limits,
    MediaCorrupt,
    MediaNotFound,
    MediaTimeout,
    MediaTooLarge,
    MediaUnsupported,
    Policy,
)

SIZE = (56, 84)  # multiples of 28: nothing is resized
PIXELS = photo(*SIZE)
GRAY = np.linspace(0, 255, SIZE[0] * SIZE[1]).astype(np.uint8).reshape(SIZE)


def saved(image: Pillow.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None].astype(float) / 255
    return pixels * share + 255 * (1 - share)


def rgba() -> tuple[Pillow.Image, np.ndarray]:
    alpha = np.tile(np.linspace(0, 255, SIZE[1]).astype(np.uint8), (SIZE[0], 1))
    return Pillow.fromarray(np.dstack([PIXELS, alpha]), "RGBA"), on_white(PIXELS, alpha)


def palette_with_transparency() -> tuple[bytes, np.ndarray]:
    """Left half red, right half transparent."""
    image = Pillow.new("P", SIZE[::-1], 0)
    image.putpalette([255, 0, 0, 0, 0, 255] + [0] * 750)
    image.paste(1, (SIZE[1] // 2, 0, SIZE[1], SIZE[0]))
    expected = np.full((*SIZE, 3), 255, np.uint8)
    expected[:, : SIZE[1] // 2] = (255, 0, 0)
    return image, expected


def rows():
    """(name, encoded bytes, expected pixels, tolerance of the mean difference)."""
    flat = np.dstack([GRAY] * 3)
    rgb = Pillow.fromarray(PIXELS)
    deep = GRAY.astype(np.uint16) * 257
    translucent, shown = rgba()
    indexed, red_and_white = palette_with_transparency()
    gray_alpha = Pillow.fromarray(np.dstack([GRAY, np.full(SIZE, 128, np.uint8)]), "LA")
    bilevel = Pillow.fromarray(GRAY > 127)
    two_colours = np.where(GRAY[..., None] > 127, 255, 0).repeat(3, axis=2)
    yield "png", saved(rgb, "PNG"), PIXELS, 0
    yield "bmp", saved(rgb, "BMP"), PIXELS, 0
    yield "tiff", saved(rgb, "TIFF"), PIXELS, 0
    yield "tiff lzw", saved(rgb, "TIFF", compression="tiff_lzw"), PIXELS, 0
    yield "webp lossless", saved(rgb, "WEBP", lossless=True), PIXELS, 0
    yield "webp", saved(rgb, "WEBP", quality=95), PIXELS, 9
    yield "jpeg", saved(rgb, "JPEG", quality=95, subsampling=0), PIXELS, 4
    yield "jpeg progressive", saved(rgb, "JPEG", quality=95, subsampling=0, progressive=True), PIXELS, 4
    yield "jpeg cmyk", saved(rgb.convert("CMYK"), "JPEG", quality=98), PIXELS, 6
    yield "jpeg gray", saved(Pillow.fromarray(GRAY), "JPEG", quality=98), flat, 2
    yield "gif", saved(Pillow.fromarray(GRAY), "GIF"), flat, 0
    yield "png gray", saved(Pillow.fromarray(GRAY), "PNG"), flat, 0
    yield "png 16 bit", saved(Pillow.fromarray(deep), "PNG"), flat, 0
    yield "tiff 16 bit", saved(Pillow.fromarray(deep), "TIFF"), flat, 0
    yield (
        "tiff 16 bit big-endian",
        saved(Pillow.frombytes("I;16B", SIZE[::-1], deep.astype(">u2").tobytes()), "TIFF"),
        flat,
        0,
    )
    yield "tiff float", saved(Pillow.fromarray((GRAY / 255).astype(np.float32)), "TIFF"), flat, 0
    yield "tiff 32 bit", saved(Pillow.fromarray(GRAY.astype(np.int32)), "TIFF"), flat, 0
    yield "tiff cmyk", saved(rgb.convert("CMYK"), "TIFF"), PIXELS, 1
    yield "png 1 bit", saved(bilevel, "PNG"), two_colours, 0
    yield "tiff 1 bit fax", saved(bilevel, "TIFF", compression="group4"), two_colours, 0
    yield "png alpha", saved(translucent, "PNG"), shown, 1
    yield "tiff alpha", saved(translucent, "TIFF"), shown, 1
    yield "webp alpha", saved(translucent, "WEBP", lossless=True, exact=True), shown, 1
    yield "png gray alpha", saved(gray_alpha, "PNG"), on_white(flat, np.full(SIZE, 128)), 1
    yield "png palette", saved(indexed, "PNG", transparency=1), red_and_white, 0
    yield "gif transparent", saved(indexed, "GIF", transparency=1), red_and_white, 0
    yield (
        "png colour key",
        saved(Pillow.fromarray(red_and_white), "PNG", transparency=(255, 0, 0)),
        np.full((*SIZE, 3), 255),
        0,
    )
    others = [Pillow.fromarray(photo(*SIZE, seed=s)) for s in (1, 2)]
    yield "apng", saved(rgb, "PNG", save_all=True, append_images=others), PIXELS, 0
    yield "webp animated", saved(rgb, "WEBP", save_all=True, append_images=others, lossless=True), PIXELS, 0
    yield (
        "gif animated",
        saved(indexed, "GIF", save_all=True, append_images=[indexed] * 2, transparency=1),
        red_and_white,
        0,
    )
    yield "tiff pages", saved(rgb, "TIFF", save_all=True, append_images=others), PIXELS, 0
    yield "mpo", saved(rgb, "MPO", save_all=True, append_images=others, quality=98), PIXELS, 6


@pytest.mark.parametrize(("content", "expected", "tolerance"), [pytest.param(*r[1:], id=r[0]) for r in rows()])
def test_every_mode_looks_as_it_should(content, expected, tolerance):
    image = load_image(content)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape == (*SIZE, 3)
    assert image.pixels.flags.c_contiguous
    assert image.original_size == SIZE
    assert np.abs(image.pixels.astype(float) - expected).mean() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied(orientation, kind):
    upright = np.zeros((*SIZE, 3), np.uint8)
    upright[:28, :28] = (255, 0, 0)  # red in the top left corner
    # a camera stores the inverse of what the tag tells the viewer to do
    inverse = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    stored = Pillow.fromarray(upright)
    if orientation in inverse:
        stored = stored.transpose(module._UPRIGHT[inverse[orientation]])
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    image = load_image(saved(stored, kind, exif=exif, **options))
    assert image.original_size == SIZE
    assert np.abs(image.pixels.astype(int) - upright).mean() < 2


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_matter():
    content = saved(Pillow.fromarray(PIXELS), "JPEG", exif=b"Exif\0\0" + b"MM\0*\xff\xff\xff\xff" * 3)
    assert load_image(content).pixels.shape == (*SIZE, 3)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(20, 300),
    st.integers(20, 300),
    st.sampled_from([28, 32]),
    st.integers(0, 2**20),
    st.sampled_from([(4 * 28 * 28, 64 * 28 * 28), (128 * 28 * 28, 16384 * 28 * 28)]),
)
def test_the_resize_is_pillows(height, width, factor, seed, budget):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    got = load_image(pixels, ImageSettings(factor, *budget)).pixels
    assert got.shape[0] % factor == got.shape[1] % factor == 0
    expected = np.asarray(Pillow.fromarray(pixels).resize((got.shape[1], got.shape[0])))
    assert np.abs(got.astype(int) - expected).mean() < 0.02
    assert np.abs(got.astype(int) - expected).max() <= 2


def test_real_pictures_equal_the_reference(media):
    fetch_image = pytest.importorskip("qwen_omni_utils").fetch_image
    pictures = sorted([*media.rglob("*.jpg"), *media.rglob("*.gif"), *media.rglob("*.png")])
    assert pictures
    for path in pictures:
        expected = np.asarray(fetch_image({"image": str(path)}))
        got = load_image(path).pixels
        assert got.shape == expected.shape, path
        assert np.abs(got.astype(int) - expected).mean() < 0.05, path


def test_references_of_every_kind_give_the_same(tmp_path):
    content = encoded_image("PNG", PIXELS)
    path = tmp_path / "picture.mp4"  # names do not matter
    path.write_bytes(content)
    refs = [path, str(path), f"file://{path}", content, open_source(path), open_source(content)]
    refs.append("data:image/jpeg;base64," + base64.b64encode(content).decode())
    images = [load_image(ref) for ref in refs]
    assert len({image.sha256 for image in images}) == 1
    for image in images:
        np.testing.assert_array_equal(image.pixels, PIXELS)


def test_arrays_of_every_layout():
    torch = pytest.importorskip("torch")
    floats = (PIXELS / 255).astype(np.float32)
    chw = np.ascontiguousarray(PIXELS.transpose(2, 0, 1))
    alpha = np.dstack([PIXELS, np.full(SIZE, 255, np.uint8)])
    for ref in (
        *(PIXELS, chw, floats, floats.astype(np.float64), floats.transpose(2, 0, 1), PIXELS.astype(np.uint16) * 257),
        *(alpha, torch.from_numpy(chw), torch.from_numpy(PIXELS), torch.from_numpy(floats).permute(2, 0, 1)),
        *(Pillow.fromarray(PIXELS), PIXELS[::-1][::-1], torch.from_numpy(floats).double().requires_grad_()),
    ):
        np.testing.assert_array_equal(load_image(ref).pixels, PIXELS)
    gray = np.dstack([GRAY] * 3)
    for ref in (GRAY, GRAY[..., None], GRAY[None], torch.from_numpy(GRAY), Pillow.fromarray(GRAY)):
        np.testing.assert_array_equal(load_image(ref).pixels, gray)
    half = np.full(SIZE, 0.5)
    assert load_image(half).pixels.max() == 128
    assert load_image(torch.full((3, *SIZE), 0.5, dtype=torch.bfloat16)).pixels.max() == 128
    assert load_image(GRAY > 127).pixels.max() == 255
    assert load_image(PIXELS).sha256 != load_image(PIXELS[:, ::-1]).sha256


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (np.zeros((5, 5, 5), np.uint8), MediaUnsupported),
        (np.zeros(50, np.uint8), MediaUnsupported),
        (np.zeros((2, 3, 60, 60), np.uint8), MediaUnsupported),
        (np.zeros((0, 60, 3), np.uint8), MediaUnsupported),
        (np.zeros((60, 60, 3), np.int64), MediaUnsupported),
        (np.zeros((60, 60, 3), np.complex64), MediaUnsupported),
        (np.array([["a"]]), MediaUnsupported),
        (np.full((60, 60, 3), 2.0), MediaUnsupported),
        (np.full((60, 60, 3), -1.0), MediaUnsupported),
        (np.full((60, 60, 3), np.nan), MediaCorrupt),
        (np.full((60, 60), np.inf, np.float32), MediaCorrupt),
    ],
)
def test_arrays_that_are_no_pictures(array, error):
    with pytest.raises(error):
        load_image(array)


def test_slivers_beyond_the_aspect_limit():
    assert load_image(np.zeros((2, 300), np.uint8)).original_size == (2, 300)
    for shape in ((1, 300), (300, 1)):
        with pytest.raises(MediaUnsupported, match="200"):
            load_image(encoded_image("PNG", np.zeros((*shape, 3), np.uint8)))


NOT_PICTURES = {
    "html": b"<!DOCTYPE html><script>alert(1)</script>",
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "svg plain": b"<svg/>",
    "pdf": b"%PDF-1.7\n",
    "text": b"a picture, honestly",
    "zip": b"PK\x03\x04" + b"\0" * 50,
    "playlist": b"#EXTM3U\nhttp://127.0.0.1/",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "fits": b"SIMPLE  =                    T" + b" " * 100,
    "ppm": b"P6 10 10 255\n" + b"\0" * 300,
    "ico": b"\0\0\1\0\1\0" + b"\0" * 100,
    "psd": b"8BPS\0\1" + b"\0" * 100,
    "avif": b"\0\0\0\x1cftypavif" + b"\0" * 100,
    "zeros": b"\0" * 1000,
    "program": b"\x7fELF" + b"\0" * 100,
}


@pytest.mark.parametrize("name", NOT_PICTURES)
def test_what_is_no_picture_is_refused(name, write):
    path = write("picture.png", NOT_PICTURES[name])
    with pytest.raises(MediaUnsupported, match=r"picture\.png: holds"):
        load_image(path)


def test_sound_and_video_are_no_pictures():
    for content in (encoded_sound("WAV"), encoded_video()):
        with pytest.raises(MediaUnsupported, match="not an image"):
            load_image(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_truncated_pictures_are_errors(kind, share, monkeypatch):
    content = encoded_image(kind, photo(200, 300))
    cut = content[: int(len(content) * share)]
    with pytest.raises((MediaCorrupt, MediaUnsupported)):
        load_image(cut)


def test_truncated_pictures_stay_errors_when_others_allow_them(monkeypatch):
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for kind in ("JPEG", "PNG"):
        content = encoded_image(kind, photo(200, 300))
        with pytest.raises(MediaCorrupt):
            load_image(content[: len(content) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def png_bomb(width: int, height: int) -> bytes:
    """A few kilobytes that declare any number of pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 2**20, 9))
        + chunk(b"IEND", b"")
    )


def webp_bomb() -> bytes:
    vp8x = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + (16382).to_bytes(3, "little") * 2
    return b"RIFF" + struct.pack("<I", 4 + len(vp8x)) + b"WEBP" + vp8x


BOMBS = {
    "png": png_bomb(50_000, 50_000),
    "png just over": png_bomb(8001, 8001),
    "png absurd": png_bomb(2**31 - 1, 2**31 - 1),
    "webp": webp_bomb(),
    "gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\xf0\0\0" + b"\0" * 6 + b"," + b"\0" * 4
    + struct.pack("<HH", 65535, 65535) + b"\0\x02\x02\x4c\x01\0;",
    "bmp": b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + b"\x28\0\0\0"
    + struct.pack("<iiHHIIiiII", 60000, 60000, 1, 24, *[0] * 6),
    "tiff": b"II*\0\x08\0\0\0" + struct.pack("<H", 8)
    + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in
               [(256, 60000), (257, 60000), (258, 8), (259, 1), (262, 1), (273, 200), (277, 1), (278, 60000)])
    + b"\0" * 200,
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_by_their_header(name):
    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    before, start = peak(), time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning of Pillow's must not surface, nor turn into another error
        with pytest.raises(MediaTooLarge, match=r"pixels|large"):
            load_image(BOMBS[name])
    assert peak() - before < 100 * 2**20
    assert time.monotonic() - start < 5


def test_the_pixel_limit_holds_for_arrays_and_pillow_images_too():
    policy = Policy(limits=Limits(max_pixels=5000))
    for ref in (PIXELS, PIXELS.transpose(2, 0, 1), Pillow.fromarray(PIXELS), encoded_image("PNG", PIXELS)):
        assert load_image(ref).original_size == SIZE
        with pytest.raises(MediaTooLarge):
            load_image(ref, policy=Policy(limits=Limits(max_pixels=4000)))
    assert load_image(PIXELS, policy=policy).original_size == SIZE


def test_the_time_limit_is_watched_while_decoding():
    content = encoded_image("PNG", np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8))
    with pytest.raises(MediaTimeout):
        load_image(content, policy=Policy(limits=Limits(timeout_s=0.0)))


def test_sizes_without_decoding(write):
    content = encoded_image("JPEG", photo(111, 222))
    assert image_size(open_source(content), Policy()) == (111, 222)
    assert image_size(open_source(write("x.jpg", content[:700])), Policy()) == (111, 222)


def test_missing_files_are_missing(tmp_path):
    with pytest.raises(MediaNotFound):
        load_image(tmp_path / "nothing.png")
