"""The profile ``tflite_single`` against literal integers; ``make conformance`` compares it with the kernels themselves.

What rounds once, and what does not change; the executor's float64 form against the formula at every threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.export.tflite import int8 as tflite
from hatdet.integer.arithmetic import (
    conv_multiplier,
    multiply_by_quantized_multiplier,
    multiply_rounding_once,
    prepare_single_rounding,
    quantize_multiplier,
)
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.kernels import TensorRequantization
from hatdet.integer.operators.pairs.mul import mul_kernels_agree
from hatdet.integer.operators.pointwise.leaky_relu import kernels_agree as leaky_kernels_agree
from hatdet.integer.profile import WeightedSums
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.helpers.compare import exact_onnx_tensors
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes, random_network, small_network, wide
from tests.helpers.literal_integer import SingleRounding, run_literal
from tests.unit.integer.test_executor_mutants import GRAPHS

P, REFERENCE = PROFILES["tflite_single"], PROFILES["tflite_ref"]


def single(graph: IntGraph) -> IntGraph:
    return replace(graph, metadata={**graph.metadata, "profile": "tflite_single"})


def test_one_rounding_is_that_of_exact_fractions() -> None:
    rng = np.random.default_rng(0)
    for _ in range(400):
        m, e = int(rng.integers(2**30, 2**31)), int(rng.integers(-31, 31))
        most = min(2**31 - 1, int(2**31 / (m * 2.0 ** (e - 31))))
        near = int((rng.integers(-200, 200) + 0.5) * 2.0 ** (31 - e) / m)
        for x in (int(rng.integers(-most, most + 1)), *(v for v in (near - 1, near, near + 1) if abs(v) <= most)):
            exact = floor(Fraction(x * m) / Fraction(2) ** (31 - e) + Fraction(1, 2))
            assert int(multiply_rounding_once(x, m, e)) == exact
            if e >= 0:
                assert int(multiply_by_quantized_multiplier(x, m, e)) == exact


def test_the_forms_of_cmsis_nn_are_the_same() -> None:
    """Half a step in int32 and one more shift; on Helium a doubling high multiplication and a rounding shift."""
    rng = np.random.default_rng(0)
    for e in range(-31, 30):
        m = np.int64(rng.integers(2**30, 2**31))
        most = (2**31 - 1) >> max(e + 1, 0)
        near = np.rint((rng.integers(-200, 200, 50) + 0.5) * 2.0 ** (31 - e) / m).astype(np.int64)
        x = np.concatenate([rng.integers(-most, most + 1, 50), [-most, most], near - 1, near, near + 1])
        x = x[np.abs(x) <= most]
        once = multiply_rounding_once(x, m, e)
        halves = (x * m) >> (30 - e)
        assert np.abs(halves).max() < 2**31 and np.array_equal((halves + 1) >> 1, once)
        right = min(-1, e)
        shifted = x << (e - right)
        assert np.abs(shifted).max() < 2**31
        high = (2 * shifted.astype(object) * int(m)) >> 32
        assert np.array_equal((high + (1 << (-right - 1))) >> -right, once)


@pytest.mark.parametrize(
    ("scale", "bias", "fits"), [(0.6, 2**29, True), (0.6, 2**30, False), (3.0, 2**27, True), (3.0, 2**28, False)]
)
def test_sums_that_leave_no_bit_for_the_half_are_refused(scale: float, bias: int, fits: bool) -> None:
    """From a multiplier of 1/2 on; the reference takes them."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    g = GraphBuilder((1, 4, 4), qparams(1.0))
    g.conv("x", "y", 1, (1, 1), padding=(0, 0), activation="none", q=qparams(1.0), bias=np.array([bias], np.int32),
           weight=np.ones((1, 1, 1, 1), np.int8), weight_scale=np.array([scale], np.float32))  # fmt: skip
    tflite.write(g.graph("y"))
    if fits:
        tflite.write(single(g.graph("y")))
        return
    with pytest.raises(UserError, match="an accumulator can reach .*, beyond int32"):
        tflite.write(single(g.graph("y")))


def test_roundings_differ_at_thresholds() -> None:
    """The first rounding lifts 1/4 to 1/2, which the second one lifts to 1; and ties below 0 go the other way."""
    x = np.arange(-64, 65)
    m, e = quantize_multiplier(0.25)
    once, twice = multiply_rounding_once(x, m, e), multiply_by_quantized_multiplier(x, m, e)
    assert np.array_equal(once, np.floor(x * 0.25 + 0.5))
    expected = np.where((x > 0) & (x % 4 == 1), -1, np.where((x < 0) & (x % 4 == 2), 1, 0))
    assert np.array_equal(once - twice, expected)


@pytest.mark.parametrize("low", [-128, 0])
def test_the_executors_form_is_the_formula(low: int) -> None:
    """At the thresholds of multipliers from 2**7.9 to 2**-30, and beyond the bound of the float64 form."""
    rng, moved = np.random.default_rng(1), 0
    for power in np.linspace(7.9, -30.0, 40):
        multiplier = np.exp2(power) * rng.uniform(0.51, 0.99, 3)
        near = np.rint((np.arange(-130, 131, 3)[None] + 0.5) / multiplier[:, None])
        acc = np.clip(near[:, :, None] + np.arange(-2, 3), -(2**31) + 1, 2**31 - 1).reshape(3, -1)
        for bound in (np.abs(acc).max(1), np.full(3, 2.0**31)):
            prepared = prepare_single_rounding(multiplier, bound)
            made = TensorRequantization(prepared)
            wanted = np.clip(multiply_rounding_once(acc, prepared.m[:, None], prepared.e[:, None]), low, 127)
            double = np.clip(multiply_by_quantized_multiplier(acc, prepared.m[:, None], prepared.e[:, None]), low, 127)
            moved += int((wanted != double).sum())
            maps = torch.from_numpy(acc.reshape(1, 3, 1, -1).astype(np.float64))
            got = made.centred(maps.contiguous(memory_format=torch.channels_last), low, 127)
            assert np.array_equal(got.numpy()[0, :, 0], wanted), power
            codes = made.codes(maps.contiguous(memory_format=torch.channels_last), low, 127, -low)
            assert np.array_equal(codes.numpy()[0, :, 0].astype(int), wanted - low), power
    assert moved > 1000


@pytest.mark.parametrize("operator", GRAPHS)
def test_operator(operator: str) -> None:
    """Accumulators at thresholds, all pairs, all codes; the reference differs on them."""
    moved = 0
    for make, arguments in GRAPHS[operator]:
        graph, codes = make(*arguments)
        expected = run_literal(graph, codes, SingleRounding())["y"]
        for backend in ("auto", "float32"):
            assert np.array_equal(IntExecutor(single(graph), backend=backend)(torch.from_numpy(codes))[0], expected)
        moved += int((IntExecutor(graph)(torch.from_numpy(codes))[0].numpy() != expected).sum())
    assert moved


@pytest.mark.parametrize("function", ["sigmoid", "tanh", "hardswish"])
@pytest.mark.parametrize("scale", [0.003, 0.02, 0.1, 0.5, 1.7])
def test_activations_that_do_not_change(function: str, scale: float) -> None:
    x, y = qparams(scale, 5), qparams(scale * 0.7, -3)
    fixed = {"sigmoid": QuantParams(1 / 256, -128), "tanh": QuantParams(1 / 128, 0)}.get(function, y)
    assert np.array_equal(P.activation(function, x, fixed), REFERENCE.activation(function, x, fixed))


def test_convolutions_to_16_bits_do_not_change() -> None:
    g = GraphBuilder((5, 7, 9), qparams(0.021, 7))
    g.conv("x", "y", 6, activation="relu6", q=wide(6 / 32767))
    codes = torch.from_numpy(random_codes((1, 5, 7, 9)))
    graph = g.graph("y")
    assert torch.equal(IntExecutor(graph)(codes)[0], IntExecutor(single(graph))(codes)[0])


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_bilinear_ties_go_up(factor: int) -> None:
    g = GraphBuilder((2, 5, 6), qparams(0.04, -9))
    g.bilinear("x", "y", factor)
    graph, codes = g.graph("y"), random_codes((1, 2, 5, 6))
    expected = run_literal(graph, codes, SingleRounding())["y"]
    assert np.array_equal(IntExecutor(single(graph))(torch.from_numpy(codes))[0], expected)
    assert (IntExecutor(graph)(torch.from_numpy(codes))[0].numpy() != expected).any()


def test_networks() -> None:
    networks: list[Callable[[], IntGraph]] = [small_network, *((lambda s=s: random_network(s)) for s in range(6))]  # type: ignore[misc]
    for make in networks:
        graph = make()
        codes = random_codes((1, *graph.tensors["x"].shape), low=-40, high=90)
        expected = run_literal(graph, codes, SingleRounding())
        for name, value in IntExecutor(single(graph))(torch.from_numpy(codes), keep=True).items():
            assert np.array_equal(value, expected[name]), name


# ---- scales


def test_scales_agree_in_its_own_rounding() -> None:
    """LiteRT's float32 multipliers and TFLite Micro's float64 ones: scales at which they part depend on it."""
    rng, found = np.random.default_rng(0), set()
    for _ in range(600):
        s1, s2, sy = (float(np.float32(s)) for s in rng.uniform(0.01, 0.1, 3))
        once = mul_kernels_agree(s1, s2, sy, multiply_rounding_once)
        found.add((mul_kernels_agree(s1, s2, sy), once))
        assert mul_kernels_agree(s1, s2, P.product_scale([(s1, s2)], sy), multiply_rounding_once)
    for _ in range(50):
        s1, sy = (float(np.float32(s)) for s in rng.uniform(0.01, 0.1, 2))
        assert leaky_kernels_agree(s1, P.leaky_relu_scale(s1, sy, 0.1, False), 0.1, multiply_rounding_once)
    assert {(True, False), (False, True), (True, True)} <= found, found


def parting_scales() -> tuple[float, float, float]:
    rng = np.random.default_rng(0)
    for _ in range(3000):
        s1, s2, sy = (float(np.float32(s)) for s in rng.uniform(0.01, 0.1, 3))
        if mul_kernels_agree(s1, s2, sy) and not mul_kernels_agree(s1, s2, sy, multiply_rounding_once):
            return s1, s2, sy
    raise AssertionError("none")


def test_a_product_that_the_kernels_compute_differently_is_refused() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    s1, s2, sy = parting_scales()
    g = GraphBuilder((2, 4, 4), qparams(s1))
    g.requantize("x", "b", QuantParams(s2, 0))
    g.mul("x", "b", "y", QuantParams(sy, 0))
    tflite.write(g.graph("y"))
    with pytest.raises(UserError, match="LiteRT and TFLite Micro round some products differently"):
        tflite.write(single(g.graph("y")))


def test_multipliers_of_one_and_more_are_the_references() -> None:
    for real in (1.0, 1.7, 3.3, 100.0):
        x, y = qparams(0.5, 3), qparams(0.5 / real, -7)
        assert np.array_equal(P.requantize(x, y), REFERENCE.requantize(x, y))
        scales = np.array([0.02], np.float32)
        assert conv_multiplier(x.scale, scales, y.scale)[0] < 256


@pytest.mark.parametrize("operator", ["conv", "conv_transpose"])
def test_exact_onnx_says_one_rounding(operator: str) -> None:
    """Also in int64, where accumulators go beyond what the float64 form covers."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    literally = set()
    for make, arguments in GRAPHS[operator]:
        graph, codes = make(*arguments)
        graph = single(graph)
        found = exact_onnx_tensors(graph, codes)["y"]
        assert np.array_equal(found, run_literal(graph, codes, SingleRounding())["y"])
        op: Any = graph.ops[0]
        x, y = graph.qparams("x"), graph.qparams("y")
        requantizer: Any = P.sums(WeightedSums(x.scale, op.weight_scale, y, np.abs(op.bias) + 127.0))
        literally.add(not requantizer.all_exact)
    assert literally == {False, True}
