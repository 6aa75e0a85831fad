"""Convolutions with outputs of 16 bits against the runtimes that ship: random, extreme and threshold inputs."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from hatdet.export.metadata import build_metadata
from hatdet.export.runtimes.integer import FileLayout
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.limits import check_graph
from hatdet.integer.arithmetic import (
    activation_limits,
    multiply_by_reduced_multiplier,
    prepare_requantization16,
    quantize_multiplier,
    reduce_multiplier,
)
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.helpers.compare import assert_all_equal, runtime_tensors
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes, small_network, wide
from tests.helpers.literal_integer import Arithmetic, run_literal

PIXELS, SIGNED = qparams(1 / 255, -128), qparams(0.021, 7)

# in, out, groups, kernel, stride, padding, (height, width)
CONVOLUTIONS = {
    "1x1": (16, 6, 1, (1, 1), (1, 1), (0, 0), (7, 5)),
    "3x3": (5, 7, 1, (3, 3), (1, 1), (1, 1), (9, 13)),
    "3x3 unpadded": (3, 4, 1, (3, 3), (1, 1), (0, 0), (6, 9)),
    "3x3 stride 2, even": (3, 8, 1, (3, 3), (2, 2), (1, 1), (12, 16)),
    "grouped": (8, 12, 4, (3, 3), (1, 1), (1, 1), (7, 9)),
    "depthwise": (8, 8, 8, (3, 3), (1, 1), (1, 1), (9, 12)),
    "depthwise 5x5 stride 2": (8, 8, 8, (5, 5), (2, 2), (2, 2), (10, 12)),
    "one channel": (1, 3, 1, (3, 3), (1, 1), (1, 1), (5, 5)),
    "one position": (9, 3, 1, (1, 1), (1, 1), (0, 0), (1, 1)),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("activation", ["none", "relu", "relu6"])
def test_convolution(case: str, activation: str) -> None:
    inputs, outputs, groups, kernel, stride, padding, size = CONVOLUTIONS[case]
    g = GraphBuilder((inputs, *size), PIXELS if activation == "relu6" else SIGNED, seed=len(case))
    scale = {"none": 6 / 32767, "relu": 3 / 32767, "relu6": 6 / 32767}[activation]
    g.conv("x", "y", outputs, kernel, stride, padding, (1, 1), groups, activation, q=wide(scale))
    codes = random_codes((2, inputs, *size), seed=1)
    out = assert_all_equal(g.graph("y"), codes)["y"]
    assert out.dtype == np.int16
    assert out.size < 100 or len(np.unique(out)) > 60, "few distinct codes make an easy comparison"


@pytest.mark.parametrize("backend", ["auto", "float32"])
@pytest.mark.parametrize(("sign", "code"), [(127, 127), (-127, 127), (127, -128), (-127, -128)])
def test_extremes(sign: int, code: int, backend: str) -> None:
    """The largest accumulators of 600 inputs, beyond 2**24: exact, and saturated where they are too large."""
    weight = np.full((4, 600, 1, 1), sign, dtype=np.int8)
    weight[1] = 1
    g = GraphBuilder((600, 2, 3), qparams(0.02, 127 if code == -128 else -128))
    scales = np.array([1e-2, 1e-2, 1e-3, 1e-4], np.float32)
    bias = np.array([(2**24 + 1) * np.sign(sign * code), -7, 11, 0], np.int32)
    g.conv("x", "y", 4, (1, 1), padding=(0, 0), activation="none", q=wide(0.1), weight=weight, weight_scale=scales,
           bias=bias)  # fmt: skip
    graph, codes = g.graph("y"), np.full((1, 600, 2, 3), code, dtype=np.int8)
    out = assert_all_equal(graph, codes)["y"]
    assert abs(int(out[0, 0, 0, 0])) >= 32767 and 300 < abs(int(out[0, 3, 0, 0])) < 400
    again = IntExecutor(graph, backend=backend)(torch.from_numpy(codes))[0]
    assert again.dtype == torch.int16 and np.array_equal(again.numpy(), out)


def threshold_graph(multipliers: int = 7) -> tuple[IntGraph, np.ndarray, np.ndarray]:
    """As in test_against_runtimes: accumulators around the threshold of each of 255 output codes.

    Returns the graph, all input codes, and the targets: what the input code 0 reaches, and -1 just does not.
    """
    rng = np.random.default_rng(5)
    scales = (np.exp2(-np.linspace(1, 13, multipliers)) * rng.uniform(0.51, 0.99, multipliers)).astype(np.float32)
    scales[0] = np.float32(0.49999998)  # its 31-bit multiplier is so near 2**31 that the reduced one is 2**15 - 1
    x, y, exact = qparams(0.5, 0), wide(0.5), Arithmetic()
    targets = np.unique(np.concatenate([[-32767, -32766, -1, 0, 1, 32766, 32767], rng.integers(-32767, 32767, 248)]))
    biases, channel_scales = [], []
    for scale in scales:
        m, e = exact.multiplier(exact.conv_real(x.scale, scale, y.scale))
        low, high = np.full(targets.shape, -(2**31)), np.full(targets.shape, 2**31)
        while np.any(high - low > 1):
            middle = (low + high) // 2
            reached = exact.scale16(middle, m, e) >= targets
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
        biases.append(high)
        channel_scales.append(np.full(targets.shape, scale))
    bias = np.concatenate(biases).astype(np.int32)
    g = GraphBuilder((1, 16, 16), x)
    g.conv("x", "y", len(bias), (1, 1), padding=(0, 0), activation="none", q=y, bias=bias,
           weight=np.ones((len(bias), 1, 1, 1), dtype=np.int8),
           weight_scale=np.concatenate(channel_scales).astype(np.float32))  # fmt: skip
    codes = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)
    return g.graph("y"), codes, np.tile(targets, multipliers)


def test_every_rounding_threshold() -> None:
    graph, codes, targets = threshold_graph()
    flat = assert_all_equal(graph, codes)["y"].reshape(len(targets), 256).astype(int)
    assert np.array_equal(flat[:, 128], targets), "input code 0: the first accumulator that rounds to the target"
    assert np.array_equal(flat[:, 127], targets - 1), "input code -1: one accumulator less"


class FullMultiplier(Arithmetic):
    """Mutant: as for outputs of 8 bits, with 31 bits and double rounding."""

    def scale16(self, x: np.ndarray, m: int, e: int) -> np.ndarray:
        return self.scale(x, m, e)


class Truncated(Arithmetic):
    """Mutant: the multiplier's lower 16 bits cut off, not rounded."""

    def scale16(self, x: np.ndarray, m: int, e: int) -> np.ndarray:
        return super().scale16(x, m & ~0xFFFF, e)


class NotCapped(Arithmetic):
    """Mutant: a reduced multiplier may be 2**15."""

    def scale16(self, x: np.ndarray, m: int, e: int) -> np.ndarray:
        reduced = math.floor(Fraction(m, 2**16) + Fraction(1, 2))
        return (x.astype(np.int64) * reduced + (1 << (14 - e))) >> (15 - e)


class AwayFromZero(Arithmetic):
    """Mutant: ties away from zero, not up."""

    def scale16(self, x: np.ndarray, m: int, e: int) -> np.ndarray:
        return np.sign(x) * super().scale16(np.abs(x), m, e)


@pytest.mark.parametrize("mutant", [FullMultiplier(), Truncated(), NotCapped()], ids=lambda m: type(m).__name__)
def test_mutants_are_caught(mutant: Arithmetic) -> None:
    graph, codes, _ = threshold_graph()
    wrong = run_literal(graph, codes, mutant)["y"]
    for runtime, tensors in runtime_tensors(graph, codes).items():
        assert (tensors["y"] != wrong).sum() >= 10, f"{type(mutant).__name__} passes for {runtime}"


def test_ties_go_up() -> None:
    """A multiplier of exactly 1/2: -1/2 becomes 0, -3/2 becomes -1."""
    g = GraphBuilder((1, 16, 16), qparams(0.5, 0))
    g.conv("x", "y", 1, (1, 1), padding=(0, 0), activation="none", q=wide(1.0), bias=np.zeros(1, np.int32),
           weight=np.ones((1, 1, 1, 1), np.int8), weight_scale=np.ones(1, np.float32))  # fmt: skip
    graph, codes = g.graph("y"), np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)
    out = assert_all_equal(graph, codes)["y"].ravel()
    assert out[125:132].tolist() == [-1, -1, 0, 0, 1, 1, 2]
    wrong = run_literal(graph, codes, AwayFromZero())["y"].ravel()
    assert (wrong != out).sum() == 64  # every odd negative code


def test_requantization_is_exact_for_every_multiplier() -> None:
    """float64 against int64, on random accumulators of up to 37 bits."""
    rng = np.random.default_rng(0)
    multiplier = np.exp2(rng.uniform(-20, 6.9, 2000))
    m, e = quantize_multiplier(multiplier)
    r, shift = reduce_multiplier(m, e)
    assert r.min() >= 2**14 and r.max() <= 2**15 - 1
    req = prepare_requantization16(multiplier, np.full(2000, 2.0**36))
    acc = rng.integers(-(2**36), 2**36, (50, 2000))
    assert np.array_equal(np.floor(acc * req.a + 0.5), multiply_by_reduced_multiplier(acc, r, shift))
    assert reduce_multiplier(2**31 - 1, 0) == (2**15 - 1, 15) and reduce_multiplier(0, 0)[0] == 0
    with pytest.raises(ValueError, match="below 2\\*\\*7"):
        prepare_requantization16(np.array([128.0]), np.ones(1))


def test_limits_of_activations() -> None:
    assert activation_limits("none", 0.5, 0, 16) == (-32768, 32767)
    assert activation_limits("relu", 0.5, 0, 16) == (0, 32767)
    assert activation_limits("relu6", 0.001, 0, 16) == (0, 6000)
    assert activation_limits("relu6", 6 / 40000, 0, 16) == (0, 32767)


def wide_network() -> IntGraph:
    """The small network with an output of 16 bits beside one of 8, both read the same tensor."""
    graph = small_network()
    tensors = dict(graph.tensors)
    ops = []
    for op in graph.ops:
        if op.output == "cls":
            info = tensors["cls"]
            tensors["cls"] = type(info)(info.name, info.shape, wide(info.qparams.scale * 128 / 32767))
            op = type(op)(**{**vars(op), "lo": -32768, "hi": 32767})
        ops.append(op)
    return IntGraph(tensors, ops, graph.inputs, graph.outputs, dict(graph.metadata))


def test_network_file_and_report() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    graph = wide_network()
    data = tflite.write(graph)
    layout = FileLayout(data)
    assert [q.bits for q in layout.output_quantization] == [16, 8] and layout.output_quantization[0].zero_point == 0
    assert [o["dtype"] for o in build_metadata(graph)["outputs"]] == ["int16", "int8"]
    report = check_parity(graph, data, random_codes((2, 3, 32, 48)), intermediates=True)
    assert report.ok, report.text()
    assert {t.name: t.levels for t in report.tensors}["cls_8"] > 256
    graph.tensors["cls"] = type(graph.tensors["cls"])("cls", graph.tensors["cls"].shape, wide(0.001))
    assert not check_parity(graph, data, random_codes((1, 3, 32, 48))).ok


def test_state_and_real_values() -> None:
    graph = wide_network()
    again = IntGraph.from_state(graph.to_state())
    assert again.qparams("cls") == graph.qparams("cls") and again.qparams("cls").bits == 16
    old = graph.to_state()
    old["tensors"] = [t[:4] for t in old["tensors"] if t[0] != "cls"] + [t for t in old["tensors"] if t[0] == "cls"]
    assert IntGraph.from_state(old).tensors.keys() == graph.tensors.keys()  # files of before: no bits, 8
    codes = torch.from_numpy(random_codes((1, 3, 32, 48)))
    for backend in ("auto", "float32"):
        executor = IntExecutor(graph, backend=backend)
        cls, reg = executor(codes)
        assert (cls.dtype, reg.dtype) == (torch.int16, torch.int8)
        p = graph.qparams("x")
        real = executor.run_real((codes.float() - p.zero_point) * p.scale)
        assert torch.equal(real[0], cls.float() * graph.qparams("cls").scale)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"int16 codes are symmetric \(zero point 0\), got 3"):
        QuantParams(1.0, 3, 16)
    with pytest.raises(ValueError, match="8 or 16 bits, got 4"):
        QuantParams(1.0, 0, 4)
    g = GraphBuilder((3, 4, 4), SIGNED)
    g.conv("x", "y", 3, q=wide(0.01))
    g.conv("y", "z", 3)
    with pytest.raises(ValueError, match="'z_conv' reads 'y', which has 16 bits: those are outputs only"):
        g.graph("z")
    g = GraphBuilder((3, 4, 4), SIGNED)
    g.requantize("x", "y", wide(0.01))
    with pytest.raises(ValueError, match="'y_requantize' .* cannot make 16 bits; only a convolution can"):
        g.graph("y")
    g = GraphBuilder((3, 4, 4), SIGNED)
    g.conv("x", "y", 3, q=wide(1e-8), activation="none")
    with pytest.raises(UserError, match="'y_conv': its output scale is .* is the output constant"):
        check_graph(g.graph("y"))
