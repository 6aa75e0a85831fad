"""The kernels in C against the torch form, bit for bit: both layouts of weights, every arithmetic."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
import torch

from hatdet.integer.arithmetic import (
    multiply_by_quantized_multiplier,
    multiply_rounding_once,
    prepare_requantization,
    prepare_single_rounding,
    quantize_multiplier,
)
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.kernels import TensorRequantization
from hatdet.integer.native import build, kernels
from hatdet.integer.native.kernels import Kernels, NativeConv
from hatdet.integer.native.proof import prove
from hatdet.integer.native.requantization import FixedPoint, FloatProduct
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.single_multiply import FloatRequantization
from hatdet.integer.tensors import QuantParams, TensorInfo

if build.library() is None:
    pytest.skip(f"no kernels in C here: {build.describe()}", allow_module_level=True)


@pytest.fixture(scope="module", params=["native", "as with VNNI"])
def library(request: pytest.FixtureRequest) -> Kernels:
    """What this processor runs, and the layout of wider ones with their instruction written out."""
    if request.param == "native":
        return build.library()  # type: ignore[return-value]
    return Kernels(ctypes.CDLL(str(build.built(["-DHATDET_PLAIN"]))))


def test_the_proof_holds_in_both_layouts(library: Kernels) -> None:
    assert prove(library)


def random_graph(random: np.random.Generator, profile: str, bits: int) -> tuple[IntGraph, np.ndarray]:
    """A convolution of random sizes, its scales such that codes spread and some saturate; pictures, one of extremes."""
    groups = int(random.choice([1, 1, 1, 2, 3]))
    inside, made = int(random.integers(1, 22)), int(random.integers(1, 22))
    if random.random() < 0.3:  # depthwise
        groups, inside, made = int(random.integers(2, 40)), 1, 1
    kernel, stride, padding, dilation = (
        tuple(int(v) for v in random.integers(low, high, 2)) for low, high in ((1, 6), (1, 4), (0, 4), (1, 3))
    )
    if random.random() < 0.3:
        kernel, stride, padding = (1, 1), (1, 1), (0, 0)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, p, d in zip(kernel, padding, dilation, strict=True)]
    size = [int(n + random.integers(0, 12)) for n in least]
    out = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, kernel, stride, padding, dilation)]
    limit = 7 if bits == 4 else 127
    weight = random.integers(-limit, limit + 1, (made * groups, inside, *kernel)).astype(np.int8)
    if random.random() < 0.3:
        weight[:] = np.where(random.random(weight.shape) < 0.5, -limit, limit)
    bias = random.integers(-(2**14), 2**14, made * groups).astype(np.int32)
    spread = limit * 128 * np.sqrt(inside * kernel[0] * kernel[1]) / 90.0
    scale = (random.uniform(0.3, 3.0, made * groups) / spread).astype(np.float32)
    zero_in, zero_out = (int(z) for z in random.integers(-128, 128, 2))
    x, y = QuantParams(1.0, int(random.choice([-128, zero_in]))), QuantParams(1.0, zero_out)
    lo = int(max(-128, zero_out)) if random.random() < 0.5 else -128
    op = ConvOp("conv", "x", "y", weight, bias, scale, stride, padding, dilation, groups, "none", lo,
                int(random.integers(max(lo, 60), 128)), bits)  # type: ignore[arg-type]  # fmt: skip
    tensors = {
        "x": TensorInfo("x", (inside * groups, *size), x),  # type: ignore[arg-type]
        "y": TensorInfo("y", (made * groups, *out), y),  # type: ignore[arg-type]
    }
    codes = random.integers(-128, 128, (3, inside * groups, *size))
    codes[1] = np.where(random.random(codes[1].shape) < 0.5, -128, 127)
    codes[2] = np.where(weight.sum() > 0, 127, -128)
    return IntGraph(tensors, [op], ("x",), ("y",), {"profile": profile}), codes.astype(np.int8)


@pytest.mark.parametrize("profile", ["tflite_ref", "tflite_single", "xnnpack"])
@pytest.mark.parametrize("bits", [8, 4])
def test_random_convolutions_equal_the_torch_form(
    profile: str, bits: int, library: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "library", lambda: library)
    calls: list[torch.Tensor] = []
    run = NativeConv.__call__
    monkeypatch.setattr(NativeConv, "__call__", lambda self, x: calls.append(x) or run(self, x))
    random = np.random.default_rng(bits)
    levels: set[int] = set()
    for case in range(25):
        graph, codes = random_graph(random, profile, bits)
        before = len(calls)
        (got,) = IntExecutor(graph, backend="native")(torch.from_numpy(codes))
        with torch.backends.mkldnn.flags(enabled=False):  # some of these geometries end its process
            (want,) = IntExecutor(graph, backend="float32")(torch.from_numpy(codes))
        assert torch.equal(got, want), f"case {case}: {graph.ops[0]}"
        assert len(calls) == before + 1, "the kernels in C were asked"
        levels |= set(want.unique().tolist())
    assert len(levels) > 200


def thresholds(random: np.random.Generator, m: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Sums at and beside where a code begins, for channels with these multipliers, and the largest ones."""
    real = m * np.exp2((e - 31).astype(np.float64))
    near = np.floor((random.integers(-130, 131, m.shape) + 0.5) / np.maximum(real, 2.0**-22))
    near += random.integers(-2, 3, m.shape)
    most = np.floor((2.0**30 - 1) / np.exp2(np.maximum(e + 1, 0).astype(np.float64)))
    largest = random.random(m.shape) < 0.1
    near = np.where(largest, np.where(random.random(m.shape) < 0.5, most, -most), near)
    return np.clip(near, -most, most).astype(np.int64)


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("exponents", [(-31, -20), (-20, -8), (-8, 1), (0, 9)])
def test_fixed_point_is_the_literal_form_at_thresholds(
    once: bool, exponents: tuple[int, int], library: Kernels
) -> None:
    random, channels = np.random.default_rng(exponents[0] & 255), 4096
    m, e = quantize_multiplier(np.exp2(random.uniform(exponents[0], exponents[1] - 1, channels)))
    m[:64], e[:64] = 1 << 30, np.arange(64) % (exponents[1] - exponents[0]) + exponents[0]  # powers of two: ties
    m[64:66], e[64:66] = 0, 0
    sums = thresholds(random, m, e)
    fused = FixedPoint(m, e, once)
    assert fused.takes(np.abs(sums).astype(np.float64))
    multiply = multiply_rounding_once if once else multiply_by_quantized_multiplier
    found = sums_as_bytes(library, fused, sums)
    assert np.array_equal(found, np.clip(multiply(sums, m, e), -128, 127) + 128)


def test_one_float_product_rounds_half_to_even_and_large_sums_first(library: Kernels) -> None:
    random, channels = np.random.default_rng(1), 4096
    scale = np.exp2(random.uniform(-24, 7.9, channels)).astype(np.float32)
    scale[:512] = np.exp2(-random.integers(0, 24, 512)).astype(np.float32)  # ties
    sums = np.floor((random.integers(-130, 131, channels) + 0.5) / scale.astype(np.float64))
    sums = np.clip(sums + random.integers(-2, 3, channels), -(2.0**31) + 1, 2.0**31 - 1).astype(np.int64)
    sums[-64:] = np.where(np.arange(64) % 2, 2**31 - 1, -(2**31) + 1)
    assert np.any(np.abs(sums) > 2**24)
    accumulators = torch.from_numpy(sums).double().view(1, -1, 1, 1)
    want = FloatRequantization(scale).codes(accumulators, -128, 127, 128)
    assert np.array_equal(sums_as_bytes(library, FloatProduct(scale), sums), want.view(-1).numpy())


def sums_as_bytes(library: Kernels, fused: FixedPoint | FloatProduct, sums: np.ndarray) -> np.ndarray:
    """The biases of channels without weights, requantized."""
    weight = np.zeros((len(sums), 1, 1, 1), np.int8)
    ones, none = (1, 1), (0, 0)
    conv = NativeConv(library, weight, sums.astype(np.int32), fused, 0, (-128, 127, 128), ones, none, ones, 1)
    return np.asarray(conv(torch.zeros(1, 1, 1, 1, dtype=torch.uint8)).view(-1))


def test_sums_that_pass_int32_on_their_way_come_out(library: Kernels) -> None:
    """The zero point's share of the bias does not fit int32; the result does."""
    channels = 2**17
    weight = np.full((8, channels, 1, 1), 127, np.int8)
    bias = np.full(8, 1000, np.int32)
    fused = FloatProduct(np.full(8, 0.05, np.float32))
    assert 255 * 127 * channels > 2**31 - 1
    x = torch.full((1, channels, 1, 1), 255, dtype=torch.uint8)
    conv = NativeConv(library, weight, bias, fused, 255, (-128, 127, 128), (1, 1), (0, 0), (1, 1), 1)
    assert conv(x).unique().tolist() == [128 + 50]


def test_what_the_kernels_do_not_take_is_left_to_torch() -> None:
    assert not FixedPoint(np.array([1 << 30]), np.array([0]), False).takes(np.array([2.0**30]))
    assert not FixedPoint(np.array([1 << 30]), np.array([8]), False).takes(np.array([2.0**22]))
    assert FixedPoint(np.array([1 << 30]), np.array([8]), False).takes(np.array([2.0**22 - 1]))
    assert not FloatProduct(np.ones(1, np.float32)).takes(np.array([2.0**31]))
    multiplier, bound = np.array([0.01]), np.array([1e5])
    for prepare, once in ((prepare_requantization, False), (prepare_single_rounding, True)):
        fused = TensorRequantization(prepare(multiplier, bound)).fused
        assert isinstance(fused, FixedPoint) and fused.once is once
    other = replace(prepare_requantization(multiplier, bound), multiply=lambda x, m, e: np.asarray(x))
    assert TensorRequantization(other).fused is None


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_and_bands_change_nothing(
    batch: int, threads: int, library: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    for groups, inside, kernel in ((1, 12, 3), (24, 1, 5), (1, 12, 1)):
        weight = random.integers(-127, 128, (24, inside, kernel, kernel)).astype(np.int8)
        bias, fused = np.zeros(24, np.int32), FloatProduct(np.full(24, 1e-3, np.float32))
        made = []
        x = torch.from_numpy(random.integers(0, 256, (batch, inside * groups, 19, 11)).astype(np.uint8))
        for many, rows in ((1, kernels.ROWS_IN_CACHE), (threads, 1)):
            monkeypatch.setattr(kernels, "ROWS_IN_CACHE", rows)
            monkeypatch.setattr(kernels, "WORTH_A_THREAD", 1)
            monkeypatch.setattr(torch, "get_num_threads", lambda many=many: many)
            conv = NativeConv(library, weight, bias, fused, 9, (-128, 127, 128), (1, 1), (1, 1), (1, 1), groups)
            made.append(conv(x))
            monkeypatch.undo()
        assert made[0].shape[0] == batch and torch.equal(*made)
        assert made[0].is_contiguous(memory_format=torch.channels_last)


def test_inputs_of_any_layout(library: Kernels) -> None:
    random = np.random.default_rng(0)
    weight = random.integers(-127, 128, (5, 3, 3, 3)).astype(np.int8)
    fused = FloatProduct(np.full(5, 1e-3, np.float32))
    conv = NativeConv(library, weight, np.zeros(5, np.int32), fused, 9, (-128, 127, 128), (1, 1), (1, 1), (1, 1), 1)
    wide = torch.from_numpy(random.integers(0, 256, (2, 7, 9, 16)).astype(np.uint8))
    part = wide[:, 2:5, 1:, ::2]
    assert torch.equal(conv(part), conv(part.contiguous()))
    assert torch.equal(conv(part), conv(part.contiguous(memory_format=torch.channels_last)))
