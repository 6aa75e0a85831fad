"""Padding, average pooling, bilinear enlargement and separate ReLUs against the runtimes that ship."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hatdet.integer.tensors import QuantParams
from tests.helpers.compare import assert_all_equal
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes

QUANTIZATIONS = {
    "relu6": qparams(6 / 255, -128),
    "signed": qparams(0.05, 9),
    "symmetric": qparams(0.0317, 0),
    "negative": qparams(0.021, 127),
}
EVERY = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)


def quads(levels: list[int]) -> np.ndarray:
    """Every 2x2 map of these codes, side by side in channels: (1, levels ** 4, 2, 2)."""
    every = np.array(list(itertools.product(levels, repeat=4)), dtype=np.int8)
    return every.reshape(1, -1, 2, 2)


@pytest.mark.parametrize("q", QUANTIZATIONS.values(), ids=QUANTIZATIONS)
def test_bilinear_of_all_extreme_quadruples(q: QuantParams) -> None:
    """Ten levels, with every remainder of 16 and the ties of both signs: 10 000 quadruples."""
    codes = quads([-128, -127, -2, -1, 0, 1, 3, 8, 126, 127])
    g = GraphBuilder(codes.shape[1:], q)
    g.bilinear("x", "y")
    out = assert_all_equal(g.graph("y"), codes)["y"].astype(int)
    sums = np.einsum("kl,bckl->bc", np.array([[9, 3], [3, 1]]), codes.astype(int))  # output (1, 1)
    assert np.array_equal(out[:, :, 1, 1], np.sign(sums) * ((np.abs(sums) + 8) // 16))
    assert len(set((sums % 16).ravel())) == 16 and {8, -8, 24, -24} <= set(sums.ravel())


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (7, 5), (20, 13)])
@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("q", list(QUANTIZATIONS.values())[:2], ids=["relu6", "signed"])
def test_bilinear_sizes_and_factors(size: tuple[int, int], factor: int, q: QuantParams) -> None:
    g = GraphBuilder((3, *size), q)
    g.bilinear("x", "y", factor)
    codes = random_codes((2, 3, *size))
    out = assert_all_equal(g.graph("y"), codes)["y"]
    real = F.interpolate(torch.from_numpy(codes).double(), scale_factor=factor, mode="bilinear").numpy()
    assert np.abs(out - real).max() <= 0.5, "torch's own function, rounded"
    assert np.array_equal(out[(np.abs(real % 1 - 0.5) > 1e-6)], np.round(real)[np.abs(real % 1 - 0.5) > 1e-6])


def test_bilinear_by_hand() -> None:
    """Codes 0 and 16 side by side: 0, 1/4, 3/4 and 1 of the way."""
    g = GraphBuilder((1, 1, 2), qparams(0.1, 5))
    g.bilinear("x", "y")
    out = assert_all_equal(g.graph("y"), np.array([[[[0, 16]]]], dtype=np.int8))["y"]
    assert out[0, 0].tolist() == [[0, 4, 12, 16]] * 2
    out = assert_all_equal(g.graph("y"), np.array([[[[-2, 0]]]], dtype=np.int8))["y"]
    assert out[0, 0, 0].tolist() == [-2, -2, -1, 0], "-1.5 and -0.5: away from zero"
    out = assert_all_equal(g.graph("y"), np.array([[[[2, 0]]]], dtype=np.int8))["y"]
    assert out[0, 0, 0].tolist() == [2, 2, 1, 0]


# kernel, stride, (height, width)
AVERAGES = {
    "2x2 stride 2": ((2, 2), (2, 2), (8, 6)),
    "2x2 stride 2, odd": ((2, 2), (2, 2), (9, 7)),
    "3x3": ((3, 3), (1, 1), (5, 7)),
    "3x3 stride 2": ((3, 3), (2, 2), (8, 11)),
    "3x2": ((3, 2), (1, 2), (6, 7)),
    "8x8": ((8, 8), (8, 8), (17, 16)),
    "7x7 once": ((7, 7), (1, 1), (7, 7)),
}


@pytest.mark.parametrize("case", AVERAGES)
@pytest.mark.parametrize("q", QUANTIZATIONS.values(), ids=QUANTIZATIONS)
def test_average_pool(case: str, q: QuantParams) -> None:
    kernel, stride, size = AVERAGES[case]
    g = GraphBuilder((4, *size), q)
    g.average_pool("x", "y", kernel, stride)
    for codes in (random_codes((2, 4, *size)), random_codes((1, 4, *size), low=-2, high=2)):
        assert_all_equal(g.graph("y"), codes)


def test_average_pool_of_all_extreme_quadruples() -> None:
    codes = quads([-128, -127, -1, 0, 1, 2, 126, 127])
    g = GraphBuilder(codes.shape[1:], qparams(0.05, 9))
    g.average_pool("x", "y", (2, 2))
    out = assert_all_equal(g.graph("y"), codes)["y"].astype(int).ravel()
    sums = codes.astype(int).sum((2, 3)).ravel()
    assert np.array_equal(out, np.sign(sums) * ((np.abs(sums) + 2) // 4))


@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (0, 1, 0, 1), (2, 0, 0, 3), (0, 0, 0, 0), (5, 6, 7, 8)])
@pytest.mark.parametrize("q", QUANTIZATIONS.values(), ids=QUANTIZATIONS)
def test_padding(padding: tuple[int, int, int, int], q: QuantParams) -> None:
    g = GraphBuilder((3, 4, 5), q)
    g.pad("x", "y", padding)
    codes = random_codes((2, 3, 4, 5))
    out = assert_all_equal(g.graph("y"), codes)["y"]
    top, bottom, left, right = padding
    inside = np.zeros(out.shape, dtype=bool)
    inside[:, :, top : top + 4, left : left + 5] = True
    assert (out[~inside] == q.zero_point).all() and np.array_equal(out[inside], codes.ravel())


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("scale", [0.0011, 6 / 255, 0.047, 0.1, 0.70588, 3.0, 12.0, 40.0])
def test_separate_relu_of_all_codes(activation: str, scale: float) -> None:
    for zero in (-128, -96, 0, 55, 127):
        g = GraphBuilder((1, 16, 16), qparams(scale, zero))
        g.clamp("x", "y", activation)
        out = assert_all_equal(g.graph("y"), EVERY)["y"].astype(int)
        assert out.min() == zero and out[zero >= EVERY].max() == zero
        six = 127 if activation == "relu" else min(127, zero + int(np.floor(np.float32(6) / np.float32(scale) + 0.5)))
        assert out.max() == six


@pytest.mark.parametrize("scale", [1e-4, 0.0039, 0.0117, 0.0235, 0.0317, 0.047, 0.1, 0.251, 0.7, 3.1])
def test_separate_hardsigmoid_of_all_codes(scale: float) -> None:
    for zero in (-128, -20, 0, 55, 127):
        x = qparams(scale, zero)
        g = GraphBuilder((1, 16, 16), x)
        g.activation("x", "y", "hardsigmoid", qparams(1 / 256, -128))
        out = assert_all_equal(g.graph("y"), EVERY)["y"].astype(float).ravel()
        real = np.clip(x.scale * (np.arange(-128, 128) - zero) / 6 + 0.5, 0, 255 / 256)
        assert np.abs((out + 128) / 256 - real).max() <= 0.55 / 256, "a double rounding and a rounded bias"


def test_hardsigmoid_on_several_channels() -> None:
    g = GraphBuilder((5, 3, 4), qparams(0.05, 9))
    g.activation("x", "y", "hardsigmoid", qparams(1 / 256, -128))
    assert_all_equal(g.graph("y"), random_codes((2, 5, 3, 4)))
