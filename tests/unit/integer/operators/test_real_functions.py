"""Shapes and real functions of the integer operators, against torch's own functions and numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hatdet.integer.operators.pairs.pair import joint_shape
from hatdet.integer.operators.table import OP_TYPES

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
    ("average_pool", [(4, 6, 8)], {"kernel": (3, 2), "stride": (1, 3)}, None, (4, 4, 3),
     lambda x: F.avg_pool2d(x, (3, 2), (1, 3))),
    ("global_average_pool", [(4, 6, 8)], {}, None, (4, 1, 1), lambda x: x.mean((2, 3), keepdim=True)),
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
             "average_pool", "global_average_pool", "max_pool", "minimum", "maximum"}  # fmt: skip
    kinds = {case[0] for case in CASES}
    assert {kind for kind in kinds if OP_TYPES[kind].shares_scale} == moved
    assert {kind for kind in kinds if OP_TYPES[kind].wide_output} == {"conv"}
