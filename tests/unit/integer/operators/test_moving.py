"""Operators that move codes, against the literal integers, both reference runtimes and exact ONNX."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hatdet.export.tflite.file_operators import read_file
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.layout.channel_order import ChannelOrderOp
from hatdet.integer.operators.layout.slice import FIRST, LAST
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.helpers.compare import assert_equal_everywhere
from tests.helpers.forms import gradient_of, run_form
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes

WHOLE = {"begin": (FIRST,) * 3, "end": (LAST,) * 3, "stride": (1, 1)}
Q = qparams(0.05, 9)


def sliced(shape: tuple[int, int, int], q: QuantParams = Q, **settings: object) -> IntGraph:
    g = GraphBuilder(shape, q)
    g.apply("slice", "x", "y", **{**WHOLE, **settings})
    return g.graph("y")


def numbered(*shape: int) -> np.ndarray:
    """Every value its own place."""
    return np.arange(np.prod(shape)).reshape(shape).astype(np.int8)


def test_a_slice_takes_these_codes() -> None:
    """Of two 3 x 4 maps the second, its rows 1 to the end, every second column but for the last."""
    codes = numbered(1, 2, 3, 4)
    settings = {"begin": ((0, 1, 1), (0, 1, 1), FIRST), "end": (LAST, LAST, (1, 1, -1)), "stride": (1, 2)}
    found = assert_equal_everywhere(sliced((2, 3, 4), **settings), codes)["y"]
    assert found.tolist() == [[[[16, 18], [20, 22]]]]


def test_every_code_comes_through() -> None:
    codes = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)
    for q in (qparams(6 / 255, -128), qparams(0.0317, 0), qparams(0.021, 127)):
        assert np.array_equal(assert_equal_everywhere(sliced((1, 16, 16), q), codes)["y"], codes)


@pytest.mark.parametrize("seed", range(12))
def test_random_parts_of_odd_maps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 9, 3))
    first = [int(rng.integers(0, n)) for n in shape]
    last = [int(rng.integers(f + 1, n + 1)) for f, n in zip(first, shape, strict=True)]
    graph = sliced(
        (shape[0], shape[1], shape[2]),
        begin=tuple((0, 1, f) for f in first),
        end=tuple((1, 1, n - size) if rng.integers(2) else (0, 1, n) for n, size in zip(last, shape, strict=True)),
        stride=tuple(int(n) for n in rng.integers(1, 4, 2)),
    )
    assert_equal_everywhere(graph, random_codes((2, *shape), seed))


def test_places_are_those_of_maps_of_any_size() -> None:
    """The last half of the rows, and all columns but the outermost, of a graph that was made for another size."""
    graph = sliced((1, 4, 4), begin=(FIRST, (1, 2, 0), (0, 1, 1)), end=(LAST, LAST, (1, 1, -1)))
    codes = torch.from_numpy(numbered(1, 1, 6, 5))
    assert IntExecutor(graph)(codes)[0].tolist() == [[[[16, 17, 18], [21, 22, 23], [26, 27, 28]]]]
    assert IntGraph.from_state(graph.to_state()).ops == graph.ops


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": (0, 1)}, r"has stride \(0, 1\); allowed: 2 whole numbers of 1 and more"),
        ({"begin": (FIRST, (0, 1, 3), FIRST)}, r"an empty part, \(2, 0, 4\) of \(2, 3, 4\); allowed: parts with"),
        ({"end": (LAST, (1, 0, 0), LAST)}, r"has end \(\(1, 1, 0\), \(1, 0, 0\).*; allowed: \(numerator, denominator"),
    ],
)
def test_parts_that_are_none_are_refused(settings: dict[str, object], message: str) -> None:
    graph = sliced((2, 3, 4))
    state = graph.to_state()
    state["ops"][0] |= settings
    with pytest.raises(ValueError, match=message):
        IntGraph.from_state(state)


def test_channels_in_another_order() -> None:
    codes = numbered(2, 3, 2, 2)
    g = GraphBuilder((3, 2, 2), Q)
    g.apply("channel_order", "x", "y", channels=(2, 0, 0, 1))
    found = assert_equal_everywhere(g.graph("y"), codes)["y"]
    assert found[0].tolist() == [[[8, 9], [10, 11]], [[0, 1], [2, 3]], [[0, 1], [2, 3]], [[4, 5], [6, 7]]]


@pytest.mark.parametrize("q", [qparams(2.0**-16, -128), qparams(0.0317, 0), qparams(1e5, 127)])
def test_every_code_comes_through_another_order(q: QuantParams) -> None:
    """In the file it is a convolution: its multiplier is 1, and rounds nothing."""
    codes = np.arange(-128, 128).astype(np.int8).reshape(1, 2, 8, 16)
    g = GraphBuilder((2, 8, 16), q)
    g.apply("channel_order", "x", "y", channels=(1, 0))
    assert np.array_equal(assert_equal_everywhere(g.graph("y"), codes)["y"], codes[:, ::-1])


@pytest.mark.parametrize(("channels", "groups"), [(4, 2), (6, 2), (6, 3), (12, 4)])
def test_a_shuffle_is_a_transposition(channels: int, groups: int) -> None:
    codes = random_codes((2, channels, 3, 2))
    g = GraphBuilder((channels, 3, 2), Q)
    order = tuple(k + i * (channels // groups) for k in range(channels // groups) for i in range(groups))
    g.apply("channel_order", "x", "y", channels=order)
    found = assert_equal_everywhere(g.graph("y"), codes)["y"]
    assert np.array_equal(found, F.channel_shuffle(torch.from_numpy(codes).float(), groups).numpy())
    assert [op.code for op in read_file(write(g.graph("y"))).operators] == ["RESHAPE", "TRANSPOSE", "RESHAPE"]


def test_only_a_shuffle_has_groups() -> None:
    def groups(*channels: int) -> int:
        return ChannelOrderOp("o", "x", "y", channels).groups(6)

    assert (groups(0, 3, 1, 4, 2, 5), groups(0, 2, 4, 1, 3, 5)) == (2, 3)
    assert groups(0, 3, 1, 4, 2, 4) == groups(0, 3, 1, 4) == groups(0, 1, 2, 3, 4, 5) == groups(5, 4, 3, 2, 1, 0) == 1


def test_an_order_of_channels_that_are_not_there() -> None:
    g = GraphBuilder((3, 2, 2), Q)
    g.apply("channel_order", "x", "y", channels=(0, 3))
    with pytest.raises(UserError, match=r"\(channel_order\) has channel 3; allowed: .* 0 to 2; build"):
        g.graph("y")


@pytest.mark.parametrize("block", [1, 2, 3])
def test_channels_become_blocks_of_pixels(block: int) -> None:
    """As torch's PixelShuffle has them, once the channels are in TensorFlow's order."""
    for batch, channels, height, width in ((2, 3, 2, 5), (1, 1, 3, 1)):
        codes = random_codes((batch, channels * block**2, height, width))
        g = GraphBuilder((channels * block**2, height, width), qparams(0.05, 9))
        order = [c * block**2 + pixel for pixel in range(block**2) for c in range(channels)]
        g.apply("depth_to_space", g.apply("channel_order", "x", "o", channels=tuple(order)), "y", block=block)
        found = assert_equal_everywhere(g.graph("y"), codes)["y"]
        assert np.array_equal(found, F.pixel_shuffle(torch.from_numpy(codes), block).numpy())


def test_the_pixels_of_a_block() -> None:
    """Channel 0 of the pixels (0, 0), (0, 1), (1, 0) and (1, 1), then channel 1 of them."""
    codes = np.arange(8).astype(np.int8).reshape(1, 8, 1, 1)
    g = GraphBuilder((8, 1, 1), Q)
    g.apply("depth_to_space", "x", "y", block=2)
    assert assert_equal_everywhere(g.graph("y"), codes)["y"].tolist() == [[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]]
    g = GraphBuilder((6, 1, 1), Q)
    g.apply("depth_to_space", "x", "y", block=2)
    with pytest.raises(UserError, match=r"\(depth_to_space\) has 6 channels; allowed: multiples of 4, the pixels of"):
        g.graph("y")


def test_training_moves_codes_and_gradients() -> None:
    x = torch.arange(24.0).reshape(1, 2, 3, 4)
    part = {"begin": (FIRST, (0, 1, 1), FIRST), "end": (LAST, LAST, LAST), "stride": (1, 3)}
    assert run_form("slice", [x], [Q], Q, **part).tolist() == x[:, :, 1:, ::3].tolist()
    (grad,) = gradient_of("slice", [x], [Q], Q, **part)
    assert grad[0, 0].tolist() == [[0, 0, 0, 0], [1, 0, 0, 1], [1, 0, 0, 1]]
    deep = torch.arange(24.0).reshape(1, 4, 2, 3)
    assert torch.equal(run_form("depth_to_space", [deep], [Q], Q, block=2), F.pixel_shuffle(deep, 2))
    (grad,) = gradient_of("depth_to_space", [deep], [Q], Q, block=2)
    assert torch.equal(grad, torch.ones(1, 4, 2, 3))
    assert run_form("channel_order", [x], [Q], Q, channels=(1, 1, 0)).tolist() == x[:, [1, 1, 0]].tolist()
    (grad,) = gradient_of("channel_order", [x], [Q], Q, channels=(1, 1))
    assert grad.amax((2, 3)).tolist() == grad.amin((2, 3)).tolist() == [[0, 2]]
