"""The profile ``tflite_single`` against TensorFlow Lite's kernels compiled with single rounding: equality.

Accumulators at every rounding threshold, all 256 codes, all 65 536 pairs, whole networks with every tensor of the file,
each with multipliers as TFLite Micro (float64) and as LiteRT (float32) computes them. The control: the same kernels
with two roundings are LiteRT's reference kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.export.metadata import file_names
from hatdet.export.runtimes.integer import LiteRTRuntime, to_nhwc
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.arithmetic import (
    Multiply,
    Requantization,
    multiply_by_quantized_multiplier,
    multiply_rounding_once,
)
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pointwise.activation_codes import FIXED_OUTPUTS
from hatdet.integer.profiles import tflite_single
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.profiles.tflite_single import TfliteSingle
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.conformance.single_rounding.referee import Kernels, NotHere, load
from tests.conformance.single_rounding.walk import Walk
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes, random_network, small_network, wide
from tests.integration.test_nano_activations import shipped, trained
from tests.unit.integer.test_against_runtimes import CONVOLUTIONS
from tests.unit.integer.test_executor_mutants import PAIRS, float32_conv, identity

P = PROFILES["tflite_single"]
EVERY = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)
SIGNED = qparams(0.021, 7)


@pytest.fixture(scope="module", autouse=True)
def kernels() -> Iterator[None]:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    try:
        load(True), load(False)
    except NotHere as error:
        pytest.skip(f"the kernels cannot be compiled here: {error}")
    yield


def in_profile(graph: IntGraph, name: str) -> IntGraph:
    return replace(graph, metadata={**graph.metadata, "profile": name})


def assert_single(graph: IntGraph, codes: np.ndarray) -> int:
    """Every tensor of the file is the executor's; returns how many values the reference profile has otherwise."""
    graph = in_profile(graph, "tflite_single")
    model, names = tflite.write(graph), file_names(graph)
    runs = [IntExecutor(graph, backend=b)(torch.from_numpy(codes), keep=True) for b in ("auto", "float32")]
    other = IntExecutor(in_profile(graph, "tflite_ref"))(torch.from_numpy(codes), keep=True)
    for as_micro in (True, False):
        for i in range(len(codes)):
            found = Walk(model, Kernels(True, as_micro))(to_nhwc(codes[i : i + 1]))
            for own, name in names.items():
                for run in runs:
                    ours = to_nhwc(run[own][i : i + 1].numpy()).astype(int)
                    apart = np.abs(found[name] - ours)
                    assert not apart.any(), f"{name}: {np.count_nonzero(apart)} of {ours.size} differ, by {apart.max()}"
    return sum(int((other[own] != runs[0][own]).sum()) for own in names)


def assert_control(graph: IntGraph, codes: np.ndarray) -> None:
    """The kernels with two roundings, and the walk over the file, are LiteRT's reference in every tensor."""
    model = tflite.write(graph)
    runtime = LiteRTRuntime(model, keep_tensors=True)
    for i in range(len(codes)):
        image = to_nhwc(codes[i : i + 1])
        expected, found = runtime.run_all(image), Walk(model, Kernels(False, False))(image)
        assert all(np.array_equal(found[name], value) for name, value in expected.items() if name in found)
        assert set(expected) <= set(found)


# ---- the multiplication


def test_multiplication() -> None:
    rng = np.random.default_rng(0)
    kernels = Kernels(True, True)
    for e in range(-31, 31):
        m = int(rng.integers(2**30, 2**31))
        most = min(2**31 - 1, int(2**31 / (m * 2.0 ** (e - 31))) - 1)
        near = np.floor((rng.integers(-2000, 2000, 20) + 0.5) * 2.0 ** (31 - e) / m).astype(np.int64)
        near = (near[np.abs(near) < most - 1][:, None] + np.arange(-1, 3)).ravel()
        for x in [*near, *rng.integers(-most, most + 1, 20), 0, most, -most]:
            assert kernels.multiply(int(x), m, e) == int(multiply_rounding_once(x, m, e)), (x, m, e)


# ---- convolutions


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(case: str) -> None:
    inputs, outputs, groups, kernel, stride, padding, dilation, size = CONVOLUTIONS[case]
    for activation in ("none", "relu6"):
        g = GraphBuilder((inputs, *size), SIGNED, seed=len(case))
        g.conv("x", "y", outputs, kernel, stride, padding, dilation, groups, activation)
        codes = random_codes((2, inputs, *size), seed=1)
        assert_control(g.graph("y"), codes)
        assert_single(g.graph("y"), codes)


def thresholds(kind: str, seed: int = 0) -> tuple[IntGraph, np.ndarray]:
    """Accumulators around the rounding thresholds of channels with multipliers from 2**7.9 to 2**-22."""
    x, y, rng = qparams(0.0235, 0), qparams(0.0431, 0), np.random.default_rng(seed)
    real = np.exp2(np.linspace(7.9, -22.0, 24)) * rng.uniform(0.51, 0.99, 24)
    scales = (real * y.scale / x.scale).astype(np.float32)
    targets = np.arange(-126, 126, 6) + rng.integers(0, 6)
    exact = np.float64(np.float32(x.scale)) * scales.astype(np.float64) / np.float64(np.float32(y.scale))
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
    return g.graph("y"), np.broadcast_to(around, (1, channels, 4, 4)).copy()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["dense", "depthwise", "transposed"])
def test_convolution_at_the_rounding_thresholds(kind: str, seed: int) -> None:
    graph, codes = thresholds(kind, seed)
    assert np.abs(graph.ops[0].bias).max() > 2**28  # type: ignore[attr-defined]
    assert_control(graph, codes)
    assert assert_single(graph, codes) > 300


def test_ties_of_exact_multipliers() -> None:
    """Powers of two: every other accumulator is a tie, which goes up."""
    for power in range(-12, 4):
        g = GraphBuilder((1, 16, 16), qparams(1.0, 0))
        g.conv("x", "y", 3, (1, 1), padding=(0, 0), activation="none", q=qparams(1.0, 1),
               weight=np.full((3, 1, 1, 1), 1, np.int8), bias=np.array([0, 1 << -min(power, 0), -77], np.int32),
               weight_scale=np.full(3, 2.0**power, np.float32))  # fmt: skip
        assert_single(g.graph("y"), EVERY)


def test_outputs_of_16_bits() -> None:
    """One rounding in both builds."""
    g = GraphBuilder((5, 7, 9), SIGNED)
    g.conv("x", "y", 6, activation="relu6", q=wide(6 / 32767))
    g.conv("x", "z", 5, activation="none", groups=5, q=wide(3e-4))
    codes = random_codes((2, 5, 7, 9))
    assert_control(g.graph("y", "z"), codes)
    assert assert_single(g.graph("y", "z"), codes) == 0


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
    return g.graph("y")


SUMS = (
    (0.5, 0.25, 1.0), (1 / 255, 6 / 255, 2 / 3), (1 / 255, 0.05, 1 / 3), (0.03, 0.03, 0.03), (25.59, 0.02, 0.1),
    (2.0**-10, 0.7, 1.0), (1e-4, 0.7, 1.0), (2e-4, 5e-4, 1.0), (1e-3, 3.0, 0.9), (1.0, 2.0**-12, 1.0),
)  # fmt: skip


@pytest.mark.parametrize("kind", ["add", "sub"])
def test_sum_of_all_pairs(kind: str) -> None:
    moved = 0
    for s1, s2, sy in SUMS:
        for z1, z2, zy, activation in ((0, 0, 0, "none"), (-128, 7, -11, "relu6")):
            graph = pair(kind, qparams(s1, z1), qparams(s2, z2), qparams(sy, zy), activation)
            moved += assert_single(graph, PAIRS)
    assert_control(graph, PAIRS)
    assert moved > 1000


PRODUCTS = ((0.0231, 0.0417, 0.0613), (0.031, 1 / 256, 0.031), (0.5, 1 / 256, 0.5), (0.5, 0.25, 1.0),
            (1.0, 25.5, 0.1), (2.0**-8, 2.0**-8, 0.99), (1 / 3, 1 / 3, 1 / 3))  # fmt: skip


def test_product_of_all_pairs() -> None:
    moved = 0
    for case in PRODUCTS:
        s1, s2, sy = (qparams(s).scale for s in case)
        scale = P.product_scale([(s1, s2)], sy)
        for zeros in ((0, 0, 0), (-128, 19, -7)):
            q1, q2, y = (QuantParams(s, z) for s, z in zip((s1, s2, scale), zeros, strict=True))
            moved += assert_single(pair("mul", q1, q2, y), PAIRS)
    assert moved > 1000


# ---- codes alone


def one(kind: str, x: QuantParams, y: QuantParams, **settings: float) -> IntGraph:
    g = GraphBuilder((1, 16, 16), x)
    g.apply(kind, "x", "y", y, **settings)
    return g.graph("y")


def test_requantize_every_code() -> None:
    moved = 0
    for factor in (2.0**-8, 0.004, 0.0613, 0.1, 0.25, 0.5, 0.77, 1.0, 1.5, 3.3, 100.1, 2.0**7):
        for zx, zy in ((0, 0), (-128, 5), (77, -128)):
            moved += assert_single(one("requantize", qparams(0.5, zx), qparams(0.5 / factor, zy)), EVERY)
    assert moved > 50


def test_leaky_relu_of_every_code() -> None:
    moved = 0
    for slope in (float(np.float32(s)) for s in (0.01, 0.1, 0.125, 0.3, 1.7)):
        for factor, zx, zy in ((1.0, 0, 0), (0.5, -3, 20), (3.3, 90, -128), (1.0, 5, 5), (60.0, 0, 0)):
            x = qparams(0.03, zx)
            y = QuantParams(P.leaky_relu_scale(x.scale, qparams(0.03 / factor).scale, slope, False), zy)
            moved += assert_single(one("leaky_relu", x, y, slope=slope), EVERY)
    assert moved > 100


def test_prelu_of_every_code() -> None:
    moved = 0
    for factor, zx, zy in ((1.0, 0, 0), (0.5, -3, 20), (3.3, 90, -128)):
        x, alpha = qparams(0.03, zx), np.array([-128, -64, -1, 0, 1, 64, 90, 127], np.int8)
        slope = qparams(1 / 128).scale
        y = QuantParams(P.prelu_scale(x.scale, slope, qparams(0.03 / factor).scale, False), zy)
        g = GraphBuilder((8, 16, 16), x)
        g.apply("prelu", "x", "y", y, alpha=alpha, alpha_scale=slope)
        moved += assert_single(g.graph("y"), np.repeat(EVERY, 8, 1))
    assert moved > 100


@pytest.mark.parametrize("function", ["sigmoid", "tanh", "hardsigmoid", "silu", "hardswish"])
def test_activation_of_every_code(function: str) -> None:
    for scale in (0.003, 0.02, 0.1, 0.5, 1.7, 3.0, 40.0, 1e4):
        for zero in (-128, -3, 90):
            x, y = qparams(scale, zero), FIXED_OUTPUTS.get(function) or qparams(scale * 0.9, zero)
            x = QuantParams(P.activation_scale(function, x, y), zero)
            if function == "silu":
                y = QuantParams(P.product_scale([(x.scale, 1 / 256)], y.scale), zero)
            g = GraphBuilder((1, 16, 16), x)
            g.activation("x", "y", function, y)
            moved = assert_single(g.graph("y"), EVERY)
            assert not moved or function in ("silu", "hardsigmoid") or scale > 2, "hard-swish and gates do not change"


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_bilinear_enlargement(factor: int) -> None:
    for zero in (-128, 0, 77):
        g = GraphBuilder((3, 9, 7), qparams(0.04, zero))
        g.bilinear("x", "y", factor)
        codes = np.concatenate([random_codes((2, 3, 9, 7)), random_codes((1, 3, 9, 7), low=-2, high=1)])
        assert_control(g.graph("y"), codes)
        assert assert_single(g.graph("y"), codes) > 50


# ---- networks


def test_small_network() -> None:
    codes = random_codes((2, 3, 32, 48))
    assert_control(small_network(), codes)
    assert assert_single(small_network(), codes) > 100


def test_random_networks() -> None:
    """Graphs of all operators; those whose scales the profile refuses are left out."""
    ran, moved = 0, 0
    kinds: set[str] = set()
    for seed in range(40):
        graph = random_network(seed)
        codes = random_codes((2, *graph.tensors["x"].shape), seed)
        try:
            tflite.write(in_profile(graph, "tflite_single"))
        except UserError:
            continue
        moved += assert_single(graph, codes)
        try:
            assert_control(graph, codes)
        except UserError:
            pass  # scales that suit one rounding, and not two
        ran, kinds = ran + 1, kinds | {op.kind for op in graph.ops}
    assert ran >= 15 and moved > 1000, (ran, moved)
    assert {"conv", "add", "concat", "max_pool", "average_pool", "resize_bilinear"} <= kinds, kinds


@pytest.mark.parametrize("activation", ["ReLU", "Hardswish", "SiLU"])
def test_a_detector_trained_in_it(activation: str, repo_root: Path) -> None:
    """RTMDet-nano at 64 pixels after three steps of QAT: its forward is what the kernels compute of the file."""
    q, real, _ = trained(activation, "tflite_single", repo_root)
    graph, codes = shipped(q, real)
    assert graph.metadata["profile"] == "tflite_single"
    assert assert_single(graph, codes[:2].numpy()) > 1000


# ---- mutants


def multiplying(multiply: Multiply) -> Callable[[pytest.MonkeyPatch], None]:
    def apply(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(TfliteSingle, "multiply", property(lambda self: multiply))
        true = tflite_single.prepare_single_rounding

        def prepare(multiplier: np.ndarray, bound: np.ndarray) -> Requantization:
            never = np.zeros(len(multiplier), bool)
            return replace(true(multiplier, bound), exact=never, shiftable=never, multiply=multiply)

        patch.setattr(tflite_single, "prepare_single_rounding", prepare)

    return apply


def ties_to_even(x: Any, m: Any, e: Any) -> np.ndarray:
    up = multiply_rounding_once(x, m, e)
    tie = (np.asarray(x, np.int64) * m + (np.int64(1) << (30 - e))) % (np.int64(1) << (31 - e)) == 0
    return up - (tie & (up % 2 == 1))  # type: ignore[no-any-return]


def ties_away(x: Any, m: Any, e: Any) -> np.ndarray:
    x = np.asarray(x, np.int64)
    return np.where(x < 0, -multiply_rounding_once(-x, m, e), multiply_rounding_once(x, m, e))


def float32_scales(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tflite_single, "conv_multiplier", float32_conv)


def ties_of_bilinear_away(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TfliteSingle, "bilinear_up", False)


def enlarged() -> tuple[IntGraph, np.ndarray]:
    g = GraphBuilder((3, 9, 7), qparams(0.04, 0))
    g.bilinear("x", "y", 2)
    return g.graph("y"), random_codes((1, 3, 9, 7))


MUTANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], tuple[str, ...]]] = {
    "two roundings": (multiplying(multiply_by_quantized_multiplier), ("sums", "add", "mul", "requantize", "leaky")),
    "ties to even": (multiplying(ties_to_even), ("mul", "requantize", "leaky")),
    "ties away from zero": (multiplying(ties_away), ("mul", "requantize", "leaky")),
    "one more": (multiplying(lambda x, m, e: multiply_rounding_once(x, np.asarray(m) + 1, e)), ("sums", "add of ties")),
    "one less": (multiplying(lambda x, m, e: multiply_rounding_once(x, np.asarray(m) - 1, e)), ("sums", "add of ties")),
    "float32 scales": (float32_scales, ("sums",)),
    "bilinear ties away from zero": (ties_of_bilinear_away, ("bilinear",)),
}
GRAPHS: dict[str, Callable[[], tuple[IntGraph, np.ndarray]]] = {
    "sums": lambda: thresholds("dense"),
    "add": lambda: (pair("add", qparams(1 / 255), qparams(6 / 255), qparams(2 / 3)), PAIRS),
    "add of ties": lambda: (pair("add", qparams(0.5), qparams(0.25), qparams(1.0)), PAIRS),
    "mul": lambda: (pair("mul", qparams(0.5), qparams(0.25), qparams(1.0)), PAIRS),
    "requantize": lambda: (one("requantize", qparams(0.5), qparams(2.0)), EVERY),
    "leaky": lambda: (one("leaky_relu", qparams(0.5), qparams(2.0), slope=0.5), EVERY),
    "bilinear": enlarged,
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    apply, graphs = MUTANTS[mutant]
    for name in graphs:
        graph, codes = GRAPHS[name]()
        graph = in_profile(graph, "tflite_single")
        found, names = Walk(tflite.write(graph), Kernels(True, True))(to_nhwc(codes)), file_names(graph)

        def differs() -> bool:
            ours = IntExecutor(graph)(torch.from_numpy(codes), keep=True)  # noqa: B023
            return any((found[n] != to_nhwc(ours[own].numpy())).any() for own, n in names.items())  # noqa: B023

        assert not differs(), name
        with monkeypatch.context() as patch:
            apply(patch)
            assert differs(), name
