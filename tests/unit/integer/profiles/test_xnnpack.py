"""The profile ``xnnpack`` operator by operator against LiteRT's default kernels, with 1 and 4 threads: equality.

Accumulators at every rounding threshold, all 256 codes, all 65 536 pairs, scales at the ends of what the kernels take;
wrong formulas must be caught. Random tensors catch few of them: scales are powers of two, or next to ties.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.export.tflite import int8 as tflite
from hatdet.integer import xnnpack as formulas
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pointwise.activation_codes import FIXED_OUTPUTS
from hatdet.integer.profiles import xnnpack as profile
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.single_multiply import FloatRequantization
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.helpers.default_kernels import assert_default_kernels, default_tensors, executed, xnnpack
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes, random_network, small_network, wide
from tests.unit.integer.test_against_runtimes import CONVOLUTIONS
from tests.unit.integer.test_executor_mutants import PAIRS, identity

P, REFERENCE = PROFILES["xnnpack"], PROFILES["tflite_ref"]
EVERY = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)
PIXELS, SIGNED = qparams(1 / 255, -128), qparams(0.021, 7)


# ---- convolutions


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(case: str) -> None:
    inputs, outputs, groups, kernel, stride, padding, dilation, size = CONVOLUTIONS[case]
    for activation in ("none", "relu6"):
        g = GraphBuilder((inputs, *size), PIXELS if activation == "relu6" else SIGNED, seed=len(case))
        g.conv("x", "y", outputs, kernel, stride, padding, dilation, groups, activation)
        out = assert_default_kernels(xnnpack(g, "y"), random_codes((2, inputs, *size), seed=1))["y"]
        assert len(np.unique(out)) > 40


@pytest.mark.parametrize("code", [-128, 127])
@pytest.mark.parametrize("sign", [-127, 127])
def test_convolution_extremes(sign: int, code: int) -> None:
    weight = np.full((4, 64, 5, 5), sign, dtype=np.int8)
    g = GraphBuilder((64, 6, 7), qparams(0.02, 127 if code == -128 else -128))
    g.conv("x", "y", 4, (5, 5), padding=(2, 2), activation="none", q=qparams(60.0, 3), weight=weight)
    out = assert_default_kernels(xnnpack(g, "y"), np.full((1, 64, 6, 7), code, dtype=np.int8))["y"]
    assert np.abs(weight[0].astype(int)).sum() * 255 > 2**24 and len(np.unique(out)) >= 3


def thresholds(kind: str, seed: int = 0, powers: tuple[float, float] = (7.9, -22.0)) -> tuple[IntGraph, np.ndarray]:
    """Accumulators around the rounding thresholds of channels with multipliers from 2**powers[0] to 2**powers[1]."""
    x, y, rng = qparams(0.0235, 0), qparams(0.0431, 0), np.random.default_rng(seed)
    real = np.exp2(np.linspace(*powers, 24)) * rng.uniform(0.51, 0.99, 24)
    scales = (real * y.scale / x.scale).astype(np.float32)
    targets = np.arange(-126, 126, 6) + rng.integers(0, 6)
    exact = formulas.sum_multiplier(x.scale, scales, y.scale).astype(np.float64)
    bias = np.rint((targets - 0.5)[None, :] / exact[:, None]).astype(np.int64).ravel()
    scale = np.repeat(scales, len(targets))
    channels = len(bias) if kind == "depthwise" else 1
    g = GraphBuilder((channels, 4, 4), x)
    settings = dict(weight=np.ones((len(bias), 1, 1, 1), np.int8), bias=bias.astype(np.int32), weight_scale=scale)
    if kind == "transposed":
        g.apply("conv_transpose", "x", "y", y, stride=(1, 1), padding=(0, 0), output_padding=(0, 0),
                activation="none", lo=-128, hi=127, **settings)  # fmt: skip
    else:
        g.conv("x", "y", len(bias), (1, 1), padding=(0, 0), activation="none", q=y, groups=channels, **settings)  # type: ignore[arg-type]
    around = np.arange(-8, 8, dtype=np.int8).reshape(1, 1, 4, 4)
    return xnnpack(g, "y"), np.broadcast_to(around, (1, channels, 4, 4)).copy()


@pytest.mark.parametrize("kind", ["dense", "depthwise", "transposed"])
def test_convolution_at_the_rounding_thresholds(kind: str) -> None:
    graph, codes = thresholds(kind)
    out = assert_default_kernels(graph, codes)["y"].astype(int)
    assert np.abs(graph.ops[0].bias).max() > 2**28 and np.median(np.ptp(out, axis=(2, 3))) >= 1  # type: ignore[attr-defined]


def test_ties_of_exact_multipliers() -> None:
    """Multipliers that are powers of two: every other accumulator is a tie, which goes to the even code."""
    for power in range(-12, 4):
        g = GraphBuilder((1, 16, 16), qparams(1.0, 0))
        g.conv("x", "y", 3, (1, 1), padding=(0, 0), activation="none", q=qparams(1.0, 1),
               weight=np.full((3, 1, 1, 1), 1, np.int8), bias=np.array([0, 1 << -min(power, 0), -77], np.int32),
               weight_scale=np.full(3, 2.0**power, np.float32))  # fmt: skip
        assert_default_kernels(xnnpack(g, "y"), EVERY)


def test_large_multipliers_are_stored_below_256() -> None:
    for multiplier in (200.0, 255.9, 256.0, 1e4):
        g = GraphBuilder((1, 16, 16), qparams(1.0, 0))
        g.conv("x", "y", 1, (1, 1), padding=(0, 0), activation="none", q=qparams(1.0, 0),
               weight=np.ones((1, 1, 1, 1), np.int8), bias=np.zeros(1, np.int32),
               weight_scale=np.array([multiplier], np.float32))  # fmt: skip
        assert_default_kernels(xnnpack(g, "y"), EVERY)


def test_outputs_of_16_bits_are_those_of_the_reference() -> None:
    g = GraphBuilder((5, 7, 9), SIGNED)
    g.conv("x", "y", 6, activation="relu6", q=wide(6 / 32767))
    g.conv("x", "z", 5, activation="none", groups=5, q=wide(3e-4))
    out = assert_default_kernels(xnnpack(g, "y", "z"), random_codes((1, 5, 7, 9)))
    assert out["y"].dtype == np.int16 and len(np.unique(out["y"])) > 100


@pytest.mark.parametrize("activation", ["relu6", "relu_n1_to_1"])
@pytest.mark.parametrize("kind", ["conv", "add", "clamp"])
def test_limits_whose_codes_are_ties(kind: str, activation: str) -> None:
    """The zero point is added before the rounding, and a tie goes to the even code then."""
    moved = 0
    for k, zero in ((0, -5), (1, -5), (2, -5), (3, -128), (4, 0), (5, 7), (6, -60)):
        q = qparams(6 / (k + 0.5), zero)
        g = GraphBuilder((1, 16, 16), qparams(0.5, 0) if kind == "conv" else q)
        if kind == "conv":
            g.conv("x", "y", 1, (1, 1), padding=(0, 0), activation=activation, q=q, bias=np.zeros(1, np.int32),
                   weight=np.ones((1, 1, 1, 1), np.int8), weight_scale=np.array([q.scale], np.float32))  # fmt: skip
        elif kind == "add":
            g.add("x", "x", "y", q, activation)
        else:
            g.clamp("x", "y", activation)
        assert_default_kernels(xnnpack(g, "y"), EVERY)
        moved += P.limits(activation, q) != REFERENCE.limits(activation, q)
    assert moved >= 2 or activation != "relu6"


# ---- pairs


def pair(kind: str, q1: QuantParams, q2: QuantParams, y: QuantParams, activation: str = "none") -> IntGraph:
    g = GraphBuilder((2, 256, 256), qparams(1.0, 0))
    identity(g, 0, "a", q1.scale, q1.zero_point)
    identity(g, 1, "b", q2.scale, q2.zero_point)
    for op in g.ops:
        op.bias[:] = 0  # type: ignore[attr-defined]
    if kind == "mul":
        g.mul("a", "b", "y", y)
    else:
        getattr(g, kind)("a", "b", "y", y, activation)
    return xnnpack(g, "y")


SUMS = {
    "ratios of powers of two": (0.5, 0.25, 1.0),
    "multipliers that differ in float64": (1 / 255, 6 / 255, 2 / 3),
    "one third": (1 / 255, 0.05, 1 / 3),
    "output as inputs": (0.03, 0.03, 0.03),
    "largest ratio": (0.1 * 255.9, 0.02, 0.1),
    "least ratio": (2.0**-10, 0.7, 1.0),
    "one below the least ratio": (1e-4, 0.7, 1.0),
    "both below": (2e-4, 5e-4, 1.0),
    "far apart": (1e-3, 3.0, 0.9),
}


@pytest.mark.parametrize("kind", ["add", "sub"])
@pytest.mark.parametrize("case", SUMS)
def test_sum_of_all_pairs(case: str, kind: str) -> None:
    s1, s2, sy = SUMS[case]
    for z1, z2, zy, activation in ((0, 0, 0, "none"), (-128, 7, -11, "relu6")):
        graph = pair(kind, qparams(s1, z1), qparams(s2, z2), qparams(sy, zy), activation)
        out = assert_default_kernels(graph, PAIRS)
        assert np.array_equal(out["b"][0, 0], np.clip(PAIRS[0, 1].astype(int) + z2, -128, 127))


PRODUCTS = {
    "random": (0.0231, 0.0417, 0.0613),
    "gate": (0.031, 1 / 256, 0.031),
    "all ties": (0.5, 1 / 256, 0.5),
    "powers of two": (0.5, 0.25, 1.0),
    "multiplier of almost 256": (1.0, 25.5, 0.1),
    "least multiplier": (2.0**-8, 2.0**-8, 0.99),
    "thirds": (1 / 3, 1 / 3, 1 / 3),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_product_of_all_pairs(case: str) -> None:
    s1, s2, sy = (qparams(s).scale for s in PRODUCTS[case])
    scale = P.product_scale([(s1, s2)], sy)
    assert sy <= scale <= sy * (1 + 2.0**-18)
    for zeros in ((0, 0, 0), (-128, 19, -7)):
        q1, q2, y = (QuantParams(s, z) for s, z in zip((s1, s2, scale), zeros, strict=True))
        assert_default_kernels(pair("mul", q1, q2, y), PAIRS)


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


RATIOS = (2.0**-8, 0.004, 0.0613, 0.25, 0.5, 0.77, 1.0, 1.5, 3.3, 100.1, 2.0**7)


@pytest.mark.parametrize("factor", RATIOS)
def test_requantize_every_code(factor: float) -> None:
    for zx, zy in ((0, 0), (-128, 5), (77, -128)):
        g = GraphBuilder((1, 16, 16), qparams(0.5, zx))
        g.requantize("x", "y", qparams(0.5 / factor, zy))
        assert_default_kernels(xnnpack(g, "y"), EVERY)


@pytest.mark.parametrize("factor", [1 / 300, 150.0])
def test_requantize_outside_is_refused(factor: float) -> None:
    g = GraphBuilder((1, 16, 16), qparams(1.0, 0))
    g.requantize("x", "y", qparams(1.0 / factor, 0))
    with pytest.raises(UserError, match="XNNPACK's QUANTIZE takes from"):
        tflite.write(xnnpack(g, "y"))


@pytest.mark.parametrize("slope", [0.01, 0.1, 0.2, 0.3, 1.7])
def test_leaky_relu_of_every_code(slope: float) -> None:
    slope = float(np.float32(slope))
    for factor, zx, zy in ((1.0, 0, 0), (0.77, -3, 20), (3.3, 90, -128), (1.0, 5, 5), (60.0, 0, 0)):
        x, y = qparams(0.03, zx), qparams(0.03 / factor, zy)
        g = GraphBuilder((1, 16, 16), x)
        g.apply("leaky_relu", "x", "y", y, slope=slope)
        assert_default_kernels(xnnpack(g, "y"), EVERY)


@pytest.mark.parametrize("function", ["sigmoid", "tanh", "hardsigmoid", "silu", "hardswish"])
@pytest.mark.parametrize("scale", [0.003, 0.02, 0.1, 0.5, 1.7, 3.0, 40.0, 1e4])
def test_activation_of_every_code(scale: float, function: str) -> None:
    for zero in (-128, -3, 90):
        x, y = qparams(scale, zero), FIXED_OUTPUTS.get(function) or qparams(scale * 0.9, zero)
        x = QuantParams(P.activation_scale(function, x, y), zero)
        if function == "silu":
            y = QuantParams(P.product_scale([(x.scale, 1 / 256)], y.scale), zero)
        assert scale * 0.999 < x.scale < scale * 1.004
        g = GraphBuilder((1, 16, 16), x)
        g.activation("x", "y", function, y)
        assert_default_kernels(xnnpack(g, "y"), EVERY)


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
        tflite.write(xnnpack(g, "y"))
    found = QuantParams(P.activation_scale("hardswish", x, y), zx)
    assert x.scale < found.scale < x.scale * 1.001
    assert np.array_equal(P.activation("hardswish", found, y), formulas.hardswish_on_arm(found, y))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_bilinear_enlargement(factor: int) -> None:
    for zero in (-128, 0, 77):
        g = GraphBuilder((3, 9, 7), qparams(0.04, zero))
        g.bilinear("x", "y", factor)
        codes = np.concatenate([random_codes((2, 3, 9, 7)), random_codes((1, 3, 9, 7), low=-2, high=1)])
        graph = xnnpack(g, "y")
        out = assert_default_kernels(graph, codes)["y"]
        reference = IntExecutor(g.graph("y"))(torch.from_numpy(codes))[0].numpy()
        assert (out != reference).any(), "the reference's ties go away from zero"


# ---- networks


def test_small_network() -> None:
    graph = small_network()
    graph.metadata["profile"] = "xnnpack"
    out = assert_default_kernels(graph, random_codes((2, 3, 32, 48)))
    assert any((out[name] != value.numpy()).any() for name, value in IntExecutor(small_network())(
        torch.from_numpy(random_codes((2, 3, 32, 48))), keep=True).items())  # fmt: skip


def test_random_networks() -> None:
    """Graphs of all operators; those whose scales the profile refuses are left out."""
    ran, kinds = 0, set()
    for seed in range(40):
        graph = random_network(seed)
        g = GraphBuilder(graph.tensors["x"].shape, graph.qparams("x"))
        g.tensors, g.ops = graph.tensors, list(graph.ops)
        graph = xnnpack(g, *graph.outputs)
        codes = random_codes((2, *graph.tensors["x"].shape), seed)
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
    return xnnpack(g, "y"), EVERY


def exact_sum_of_pairs() -> tuple[IntGraph, np.ndarray]:
    return pair("add", *(qparams(s, 0) for s in (1 / 255, 6 / 255, 2 / 3))), PAIRS


def float64_ratio(x: float, y: float) -> Any:
    return np.float64(np.float32(x)) / np.float64(np.float32(y))


def requantized(factor: float) -> tuple[IntGraph, np.ndarray]:
    g = GraphBuilder((1, 16, 16), qparams(1.0, 0))
    g.requantize("x", "y", qparams(1.0 / factor, 0))
    return xnnpack(g, "y"), EVERY


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
    return xnnpack(g, "y"), EVERY


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
