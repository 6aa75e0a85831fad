"""Limits other than those of ReLU: fused or alone, in torch, LiteRT, TFLite Micro and exact ONNX; their gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.file_operators import read_file
from hatdet.integer.graph import IntGraph
from hatdet.integer.tensors import QuantParams
from tests.helpers.compare import assert_equal_everywhere
from tests.helpers.forms import gradient_of, run_form
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes, wide

EVERY = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)
COARSE = qparams(0.05, -20)
# activation, quantization of what it limits, (lowest, highest) code, operators of the file behind a convolution
CASES: dict[str, tuple[str, QuantParams, tuple[int, int], list[str]]] = {
    "ReLU1": ("relu_n1_to_1", COARSE, (-40, 0), []),
    "both": ("clamp(-2.0,3.0)", COARSE, (-60, 40), ["MAXIMUM", "MINIMUM"]),
    "from above": ("clamp(-inf,3.0)", COARSE, (-128, 40), ["MINIMUM"]),
    "from below": ("clamp(-2.0,inf)", COARSE, (-60, 127), ["MAXIMUM"]),
    "0 and up to 1": ("clamp(0.0,1.0)", COARSE, (-20, 0), ["MAXIMUM", "MINIMUM"]),
    "range ends there": ("clamp(-2.0,2.0)", qparams(4 / 255, -1), (-128, 127), []),
    "range ends before": ("clamp(-2.0,2.0)", qparams(0.01, 7), (-128, 127), []),
    "a tie": ("clamp(-2.25,2.25)", qparams(0.5, 0), (-5, 5), ["MAXIMUM", "MINIMUM"]),
    "one code": ("clamp(0.0,0.1)", qparams(0.5, 3), (3, 3), ["MAXIMUM", "MINIMUM"]),
    "tiny scale": ("clamp(-1.5,1.5)", qparams(1e-30, 3), (-128, 127), []),
    "huge scale": ("clamp(-1.5,1.5)", qparams(1e30, 3), (3, 3), ["MAXIMUM", "MINIMUM"]),
}


def codes_of(graph: IntGraph) -> list[str]:
    return [op.code for op in read_file(tflite.write(graph)).operators]


@pytest.mark.parametrize("case", CASES)
def test_alone(case: str) -> None:
    activation, q, (lo, hi), steps = CASES[case]
    g = GraphBuilder((1, 16, 16), q)
    graph = g.graph(g.clamp("x", "y", activation))
    expected = assert_equal_everywhere(graph, EVERY)["y"]
    assert np.array_equal(expected, np.clip(EVERY, lo, hi))
    assert codes_of(graph) == (steps or ["MAX_POOL_2D"])


@pytest.mark.parametrize("case", [case for case in CASES if "scale" not in case])
def test_behind_a_convolution(case: str) -> None:
    activation, q, (lo, hi), steps = CASES[case]
    g = GraphBuilder((4, 7, 5), qparams(0.09, 3))
    graph = g.graph(g.conv("x", "y", 6, q=q, activation=activation, bias=np.zeros(6, np.int32)))
    made = assert_equal_everywhere(graph, random_codes((2, 4, 7, 5)))["y"]
    assert (made.min(), made.max()) == (lo, hi)
    assert codes_of(graph) == ["CONV_2D", *steps]


@pytest.mark.parametrize("case", [case for case in CASES if "scale" not in case])
def test_behind_an_addition(case: str) -> None:
    activation, q, (lo, hi), steps = CASES[case]
    g = GraphBuilder((1, 16, 16), qparams(0.04, 3))
    graph = g.graph(g.add("x", "x", "y", q, activation))
    made = assert_equal_everywhere(graph, EVERY)["y"]
    assert (made.min(), made.max()) == (lo, hi)
    assert codes_of(graph) == ["ADD", *steps]


@pytest.mark.parametrize("activation, lo, hi", [("relu_n1_to_1", -1000, 1000), ("clamp(-2.0,inf)", -2000, 32767)])
def test_outputs_of_16_bits(activation: str, lo: int, hi: int) -> None:
    g = GraphBuilder((4, 7, 5), qparams(0.4, 3))
    graph = g.graph(g.conv("x", "y", 6, q=wide(0.001), activation=activation))
    made = assert_equal_everywhere(graph, random_codes((2, 4, 7, 5)))["y"]
    assert made.min() == lo and made.max() == hi


def test_default_kernels_compute_a_limited_convolution_too() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    for case in ("ReLU1", "both", "range ends there"):
        activation, q, *_ = CASES[case]
        g = GraphBuilder((4, 7, 5), qparams(0.04, 3))
        graph = g.graph(g.conv("x", "y", 6, q=q, activation=activation))
        report = check_parity(graph, tflite.write(graph), torch.from_numpy(random_codes((2, 4, 7, 5))))
        assert report.ok and all(drift <= 1 for t in report.tensors for drift in t.max_lsb.values()), report.text()


def test_training_gives_the_codes_that_ship_and_stops_gradients_at_the_limits() -> None:
    codes = torch.tensor([-128.0, -61.0, -59.0, 0.0, 39.0, 41.0]).view(1, 1, 1, 6)
    made = run_form("clamp", [codes], [COARSE], COARSE, activation="clamp(-2.0,3.0)")
    assert made.flatten().tolist() == [-60.0, -60.0, -59.0, 0.0, 39.0, 40.0]
    (grad,) = gradient_of("clamp", [codes], [COARSE], COARSE, activation="clamp(-2.0,3.0)")
    assert grad.flatten().tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 0.0]


def test_what_is_observed_of_a_limited_sum() -> None:
    x, ranges = qparams(0.1, 0), list[tuple[float, float]]()
    codes = torch.tensor([-50.0, 40.0]).view(1, 1, 1, 2)  # sums of -10 and 8
    for activation in ("clamp(-2.0,3.0)", "clamp(-inf,3.0)", "relu_n1_to_1", "clamp(-20.0,inf)", "relu6", "none"):
        run_form("add", [codes, codes], [x, x], qparams(0.1), ranges, activation=activation)
    expected = [(-2, 3), (-10, 3), (-1, 1), (-10, 8), (0, 6), (-10, 8)]
    assert [(round(low, 5), round(high, 5)) for low, high in ranges] == expected
