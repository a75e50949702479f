"""Image reference or bare array in, RGB pixels resized to the budget out.

For `prepare` and the collators. Pillow decodes, from an allow-list of formats and only after the size in the header was
checked. The resize is antialiased bicubic in torch: within 0.01/255 of Pillow's on average and several times faster.
Sizes follow the Qwen rules (`resize.py`). Where qwen-omni-utils differs: EXIF orientation is applied, alpha of every
kind is laid on white, 16-bit is scaled instead of clipped. Knows no video, cache or model.
"""

from __future__ import annotations

import hashlib
import io
import struct
import threading
import time
import zlib
from typing import Any

import numpy as np
import PIL.Image
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from omnirm.preprocessing.resize import smart_resize
from omnirm.preprocessing.sniff import require
from omnirm.preprocessing.source import Source, describe, open_source
from omnirm.preprocessing.types import (
    Image,
    ImageSettings,
    MediaCorrupt,
    MediaError,
    MediaTimeout,
    MediaTooLarge,
    MediaUnsupported,
    Policy,
)

_PLUGINS = (BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin)
ISOLATED_IMPORTS = ("torch",)
_FAULTS = (  # what Pillow's readers are seen to raise on damaged files
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, EOFError),
    *(RuntimeError, ZeroDivisionError, struct.error, zlib.error, Warning),
)
_ORIENTATION = 0x0112
_TALL_FIRST = int(PIL.__version__.split(".")[0]) >= 13  # since then a height that shrinks much is resized first
_UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}


def load_image(ref: Any, settings: ImageSettings | None = None, policy: Policy | None = None) -> Image:
    """Decode an image and resize it to the pixel budget. Of animated files, the first frame.

    Args:
        ref: A path, `file://` or `data:` URI, URL, bytes or `Source` of a JPEG, PNG, WEBP, GIF, BMP or TIFF; or a
            Pillow image; or a numpy array or torch tensor, HWC or CHW or HW, uint8, uint16 or float in [0, 1].
        settings: The pixel budget; the default is Qwen2.5's.
        policy: What may be read, and the limits.

    Returns:
        Pixels as uint8 [height, width, 3], both sides multiples of `settings.factor`.

    Raises:
        MediaError: One of its kinds; see `types.py`.
    """
    settings, policy = settings or ImageSettings(), policy or Policy()
    if isinstance(ref, PIL.Image.Image):
        return _from_pillow(ref, settings, policy)
    if hasattr(ref, "__array_interface__") or (hasattr(ref, "detach") and hasattr(ref, "cpu")):
        return _from_array(ref, settings, policy)
    source = open_source(ref, policy)
    found = require(source, "image")
    data = source.read()
    digest = source.sha256
    with _decoding(source.name):
        pixels = _decode(data, found.format, source.name, policy)
    return _finish(pixels, source.name, settings, digest)


def image_size(source: Source, policy: Policy) -> tuple[int, int]:
    """(height, width) from the header of an encoded image, before EXIF orientation; decodes nothing."""
    found = require(source, "image")
    with _decoding(source.name), source.open() as stream:
        image = _open(stream, found.format, source.name, policy)
        return image.height, image.width


class _decoding:  # noqa: N801 - reads as a phrase in `with`
    """Turns what Pillow raises on damaged or oversized files into the errors of `types.py`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, MediaError):
            return
        if isinstance(error, PIL.Image.DecompressionBombError | PIL.Image.DecompressionBombWarning | MemoryError):
            raise MediaTooLarge(self._name, f"too large to decode: {error}", "give a smaller image") from error
        if isinstance(error, _FAULTS):
            raise MediaCorrupt(
                self._name, f"truncated or damaged: {error}", "open it in a viewer and save it again"
            ) from error


class _Strictness:
    """While a picture is decoded, missing pixels are errors and not gray, whoever told Pillow otherwise."""

    def __init__(self) -> None:
        self._lock, self._users, self._before = threading.Lock(), 0, False

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
            self._users += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                ImageFile.LOAD_TRUNCATED_IMAGES = self._before


_STRICT = _Strictness()


class _Clocked(io.BytesIO):
    """Bytes for Pillow that stop it when the time is over; it reads them block by block while decoding."""

    def __init__(self, data: bytes, name: str, policy: Policy) -> None:
        super().__init__(data)
        self._name, self._seconds = name, policy.limits.timeout_s
        self._deadline = time.monotonic() + self._seconds

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self._deadline:
            raise MediaTimeout(self._name, f"decoding took over {self._seconds:g} s", "raise Limits.timeout_s")
        return super().read(size)


def _decode(data: bytes, kind: str, name: str, policy: Policy) -> np.ndarray:
    """Encoded image to uint8 [h, w, 3], upright."""
    image = _open(_Clocked(data, name, policy), kind, name, policy)
    with _STRICT:
        image.load()
    return _to_rgb(_upright(image), name)


def _open(stream: Any, kind: str, name: str, policy: Policy) -> PIL.Image.Image:
    """Read the header, and refuse what is over the pixel limit before anything of its size is allocated."""
    if kind == "webp":  # whose reader allocates the canvas at once
        _check_pixels(_webp_size(stream.read(64)), name, policy)
        stream.seek(0)
    image = PIL.Image.open(stream, formats=(kind.upper(),))
    _check_pixels((image.height, image.width), name, policy)
    return image


def _check_pixels(size: tuple[int, int], name: str, policy: Policy) -> None:
    height, width = size
    if height * width > policy.limits.max_pixels:
        raise MediaTooLarge(
            name,
            f"{width} x {height} pixels, the limit is {policy.limits.max_pixels} in all",
            "give a smaller image or raise Limits.max_pixels",
        )


def _webp_size(head: bytes) -> tuple[int, int]:
    """(height, width) out of the first chunk of a WEBP file."""
    chunk = head[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(head[27:30], "little"), 1 + int.from_bytes(head[24:27], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    width, height = struct.unpack("<HH", head[26:30])
    return height & 0x3FFF, width & 0x3FFF


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """Apply the EXIF orientation. Metadata that cannot be read count as absent: the pixels are still good."""
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except _FAULTS:
        turn = None
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: PIL.Image.Image, name: str) -> np.ndarray:
    """Any mode to uint8 [h, w, 3]: alpha on white, more than 8 bits scaled down."""
    if image.mode.startswith("I;16"):
        return _gray_to_rgb(_eight_bits(np.asarray(image).astype(np.uint16, copy=False)))
    if image.mode in ("I", "F"):
        return _gray_to_rgb(_wide_to_eight_bits(np.asarray(image), name))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = PIL.Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        image = white
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _gray_to_rgb(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[:, :, None], 3, axis=2)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """uint16 to uint8, 65535 to 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _wide_to_eight_bits(values: np.ndarray, name: str) -> np.ndarray:
    """32-bit gray of unknown scale to uint8, where its range says which scale it is."""
    if not np.isfinite(values).all():
        raise MediaCorrupt(name, "holds values that are not finite", "save it again in 8 or 16 bits")
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low >= 0 and values.dtype.kind == "f" and high <= 1:
        return np.rint(values * 255).astype(np.uint8)
    if low >= 0 and high <= 255:
        return np.rint(values).astype(np.uint8)
    if low >= 0 and high <= 65535:
        return _eight_bits(np.rint(values).astype(np.uint16))
    raise MediaUnsupported(name, f"32-bit gray from {low:g} to {high:g} has no known scale", "save it in 8 or 16 bits")


def _from_pillow(image: PIL.Image.Image, settings: ImageSettings, policy: Policy) -> Image:
    name = describe(image)
    _check_pixels((image.height, image.width), name, policy)
    with _decoding(name):
        image.load()
        pixels = _to_rgb(_upright(image), name)
    return _finish(pixels, name, settings, _digest(pixels))


def _from_array(ref: Any, settings: ImageSettings, policy: Policy) -> Image:
    name, is_tensor = describe(ref), hasattr(ref, "detach")
    if is_tensor:
        ref = ref.detach().cpu()
        array = (ref.float() if ref.is_floating_point() else ref).numpy()
    else:
        array = np.asarray(ref)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or not array.size:
        raise MediaUnsupported(name, f"shape {array.shape} is no image", "give [h, w, 3], [3, h, w] or [h, w]")
    first, last = (array.shape[i] in (1, 3, 4) for i in (0, 2))
    if first and (is_tensor or not last):  # tensors are channels first by custom, arrays channels last
        array = np.moveaxis(array, 0, 2)
    elif not last:
        raise MediaUnsupported(name, f"shape {array.shape} has no axis of 1, 3 or 4 channels", "give [h, w, 3]")
    _check_pixels(array.shape[:2], name, policy)
    pixels = np.ascontiguousarray(_array_to_eight_bits(array, name))
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    elif pixels.shape[2] == 4:
        pixels = _to_rgb(PIL.Image.fromarray(pixels, "RGBA"), name)
    return _finish(pixels, name, settings, _digest(pixels))


def _array_to_eight_bits(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return _eight_bits(array)
    if array.dtype.kind != "f":
        raise MediaUnsupported(name, f"pixels of type {array.dtype} have no known scale", "give uint8")
    if not np.isfinite(array).all():
        raise MediaCorrupt(name, "holds values that are not finite", "give numbers from 0 to 1")
    low, high = float(array.min()), float(array.max())
    if low < -1e-4 or high > 1 + 1e-4:
        raise MediaUnsupported(name, f"floating-point pixels from {low:g} to {high:g}", "give 0 to 1, or uint8")
    return np.rint(array.clip(0, 1) * 255).astype(np.uint8)


def _digest(pixels: np.ndarray) -> str:
    """For images that have no encoded bytes."""
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _finish(pixels: np.ndarray, name: str, settings: ImageSettings, digest: str) -> Image:
    height, width = pixels.shape[:2]
    try:
        size = smart_resize(height, width, settings.factor, settings.min_pixels, settings.max_pixels)
    except ValueError as error:
        raise MediaUnsupported(name, str(error), "crop it, or change the pixel budget") from error
    return Image(_resize(pixels, *size), (height, width), digest)


def _resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Antialiased bicubic resize of uint8 [h, w, 3], passes in Pillow's order: each rounds, so the order shows."""
    old_height, old_width = pixels.shape[:2]
    if (old_height, old_width) == (height, width):
        return pixels
    import torch

    batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)  # a view, channels last: the fast kernel's layout
    steps = [(height, width)]
    if _TALL_FIRST and 0 < old_height - height > 2 * (old_width - width):
        steps.insert(0, (height, old_width))
    for size in steps:
        batch = torch.nn.functional.interpolate(batch, size, mode="bicubic", antialias=True)
    return batch[0].permute(1, 2, 0).contiguous().numpy()
