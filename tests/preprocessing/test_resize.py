"""Sizes under the pixel budget, and the exactness of the frame resize."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from omnirm.preprocessing import smart_resize
from omnirm.preprocessing.resize import FrameResizer, bicubic_weights


@pytest.mark.parametrize(
    ("size", "factor", "least", "most", "wanted"),
    [
        ((1080, 1920), 28, 4 * 784, 16384 * 784, (1092, 1932)),
        ((1080, 1920), 32, 4 * 1024, 768 * 1024, (640, 1152)),
        ((10, 10), 28, 4 * 784, 16384 * 784, (56, 56)),
        ((42, 70), 28, 784, 10**7, (56, 56)),  # 1.5 rounds to 2 and 2.5 to 2
        ((1, 200), 28, 784, 10**7, (28, 196)),
        ((5, 1000), 28, 784, 2000, (28, 616)),  # a sliver keeps one patch
    ],
)
def test_size(size, factor, least, most, wanted):
    assert smart_resize(*size, factor, least, most) == wanted


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((1, 201, 28, 784, 10**6), "at most 200"),
        ((0, 5, 28, 784, 10**6), "at least one pixel"),
        ((10, 10, 28, 1000, 999), "below min_pixels"),
    ],
)
def test_impossible_size_says_why(arguments, says):
    with pytest.raises(ValueError, match=says):
        smart_resize(*arguments)


@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    factor=st.sampled_from([14, 28, 32, 56]),
    least=st.integers(1, 400),
    more=st.integers(0, 16384),
)
def test_size_equals_the_reference(height, width, factor, least, more):
    reference = pytest.importorskip("qwen_omni_utils").smart_resize
    least, most = least * factor**2, (least + more) * factor**2
    assume(max(height, width) / min(height, width) <= 200)
    wanted = reference(height, width, factor, least, most)
    got = smart_resize(height, width, factor, least, most)
    assert got == tuple(max(factor, side) for side in wanted)  # the reference gives a side of 0 for slivers
    assert got[0] % factor == got[1] % factor == 0


def exact(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What torchvision's tensor resize gives, in float64."""
    import torch

    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    result = torch.nn.functional.interpolate(planes, size, mode="bicubic", antialias=True)
    return result.round().clamp(0, 255)[0].numpy()


@pytest.mark.parametrize(
    ("size", "new_size"),
    [
        ((270, 480), (280, 476)),
        ((720, 1280), (112, 196)),
        ((50, 50), (336, 336)),
        ((33, 301), (28, 308)),
        ((1, 1), (28, 28)),
        ((2, 150), (28, 140)),
    ],
)
def test_frames_are_resized_exactly(size, new_size):
    rng = np.random.default_rng(0)
    resizer = FrameResizer(*size, *new_size)
    out = np.empty((3, *new_size), np.uint8)
    for _ in range(2):  # buffers are reused
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        resizer(pixels, out)
        difference = np.abs(out.astype(int) - exact(pixels, new_size))
        assert difference.mean() < 0.005
        assert difference.max() <= 1


def test_without_sparse_products_the_result_is_the_same():
    pixels = np.random.default_rng(1).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    fast, slow = FrameResizer(90, 160, 56, 84), FrameResizer(90, 160, 56, 84)
    slow._sparse = False
    first, second = np.empty((3, 56, 84), np.uint8), np.empty((3, 56, 84), np.uint8)
    fast(pixels, first)
    slow(pixels, second)
    assert np.abs(first.astype(int) - second).mean() < 0.005


def test_a_frame_of_another_size_is_refused():
    with pytest.raises(ValueError, match="made for frames"):
        FrameResizer(10, 10, 28, 28)(np.zeros((10, 11, 3), np.uint8), np.empty((3, 28, 28), np.uint8))


@given(size=st.integers(1, 300), new_size=st.integers(1, 300))
def test_weights_keep_a_flat_colour_flat(size, new_size):
    rows, columns, weights = bicubic_weights(size, new_size)
    sums = np.bincount(rows, weights, minlength=new_size)
    assert np.allclose(sums, 1, atol=1e-6)
    assert columns.min() >= 0
    assert columns.max() < size
