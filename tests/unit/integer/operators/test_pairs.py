"""Sums, differences, products, minima and maxima of two maps against the runtimes: all pairs of codes, and all ways in
which sizes of 1 stand for all positions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hatdet.integer.arithmetic import activation_limits
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pairs.mul import agreeing_output_scale
from hatdet.integer.operators.table import OP_TYPES
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.helpers.compare import assert_equal_everywhere
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes
from tests.helpers.literal_integer import Arithmetic, OneMore, SingleRounding, run_literal

KINDS = ("add", "sub", "mul", "minimum", "maximum")
EVERY = np.arange(-128, 128).astype(np.int8)
PAIRS = np.stack(np.meshgrid(EVERY, EVERY, indexing="ij"))[None]


def apply(g: GraphBuilder, kind: str, y: QuantParams, activation: str = "none") -> str:
    """``y`` of the tensors ``a`` and ``b``; for a product the output's scale is moved to where kernels agree."""
    fields: dict[str, Any] = {}
    if kind in ("add", "sub"):
        lo, hi = activation_limits(activation, y.scale, y.zero_point)
        fields = {"activation": activation, "lo": lo, "hi": hi}
    if kind == "mul":
        scales = g.tensors["a"].qparams.scale, g.tensors["b"].qparams.scale
        y = qparams(agreeing_output_scale([scales], y.scale), y.zero_point)
    return g.apply(kind, ["a", "b"], "y", y, **fields)


def of_all_pairs(kind: str, a: QuantParams, b: QuantParams, y: QuantParams, activation: str = "none") -> IntGraph:
    """``a`` and ``b`` have the codes of the two channels of ``x``."""
    g = GraphBuilder((2, 256, 256), qparams(1.0, 0))
    for channel, (name, q) in enumerate({"a": a, "b": b}.items()):
        weight = np.zeros((1, 2, 1, 1), dtype=np.int8)
        weight[0, channel] = 1
        g.conv("x", name, 1, (1, 1), padding=(0, 0), activation="none", q=q, weight=weight,
               bias=np.array([-q.zero_point], np.int32), weight_scale=np.array([q.scale], np.float32))  # fmt: skip
    return g.graph(apply(g, kind, y, activation))


DIFFERENCES = {
    "equal": ((0.02, -128), (0.02, -128), (0.04, 0), "none"),
    "typical": ((6 / 255, -128), (0.0317, -20), (0.0411, -60), "none"),
    "relu6": ((0.051, 3), (0.0317, -20), (6 / 255, -128), "relu6"),
    "relu": ((0.051, 3), (0.0317, -20), (0.0371, -100), "relu"),
    "first 1000 times larger": ((0.9, 5), (0.0009, -7), (0.8, 11), "none"),
    "second 1000 times larger": ((0.0009, 5), (0.9, -7), (0.8, 11), "none"),
    "output far smaller": ((0.5, 0), (0.4, 0), (0.01, 0), "none"),
    "extreme zero points": ((0.02, 127), (0.03, -128), (0.025, 127), "none"),
    "ties of the second input": ((1.0, 0), (1 / 3, 0), (2 / 3, 0), "none"),
}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_difference_of_all_pairs(case: str) -> None:
    *params, activation = DIFFERENCES[case]
    a, b, y = (qparams(scale, zero) for scale, zero in params)
    out = assert_equal_everywhere(of_all_pairs("sub", a, b, y, activation), PAIRS)
    assert np.array_equal(out["a"][0, 0], PAIRS[0, 0]) and np.array_equal(out["b"][0, 0], PAIRS[0, 1])


def test_differences_written_out() -> None:
    """x - y in halves: exact, a tie goes away from zero, and the output's limits hold."""
    half = qparams(0.5, 0)
    fine = run_literal(of_all_pairs("sub", half, half, half), PAIRS)["y"][0, 0].astype(int)
    assert [fine[128 + a, 128 + b] for a, b in ((3, 1), (1, 3), (100, -100), (-100, 100))] == [2, -2, 127, -128]
    coarse = run_literal(of_all_pairs("sub", half, half, qparams(1.0, 0)), PAIRS)["y"][0, 0].astype(int)
    assert [coarse[128 + a, 128 + b] for a, b in ((1, 0), (0, 1), (3, 0), (0, 3))] == [1, -1, 2, -2]


@pytest.mark.parametrize("mutant", [SingleRounding(), OneMore()], ids=lambda m: type(m).__name__)
def test_mutants_of_the_difference_are_caught(mutant: Arithmetic) -> None:
    caught = []
    for scales in ((1 / 255, 6 / 255, 2 / 3), (0.5, 0.25, 1.0), (1 / 255, 0.05, 1 / 3)):
        graph = of_all_pairs("sub", *(qparams(scale, 0) for scale in scales))
        caught.append(not np.array_equal(run_literal(graph, PAIRS)["y"], run_literal(graph, PAIRS, mutant)["y"]))
        assert_equal_everywhere(graph, PAIRS)
    assert any(caught)


@pytest.mark.parametrize("kind", ["minimum", "maximum"])
@pytest.mark.parametrize("q", [qparams(0.03, -128), qparams(0.07, 11), qparams(1.0, 127)], ids=str)
def test_extreme_of_all_pairs(kind: str, q: QuantParams) -> None:
    out = assert_equal_everywhere(of_all_pairs(kind, q, q, q), PAIRS)["y"]
    expected = PAIRS[:, :1] if kind == "maximum" else PAIRS[:, 1:]  # above the diagonal
    upper = PAIRS[:, :1] >= PAIRS[:, 1:]
    assert np.array_equal(out[upper], expected[upper]) and len(np.unique(out)) == 256


SHAPES = {
    "a number for each channel, second": ((4, 6, 5), (4, 1, 1)),
    "a number for each channel, first": ((4, 1, 1), (4, 6, 5)),
    "one map for all channels, second": ((4, 6, 5), (1, 6, 5)),
    "one map for all channels, first": ((1, 6, 5), (4, 6, 5)),
    "one number": ((4, 6, 5), (1, 1, 1)),
    "rows and columns": ((4, 6, 1), (4, 1, 5)),
    "channels and positions": ((4, 1, 1), (1, 6, 5)),
    "all that can stand for others": ((1, 6, 1), (4, 1, 5)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", SHAPES)
def test_sizes_of_one_stand_for_all(case: str, kind: str) -> None:
    y = qparams(0.05 if kind != "mul" else 0.009, 2)
    params = (y, y) if kind in ("minimum", "maximum") else (qparams(0.031, -7), qparams(0.042, 3))
    g = GraphBuilder((4, 6, 5), qparams(0.03, 5))
    for name, shape, q in zip("ab", SHAPES[case], params, strict=True):
        kernel = (7 - shape[1], 6 - shape[2])
        g.conv("x", name, shape[0], kernel, padding=(0, 0), activation="none", q=q)
    apply(g, kind, y)
    assert g.tensors["y"].shape == (4, 6, 5)
    out = assert_equal_everywhere(g.graph("y"), random_codes((2, 4, 6, 5)))["y"]
    assert len(np.unique(out)) > 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", ["x", "b"])
def test_a_value_with_itself_and_the_image_with_another(kind: str, other: str) -> None:
    source = qparams(0.031, -7)
    g = GraphBuilder((3, 5, 7), source)
    g.conv("x", "b", 3, activation="none", q=source)
    g.tensors["a"] = g.tensors["x"]
    y = {"minimum": source, "maximum": source, "mul": qparams(0.02, -5)}.get(kind, qparams(0.06, 3))
    g.tensors["b"] = g.tensors["b"] if other == "b" else g.tensors["x"]
    apply(g, kind, y)
    g.ops[-1] = replace(g.ops[-1], input1="x", input2=other)  # type: ignore[type-var]
    del g.tensors["a"]
    out = assert_equal_everywhere(g.graph("y"), random_codes((2, 3, 5, 7)))["y"]
    assert len(np.unique(out)) > 1 or (kind, other) == ("sub", "x")


@pytest.mark.parametrize("kind", KINDS)
def test_maps_that_do_not_go_together(kind: str) -> None:
    with pytest.raises(ValueError, match=r"tensors of shapes \(4, 6, 5\) and \(4, 3, 5\); use equal shapes, or sizes"):
        OP_TYPES[kind].shape_of([(4, 6, 5), (4, 3, 5)], {})
    g = GraphBuilder((4, 6, 5), qparams(0.03, 5))
    g.tensors["a"] = g.tensors["b"] = g.tensors["x"]
    apply(g, kind, qparams(0.03, 5))
    g.ops[-1] = replace(g.ops[-1], input1="x", input2="small")  # type: ignore[type-var]
    g.max_pool("x", "small", (2, 1), (2, 1))
    g.ops.reverse()
    with pytest.raises(UserError, match=r"has maps of shapes \(4, 6, 5\) and \(4, 3, 5\); allowed: equal sizes, and"):
        g.graph("y")
