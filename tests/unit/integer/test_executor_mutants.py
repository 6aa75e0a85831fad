"""Wrong arithmetic in the executor is found by the project's own comparisons, for every operator that rounds.

Each mutant replaces the true arithmetic: a single rounding, scales multiplied in float32, a multiplier one unit in the
last place too large or too small. The comparisons are those of the test suite (the literal integers) and of every
export (:func:`check_parity`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.int8 import write
from hatdet.integer import arithmetic, profile
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pairs import add, mul
from hatdet.integer.operators.pairs.mul import agreeing_output_scale
from hatdet.integer.operators.pointwise import activation_codes as activations
from hatdet.integer.operators.pointwise import requantize
from hatdet.integer.profiles import tflite_ref
from tests.helpers.int_graphs import GraphBuilder, qparams
from tests.helpers.literal_integer import Arithmetic, run_literal
from tests.helpers.literal_transposed import accumulators as _  # noqa: F401  (its formula)

EVERY = np.arange(-128, 128).astype(np.int8)
PAIRS = np.stack(np.meshgrid(EVERY, EVERY, indexing="ij"))[None]
MUTANTS = ("single rounding", "float32 scales", "one more", "one less")


def single_rounding(x: Any, m: Any, e: Any) -> np.ndarray:
    """y = floor(x * m * 2**(e - 31) + 1/2)."""
    x, m, e = (np.asarray(v, dtype=np.int64) for v in (x, m, e))
    shift = 31 - e
    return np.asarray((x * m + (np.int64(1) << (shift - 1))) >> shift)


def shifted(step: int) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    true = arithmetic.quantize_multiplier

    def quantize_multiplier(multiplier: Any) -> tuple[np.ndarray, np.ndarray]:
        m, e = true(multiplier)
        return m + step, e

    return quantize_multiplier


def float32_conv(input_scale: float, weight_scale: np.ndarray, output_scale: float) -> np.ndarray:
    return (np.float32(input_scale) * weight_scale / np.float32(output_scale)).astype(np.float64)


def float32_add(true: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The addition's three multipliers from quotients in float32."""

    def add_table(scales: Any, zero_points: Any, lo: int, hi: int, sign: int, multiply: Any) -> np.ndarray:
        s1, s2, sy = (np.float32(s) for s in scales)
        double = np.float32(2) * max(s1, s2)
        mbqm, quantize = arithmetic.multiply_by_quantized_multiplier, arithmetic.quantize_multiplier
        codes = np.arange(-128, 128, dtype=np.int64)
        r1 = mbqm((codes - zero_points[0]) << 20, *quantize(np.float64(s1 / double)))
        r2 = mbqm((codes - zero_points[1]) << 20, *quantize(np.float64(s2 / double)))
        out = np.float64(double / (np.float32(1 << 20) * sy))
        return np.clip(mbqm(r1[:, None] + sign * r2[None], *quantize(out)) + zero_points[2], lo, hi).astype(np.int8)

    return add_table


def float32_requantize(scale_in: float, zero_in: int, scale_out: float, zero_out: int, multiply: Any) -> np.ndarray:
    ratio = np.float64(np.float32(scale_in) / np.float32(scale_out))
    x = np.arange(-128, 128, dtype=np.int64) - zero_in
    y = arithmetic.multiply_by_quantized_multiplier(x, *arithmetic.quantize_multiplier(ratio)) + zero_out
    return np.clip(y, -128, 127).astype(np.int8)


def single_requantization(multiplier: np.ndarray, bound: np.ndarray) -> arithmetic.Requantization:
    req = arithmetic.prepare_requantization(multiplier, bound)
    return dataclasses.replace(req, delta=np.zeros_like(req.delta), multiply=single_rounding)


@contextmanager
def mutated(mutant: str) -> Iterator[None]:
    """The executor with one thing wrong."""
    with pytest.MonkeyPatch.context() as patch:
        if mutant == "single rounding":
            patch.setattr(tflite_ref, "prepare_requantization", single_requantization)
            for module in (arithmetic, activations, add, mul, requantize):
                patch.setattr(module, "multiply_by_quantized_multiplier", single_rounding)
        elif mutant == "float32 scales":
            patch.setattr(profile, "conv_multiplier", float32_conv)
            patch.setattr(tflite_ref, "add_table", float32_add(add.add_table))
            patch.setattr(tflite_ref, "requantize_table", float32_requantize)
        else:
            wrong = shifted(1 if mutant == "one more" else -1)
            for module in (arithmetic, activations, add, mul, requantize):
                patch.setattr(module, "quantize_multiplier", wrong)
        yield


def conv_graph(depthwise: bool, smallest: int) -> tuple[IntGraph, np.ndarray]:
    """Accumulators around the rounding thresholds of channels with several multipliers, by way of the bias."""
    x, y, true = qparams(0.0235, 0), qparams(0.0431, 0), Arithmetic()
    # The smaller the multiplier, the larger the accumulators, the more a wrong ulp moves.
    spread = np.random.default_rng(0).uniform(0.51, 0.99, 12)
    scales = (np.exp2(-np.linspace(2, smallest, 12)) * spread).astype(np.float32)
    targets = np.arange(-120, 120, 5)
    bias, scale = [], []
    for sw in scales:
        m, e = true.multiplier(true.conv_real(x.scale, sw, y.scale))
        low, high = np.full(targets.shape, -(2**31)), np.full(targets.shape, 2**31)
        while np.any(high - low > 1):
            middle = (low + high) // 2
            reached = true.scale(middle, m, e) >= targets
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
        bias += high.tolist()
        scale += [sw] * len(targets)
    channels = len(bias) if depthwise else 1
    g = GraphBuilder((channels, 4, 4), x)
    g.conv("x", "y", len(bias), (1, 1), padding=(0, 0), activation="none", q=y, groups=channels,
           weight=np.ones((len(bias), 1, 1, 1), dtype=np.int8), bias=np.array(bias, dtype=np.int32),
           weight_scale=np.array(scale, dtype=np.float32))  # fmt: skip
    return g.graph("y"), np.broadcast_to(
        np.arange(-8, 8, dtype=np.int8).reshape(1, 1, 4, 4), (1, channels, 4, 4)
    ).copy()


def conv_transpose_graph(smallest: int) -> tuple[IntGraph, np.ndarray]:
    """The same accumulators: a transposed convolution of one weight a channel."""
    graph, codes = conv_graph(False, smallest)
    (conv,) = graph.ops
    g = GraphBuilder((1, 4, 4), graph.qparams("x"))
    same = {name: getattr(conv, name) for name in ("weight", "bias", "weight_scale", "activation", "lo", "hi")}
    g.apply("conv_transpose", "x", "y", graph.qparams("y"), stride=(1, 1), padding=(0, 0), output_padding=(0, 0),
            **same)  # fmt: skip
    return g.graph("y"), codes


def identity(g: GraphBuilder, channel: int, out: str, scale: float, zero: int) -> None:
    weight = np.zeros((1, 2, 1, 1), dtype=np.int8)
    weight[0, channel] = 1
    q = qparams(scale, zero)
    g.conv("x", out, 1, (1, 1), padding=(0, 0), activation="none", q=q, weight=weight,
           bias=np.array([-zero], dtype=np.int32), weight_scale=np.array([q.scale], dtype=np.float32))  # fmt: skip


def pair_graph(kind: str, s1: float, s2: float, sy: float) -> tuple[IntGraph, np.ndarray]:
    g = GraphBuilder((2, 256, 256), qparams(1.0, 0))
    identity(g, 0, "a", s1, 0)
    identity(g, 1, "b", s2, 0)
    if kind == "add":
        g.add("a", "b", "y", qparams(sy, 0))
    elif kind == "sub":
        g.sub("a", "b", "y", qparams(sy, 0))
    else:
        g.mul(
            "a", "b", "y", qparams(agreeing_output_scale([(qparams(s1).scale, qparams(s2).scale)], qparams(sy).scale))
        )
    return g.graph("y"), PAIRS


def requantize_graph(source: float, target: float) -> tuple[IntGraph, np.ndarray]:
    g = GraphBuilder((1, 16, 16), qparams(source, 0))
    g.requantize("x", "y", qparams(target, 0))
    return g.graph("y"), EVERY.reshape(1, 1, 16, 16)


# Scales with values on or next to ties: only there does one unit in the last place decide.
GRAPHS: dict[str, list[tuple[Callable[..., tuple[IntGraph, np.ndarray]], tuple[Any, ...]]]] = {
    "conv": [(conv_graph, (False, 12)), (conv_graph, (False, 21))],
    "depthwise": [(conv_graph, (True, 12)), (conv_graph, (True, 21))],
    "conv_transpose": [(conv_transpose_graph, (12,)), (conv_transpose_graph, (21,))],
    "add": [(pair_graph, ("add", 1 / 255, 6 / 255, 2 / 3)), (pair_graph, ("add", 1 / 255, 0.05, 1 / 3))],
    "sub": [(pair_graph, ("sub", 1 / 255, 6 / 255, 2 / 3)), (pair_graph, ("sub", 1 / 255, 0.05, 1 / 3))],
    "mul": [(pair_graph, ("mul", 0.5, 0.25, 1.0))],
    "requantize": [(requantize_graph, pair) for pair in ((0.05, 0.1), (1 / 255, 0.02), (0.05, 0.04))],
}


def differs(graph: IntGraph, codes: np.ndarray, wrong: IntExecutor) -> bool:
    """The test suite's comparison: some value is not that of the literal integers."""
    expected = run_literal(graph, codes)["y"]
    return not np.array_equal(wrong(torch.from_numpy(codes))[0].numpy(), expected)


# A product's multiplier is float32 in LiteRT itself; scales on which float64 would differ are refused by the writer
# (test_scales_on_which_the_runtimes_disagree).
CASES = [(o, m) for o in GRAPHS for m in MUTANTS if (o, m) != ("mul", "float32 scales")]


@pytest.mark.parametrize("backend", ["auto", "float32"])
@pytest.mark.parametrize(("operator", "mutant"), CASES)
def test_mutants_are_caught(operator: str, mutant: str, backend: str) -> None:
    caught = []
    for make, arguments in GRAPHS[operator]:
        graph, codes = make(*arguments)
        with mutated(mutant):
            wrong = IntExecutor(graph, backend=backend)
        found = differs(graph, codes, wrong)
        assert not differs(graph, codes, IntExecutor(graph, backend=backend)), "the true executor passes"
        if backend == "auto":
            pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
            report = check_parity(graph, write(graph), codes, default_kernels=False, executor=wrong)
            assert report.ok != found
        caught.append(found)
    assert any(caught)
