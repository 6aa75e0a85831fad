"""Orders of channels that go into the weights around them leave every code as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tests.helpers.literal_transposed  # noqa: F401  (its formula)
from hatdet.integer.channel_orders import fold_orders
from hatdet.integer.executor import IntExecutor
from hatdet.integer.operators.windows.conv import ConvOp
from tests.helpers.compare import assert_equal_everywhere
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes

Q = qparams(0.02, 3)
SHUFFLE = (0, 4, 1, 5, 2, 6, 3, 7)
Build = Callable[[GraphBuilder], object]


def order(g: GraphBuilder, source: str, out: str, channels: tuple[int, ...] = SHUFFLE) -> str:
    return g.apply("channel_order", source, out, channels=channels)


def behind_a_convolution(g: GraphBuilder) -> None:
    order(g, g.conv("x", "a", 8), "y")


def behind_depthwise(g: GraphBuilder) -> None:
    """Through a depthwise convolution and a pool, into the one before them."""
    g.conv("x", "a", 8)
    g.conv("a", "b", 8, groups=8)
    order(g, g.max_pool("b", "c", (2, 2)), "y")


def before_convolutions(g: GraphBuilder) -> None:
    """``x`` is the image: what reads it takes the order in, on both branches."""
    order(g, "x", "s")
    g.conv("s", "a", 4)
    g.conv(g.clamp(g.conv("s", "b", 8, groups=8, activation="none"), "c", "relu"), "d", 4)
    g.concat(["a", "d"], "y")


def some_channels(g: GraphBuilder) -> None:
    order(g, g.conv("x", "a", 8), "y", (7, 2, 2))


def in_its_group(g: GraphBuilder) -> None:
    order(g, g.conv("x", "a", 8, groups=2), "y", (3, 1, 2, 0, 4, 7, 6, 5))


def two_in_a_row(g: GraphBuilder) -> None:
    g.concat(["x", "x"], "w")
    order(g, order(g, "w", "a", tuple(range(15, -1, -1))), "b", (*range(8, 16), *range(8)))
    g.conv("b", "y", 4)


def around_a_transposed(g: GraphBuilder) -> None:
    """In and out: its weights are in both orders."""
    numbers: dict[str, Any] = {
        "weight": g.rng.integers(-127, 128, (4, 8, 2, 2)).astype(np.int8), "bias": np.arange(4, dtype=np.int32) * 99,
        "weight_scale": np.full(4, 0.003, np.float32), "stride": (2, 2), "padding": (0, 0), "output_padding": (0, 0),
    }  # fmt: skip
    order(g, "x", "s")
    g.apply("conv_transpose", "s", "a", Q, **numbers, activation="none", lo=-128, hi=127)
    order(g, "a", "y", (3, 1, 0, 2))


FOLDED: dict[str, tuple[Build, list[str]]] = {
    "behind a convolution": (behind_a_convolution, ["conv"]),
    "behind depthwise": (behind_depthwise, ["conv", "conv", "max_pool"]),
    "before convolutions": (before_convolutions, ["conv", "conv", "clamp", "conv", "concat"]),
    "around a transposed one": (around_a_transposed, ["conv_transpose"]),
    "some channels": (some_channels, ["conv"]),
    "in its group": (in_its_group, ["conv"]),
    "two in a row": (two_in_a_row, ["concat", "conv"]),
}


def across_groups(g: GraphBuilder) -> None:
    g.conv(order(g, g.conv("x", "a", 8, groups=2), "s"), "y", 8, groups=2)


def of_an_output(g: GraphBuilder) -> None:
    """The convolution's own output is wanted too."""
    order(g, g.conv("x", "z", 8), "y")


def read_twice(g: GraphBuilder) -> None:
    g.conv("x", "a", 8, q=Q)
    g.add("a", order(g, "a", "s"), "y", Q)


def before_a_concatenation(g: GraphBuilder) -> None:
    order(g, "x", "s")
    g.conv("s", "a", 8, q=Q)
    g.concat(["a", "s"], "y")


def before_a_concatenation_that_is_read(g: GraphBuilder) -> None:
    """The convolution behind it has other channels than the order."""
    order(g, "x", "s")
    g.conv("s", "a", 3, q=Q)
    g.concat(["s", "a"], "b")
    g.conv("b", "y", 4)


def fewer_of_the_image(g: GraphBuilder) -> None:
    g.conv(order(g, "x", "s", (2, 1, 0)), "y", 4)


STAYING: dict[str, Build] = {
    "across groups": across_groups,
    "of an output": of_an_output,
    "read twice": read_twice,
    "before a concatenation": before_a_concatenation,
    "before a concatenation that is read": before_a_concatenation_that_is_read,
    "fewer of the image": fewer_of_the_image,
}


@pytest.mark.parametrize("name", [*FOLDED, *STAYING])
def test_the_codes_are_the_same(name: str) -> None:
    make, kinds = FOLDED.get(name) or (STAYING[name], None)
    g = GraphBuilder((8, 6, 5), Q)
    make(g)
    graph = g.graph(*(name for name in ("y", "z") if name in g.tensors))
    before = [op.kind for op in graph.ops]
    folded = fold_orders(graph)
    assert [op.kind for op in folded.ops] == (kinds or before) and [op.kind for op in graph.ops] == before
    codes = random_codes((2, 8, 6, 5))
    expected = IntExecutor(graph)(torch.from_numpy(codes))
    found = assert_equal_everywhere(folded, codes)
    for output, value in zip(graph.outputs, expected, strict=True):
        assert np.array_equal(found[output], value.numpy()) and len(np.unique(found[output])) > 40
    assert {t for t in folded.tensors if t != "x"} == {op.output for op in folded.ops}


def test_a_network_without_orders_is_the_same_object() -> None:
    g = GraphBuilder((8, 6, 5), Q)
    g.conv("x", "y", 8)
    graph = g.graph("y")
    assert fold_orders(graph) is graph


def test_weights_biases_and_scales_move_together() -> None:
    g = GraphBuilder((8, 6, 5), Q)
    behind_a_convolution(g)
    plain, made = g.ops[0], fold_orders(g.graph("y")).ops[0]
    assert isinstance(plain, ConvOp) and isinstance(made, ConvOp) and (made.name, made.output) == ("a_conv", "y")
    for j, c in enumerate(SHUFFLE):
        assert np.array_equal(made.weight[j], plain.weight[c])
        assert (made.bias[j], made.weight_scale[j]) == (plain.bias[c], plain.weight_scale[c])
