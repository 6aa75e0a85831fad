"""The profile ``xnnpack`` operator by operator against LiteRT's default kernels, with 1 and 4 threads: equality.

Accumulators at every rounding threshold, all 256 codes, all 65 536 pairs, scales at the ends of what the kernels take;
wrong formulas must be caught. Random tensors catch few of them: scales are powers of two, or next to ties.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.export.tflite import int8 as tflite
from hatdet.integer import xnnpack as formulas
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pairs.mul import MulOp
from hatdet.integer.profiles import xnnpack as profile
from hatdet.integer.profiles.checks import xnnpack as checks
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.single_multiply import FloatRequantization
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.helpers import operator_files as made
from tests.helpers.default_kernels import assert_default_kernels, default_tensors, executed
from tests.helpers.int_graphs import GraphBuilder, in_profile, qparams, random_codes, small_network
from tests.helpers.operator_files import EVERY, PAIRS, pair, thresholds
from tests.unit.integer.test_against_runtimes import CONVOLUTIONS

P, REFERENCE = PROFILES["xnnpack"], PROFILES["tflite_ref"]


# ---- squares


@pytest.mark.parametrize(("x_scale", "y_scale", "zero"), made.SQUARES)
def test_a_map_times_itself(x_scale: float, y_scale: float, zero: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """XNNPACK makes another operator of it. With the profile's scales that is the product; with others it is not, and
    the table of the other operator is right."""
    for offset in (-128, 3, 100):
        graph, codes = made.square(x_scale, y_scale, offset, zero)
        assert 0 <= graph.qparams("y").scale / qparams(y_scale).scale - 1 < 2.0**-12
        assert_default_kernels(graph, codes)
    monkeypatch.setitem(checks.CHECKS, MulOp, lambda op, qparams: None)
    x, y = qparams(x_scale, 3), qparams(y_scale, zero)
    found = default_tensors(*made.squared(x, y))["y"].flatten()
    assert np.array_equal(found, formulas.square_table(x, y))


def test_squares_next_to_ties_are_refused() -> None:
    """5 * 5 * 0.02 is one half: the product is rounded to 0, the square to 1."""
    x, y = qparams(0.02, 3), qparams(P.product_scale([(0.02, 0.02)], 0.02), 3)
    products = P.mul(x, x, y)[np.arange(256), np.arange(256)]
    differing = np.flatnonzero(products != formulas.square_table(x, y)) - 128
    assert differing.tolist() == [3 - 5, 3 + 5]
    with pytest.raises(UserError, match="XNNPACK rounds some squares otherwise than products; calibrate with"):
        tflite.write(made.squared(x, y)[0])


# ---- convolutions


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(case: str) -> None:
    for fused in ("none", "relu6"):
        out = assert_default_kernels(*made.convolution(case, fused))["y"]
        assert len(np.unique(out)) > 40


@pytest.mark.parametrize("code", [-128, 127])
@pytest.mark.parametrize("sign", [-127, 127])
def test_convolution_extremes(sign: int, code: int) -> None:
    graph, codes = made.extremes(sign, code)
    out = assert_default_kernels(graph, codes)["y"]
    weight: np.ndarray = graph.ops[0].weight  # type: ignore[attr-defined]
    assert np.abs(weight[0].astype(int)).sum() * 255 > 2**24 and len(np.unique(out)) >= 3


@pytest.mark.parametrize("kind", ["dense", "depthwise", "transposed"])
def test_convolution_at_the_rounding_thresholds(kind: str) -> None:
    graph, codes = thresholds(kind)
    out = assert_default_kernels(graph, codes)["y"].astype(int)
    assert np.abs(graph.ops[0].bias).max() > 2**28 and np.median(np.ptp(out, axis=(2, 3))) >= 1  # type: ignore[attr-defined]


def test_ties_of_exact_multipliers() -> None:
    """Multipliers that are powers of two: every other accumulator is a tie, which goes to the even code."""
    for power in range(-12, 4):
        assert_default_kernels(*made.ties(power))


def test_large_multipliers_are_stored_below_256() -> None:
    for multiplier in (200.0, 255.9, 256.0, 1e4):
        assert_default_kernels(*made.large(multiplier))


def test_outputs_of_16_bits_are_those_of_the_reference() -> None:
    out = assert_default_kernels(*made.wide_outputs())
    assert out["y"].dtype == np.int16 and len(np.unique(out["y"])) > 100


@pytest.mark.parametrize("activation", ["relu6", "relu_n1_to_1"])
@pytest.mark.parametrize("kind", ["conv", "add", "clamp"])
def test_limits_whose_codes_are_ties(kind: str, activation: str) -> None:
    """The zero point is added before the rounding, and a tie goes to the even code then."""
    moved = 0
    for k, zero in made.TIED_LIMITS:
        graph, codes = made.limited(kind, activation, k, zero)
        assert_default_kernels(graph, codes)
        q = graph.qparams("y")
        moved += P.limits(activation, q) != REFERENCE.limits(activation, q)
    assert moved >= 2 or activation != "relu6"


# ---- pairs


@pytest.mark.parametrize("kind", ["add", "sub"])
@pytest.mark.parametrize("case", made.SUMS)
def test_sum_of_all_pairs(case: str, kind: str) -> None:
    s1, s2, sy = made.SUMS[case]
    for z1, z2, zy, fused in ((0, 0, 0, "none"), (-128, 7, -11, "relu6")):
        graph = pair(kind, qparams(s1, z1), qparams(s2, z2), qparams(sy, zy), fused)
        out = assert_default_kernels(graph, PAIRS)
        assert np.array_equal(out["b"][0, 0], np.clip(PAIRS[0, 1].astype(int) + z2, -128, 127))


@pytest.mark.parametrize("case", made.PRODUCTS)
def test_product_of_all_pairs(case: str) -> None:
    wanted = qparams(made.PRODUCTS[case][2]).scale
    for zeros in ((0, 0, 0), (-128, 19, -7)):
        graph, codes = made.product(case, zeros)
        assert wanted <= graph.qparams("y").scale <= wanted * (1 + 2.0**-18)
        assert_default_kernels(graph, codes)


def test_products_on_x86_alone() -> None:
    """Scales that are all ties: x86's kernels are the formula's, ARM's are not, and the writer refuses them."""
    half, gate = qparams(0.5), qparams(1 / 256)
    graph = pair("mul", half, gate, half)
    with pytest.raises(UserError, match="rounds some products differently on x86 and ARM"):
        tflite.write(graph)
    products = np.arange(-65280, 65281, dtype=np.int64)
    multiplier = formulas.product_multiplier(0.5, 1 / 256, 0.5)
    here, there = formulas.scaled(products, multiplier), formulas.scaled_on_arm(products, multiplier)
    assert set(np.unique(there - here)) == {0, 1} and not formulas.products_agree(0.5, 1 / 256, 0.5)


def test_agreement_is_found_by_all_products() -> None:
    """Thresholds and their neighbours tell as much as every product does."""
    rng, found = np.random.default_rng(0), set()
    products = np.arange(-255 * 255, 255 * 255 + 1, dtype=np.int64)
    for _ in range(60):
        s1, s2 = (float(np.float32(s)) for s in rng.uniform(0.01, 0.1, 2))
        s2 = 1 / 256 if rng.integers(2) else s2
        sy = float(np.float32(s1 * s2 * rng.choice([20.0, 64.0, 100.0, 128.0, 256.0])))
        multiplier = formulas.product_multiplier(s1, s2, sy)
        here, there = (np.clip(f(products, multiplier), -255, 255) for f in (formulas.scaled, formulas.scaled_on_arm))
        agree = bool(np.array_equal(here, there))
        found.add(agree)
        assert formulas.products_agree(s1, s2, sy) is agree
    assert found == {True, False}


# ---- codes alone


@pytest.mark.parametrize("factor", made.RATIOS)
def test_requantize_every_code(factor: float) -> None:
    for zx, zy in ((0, 0), (-128, 5), (77, -128)):
        assert_default_kernels(*made.requantized(factor, zx, zy))


@pytest.mark.parametrize("factor", [1 / 300, 150.0])
def test_requantize_outside_is_refused(factor: float) -> None:
    g = GraphBuilder((1, 16, 16), qparams(1.0, 0))
    g.requantize("x", "y", qparams(1.0 / factor, 0))
    with pytest.raises(UserError, match="XNNPACK's QUANTIZE takes from"):
        tflite.write(in_profile(g.graph("y"), "xnnpack"))


@pytest.mark.parametrize("slope", made.SLOPES)
def test_leaky_relu_of_every_code(slope: float) -> None:
    for factor, zx, zy in made.LEAKY:
        assert_default_kernels(*made.leaky(slope, factor, zx, zy))


@pytest.mark.parametrize("function", made.FUNCTIONS)
@pytest.mark.parametrize("scale", made.SCALES)
def test_activation_of_every_code(scale: float, function: str) -> None:
    for zero in (-128, -3, 90):
        graph, codes = made.activation(function, scale, zero)
        assert scale * 0.999 < graph.qparams("x").scale < scale * 1.004
        assert_default_kernels(graph, codes)


@pytest.mark.parametrize(
    ("sx", "zx", "sy", "zy"),
    [(0.0052, 123, 0.0031, 47), (0.005, -15, 0.0025, -74), (0.0052, 111, 0.0045, 17), (0.0057, 46, 0.0029, -62)],
)
def test_a_hardswish_that_arm_rounds_otherwise_gets_another_scale(sx: float, zx: int, sy: float, zy: int) -> None:
    x, y = qparams(sx, zx), qparams(sy, zy)
    here, there = P.activation("hardswish", x, y).astype(int), formulas.hardswish_on_arm(x, y)
    assert 1 <= np.abs(here - there).sum() <= 2 and not formulas.activations_agree("hardswish", x, y)
    g = GraphBuilder((1, 16, 16), x)
    g.activation("x", "y", "hardswish", y)
    with pytest.raises(UserError, match="may be rounded differently on x86 and ARM"):
        tflite.write(in_profile(g.graph("y"), "xnnpack"))
    found = QuantParams(P.activation_scale("hardswish", x, y), zx)
    assert x.scale < found.scale < x.scale * 1.001
    assert np.array_equal(P.activation("hardswish", found, y), formulas.hardswish_on_arm(found, y))


def test_a_hardswish_has_a_scale_at_any_ratio() -> None:
    """Equal scales make a tie of x = -1: it takes a hundredth to get out of it."""
    ratios = (1.0, 2.0, 0.5, 4.0, 1.004, 0.996, 1.0077, 3.3)
    for number, (scale, ratio) in enumerate(itertools.product((2.0**-16, 0.01, 0.09), ratios)):
        x, y = qparams(scale, -29 + number), qparams(scale / ratio, -79 + 5 * number)
        found = P.activation_scale("hardswish", x, y)
        assert x.scale <= found < x.scale * 1.013
        assert formulas.activations_agree("hardswish", QuantParams(found, x.zero_point), y)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_bilinear_enlargement(factor: int) -> None:
    for zero in (-128, 0, 77):
        graph, codes = made.bilinear(factor, zero)
        out = assert_default_kernels(graph, codes)["y"]
        reference = IntExecutor(made.bilinear(factor, zero, "tflite_ref")[0])(torch.from_numpy(codes))[0].numpy()
        assert (out != reference).any(), "the reference's ties go away from zero"


# ---- networks


def test_small_network() -> None:
    out = assert_default_kernels(*made.miniature())
    assert any((out[name] != value.numpy()).any() for name, value in IntExecutor(small_network())(
        torch.from_numpy(random_codes((2, 3, 32, 48))), keep=True).items())  # fmt: skip


def test_random_networks() -> None:
    """Graphs of all operators; those whose scales the profile refuses are left out."""
    ran, kinds = 0, set()
    for seed in range(40):
        graph, codes = made.network(seed)
        try:
            tflite.write(graph)
        except UserError:
            continue
        assert_default_kernels(graph, codes)
        ran, kinds = ran + 1, kinds | {op.kind for op in graph.ops}
    assert ran >= 10 and {"conv", "add", "concat", "max_pool", "average_pool", "resize_bilinear"} <= kinds, (ran, kinds)


# ---- mutants


def away(values: Any, multiplier: Any) -> np.ndarray:
    real = values.astype(np.float32) * np.float32(multiplier)
    return (np.sign(real) * np.floor(np.abs(real) + 0.5)).astype(np.int64)


def float64_sums(self: FloatRequantization, acc: torch.Tensor, lo: int, hi: int) -> torch.Tensor:
    return (acc.double() * self.scale.double().view(1, -1, 1, 1)).round().clamp(lo, hi).float()


def ties_up(self: FloatRequantization, acc: torch.Tensor, lo: int, hi: int) -> torch.Tensor:
    return ((acc.float() * self.scale.view(1, -1, 1, 1)).double() + 0.5).floor().clamp(lo, hi).float()


def float64_scale(x: float, w: np.ndarray, y: float) -> np.ndarray:
    return (np.float64(np.float32(x)) * w.astype(np.float64) / np.float64(np.float32(y))).astype(np.float32)


def quotient_first(x: float, w: np.ndarray, y: float) -> np.ndarray:
    return np.float32(x) / np.float32(y) * w.astype(np.float32)


def exact_sums() -> tuple[IntGraph, np.ndarray]:
    """Weights 1 of multiplier 1/2 and 1/4: ties."""
    g = GraphBuilder((1, 16, 16), qparams(1.0, 0))
    g.conv("x", "y", 2, (1, 1), padding=(0, 0), activation="none", q=qparams(1.0, 0), bias=np.zeros(2, np.int32),
           weight=np.ones((2, 1, 1, 1), np.int8), weight_scale=np.array([0.5, 0.25], np.float32))  # fmt: skip
    return in_profile(g.graph("y"), "xnnpack"), EVERY


def exact_sum_of_pairs() -> tuple[IntGraph, np.ndarray]:
    return pair("add", *(qparams(s, 0) for s in (1 / 255, 6 / 255, 2 / 3))), PAIRS


def float64_ratio(x: float, y: float) -> Any:
    return np.float64(np.float32(x)) / np.float64(np.float32(y))


def requantized(factor: float) -> tuple[IntGraph, np.ndarray]:
    g = GraphBuilder((1, 16, 16), qparams(1.0, 0))
    g.requantize("x", "y", qparams(1.0 / factor, 0))
    return in_profile(g.graph("y"), "xnnpack"), EVERY


MUTANTS: dict[str, tuple[Any, str, Any, Callable[[int], tuple[IntGraph, np.ndarray]]]] = {
    "scale product in float64": (profile, "sum_multiplier", float64_scale, lambda i: thresholds("dense", i)),
    "quotient of scales first": (profile, "sum_multiplier", quotient_first, lambda i: thresholds("dense", i)),
    "product in float64": (FloatRequantization, "centred", float64_sums, lambda i: thresholds("dense", i)),
    "ties up": (FloatRequantization, "centred", ties_up, lambda i: exact_sums()),
    "products away from zero": (profile, "scaled", away, lambda i: (pair("mul", *_tied(i)), PAIRS)),
    "ratios in float64": (profile, "ratio", float64_ratio, lambda i: (pair("add", *_tied_sum(i)), PAIRS)),
    "a reference requantization": (
        profile.Xnnpack, "requantize", lambda self, x, y: REFERENCE.requantize(x, y), lambda i: requantized(0.3 + i)),
    "a reference sum": (
        profile.Xnnpack, "add", lambda self, *a: REFERENCE.add(*a), lambda i: exact_sum_of_pairs()),
    "limits without the zero point": (
        profile.Xnnpack, "limits", lambda self, a, y: REFERENCE.limits(a, y), lambda i: _limited(i)),
}  # fmt: skip


def _tied(number: int) -> tuple[QuantParams, QuantParams, QuantParams]:
    """Products of which some are ties next to a scale on which x86 and ARM agree."""
    s1 = (0.5, 0.25, 0.031)[number % 3]
    y = P.product_scale([(qparams(s1).scale, 1 / 256)], qparams(s1).scale)
    return qparams(s1), qparams(1 / 256), QuantParams(y, 0)


def _tied_sum(number: int) -> tuple[QuantParams, QuantParams, QuantParams]:
    rng = np.random.default_rng(number)
    for _ in range(20000):
        s1, s2, sy = (float(np.float32(s)) for s in rng.uniform(0.01, 0.1, 3))
        tables = []
        for function in (formulas.ratio, float64_ratio):
            ratios = [function(s, sy) for s in (s1, s2)]
            shift = 20 - (int(np.frexp(max(ratios))[1]) - 1)
            tables.append([int(np.rint(np.ldexp(r, shift))) for r in ratios])
        if tables[0] != tables[1]:
            return qparams(s1), qparams(s2), qparams(sy)
    raise AssertionError("no scales whose multipliers differ")


def _limited(number: int) -> tuple[IntGraph, np.ndarray]:
    g = GraphBuilder((1, 16, 16), qparams(6 / (number + 0.5), -5))
    g.clamp("x", "y", "relu6")
    return in_profile(g.graph("y"), "xnnpack"), EVERY


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, wrong, make = MUTANTS[mutant]
    caught = 0
    for number in range(6):
        graph, codes = make(number)
        truth = default_tensors(graph, codes)
        assert all(np.array_equal(value, truth[n]) for n, value in executed(graph, codes).items())
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, wrong)
            if name == "limits":
                caught += P.limits("relu6", graph.qparams("y"))[1] != truth["y"].max()
                continue
            found = IntExecutor(graph, backend="float32")(torch.from_numpy(codes), keep=True)
        caught += any((value.numpy() != truth[n]).any() for n, value in found.items())
    assert caught
