"""Averages that leave padding out, averages and maxima of equal blocks: against formulas, runtimes and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.helpers.compare import assert_equal_everywhere
from tests.helpers.forms import gradient_of, run_form
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes

Q = qparams(0.05, 9)
QUANTIZATIONS = [qparams(6 / 255, -128), Q, qparams(0.0317, 0), qparams(0.021, 127)]
# kernel, stride, padding, (height, width)
PADDED = {
    "3x3": ((3, 3), (1, 1), (1, 1), (5, 7)),
    "5x3": ((5, 3), (1, 1), (2, 1), (4, 6)),
    "one axis": ((3, 1), (1, 1), (1, 0), (4, 3)),
    "4x4 stride 2": ((4, 4), (2, 2), (1, 1), (8, 6)),
    "larger than the map": ((7, 7), (1, 1), (3, 3), (2, 1)),
    "7x7 stride 3": ((7, 5), (3, 3), (2, 1), (9, 6)),
}


def made(kind: str, shape: tuple[int, int, int], q: QuantParams = Q, **settings: object) -> IntGraph:
    g = GraphBuilder(shape, q)
    g.apply(kind, "x", "y", **settings)
    return g.graph("y")


@pytest.mark.parametrize("case", PADDED)
@pytest.mark.parametrize("q", QUANTIZATIONS)
def test_averages_without_what_is_padded(case: str, q: QuantParams) -> None:
    kernel, stride, padding, size = PADDED[case]
    graph = made("average_pool", (3, *size), q, kernel=kernel, stride=stride, padding=padding)
    for codes in (random_codes((2, 3, *size)), random_codes((2, 3, *size), low=-2, high=2)):
        found = assert_equal_everywhere(graph, codes)["y"]
        real = F.avg_pool2d(torch.from_numpy(codes).double(), kernel, stride, padding, count_include_pad=False)
        assert float((torch.from_numpy(found).double() - real).abs().max()) <= 0.5


def test_the_corner_of_a_map_is_an_average_of_four() -> None:
    """1 + 2 + 4 + 5 is 12, of four; the middle of the edge (21 of 6 is 3.5) goes away from zero."""
    graph = made("average_pool", (1, 3, 3), kernel=(3, 3), stride=(1, 1), padding=(1, 1))
    codes = np.arange(1, 10).astype(np.int8).reshape(1, 1, 3, 3)
    assert assert_equal_everywhere(graph, codes)["y"].tolist() == [[[[3, 4, 4], [5, 5, 6], [6, 7, 7]]]]
    assert assert_equal_everywhere(graph, -codes)["y"].tolist() == [[[[-3, -4, -4], [-5, -5, -6], [-6, -7, -7]]]]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [((3, 3), (2, 2), (1, 1), (8, 8)), ((4, 4), (2, 2), (1, 1), (7, 8)), ((3, 3), (1, 1), (1, 0), (8, 8))],
)
def test_padding_that_tensorflow_puts_elsewhere(kernel: object, stride: object, padding: object, size: object) -> None:
    with pytest.raises(UserError, match=r"\(average_pool\) has padding .*; allowed: half of kernel minus stride, of"):
        made("average_pool", (3, *size), kernel=kernel, stride=stride, padding=padding)  # type: ignore[misc]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 6), (1, 6), (4, 1)])
@pytest.mark.parametrize("q", QUANTIZATIONS)
def test_averages_and_maxima_of_equal_blocks(size: tuple[int, int], q: QuantParams) -> None:
    codes = random_codes((2, 3, 4, 6))
    found = assert_equal_everywhere(made("global_average_pool", (3, 4, 6), q, size=size), codes)["y"]
    real = F.adaptive_avg_pool2d(torch.from_numpy(codes).double(), size)
    assert float((torch.from_numpy(found).double() - real).abs().max()) <= 0.5
    found = assert_equal_everywhere(made("global_max_pool", (3, 4, 6), q, size=size), codes)["y"]
    assert np.array_equal(found, F.adaptive_max_pool2d(torch.from_numpy(codes).double(), size).numpy())


def test_blocks_of_another_image_have_another_size() -> None:
    graph = made("global_max_pool", (1, 2, 4), size=(2, 2))
    codes = torch.arange(16, dtype=torch.int8).reshape(1, 1, 4, 4)
    assert IntExecutor(graph)(codes)[0].tolist() == [[[[5, 7], [13, 15]]]]
    graph = made("global_average_pool", (1, 2, 4), size=(2, 2))
    assert IntExecutor(graph)(codes)[0].tolist() == [[[[3, 5], [11, 13]]]]  # 2.5, 4.5, 10.5, 12.5: away from zero


@pytest.mark.parametrize("kind", ["global_average_pool", "global_max_pool"])
def test_maps_that_are_not_so_many_blocks(kind: str) -> None:
    message = "maps of 5 x 4 are not 2 x 2 equal blocks, to which they are pooled; use an image size of which they"
    with pytest.raises(UserError, match=message):
        made(kind, (1, 5, 4), size=(2, 2))
    graph = made(kind, (1, 4, 4), size=(2, 2))
    with pytest.raises(UserError, match=message):
        IntExecutor(graph)(torch.zeros(1, 1, 5, 4, dtype=torch.int8))
    state = graph.to_state()
    state["ops"][0]["size"] = (0, 1)
    with pytest.raises(ValueError, match=r"has size \(0, 1\); allowed: 2 whole numbers of 1 and more"):
        IntGraph.from_state(state)


def test_a_large_map_has_one_average() -> None:
    """200 000 codes, the sum of which no float32 holds."""
    codes = random_codes((1, 1, 400, 500), low=100, high=127)
    found = IntExecutor(made("global_average_pool", (1, 400, 500), size=(1, 1)))(torch.from_numpy(codes))[0]
    assert int(found) == round(float(codes.astype(np.float64).mean()))


def test_an_older_graph_has_no_size_and_no_padding() -> None:
    for kind, fields, name in (
        ("global_average_pool", {"size": (1, 1)}, "size"),
        ("average_pool", {"kernel": (2, 2), "stride": (2, 2)}, "padding"),
    ):
        graph = made(kind, (1, 4, 4), **fields)
        state = graph.to_state()
        assert name not in state["ops"][0] and IntGraph.from_state(state).ops == graph.ops
    state = made("global_average_pool", (1, 4, 4), size=(2, 2)).to_state()
    assert state["ops"][0]["size"] == (2, 2)


def test_gradients_are_those_of_the_real_functions() -> None:
    x = torch.randint(-128, 128, (2, 3, 4, 6), generator=torch.Generator().manual_seed(0)).float()
    for kind, settings, real in (
        ("global_average_pool", {"size": (2, 3)}, lambda v: F.adaptive_avg_pool2d(v, (2, 3))),
        ("global_max_pool", {"size": (2, 2)}, lambda v: F.adaptive_max_pool2d(v, (2, 2))),
        (
            "average_pool",
            {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1)},
            lambda v: F.avg_pool2d(v, 3, 1, 1, count_include_pad=False),
        ),
    ):
        leaf = x.clone().requires_grad_()
        expected = real(leaf)
        expected.sum().backward()
        assert float((run_form(kind, [x], [Q], Q, **settings) - expected).abs().max()) <= 0.5
        (grad,) = gradient_of(kind, [x], [Q], Q, **settings)
        if kind != "global_max_pool":
            assert leaf.grad is not None and torch.allclose(grad, leaf.grad)
        else:  # equal maxima of a block share its gradient
            assert torch.equal(grad.reshape(2, 3, 2, 2, 2, 3).sum((3, 5)), torch.ones(2, 3, 2, 2))
            assert bool((grad > 0).eq(x == expected.detach().repeat_interleave(2, 2).repeat_interleave(3, 3)).all())
