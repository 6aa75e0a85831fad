"""Pooling, products and activations against the runtimes that ship: all codes, all pairs, extreme scales and sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hatdet.export.tflite import int8 as tflite
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pairs.mul import agreeing_output_scale, mul_kernels_agree, mul_table
from hatdet.integer.operators.pointwise.activation_codes import (
    FIXED_OUTPUTS,
    SIGNED_UNIT_INTERVAL,
    UNIT_INTERVAL,
    activation_table,
    agreeing_input_scale,
    kernels_agree,
)
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.helpers.compare import assert_all_equal, runtime_tensors
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes
from tests.helpers.literal_integer import Arithmetic, SingleRounding, run_literal

EVERY = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)


def identity(g: GraphBuilder, channel: int, out: str, q: QuantParams) -> None:
    """``out`` = the codes of one channel of ``x`` (scale 1, zero point 0), under another quantization."""
    weight = np.zeros((1, g.tensors["x"].shape[0], 1, 1), dtype=np.int8)
    weight[0, channel] = 1
    g.conv("x", out, 1, (1, 1), padding=(0, 0), activation="none", q=q, weight=weight,
           bias=np.array([-q.zero_point], dtype=np.int32),
           weight_scale=np.array([q.scale], dtype=np.float32))  # fmt: skip


def assert_backends_equal(graph: IntGraph, codes: np.ndarray) -> None:
    x = torch.from_numpy(codes)
    a, b = IntExecutor(graph)(x, keep=True), IntExecutor(graph, backend="float32")(x, keep=True)
    assert all(torch.equal(a[name], b[name]) for name in graph.tensors)


def all_pairs(first: QuantParams, second: QuantParams, out: QuantParams) -> tuple[IntGraph, np.ndarray]:
    g = GraphBuilder((2, 256, 256), qparams(1.0, 0))
    identity(g, 0, "a", first)
    identity(g, 1, "b", second)
    g.mul("a", "b", "y", qparams(agreeing_output_scale([(first.scale, second.scale)], out.scale), out.zero_point))
    every = np.arange(-128, 128).astype(np.int8)
    return g.graph("y"), np.stack(np.meshgrid(every, every, indexing="ij"))[None]


PRODUCTS = {
    "gate": (qparams(6 / 255, -128), UNIT_INTERVAL, qparams(5.1 / 255, -128)),
    "gate of a signed tensor": (qparams(0.0317, -20), UNIT_INTERVAL, qparams(0.0291, -31)),
    "both signed": (qparams(0.0317, -20), qparams(0.051, 3), qparams(0.041, 17)),
    "output saturates": (qparams(0.0317, -20), qparams(0.051, 3), qparams(0.0011, 17)),
    "multiplier above 1": (qparams(3.1, 4), qparams(2.7, -9), qparams(0.5, 0)),
    "multiplier 2**-20": (qparams(0.001, 4), qparams(0.001, -9), qparams(1.0, 0)),
    "extreme zero points": (qparams(0.02, 127), qparams(0.03, -128), qparams(0.1, 127)),
    "exact ties": (qparams(0.5, 0), qparams(0.25, 0), qparams(1.0, 0)),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_product_of_all_pairs(case: str) -> None:
    graph, codes = all_pairs(*PRODUCTS[case])
    assert_all_equal(graph, codes)
    assert_backends_equal(graph, codes)


def test_single_rounding_of_the_product_is_caught() -> None:
    graph, codes = all_pairs(*PRODUCTS["exact ties"])
    wrong = run_literal(graph, codes, SingleRounding())["y"]
    for runtime, tensors in runtime_tensors(graph, codes).items():
        assert (tensors["y"] != wrong).sum() >= 10, runtime


class Float64Products(Arithmetic):
    """The multiplier of a product in float64, as TFLite Micro computes it."""

    def mul_real(self, s1: float, s2: float, sy: float) -> float:
        return float(np.float64(s1) * np.float64(s2) / np.float64(sy))


DISAGREEING = (0.05998869240283966, 0.036176420748233795, 0.0694456398487091)


def test_scales_on_which_the_runtimes_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteRT follows the float32 multiplier, TFLite Micro the float64 one; such a graph is refused."""
    assert not mul_kernels_agree(*DISAGREEING)
    g = GraphBuilder((2, 256, 256), qparams(1.0, 0))
    identity(g, 0, "a", qparams(DISAGREEING[0]))
    identity(g, 1, "b", qparams(DISAGREEING[1]))
    g.mul("a", "b", "y", qparams(DISAGREEING[2]))
    graph, (_, codes) = g.graph("y"), all_pairs(*PRODUCTS["gate"])
    with pytest.raises(UserError, match="y_mul.*TFLite Micro"):
        tflite.write(graph)
    monkeypatch.setattr("hatdet.integer.profiles.checks.tflite_ref.mul_kernels_agree", lambda *_: True)
    single, double = run_literal(graph, codes)["y"], run_literal(graph, codes, Float64Products())["y"]
    assert (single != double).sum() == 308
    litert, micro = runtime_tensors(graph, codes).values()
    assert np.array_equal(litert["y"], single) and np.array_equal(micro["y"], double)


def test_agreement_covers_all_products() -> None:
    rng = np.random.default_rng(0)
    products = np.unique(np.outer(np.arange(-255, 256), np.arange(256)))
    seen = set()
    for i in range(150):
        s1, s2 = (float(np.float32(v)) for v in rng.uniform(0.01, 0.06, 2))
        sy = float(np.float32(s1 * s2 * (2 * rng.integers(3, 300) if i % 2 else rng.uniform(5, 600))))
        multipliers = (Arithmetic().mul_real(s1, s2, sy), Float64Products().mul_real(s1, s2, sy))
        codes = [Arithmetic().scale(products, *Arithmetic().multiplier(m)) for m in multipliers]
        same = bool(np.array_equal(*(np.clip(c, -256, 256) for c in codes)))
        assert same or not mul_kernels_agree(s1, s2, sy), (s1, s2, sy)  # it also asks integers that are no product
        scale = agreeing_output_scale([(s1, s2)], sy)
        assert mul_kernels_agree(s1, s2, scale) and sy <= scale < sy * 1.001
        seen.add(same)
    assert seen == {True, False}


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (16, 12)])
def test_product_with_one_factor_a_channel(size: tuple[int, int]) -> None:
    g = GraphBuilder((5, *size), qparams(0.0317, -20))
    g.average("x", "m")
    g.mul("x", "m", "y", qparams(agreeing_output_scale([(g.tensors["x"].qparams.scale,) * 2], 0.03), -60))
    assert_all_equal(g.graph("y"), random_codes((3, 5, *size)))
    assert_backends_equal(g.graph("y"), random_codes((3, 5, *size)))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 2), (3, 5), (20, 20), (13, 17), (64, 48)])
@pytest.mark.parametrize("zero_point", [-128, 0, 9, 127])
def test_global_average(size: tuple[int, int], zero_point: int) -> None:
    g = GraphBuilder((6, *size), qparams(0.05, zero_point))
    g.average("x", "y")
    codes = random_codes((4, 6, *size))
    codes[0] = np.array([-128, 127, 0, -1, 1, 5], dtype=np.int8).reshape(6, 1, 1)
    codes[1] = (codes[1] > 0).astype(np.int8)  # sums around the tie at n / 2
    codes[2] = -codes[1]
    out = assert_all_equal(g.graph("y"), codes)["y"]
    assert out[0].ravel().tolist() == [-128, 127, 0, -1, 1, 5]
    assert_backends_equal(g.graph("y"), codes)


def test_ties_of_the_average_go_away_from_zero_on_codes() -> None:
    """Codes (0, 1) and (-1, 0) have the means 1/2 and -1/2, whatever the zero point: 1 and -1."""
    g = GraphBuilder((2, 1, 2), qparams(0.05, 3))
    g.average("x", "y")
    out = assert_all_equal(g.graph("y"), np.array([[[[0, 1]], [[-1, 0]]]], dtype=np.int8))["y"]
    assert out.ravel().tolist() == [1, -1]


SCALES = [1e-4, 0.0039, 0.0117, 0.0118, 0.0235, 0.0317, 0.047, 0.0627, 0.1, 0.13, 0.251, 0.7, 3.1]
ZEROS = [-128, -96, -20, 0, 55, 127]


def activation_graph(function: str, scale: float, zero: int) -> IntGraph:
    x = qparams(scale, zero)
    low, high = -min(0.375, x.scale * (128 + zero)), x.scale * (127 - zero)
    out = qparams(max((high - low) / 255, x.scale / 100), 0)
    x = qparams(agreeing_input_scale(function, x, out), zero)
    g = GraphBuilder((1, 16, 16), x)
    if function == "silu":
        out = qparams(agreeing_output_scale([(x.scale, 1 / 256)], out.scale))
    out = qparams(out.scale, min(127, max(-128, round(-128 - low / out.scale))))
    g.activation("x", "y", function, FIXED_OUTPUTS.get(function, out))
    return g.graph("y")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("function", ["hardswish", "sigmoid", "silu", "tanh"])
def test_activation_of_all_codes(function: str, scale: float) -> None:
    for zero in ZEROS:
        graph = activation_graph(function, scale, zero)
        assert_all_equal(graph, EVERY)
        assert_backends_equal(graph, EVERY)


# Found by search; of some 26 000 random sigmoids, 19 000 random hard-swishes and 18 000 random tanhs the runtimes
# differed on 25, 30 and 6.
DISAGREEING_ACTIVATIONS = [
    ("sigmoid", qparams(0.028354830186997713, 13), UNIT_INTERVAL, 73),
    ("sigmoid", qparams(0.0050737799179777, -56), UNIT_INTERVAL, 87),
    ("tanh", qparams(0.027020184362565224, -86), SIGNED_UNIT_INTERVAL, 9),
    ("tanh", qparams(0.3464648574418819, -12), SIGNED_UNIT_INTERVAL, -21),
    ("hardswish", qparams(0.017611930752955942, 39), None, -4),
    ("hardswish", qparams(0.29934825694413325, -67), None, -49),
]


@pytest.mark.parametrize(("function", "x", "y", "code"), DISAGREEING_ACTIVATIONS)
def test_activations_on_which_the_runtimes_disagree(
    function: str, x: QuantParams, y: QuantParams | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteRT is the table; TFLite Micro is one off. Such a graph is refused, and a scale nearby suits both."""
    if y is None:
        low, high = -0.375, x.scale * (127 - x.zero_point)
        y = qparams((high - low) / 255)
        y = qparams((high - low) / 255, round(-128 - low / y.scale))
    g = GraphBuilder((1, 16, 16), x)
    g.activation("x", "y", function, y)
    graph = g.graph("y")
    assert not kernels_agree(function, x, y)
    with pytest.raises(UserError, match="y_.*TFLite Micro"):
        tflite.write(graph)
    monkeypatch.setattr("hatdet.integer.profiles.checks.tflite_ref.kernels_agree", lambda *_: True)
    expected = activation_table(function, x, y).reshape(EVERY.shape)
    litert, micro = runtime_tensors(graph, EVERY).values()
    assert np.array_equal(litert["y"], expected)
    assert abs(int(micro["y"].ravel()[code + 128]) - int(expected.ravel()[code + 128])) == 1
    assert x.scale < agreeing_input_scale(function, x, y) < x.scale * 1.001


def test_tables_in_numbers() -> None:
    """Values a reader can compute: with Sx = 1/16 and Zx = 0 the code 16 is 1.0."""
    x, y = qparams(1 / 16, 0), qparams(1 / 32, 0)
    sigmoid = activation_table("sigmoid", x, UNIT_INTERVAL).astype(int)
    assert sigmoid[128] == 128 - 128 and sigmoid[144] == round(256 * 0.7310586) - 128
    assert activation_table("silu", x, y)[144] == round(187 / 256 * 32)
    tanh = activation_table("tanh", x, SIGNED_UNIT_INTERVAL).astype(int)
    assert tanh[128] == 0 and tanh[144] == round(128 * 0.7615942) == -tanh[112] and (tanh[0], tanh[255]) == (-128, 127)
    hardswish = activation_table("hardswish", x, y).astype(int)
    assert hardswish[144] == round(1 * 4 / 6 * 32) and hardswish[128] == 0 and hardswish[128 - 64] == 0
    assert mul_table((0.5, 0.25, 1.0), (0, 0, 0))[128 + 3, 128 + 4] == 2  # 1.5 away from zero


def test_unknown_function_and_fixed_output() -> None:
    with pytest.raises(ValueError, match="hardswish, sigmoid, silu"):
        activation_table("mish", qparams(0.1), qparams(0.1))
    with pytest.raises(ValueError, match="sigmoid"):
        activation_table("sigmoid", qparams(0.1), qparams(0.1))
    with pytest.raises(ValueError, match="the output of a tanh is quantized with .*0.0078125"):
        activation_table("tanh", qparams(0.1), UNIT_INTERVAL)
