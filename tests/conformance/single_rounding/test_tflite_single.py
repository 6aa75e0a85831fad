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
from hatdet.integer import profile
from hatdet.integer.arithmetic import (
    Multiply,
    Requantization,
    multiply_by_quantized_multiplier,
    multiply_rounding_once,
)
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.profiles import tflite_single
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.profiles.tflite_single import TfliteSingle
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.conformance.single_rounding.referee import Kernels, NotHere, load
from tests.conformance.single_rounding.walk import Walk
from tests.helpers import operator_files as made
from tests.helpers.int_graphs import GraphBuilder, in_profile, qparams, random_codes, random_network, small_network
from tests.helpers.operator_files import EVERY, PAIRS
from tests.integration.test_nano_activations import shipped, trained
from tests.unit.integer.test_against_runtimes import CONVOLUTIONS
from tests.unit.integer.test_executor_mutants import float32_conv

NAME = "tflite_single"


@pytest.fixture(scope="module", autouse=True)
def kernels() -> Iterator[None]:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    try:
        load(True), load(False)
    except NotHere as error:
        pytest.skip(f"the kernels cannot be compiled here: {error}")
    yield


def assert_single(graph: IntGraph, codes: np.ndarray) -> int:
    """Every tensor of the file is the executor's; returns how many values the reference profile has otherwise."""
    graph = in_profile(graph, NAME)
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
    model = tflite.write(in_profile(graph, "tflite_ref"))
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
    for activation in ("none", "relu6"):
        graph, codes = made.convolution(case, activation, NAME)
        assert_control(graph, codes)
        assert_single(graph, codes)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["dense", "depthwise", "transposed"])
def test_convolution_at_the_rounding_thresholds(kind: str, seed: int) -> None:
    graph, codes = made.thresholds(kind, seed, profile=NAME)
    assert np.abs(graph.ops[0].bias).max() > 2**28  # type: ignore[attr-defined]
    assert_control(graph, codes)
    assert assert_single(graph, codes) > 300


def test_ties_of_exact_multipliers() -> None:
    """Powers of two: every other accumulator is a tie, which goes up."""
    for power in range(-12, 4):
        assert_single(*made.ties(power, NAME))


def test_outputs_of_16_bits() -> None:
    """One rounding in both builds."""
    graph, codes = made.wide_outputs(NAME)
    assert_control(graph, codes)
    assert assert_single(graph, codes) == 0


# ---- pairs


@pytest.mark.parametrize("kind", ["add", "sub"])
def test_sum_of_all_pairs(kind: str) -> None:
    moved = 0
    for scales in (*made.SUMS.values(), (1.0, 2.0**-12, 1.0)):
        for zeros, fused in (((0, 0, 0), "none"), ((-128, 7, -11), "relu6")):
            q1, q2, y = (qparams(s, z) for s, z in zip(scales, zeros, strict=True))
            graph, codes = made.total(kind, q1, q2, y, fused, NAME)
            moved += assert_single(graph, codes)
    assert_control(graph, codes)
    assert moved > 1000


def test_product_of_all_pairs() -> None:
    moved = 0
    for case in made.PRODUCTS:
        for zeros in ((0, 0, 0), (-128, 19, -7)):
            moved += assert_single(*made.product(case, zeros, NAME))
    assert moved > 1000


def test_a_map_times_itself() -> None:
    for x_scale, y_scale, zero in made.SQUARES:
        assert_single(*made.square(x_scale, y_scale, 3, zero, NAME))


# ---- codes alone


def test_requantize_every_code() -> None:
    moved = 0
    for factor in (*made.RATIOS, 0.1):
        for zx, zy in ((0, 0), (-128, 5), (77, -128)):
            moved += assert_single(*made.requantized(factor, zx, zy, NAME))
    assert moved > 50


def test_leaky_relu_of_every_code() -> None:
    moved = 0
    for slope in (*made.SLOPES, 0.125):
        for factor, zx, zy in (*made.LEAKY, (0.5, -3, 20)):
            moved += assert_single(*made.leaky(slope, factor, zx, zy, NAME))
    assert moved > 100


def test_prelu_of_every_code() -> None:
    moved = 0
    for factor, zx, zy in ((1.0, 0, 0), (0.5, -3, 20), (3.3, 90, -128)):
        x, alpha = qparams(0.03, zx), np.array([-128, -64, -1, 0, 1, 64, 90, 127], np.int8)
        slope = qparams(1 / 128).scale
        y = QuantParams(PROFILES[NAME].prelu_scale(x.scale, slope, qparams(0.03 / factor).scale, False), zy)
        g = GraphBuilder((8, 16, 16), x)
        g.apply("prelu", "x", "y", y, alpha=alpha, alpha_scale=slope)
        moved += assert_single(g.graph("y"), np.repeat(EVERY, 8, 1))
    assert moved > 100


@pytest.mark.parametrize("function", made.FUNCTIONS)
def test_activation_of_every_code(function: str) -> None:
    for scale in made.SCALES:
        for zero in (-128, -3, 90):
            moved = assert_single(*made.activation(function, scale, zero, NAME))
            assert not moved or function in ("silu", "hardsigmoid") or scale > 2, "hard-swish and gates do not change"


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_bilinear_enlargement(factor: int) -> None:
    for zero in (-128, 0, 77):
        graph, codes = made.bilinear(factor, zero, NAME)
        assert_control(graph, codes)
        assert assert_single(graph, codes) > 50


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
            tflite.write(in_profile(graph, NAME))
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
    q, real, _ = trained(activation, NAME, repo_root)
    graph, codes = shipped(q, real)
    assert graph.metadata["profile"] == NAME
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
    patch.setattr(profile, "conv_multiplier", float32_conv)


def ties_of_bilinear_away(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TfliteSingle, "bilinear_up", False)


MUTANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], tuple[str, ...]]] = {
    "two roundings": (multiplying(multiply_by_quantized_multiplier), ("sums", "add", "mul", "requantize", "leaky")),
    "ties to even": (multiplying(ties_to_even), ("mul", "requantize", "leaky")),
    "ties away from zero": (multiplying(ties_away), ("mul", "requantize", "leaky")),
    "one more": (multiplying(lambda x, m, e: multiply_rounding_once(x, np.asarray(m) + 1, e)), ("sums", "add of ties")),
    "one less": (multiplying(lambda x, m, e: multiply_rounding_once(x, np.asarray(m) - 1, e)), ("sums", "add of ties")),
    "float32 scales": (float32_scales, ("sums",)),
    "bilinear ties away from zero": (ties_of_bilinear_away, ("bilinear",)),
}
GRAPHS: dict[str, Callable[[], made.Made]] = {
    "sums": lambda: made.thresholds("dense", profile=NAME),
    "add": lambda: made.total("add", qparams(1 / 255), qparams(6 / 255), qparams(2 / 3), profile=NAME),
    "add of ties": lambda: made.total("add", qparams(0.5), qparams(0.25), qparams(1.0), profile=NAME),
    "mul": lambda: (made.pair("mul", qparams(0.5), qparams(0.25), qparams(1.0), profile=NAME), PAIRS),
    "requantize": lambda: made.requantized(0.25, 0, 0, NAME),
    "leaky": lambda: made.leaky(0.5, 0.25, 0, 0, NAME),
    "bilinear": lambda: made.bilinear(2, 0, NAME),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    apply, graphs = MUTANTS[mutant]
    for name in graphs:
        graph, codes = GRAPHS[name]()
        codes = codes[:1]  # as many as a file holds
        found, names = Walk(tflite.write(graph), Kernels(True, True))(to_nhwc(codes)), file_names(graph)

        def differs() -> bool:
            ours = IntExecutor(graph)(torch.from_numpy(codes), keep=True)  # noqa: B023
            return any((found[n] != to_nhwc(ours[own].numpy())).any() for own, n in names.items())  # noqa: B023

        assert not differs(), name
        with monkeypatch.context() as patch:
            apply(patch)
            assert differs(), name
