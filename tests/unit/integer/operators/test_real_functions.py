"""Shapes and real functions of the integer operators, against torch's own functions and numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hatdet.integer import onednn
from hatdet.integer.operators.pairs.pair import joint_shape
from hatdet.integer.operators.table import OP_TYPES
from hatdet.utils.errors import UserError

CONV = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2, "channels": 6, "kernel": (3, 2)}
PART = {"begin": ((0, 1, 1), (0, 1, 0), (1, 2, -1)), "end": ((1, 1, 0), (1, 1, -1), (1, 1, 0)), "stride": (2, 1)}
WIDE = {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 0), "channels": 3, "kernel": (3, 4)}


def weights(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(shape, generator=generator), torch.randn(shape[0], generator=generator)


CONV_WEIGHT, WIDE_WEIGHT = weights(6, 2, 3, 2), weights(3, 4, 3, 4)
# Kind, shapes of the inputs, settings, weight and bias, the output's shape, the function.
CASES: list[tuple[str, list[tuple[int, int, int]], dict[str, Any], Any, tuple[int, int, int], Any]] = [
    ("add", [(4, 6, 8)] * 2, {"activation": "none"}, None, (4, 6, 8), lambda a, b: a + b),
    ("add", [(4, 6, 8), (4, 1, 1)], {"activation": "relu"}, None, (4, 6, 8), lambda a, b: (a + b).clamp(min=0)),
    ("add", [(4, 6, 8)] * 2, {}, None, (4, 6, 8), lambda a, b: a + b),
    ("sub", [(1, 6, 8), (4, 6, 8)], {"activation": "relu6"}, None, (4, 6, 8), lambda a, b: (a - b).clamp(0, 6)),
    ("mul", [(4, 6, 8), (1, 6, 1)], {}, None, (4, 6, 8), lambda a, b: a * b),
    ("minimum", [(4, 6, 8)] * 2, {}, None, (4, 6, 8), torch.minimum),
    ("maximum", [(4, 6, 8)] * 2, {}, None, (4, 6, 8), torch.maximum),
    ("channel_order", [(4, 6, 8)], {"channels": (2, 0, 2)}, None, (3, 6, 8), lambda x: x[:, [2, 0, 2]]),
    ("concat", [(4, 6, 8), (2, 6, 8), (1, 6, 8)], {}, None, (7, 6, 8), lambda *x: torch.cat(x, 1)),
    ("pad", [(4, 6, 8)], {"padding": (1, 2, 3, 0)}, None, (4, 9, 11), lambda x: F.pad(x, (3, 0, 1, 2))),
    ("resize_bilinear", [(4, 6, 8)], {"factor": 4}, None, (4, 24, 32),
     lambda x: F.interpolate(x, scale_factor=4, mode="bilinear")),
    ("resize_nearest", [(4, 6, 8)], {"factor": 3}, None, (4, 18, 24),
     lambda x: x.repeat_interleave(3, 2).repeat_interleave(3, 3)),
    ("slice", [(4, 6, 8)], PART, None, (3, 3, 5), lambda x: x[:, 1:, 0:5:2, 3:]),
    ("depth_to_space", [(8, 3, 2)], {"block": 2}, None, (2, 6, 4),
     lambda x: F.pixel_shuffle(x.view(1, 4, 2, 3, 2).transpose(1, 2).reshape(1, 8, 3, 2), 2)),
    ("activation", [(4, 6, 8)], {"function": "hardswish"}, None, (4, 6, 8), F.hardswish),
    ("activation", [(4, 6, 8)], {"function": "hardsigmoid"}, None, (4, 6, 8), F.hardsigmoid),
    ("activation", [(4, 6, 8)], {"function": "sigmoid"}, None, (4, 6, 8), torch.sigmoid),
    ("activation", [(4, 6, 8)], {"function": "silu"}, None, (4, 6, 8), F.silu),
    ("clamp", [(4, 6, 8)], {"activation": "relu"}, None, (4, 6, 8), F.relu),
    ("clamp", [(4, 6, 8)], {"activation": "relu6"}, None, (4, 6, 8), F.relu6),
    ("function", [(4, 6, 8)], {"function": "elu", "numbers": (0.5,)}, None, (4, 6, 8), lambda x: F.elu(x, 0.5)),
    ("leaky_relu", [(4, 6, 8)], {"slope": 0.25}, None, (4, 6, 8), lambda x: torch.where(x >= 0, x, x / 4)),
    ("requantize", [(4, 6, 8)], {}, None, (4, 6, 8), lambda x: x),
    ("average_pool", [(4, 6, 8)], {"kernel": (3, 2), "stride": (1, 3), "padding": (0, 0)}, None, (4, 4, 3),
     lambda x: F.avg_pool2d(x, (3, 2), (1, 3))),
    ("average_pool", [(4, 6, 8)], {"kernel": (3, 4), "stride": (1, 2), "padding": (1, 1)}, None, (4, 6, 4),
     lambda x: F.avg_pool2d(x, (3, 4), (1, 2), (1, 1), count_include_pad=False)),
    ("global_average_pool", [(4, 6, 8)], {"size": (1, 1)}, None, (4, 1, 1), lambda x: x.mean((2, 3), keepdim=True)),
    ("global_average_pool", [(4, 6, 8)], {"size": (3, 2)}, None, (4, 3, 2), lambda x: F.avg_pool2d(x, (2, 4))),
    ("global_max_pool", [(4, 6, 8)], {"size": (1, 1)}, None, (4, 1, 1), lambda x: x.amax((2, 3), keepdim=True)),
    ("max_pool", [(4, 6, 8)], {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0)}, None, (4, 3, 7),
     lambda x: F.max_pool2d(x, (3, 2), (2, 1), (1, 0))),
    ("max_pool", [(4, 6, 8)], {"kernel": (5, 4), "stride": (1, 1), "padding": (2, 1)}, None, (4, 6, 7),
     lambda x: F.max_pool2d(x, (5, 4), (1, 1), (2, 1))),
    ("max_pool", [(4, 6, 8)], {"kernel": (3, 5), "stride": (1, 2), "padding": (1, 2)}, None, (4, 6, 4),
     lambda x: F.max_pool2d(x, (3, 5), (1, 2), (1, 2))),
    ("conv", [(4, 6, 8)], {**CONV, "activation": "relu6"}, CONV_WEIGHT, (6, 3, 6),
     lambda x: F.conv2d(x, *CONV_WEIGHT, (2, 1), (1, 0), (1, 2), 2).clamp(0, 6)),
    ("conv", [(4, 6, 8)], {**CONV, "activation": "hardsigmoid"}, CONV_WEIGHT, (6, 3, 6),
     lambda x: F.hardsigmoid(F.conv2d(x, *CONV_WEIGHT, (2, 1), (1, 0), (1, 2), 2))),
    ("conv_transpose", [(4, 6, 8)], {**WIDE, "activation": "none"}, WIDE_WEIGHT, (3, 12, 25),
     lambda x: F.conv_transpose2d(x, WIDE_WEIGHT[0].transpose(0, 1), WIDE_WEIGHT[1], (2, 3), (1, 0), (1, 0))),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "shapes", "settings", "parameters", "shape", "function"), CASES)
def test_real_function_and_shape(
    kind: str, shapes: list[Any], settings: dict[str, Any], parameters: Any, shape: tuple[int, ...], function: Any
) -> None:
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn((1, *size), generator=generator) * 4 for size in shapes]
    op = OP_TYPES[kind]
    assert tuple(op.shape_of(shapes, settings)) == shape
    found = op.real(settings)(inputs, *(parameters or (None, None)))
    assert tuple(found.shape) == (1, *shape)
    assert torch.allclose(found, function(*inputs), atol=1e-5)


def test_shapes_that_do_not_go_together() -> None:
    assert joint_shape((4, 6, 8), (4, 6, 8)) == (4, 6, 8) and joint_shape((4, 1, 8), (1, 6, 1)) == (4, 6, 8)
    assert joint_shape((4, 6, 8), (4, 6, 7)) is None and joint_shape((4, 6), (4, 6, 8)) is None
    for kind, verb in (("add", "add"), ("mul", "multiply"), ("maximum", "compare")):
        with pytest.raises(ValueError, match=rf"cannot {verb} tensors of shapes \(4, 6, 8\) and \(2, 6, 8\)"):
            OP_TYPES[kind].shape_of([(4, 6, 8), (2, 6, 8)], {})
    with pytest.raises(ValueError, match=r"tensors of sizes \[\(6, 8\), \(6, 7\)\] cannot be joined"):
        OP_TYPES["concat"].shape_of([(4, 6, 8), (4, 6, 7)], {})
    with pytest.raises(KeyError):
        OP_TYPES["float"].real({})


def test_what_operators_say_of_themselves() -> None:
    moved = {"channel_order", "clamp", "concat", "depth_to_space", "pad", "resize_bilinear", "resize_nearest", "slice",
             "average_pool", "global_average_pool", "global_max_pool", "max_pool", "minimum", "maximum"}  # fmt: skip
    kinds = {case[0] for case in CASES}
    assert {kind for kind in kinds if OP_TYPES[kind].shares_scale} == moved
    assert {kind for kind in kinds if OP_TYPES[kind].wide_output} == {"conv"}


def test_operators_are_values() -> None:
    """A graph that was written or evaluated cannot change afterwards."""
    assert all(kind.__dataclass_params__.frozen for kind in OP_TYPES.values())  # type: ignore[attr-defined]


def conv(groups: int) -> Any:
    weight, bias = np.zeros((4, 4 // groups, 3, 3), np.int8), np.zeros(4, np.int32)
    scales, ones = np.ones(4, np.float32), (1, 1)
    return OP_TYPES["conv"]("c", "x", "y", weight, bias, scales, ones, ones, ones, groups, "none", -128, 127)  # type: ignore[call-arg]


def test_a_grouped_convolution_in_parts_has_no_int8_kernel() -> None:
    for groups, parts, found in ((1, 0, True), (1, 2, True), (2, 1, True), (2, 2, False)):
        op = conv(groups)
        weight, bias = torch.from_numpy(op.weight).float(), torch.from_numpy(op.bias).double()
        packed = op.packed(128, weight, bias if parts else bias.float(), parts)
        assert (packed is not None) == (found and onednn.available())


def test_multiply_accumulates_by_hand() -> None:
    assert conv(1).macs((4, 5, 7)) == 4 * 4 * 9 * 35 and conv(2).macs((4, 5, 7)) == 4 * 2 * 9 * 35


def transposed(**changes: Any) -> Any:
    weight, bias = np.zeros((2, 3, 3, 3), np.int8), np.zeros(2, np.int32)
    numbers = {"stride": (2, 2), "padding": (1, 1), "output_padding": (1, 1)} | changes
    return OP_TYPES["conv_transpose"]("t", "x", "y", weight, bias, np.ones(2, np.float32), *numbers.values(), "none",
                                      -128, 127)  # type: ignore[call-arg]  # fmt: skip


def test_a_transposed_convolution_checks_its_numbers() -> None:
    """4 x 5 becomes 8 x 10; each of the 4 x 5 positions has 2 * 3 * 9 products."""
    assert transposed().macs((2, 8, 10)) == 2 * 3 * 9 * 20
    transposed().check([(3, 4, 5)])
    transposed(stride=(1, 1), padding=(0, 0), output_padding=(0, 0)).check([(3, 1, 1)])
    for changes, text in (
        ({"output_padding": (-1, 0)}, r"output_padding \(-1, 0\); allowed: 2 whole numbers of 0 and more"),
        ({"output_padding": (2, 1)}, r"output_padding \(2, 1\); allowed: less than the stride"),
        ({"stride": (0, 1)}, r"stride \(0, 1\); allowed: 2 whole numbers of 1 and more"),
        ({"padding": (-1, 0)}, r"padding \(-1, 0\); allowed: 2 whole numbers of 0 and more"),
        ({"padding": (5, 1)}, r"an output of 0 x 10; allowed: 1 x 1 and more"),
    ):
        with pytest.raises(UserError, match=text):
            transposed(**changes).check([(3, 4, 5)])
    with pytest.raises(UserError, match="a weight of 3 inputs; allowed: 4"):
        transposed().check([(4, 4, 5)])


def test_pools_check_their_numbers() -> None:
    def pool(padding: tuple[int, int], kernel: tuple[int, int] = (3, 2)) -> Any:
        return OP_TYPES["max_pool"]("p", "x", "y", kernel, (1, 1), padding)  # type: ignore[call-arg]

    pool((1, 1)).check([(1, 1, 1)])
    for padding, text in (((2, 0), "at most half of the kernel"), ((0, 2), "at most half"), ((-1, 0), "0 and more")):
        with pytest.raises(UserError, match=text):
            pool(padding).check([(1, 9, 9)])
    pool((0, 0)).check([(1, 3, 2)])
    for shape in ((1, 2, 2), (1, 3, 1)):
        with pytest.raises(UserError, match="rows or columns; allowed: at most the padded map's"):
            pool((0, 0)).check([shape])
