"""Output sizes under Qwen's pixel budget, and the antialiased bicubic resize of video frames.

For image, video and the collators, which all must agree on a size before any pixel is touched. Knows nothing of
decoders, containers or models; torch is imported only when frames are resized.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

MAX_ASPECT = 200


def round_by_factor(number: float, factor: int) -> int:
    """The multiple of `factor` nearest to `number`; halves go to the even multiple, as Python rounds."""
    return round(number / factor) * factor


def ceil_by_factor(number: float, factor: int) -> int:
    """The smallest multiple of `factor` that is not below `number`."""
    return math.ceil(number / factor) * factor


def floor_by_factor(number: float, factor: int) -> int:
    """The largest multiple of `factor` that is not above `number`."""
    return math.floor(number / factor) * factor


def smart_resize(height: int, width: int, factor: int, min_pixels: float, max_pixels: float) -> tuple[int, int]:
    """Size an image or frame is resized to, after the rules of the Qwen processors.

    Both sides become multiples of `factor`, their product lies within the budget where the aspect ratio allows it, and
    the aspect ratio is kept as closely as those two permit.

    Args:
        height: Rows of the original, at least 1.
        width: Columns of the original, at least 1.
        factor: Patch side times merge size (28 for Qwen2.5, 32 for Qwen3).
        min_pixels: Lower bound of height x width after the resize.
        max_pixels: Upper bound of height x width after the resize.

    Returns:
        (height, width), both at least `factor`, for which a sliver may exceed a tight `max_pixels` (qwen-vl-utils gives
        a side of 0 there).

    Raises:
        ValueError: A side is below 1, the bounds are reversed, or one side is over 200 times the other.
    """
    if height < 1 or width < 1:
        raise ValueError(f"an image needs at least one pixel, got {height} x {width} (height x width)")
    if max_pixels < min_pixels:
        raise ValueError(f"max_pixels ({max_pixels}) is below min_pixels ({min_pixels}); raise one or lower the other")
    aspect = max(height, width) / min(height, width)
    if aspect > MAX_ASPECT:
        raise ValueError(
            f"one side of {height} x {width} is {aspect:.0f} times the other; at most {MAX_ASPECT} is allowed"
        )
    new_height = max(factor, round_by_factor(height, factor))
    new_width = max(factor, round_by_factor(width, factor))
    if new_height * new_width > max_pixels:
        scale = math.sqrt((height * width) / max_pixels)
        new_height = max(factor, floor_by_factor(height / scale, factor))
        new_width = max(factor, floor_by_factor(width / scale, factor))
    elif new_height * new_width < min_pixels:
        scale = math.sqrt(min_pixels / (height * width))
        new_height = ceil_by_factor(height * scale, factor)
        new_width = ceil_by_factor(width * scale, factor)
    return new_height, new_width


class FrameResizer:
    """Antialiased bicubic resize of many frames of one size, as exact as torch's float kernel and faster.

    torch's uint8 kernel rounds between its two passes, which moves pixels by 0.1 to 0.4 of 255 on average on ordinary
    clips; its float kernel is exact but slow. Here both passes are products with a sparse matrix of the same weights,
    in float32, on bands of columns that fit the cache. One instance serves one thread: it reuses its buffers.
    """

    _BAND = 384  # columns x channels resized at a time in the vertical pass

    def __init__(self, height: int, width: int, new_height: int, new_width: int) -> None:
        """For frames of `height` x `width`, to `new_height` x `new_width`; all at least 1."""
        self.size, self._new_size = (height, width), (new_height, new_width)
        self._sparse = False
        if self.size != self._new_size:
            self._prepare()

    def _prepare(self) -> None:
        import torch

        (height, width), (new_height, new_width) = self.size, self._new_size
        rows, columns, weights = bicubic_weights(height, new_height)
        self._vertical = _csr(rows, columns, weights, (new_height, height))
        rows, columns, weights = bicubic_weights(width, new_width)
        channels = np.arange(3)[:, None]  # interleaved on the way in, one plane each on the way out
        self._horizontal = _csr(
            (channels * new_width + rows).ravel(),
            (channels + columns * 3).ravel(),
            np.tile(weights, 3),
            (3 * new_width, 3 * width),
        )
        self._turned = torch.empty(3 * width, new_height)
        self._result = torch.empty(3 * new_width, new_height)
        self._bytes = torch.empty(3 * new_width, new_height, dtype=torch.uint8)
        self._bands = [slice(i, min(i + self._BAND, 3 * width)) for i in range(0, 3 * width, self._BAND)]
        self._wide = torch.empty(height * min(self._BAND, 3 * width))
        self._narrow = torch.empty(new_height * min(self._BAND, 3 * width))
        try:
            torch.mm(self._horizontal, self._turned.zero_(), out=self._result)
            self._sparse = True
        except RuntimeError:  # a build of torch without sparse products on this kind of CPU
            self._sparse = False

    def __call__(self, pixels: np.ndarray, out: np.ndarray) -> None:
        """Resize uint8 [height, width, 3] into `out`, uint8 [3, new_height, new_width], contiguous."""
        if pixels.shape != (*self.size, 3):
            raise ValueError(f"made for frames of {(*self.size, 3)}, got {pixels.shape}")
        if self.size == self._new_size:
            out[...] = pixels.transpose(2, 0, 1)
            return
        import torch

        (height, width), (new_height, new_width) = self.size, self._new_size
        frame = torch.from_numpy(pixels)
        if not self._sparse:
            planes = frame.permute(2, 0, 1)[None].float()
            exact = torch.nn.functional.interpolate(planes, self._new_size, mode="bicubic", antialias=True)
            torch.from_numpy(out).copy_(exact[0].round_().clamp_(0, 255))
            return
        lines = frame.reshape(height, 3 * width)
        for band in self._bands:
            columns = band.stop - band.start
            wide = self._wide[: height * columns].view(height, columns)
            narrow = self._narrow[: new_height * columns].view(new_height, columns)
            torch.mm(self._vertical, wide.copy_(lines[:, band]), out=narrow)
            self._turned[band].copy_(narrow.t())
        torch.mm(self._horizontal, self._turned, out=self._result)
        self._bytes.copy_(self._result.round_().clamp_(0, 255))
        torch.from_numpy(out).copy_(self._bytes.view(3, new_width, new_height).permute(0, 2, 1))


def bicubic_weights(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of an antialiased bicubic resize along one axis (a = -0.5, as Pillow and torch have it).

    Args:
        size: Length of the axis before.
        new_size: Length after.

    Returns:
        (rows, columns, weights) of the nonzero entries of the [new_size, size] matrix; rows ascend, each sums to 1.
    """
    scale = size / new_size
    support = 2.0 * max(scale, 1.0)
    centres = scale * (np.arange(new_size) + 0.5)
    starts = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    stops = np.minimum((centres + support + 0.5).astype(np.int64), size)
    taps = starts[:, None] + np.arange((stops - starts).max())
    distance = np.abs((taps - centres[:, None] + 0.5) / max(scale, 1.0))
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    inside = taps < stops[:, None]
    weights = np.where(inside, weights, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(new_size)[:, None], taps.shape)
    return rows[inside], taps[inside], weights[inside].astype(np.float32)


def _csr(rows: np.ndarray, columns: np.ndarray, weights: np.ndarray, shape: tuple[int, int]) -> torch.Tensor:
    import torch

    entries = torch.from_numpy(np.stack([rows, columns]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_coo_tensor(entries, torch.from_numpy(weights), shape, check_invariants=True).to_sparse_csr()
