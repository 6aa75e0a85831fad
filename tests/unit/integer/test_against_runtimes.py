"""The integer operators against the runtimes that ship: equality, on random, extreme and threshold inputs.

Random inputs cannot see a multiplier that is one unit off, so convolutions are also run on accumulators *at* every
rounding threshold, additions on all 65 536 pairs of codes, requantizations on all 256 codes; mutants must be caught.
"""

from __future__ import annotations

import numpy as np
import pytest

from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.windows.conv import ConvOp
from tests.helpers.compare import assert_all_equal, runtime_tensors
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes, small_network
from tests.helpers.literal_integer import Arithmetic, Float32Scales, OneMore, SingleRounding, run_literal

PIXELS = qparams(1 / 255, -128)
SIGNED = qparams(0.021, 7)

# in, out, groups, kernel, stride, padding, dilation, (height, width)
CONVOLUTIONS = {
    "3x3": (5, 7, 1, (3, 3), (1, 1), (1, 1), (1, 1), (9, 13)),
    "1x1": (16, 6, 1, (1, 1), (1, 1), (0, 0), (1, 1), (7, 5)),
    "3x3 unpadded": (3, 4, 1, (3, 3), (1, 1), (0, 0), (1, 1), (6, 9)),
    "3x3 stride 2, even": (3, 8, 1, (3, 3), (2, 2), (1, 1), (1, 1), (12, 16)),
    "3x3 stride 2, odd": (3, 8, 1, (3, 3), (2, 2), (1, 1), (1, 1), (11, 15)),
    "3x3 stride 2, even and odd": (3, 8, 1, (3, 3), (2, 2), (1, 1), (1, 1), (12, 15)),
    "3x3 stride 3": (3, 4, 1, (3, 3), (3, 3), (1, 1), (1, 1), (13, 14)),
    "1x1 stride 2": (6, 4, 1, (1, 1), (2, 2), (0, 0), (1, 1), (8, 7)),
    "5x5 stride 2, even": (3, 4, 1, (5, 5), (2, 2), (2, 2), (1, 1), (10, 14)),
    "3x1": (4, 4, 1, (3, 1), (1, 1), (1, 0), (1, 1), (8, 6)),
    "wide padding": (3, 4, 1, (3, 3), (1, 1), (2, 3), (1, 1), (6, 5)),
    "dilated": (4, 4, 1, (3, 3), (1, 1), (2, 2), (2, 2), (11, 9)),
    "depthwise 3x3": (8, 8, 8, (3, 3), (1, 1), (1, 1), (1, 1), (9, 12)),
    "depthwise 5x5": (8, 8, 8, (5, 5), (1, 1), (2, 2), (1, 1), (9, 12)),
    "depthwise stride 2, even": (8, 8, 8, (3, 3), (2, 2), (1, 1), (1, 1), (10, 12)),
    "depthwise 5x5 stride 2, odd": (8, 8, 8, (5, 5), (2, 2), (2, 2), (1, 1), (11, 13)),
    "depthwise multiplier 2": (4, 8, 4, (3, 3), (1, 1), (1, 1), (1, 1), (6, 7)),
    "dilated stride 2": (3, 4, 1, (3, 3), (2, 2), (2, 2), (2, 2), (11, 12)),
    "dilated by rows and columns": (3, 4, 1, (3, 2), (1, 1), (3, 1), (3, 2), (10, 9)),
    "grouped dilated": (8, 12, 4, (3, 3), (1, 1), (2, 2), (2, 2), (9, 8)),
    "depthwise dilated unpadded": (4, 4, 4, (3, 3), (1, 1), (0, 0), (2, 2), (9, 8)),
    "depthwise dilated by 3, multiplier 2": (4, 8, 4, (3, 3), (1, 1), (3, 3), (3, 3), (9, 8)),
    "depthwise dilated": (4, 4, 4, (3, 3), (1, 1), (2, 2), (2, 2), (9, 8)),
    "one channel": (1, 3, 1, (3, 3), (1, 1), (1, 1), (1, 1), (5, 5)),
    "grouped": (8, 12, 4, (3, 3), (1, 1), (1, 1), (1, 1), (7, 9)),
    "grouped stride 2, even": (8, 8, 2, (3, 3), (2, 2), (1, 1), (1, 1), (8, 10)),
    "eight channels a group": (24, 48, 3, (3, 3), (1, 1), (1, 1), (1, 1), (7, 9)),
    "eight channels a group, stride 2, odd": (32, 32, 4, (3, 3), (2, 2), (1, 1), (1, 1), (11, 7)),
    "eight channels a group, stride 2, even": (16, 32, 2, (3, 3), (2, 2), (1, 1), (1, 1), (8, 14)),
    "odd channels a group": (21, 15, 3, (3, 3), (1, 1), (1, 1), (1, 1), (6, 7)),
    "odd channels a group, stride 2": (15, 9, 3, (3, 3), (2, 2), (1, 1), (1, 1), (8, 9)),
    "one output a group": (12, 4, 4, (3, 3), (1, 1), (1, 1), (1, 1), (5, 8)),
    "depthwise multiplier 3": (5, 15, 5, (3, 3), (1, 1), (1, 1), (1, 1), (6, 7)),
    "grouped 1x1": (8, 12, 2, (1, 1), (1, 1), (0, 0), (1, 1), (4, 5)),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("activation", ["none", "relu", "relu6"])
def test_convolution(case: str, activation: str) -> None:
    inputs, outputs, groups, kernel, stride, padding, dilation, size = CONVOLUTIONS[case]
    source = PIXELS if activation == "relu6" else SIGNED
    g = GraphBuilder((inputs, *size), source, seed=len(case))
    g.conv("x", "y", outputs, kernel, stride, padding, dilation, groups, activation)
    out = assert_all_equal(g.graph("y"), random_codes((2, inputs, *size), seed=1))["y"]
    assert len(np.unique(out)) > 40, "few distinct codes make an easy comparison"


@pytest.mark.parametrize("sign", [-127, 127])
@pytest.mark.parametrize("code", [-128, 127])
def test_convolution_extremes(sign: int, code: int) -> None:
    """Constant extreme weights and inputs: the largest accumulators, padding at its most visible."""
    weight = np.full((4, 32, 3, 3), sign, dtype=np.int8)
    g = GraphBuilder((32, 5, 6), qparams(0.02, 127 if code == -128 else -128))
    g.conv("x", "y", 4, activation="none", q=qparams(40.0, 3), weight=weight)
    out = assert_all_equal(g.graph("y"), np.full((1, 32, 5, 6), code, dtype=np.int8))["y"]
    assert len(np.unique(out)) >= 3  # corners, edges and the interior see 4, 6 and 9 positions


def threshold_graph(arithmetic: Arithmetic, multipliers: int = 6) -> tuple[IntGraph, np.ndarray]:
    """A 1x1 convolution whose accumulators surround every rounding threshold of several multipliers.

    Weight 1 and an input with all 256 codes give the accumulators bias - 128 ... bias + 127; the bias of channel (i, y)
    puts the smallest accumulator that multiplier i rounds to y (or above) in the middle.
    """
    rng = np.random.default_rng(5)
    # From 2**-4 to 2**-22: the smaller the multiplier, the larger the accumulators, the more a wrong ulp moves.
    scales = (np.exp2(-np.linspace(4, 22, multipliers)) * rng.uniform(0.51, 0.99, multipliers)).astype(np.float32)
    x, y = qparams(0.37, 0), qparams(0.0713, 0)
    codes = np.arange(-127, 128)
    biases, channel_scales = [], []
    for scale in scales:
        m, e = arithmetic.multiplier(arithmetic.conv_real(x.scale, scale, y.scale))
        low, high = np.full(codes.shape, -(2**31)), np.full(codes.shape, 2**31)
        while np.any(high - low > 1):  # scale() is monotone: find the first accumulator that reaches each code
            middle = (low + high) // 2
            reached = arithmetic.scale(middle, m, e) >= codes
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
        biases.append(high)
        channel_scales.append(np.full(codes.shape, scale))
    bias = np.concatenate(biases).astype(np.int32)
    g = GraphBuilder((1, 16, 16), x)
    g.conv("x", "y", len(bias), (1, 1), padding=(0, 0), activation="none", q=y, bias=bias,
           weight=np.ones((len(bias), 1, 1, 1), dtype=np.int8),
           weight_scale=np.concatenate(channel_scales).astype(np.float32))  # fmt: skip
    return g.graph("y"), np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)


def test_convolution_at_every_rounding_threshold() -> None:
    graph, codes = threshold_graph(Arithmetic())
    out = assert_all_equal(graph, codes)["y"]
    targets = np.tile(np.arange(-127, 128), 6).reshape(1, -1)
    flat = out.reshape(1, targets.size, 256).astype(int)
    assert np.array_equal(flat[:, :, 128], targets), "input code 0: the first accumulator that rounds to the target"
    assert np.array_equal(flat[:, :, 127], targets - 1), "input code -1: one accumulator less"


@pytest.mark.parametrize("mutant", [SingleRounding(), Float32Scales(), OneMore()], ids=lambda m: type(m).__name__)
def test_mutants_of_the_convolution_are_caught(mutant: Arithmetic) -> None:
    """An engine that rounded once, multiplied scales in float32, or missed by one ulp would differ from them."""
    graph, codes = threshold_graph(Arithmetic())
    wrong = run_literal(graph, codes, mutant)["y"]
    for runtime, tensors in runtime_tensors(graph, codes).items():
        assert (tensors["y"] != wrong).sum() >= 10, f"{type(mutant).__name__} passes for {runtime}"


def test_random_inputs_do_not_catch_one_ulp() -> None:
    """Why the thresholds are needed: on random tensors the mutant passes."""
    g = GraphBuilder((5, 9, 13), SIGNED)
    g.conv("x", "y", 7, activation="none")
    graph, codes = g.graph("y"), random_codes((2, 5, 9, 13))
    assert np.array_equal(run_literal(graph, codes, OneMore())["y"], run_literal(graph, codes)["y"])


def identity(g: GraphBuilder, channel: int, out: str, scale: float, zero_point: int) -> None:
    """``out`` = the codes of one channel of ``x`` (scale 1, zero point 0), under another quantization: multiplier 1."""
    weight = np.zeros((1, g.tensors["x"].shape[0], 1, 1), dtype=np.int8)
    weight[0, channel] = 1
    g.conv("x", out, 1, (1, 1), padding=(0, 0), activation="none", q=qparams(scale, zero_point), weight=weight,
           bias=np.array([-zero_point], dtype=np.int32), weight_scale=np.array([scale], dtype=np.float32))  # fmt: skip


ADDITIONS = {
    "equal": ((0.02, -128), (0.02, -128), (0.04, -128), "none"),
    "typical": ((6 / 255, -128), (0.0317, -20), (0.0411, -60), "none"),
    "relu6": ((0.051, 3), (0.0317, -20), (6 / 255, -128), "relu6"),
    "relu": ((0.051, 3), (0.0317, -20), (0.0371, -100), "relu"),
    "first 1000 times larger": ((0.9, 5), (0.0009, -7), (0.8, 11), "none"),
    "second 1000 times larger": ((0.0009, 5), (0.9, -7), (0.8, 11), "none"),
    "scales 10**6 apart": ((3.0e3, 0), (3.0e-3, 0), (2.9e3, -1), "none"),
    "output far smaller": ((0.5, 0), (0.4, 0), (0.01, 0), "none"),
    "output far larger": ((0.01, 0), (0.013, 0), (0.7, 0), "none"),
    "extreme zero points": ((0.02, 127), (0.03, -128), (0.025, 127), "none"),
}


@pytest.mark.parametrize("case", ADDITIONS)
def test_addition_of_all_pairs(case: str) -> None:
    (s1, z1), (s2, z2), (sy, zy), activation = ADDITIONS[case]
    g = GraphBuilder((2, 256, 256), qparams(1.0, 0))
    identity(g, 0, "a", s1, z1)
    identity(g, 1, "b", s2, z2)
    g.add("a", "b", "y", qparams(sy, zy), activation)
    every = np.arange(-128, 128).astype(np.int8)
    codes = np.stack(np.meshgrid(every, every, indexing="ij"))[None]
    out = assert_all_equal(g.graph("y"), codes)
    assert np.array_equal(out["a"][0, 0], codes[0, 0]) and np.array_equal(out["b"][0, 0], codes[0, 1])


def test_single_rounding_of_the_addition_is_caught() -> None:
    g = GraphBuilder((2, 256, 256), qparams(1.0, 0))
    identity(g, 0, "a", 0.5, 0)
    identity(g, 1, "b", 0.25, 0)
    g.add("a", "b", "y", qparams(1.0, 0))
    every = np.arange(-128, 128).astype(np.int8)
    codes = np.stack(np.meshgrid(every, every, indexing="ij"))[None]
    wrong = run_literal(g.graph("y"), codes, SingleRounding())["y"]
    for runtime, tensors in runtime_tensors(g.graph("y"), codes).items():
        assert (tensors["y"] != wrong).any(), runtime


def test_addition_of_a_tensor_to_itself() -> None:
    g = GraphBuilder((3, 5, 7), SIGNED)
    g.conv("x", "a", 4)
    g.add("a", "a", "y", qparams(12 / 255, -128))
    assert_all_equal(g.graph("y"), random_codes((1, 3, 5, 7)))


@pytest.mark.parametrize("ratio", [0.5, 0.503, 0.77, 0.9999999, 1.0, 1.0000001, 1.31, 1.9, 2.0, 3.7, 40.0, 1e-3, 1e-9])
@pytest.mark.parametrize("zeros", [(-128, -128), (0, 0), (17, -93), (127, -128)])
def test_requantization_of_all_codes(ratio: float, zeros: tuple[int, int]) -> None:
    g = GraphBuilder((1, 16, 16), qparams(0.0317 * ratio, zeros[0]))
    g.requantize("x", "y", qparams(0.0317, zeros[1]))
    assert_all_equal(g.graph("y"), np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16))


# kernel, stride, padding, (height, width)
POOLS = {
    "2x2 stride 2": ((2, 2), (2, 2), (0, 0), (8, 6)),
    "2x2 stride 2, odd": ((2, 2), (2, 2), (0, 0), (9, 7)),
    "3x3 stride 2, even": ((3, 3), (2, 2), (1, 1), (8, 10)),
    "3x3 stride 2, odd": ((3, 3), (2, 2), (1, 1), (9, 7)),
    "5x5": ((5, 5), (1, 1), (2, 2), (7, 9)),
    "13x13 on a small map": ((13, 13), (1, 1), (6, 6), (6, 10)),
    "3x5": ((3, 5), (1, 1), (1, 2), (7, 9)),
}


@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("q", [qparams(6 / 255, -128), qparams(0.05, 20)], ids=["relu", "signed"])
def test_max_pool(case: str, q: object) -> None:
    """Padding never wins, also where the zero point is not the lowest code and all real values are negative."""
    kernel, stride, padding, size = POOLS[case]
    g = GraphBuilder((3, *size), q)
    g.max_pool("x", "y", kernel, stride, padding)
    assert_all_equal(g.graph("y"), random_codes((2, 3, *size)))
    assert_all_equal(g.graph("y"), random_codes((1, 3, *size), high=-60))


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (20, 13), (41, 43)])
def test_resize_nearest(factor: int, size: tuple[int, int]) -> None:
    g = GraphBuilder((2, *size), SIGNED)
    g.resize("x", "y", factor)
    assert_all_equal(g.graph("y"), random_codes((1, 2, *size)))


def test_concat_of_three() -> None:
    g = GraphBuilder((3, 5, 7), SIGNED)
    g.conv("x", "a", 4)
    g.conv("x", "b", 1)
    g.conv("x", "c", 6)
    g.concat(["a", "b", "c", "a"], "y")
    assert assert_all_equal(g.graph("y"), random_codes((2, 3, 5, 7)))["y"].shape == (2, 15, 5, 7)


@pytest.mark.parametrize("size", [(32, 48), (64, 32)])
def test_small_network(size: tuple[int, int]) -> None:
    graph = small_network(*size)
    out = assert_all_equal(graph, random_codes((3, 3, *size)))
    assert all(len(np.unique(out[name])) > 30 for name in graph.outputs)


def test_accumulators_beyond_float32() -> None:
    """4608 products of 127 * 255 sum to 1.5e8 > 2**24: the executor must not add them in one float32 sum."""
    rng = np.random.default_rng(3)
    weight = rng.choice(np.array([-127, 127, 126, 125], dtype=np.int8), (4, 512, 3, 3))
    g = GraphBuilder((512, 6, 5), qparams(1 / 255, -128))
    scale = rng.uniform(0.9, 1.1, 4).astype(np.float32) * np.float32(2e-5)
    g.conv("x", "y", 4, activation="none", q=qparams(0.05, -90), weight=weight, weight_scale=scale)
    graph = g.graph("y")
    op = graph.ops[0]
    assert isinstance(op, ConvOp)
    assert np.abs(op.weight.astype(int)).sum() / 4 * 255 > 2**24
    out = assert_all_equal(graph, random_codes((1, 512, 6, 5), low=60))["y"]
    assert len(np.unique(out)) > 20
