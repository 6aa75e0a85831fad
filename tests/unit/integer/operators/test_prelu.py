"""PReLU: all codes and slopes, ties, in torch, LiteRT, TFLite Micro and exact ONNX; mutants."""

from __future__ import annotations

import numpy as np
import pytest

from hatdet.export.tflite import int8 as tflite
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pointwise import prelu
from hatdet.integer.operators.pointwise.prelu import PreluOp, agreeing_output_scale, kernels_agree
from hatdet.integer.profiles.checks.tflite_ref import CHECKS
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.helpers.compare import assert_equal_everywhere, runtime_tensors
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes
from tests.helpers.literal_integer import ORACLES, Arithmetic, SingleRounding, run_literal

EVERY = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)


def oracle(graph: IntGraph, op: PreluOp, ins: list[np.ndarray], math_: Arithmetic) -> np.ndarray:
    x, y = graph.qparams(op.input), graph.qparams(op.output)
    a, b, s = np.float32(x.scale), np.float32(y.scale), np.float32(op.alpha_scale)
    centred, slopes = ins[0] - x.zero_point, op.alpha.astype(np.int64).reshape(1, -1, 1, 1)
    same = math_.scale(centred, *math_.multiplier(float(a / b)))
    steep = math_.scale(centred * slopes, *math_.multiplier(float(a * s / b)))
    return np.clip(np.where(centred >= 0, same, steep) + y.zero_point, -128, 127)


ORACLES[PreluOp] = oracle


def graph_of(x: QuantParams, y: QuantParams, slopes: list[int], slope_scale: float, channels: int = 0) -> IntGraph:
    scale = float(np.float32(slope_scale))
    g = GraphBuilder((channels or len(slopes), 16, 16), x)
    out = QuantParams(agreeing_output_scale(x.scale, scale, y.scale), y.zero_point)
    return g.graph(g.apply("prelu", "x", "y", out, alpha=np.array(slopes, np.int8), alpha_scale=scale))


def every_code(graph: IntGraph) -> np.ndarray:
    return np.broadcast_to(EVERY, (1, *graph.tensors["x"].shape)).copy()


CASES = {
    "torch's default": (qparams(0.0317, -20), qparams(0.0317, -90), [127], 0.25 / 127),
    "one for each channel": (qparams(0.05, 0), qparams(0.03, -70), [-127, -64, -1, 0, 1, 5, 100, 127], 0.9 / 127),
    "steep": (qparams(0.05, 0), qparams(0.1, 3), [127, -127, 60], 3.0 / 127),
    "exact ties": (qparams(0.25, 0), qparams(0.5, 0), [64, 32, -64], 1 / 64),
    "output saturates": (qparams(0.5, -128), qparams(0.001, 127), [3, 127], 0.01),
    "all above zero": (qparams(0.02, -128), qparams(0.02, -128), [100], 0.01),
    "all below zero": (qparams(0.02, 127), qparams(0.002, 127), [100, 50], 0.001),
    "tiny slopes": (qparams(0.02, 0), qparams(0.02, 0), [127, 1], 2.0**-24),
    "nothing left": (qparams(1e-6, 4), qparams(1.0, 4), [127], 0.01),
}


@pytest.mark.parametrize("case", CASES)
def test_all_codes(case: str) -> None:
    graph = graph_of(*CASES[case])
    assert_equal_everywhere(graph, every_code(graph))


def test_all_slopes() -> None:
    graph = graph_of(qparams(0.0171, 9), qparams(0.0143, -7), list(range(-127, 128)), 0.7 / 127)
    assert_equal_everywhere(graph, every_code(graph))


@pytest.mark.parametrize("batch, channels, slopes", [(3, 5, [64]), (2, 5, [1, -3, 127, 64, 0]), (1, 1, [90])])
def test_shapes(batch: int, channels: int, slopes: list[int]) -> None:
    graph = graph_of(qparams(0.05, 0), qparams(0.03, -70), slopes, 0.01, channels)
    assert_equal_everywhere(graph, random_codes((batch, channels, 16, 16)))


def test_codes_by_hand() -> None:
    """Scale 1/4 in, 1/2 out, slopes 1 and 1/2: -5 is -1.25: -2.5 -> -3 codes, and -1.25 -> -1."""
    graph = graph_of(*CASES["exact ties"])
    values = run_literal(graph, every_code(graph))["y"].reshape(3, 256)
    assert values[:, 128 - 5].tolist() == [-3, -1, 3] and values[:, 128 + 5].tolist() == [3, 3, 3]


def disagreeing() -> IntGraph:
    rng = np.random.default_rng(0)
    while True:
        x, scale = qparams(rng.uniform(0.001, 0.1)), float(np.float32(rng.uniform(0.001, 0.02)))
        y = qparams(x.scale * rng.integers(1, 255) / (rng.integers(0, 127) + 0.5))
        if not kernels_agree(x.scale, scale, y.scale):
            g = GraphBuilder((255, 16, 16), x)
            alpha = np.arange(-127, 128).astype(np.int8)
            graph = g.graph(g.apply("prelu", "x", "y", y, alpha=alpha, alpha_scale=scale))
            return graph


def test_scales_on_which_the_runtimes_differ_are_refused_and_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = disagreeing()
    (op,) = graph.ops
    assert isinstance(op, PreluOp)
    sx, sy = graph.qparams("x").scale, graph.qparams("y").scale
    with pytest.raises(UserError, match="round some products differently"):
        tflite.write(graph)
    monkeypatch.delitem(CHECKS, PreluOp)
    first, second = runtime_tensors(graph, every_code(graph)).values()
    assert (first["y"] != second["y"]).any()
    found = agreeing_output_scale(sx, op.alpha_scale, sy)
    assert sy < found < sy * (1 + 2.0**-16) and kernels_agree(sx, op.alpha_scale, found)
    shared = agreeing_output_scale(sx, op.alpha_scale, sx, shared=True)
    assert sx <= shared < sx * (1 + 2.0**-16) and kernels_agree(shared, op.alpha_scale, shared)


def test_a_single_rounding_is_caught() -> None:
    graph = graph_of(*CASES["exact ties"])
    codes = every_code(graph)
    assert (run_literal(graph, codes, SingleRounding())["y"] != run_literal(graph, codes)["y"]).any()


def test_a_multiplier_one_unit_too_large_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiples of 3 / 1024 have ties, which a little more sends elsewhere."""
    true = prelu.quantize_multiplier
    monkeypatch.setattr(prelu, "quantize_multiplier", lambda m: (true(m)[0] + 1, true(m)[1]))
    graph = graph_of(qparams(0.375, 0), qparams(1.0, 0), list(range(1, 128)), 1 / 128)
    with pytest.raises(AssertionError, match="differ"):
        assert_equal_everywhere(graph, every_code(graph))


@pytest.mark.parametrize(
    "alpha, scale, message",
    [
        (np.zeros(3, np.int8), 0.1, r"slopes of \(3,\) int8; allowed: int8, one or one for each of 4 channels"),
        (np.zeros(4, np.int16), 0.1, r"slopes of \(4,\) int16"),
        (np.zeros(4, np.int8), 0.0, r"slopes with the scale 0.0; allowed: a finite scale above 0"),
    ],
)
def test_impossible_slopes_are_refused(alpha: np.ndarray, scale: float, message: str) -> None:
    g = GraphBuilder((4, 3, 3), qparams(0.1))
    g.apply("prelu", "x", "y", qparams(0.1), alpha=alpha, alpha_scale=scale)
    with pytest.raises(UserError, match=message):
        g.graph("y")


def test_channels_in_another_order() -> None:
    op = PreluOp("p", "x", "y", np.array([1, 2, 3], np.int8), 0.1)
    assert op.reordered([2, 0]).alpha.tolist() == [3, 1] and op.stored[0] is op.alpha
    single = PreluOp("p", "x", "y", np.array([1], np.int8), 0.1)
    assert single.reordered([2, 0]) is single
