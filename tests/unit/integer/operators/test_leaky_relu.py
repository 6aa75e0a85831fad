"""Leaky ReLU: all codes, ties, extreme scales, in torch, LiteRT, TFLite Micro and exact ONNX; mutants; its gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hatdet.export.tflite import int8 as tflite
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pointwise import leaky_relu
from hatdet.integer.operators.pointwise.leaky_relu import LeakyReluOp, agreeing_output_scale, kernels_agree
from hatdet.integer.profiles.checks.tflite_ref import CHECKS
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.helpers.compare import assert_equal_everywhere, runtime_tensors
from tests.helpers.forms import gradient_of, run_form
from tests.helpers.int_graphs import GraphBuilder, qparams
from tests.helpers.literal_integer import ORACLES, Arithmetic, SingleRounding, run_literal

EVERY = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)


def oracle(graph: IntGraph, op: LeakyReluOp, ins: list[np.ndarray], math_: Arithmetic) -> np.ndarray:
    x, y = graph.qparams(op.input), graph.qparams(op.output)
    a, b, slope = np.float32(x.scale), np.float32(y.scale), np.float32(op.slope)
    centred = ins[0] - x.zero_point
    same = math_.scale(centred, *math_.multiplier(float(a / b)))
    leak = math_.scale(centred, *math_.multiplier(float(a * slope / b)))
    return np.clip(np.where(centred >= 0, same, leak) + y.zero_point, -128, 127)


ORACLES[LeakyReluOp] = oracle


def graph_of(x: QuantParams, y: QuantParams, slope: float, shape: tuple[int, int, int] = (1, 16, 16)) -> IntGraph:
    g = GraphBuilder(shape, x)
    scale = agreeing_output_scale(x.scale, y.scale, slope)
    return g.graph(g.apply("leaky_relu", "x", "y", QuantParams(scale, y.zero_point), slope=float(np.float32(slope))))


CASES = {
    "as in a YOLO": (qparams(0.0317, -20), qparams(0.0317, -90), 0.1),
    "torch's default": (qparams(0.05, 0), qparams(0.03, -120), 0.01),
    "steeper below zero": (qparams(0.05, 0), qparams(0.05, 3), 1.5),
    "exact ties": (qparams(0.25, 0), qparams(0.5, 0), 0.5),
    "one shared scale": (qparams(0.04, -5), qparams(0.04, -5), 0.1),
    "output saturates": (qparams(0.5, -128), qparams(0.001, 127), 0.1),
    "all above zero": (qparams(0.02, -128), qparams(0.02, -128), 0.1),
    "all below zero": (qparams(0.02, 127), qparams(0.002, 127), 0.1),
    "tiny slope": (qparams(0.02, 0), qparams(0.02, 0), 1e-9),
    "largest multiplier": (qparams(1.0, 4), qparams(2.0**-20, 4), 1.0),
    "nothing left": (qparams(1e-6, 4), qparams(1.0, 4), 0.2),
}


@pytest.mark.parametrize("case", CASES)
def test_all_codes(case: str) -> None:
    assert_equal_everywhere(graph_of(*CASES[case]), EVERY)


@pytest.mark.parametrize("batch, shape", [(1, (5, 3, 7)), (3, (2, 1, 9)), (2, (17, 4, 1))])
def test_shapes(batch: int, shape: tuple[int, int, int]) -> None:
    codes = np.random.default_rng(0).integers(-128, 128, (batch, *shape)).astype(np.int8)
    assert_equal_everywhere(graph_of(*CASES["as in a YOLO"], shape=shape), codes)


def test_codes_by_hand() -> None:
    """Scale 1/4 in, 1/2 out: 5 -> 2.5 -> 3, -5 -> -1.25 -> -1, -6 -> -1.5 -> -2 (slope 1/2: -5 / 4, -6 / 4)."""
    values = run_literal(graph_of(*CASES["exact ties"]), EVERY)["y"].ravel()
    assert [int(values[128 + q]) for q in (5, 4, 0, -4, -5, -6)] == [3, 2, 0, -1, -1, -2]


def test_scales_on_which_the_runtimes_differ_are_moved() -> None:
    rng, slope = np.random.default_rng(0), 0.3
    moved = 0
    for _ in range(400):
        sx = float(np.float32(rng.uniform(0.001, 0.1)))
        sy = float(np.float32(sx * rng.integers(1, 255) / (rng.integers(0, 127) + 0.5)))
        if not kernels_agree(sx, sy, slope):
            found = agreeing_output_scale(sx, sy, slope)
            assert sy < found < sy * (1 + 2.0**-18) and kernels_agree(sx, found, slope)
            moved += 1
    assert moved > 0


def test_a_scale_on_which_they_differ_is_refused_and_gives_different_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the search is not idle: with one of these scales LiteRT and TFLite Micro do give different codes."""
    rng = np.random.default_rng(0)
    while True:
        x = qparams(rng.uniform(0.001, 0.1))
        y = qparams(x.scale * rng.integers(1, 255) / (rng.integers(0, 127) + 0.5))
        if not kernels_agree(x.scale, y.scale, 0.3):
            break
    g = GraphBuilder((1, 16, 16), x)
    graph = g.graph(g.apply("leaky_relu", "x", "y", y, slope=float(np.float32(0.3))))
    with pytest.raises(UserError, match="'y_leaky_relu': with the scales .* round some values differently"):
        tflite.write(graph)
    monkeypatch.delitem(CHECKS, LeakyReluOp)
    first, second = runtime_tensors(graph, EVERY).values()
    assert (first["y"] != second["y"]).any()


def test_one_scale_for_input_and_output_is_moved_too() -> None:
    """Below 0 float32 gives Sx * slope / Sx, which need not be the slope; 64 * 77 / 128 is a tie."""
    slope, moved = 77 / 256, 0
    for scale in np.float32(np.random.default_rng(0).uniform(0.001, 0.1, 100)).tolist():
        found = agreeing_output_scale(scale, scale, slope, shared=True)
        assert scale <= found < scale * (1 + 2.0**-18) and kernels_agree(found, found, slope)
        moved += found > scale
    assert moved > 0


def test_a_single_rounding_is_caught() -> None:
    graph = graph_of(*CASES["exact ties"])
    assert (run_literal(graph, EVERY, SingleRounding())["y"] != run_literal(graph, EVERY)["y"]).any()


def test_a_multiplier_one_unit_too_large_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    true = leaky_relu.quantize_multiplier
    monkeypatch.setattr(leaky_relu, "quantize_multiplier", lambda m: (true(m)[0] + 1, true(m)[1]))
    with pytest.raises(AssertionError, match="differ"):
        assert_equal_everywhere(graph_of(*CASES["exact ties"]), EVERY)


def test_gradient_is_that_of_the_real_function() -> None:
    """Sx / Sy = 2 from 0 on, 1/4 of that below, nothing where the output is clamped."""
    x, y = qparams(0.5, 0), qparams(0.25, -128)
    codes = torch.tensor([-8.0, -1.0, 0.0, 3.0, 127.0]).view(1, 1, 1, 5)
    (grad,) = gradient_of("leaky_relu", [codes], [x], qparams(0.25, 0), slope=0.25)
    assert grad.flatten().tolist() == [0.5, 0.5, 2.0, 2.0, 0.0]
    (grad,) = gradient_of("leaky_relu", [codes], [x], y, slope=0.25)
    assert grad.flatten().tolist() == [0.0, 0.0, 2.0, 2.0, 2.0]


def test_training_gives_the_codes_that_ship() -> None:
    graph = graph_of(*CASES["as in a YOLO"])
    x, y = graph.qparams("x"), graph.qparams("y")
    ranges: list[tuple[float, float]] = []
    made = run_form("leaky_relu", [torch.from_numpy(EVERY).float()], [x], y, ranges, slope=float(np.float32(0.1)))
    assert np.array_equal(made.numpy(), run_literal(graph, EVERY)["y"])
    assert ranges == [(float(np.float32(0.1)) * (x.scale * -108), x.scale * 147)]
