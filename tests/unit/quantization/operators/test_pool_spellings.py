"""Poolings, however they are written."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hatdet.quantization.qat.fx_adapter import unsupported_operators
from hatdet.utils.errors import UserError
from tests.helpers.spelled import Forward, check_forward, on, quantized
from tests.unit.quantization.forwards import Net

POOLS: dict[str, tuple[Forward, list[str]]] = {
    "AdaptiveAvgPool2d": (on(nn.AdaptiveAvgPool2d(2)), ["conv", "global_average_pool"]),
    "AdaptiveAvgPool2d of two": (on(nn.AdaptiveAvgPool2d((4, 2))), ["conv", "global_average_pool"]),
    "F.adaptive_avg_pool2d": (
        on(lambda y: F.adaptive_avg_pool2d(y, output_size=(2, 4))),
        ["conv", "global_average_pool"],
    ),
    "AdaptiveMaxPool2d": (on(nn.AdaptiveMaxPool2d(1)), ["conv", "global_max_pool"]),
    "adaptive_max_pool2d": (on(lambda y: F.adaptive_max_pool2d(y, (1, 4))), ["conv", "global_max_pool"]),
    "amax": (on(lambda y: y.amax((2, 3), keepdim=True)), ["conv", "global_max_pool"]),
    "amax from the end": (on(lambda y: y.amax(dim=[-1, -2], keepdim=True)), ["conv", "global_max_pool"]),
    "max over a map by size": (on(lambda y: F.max_pool2d(y, y.shape[2:])), ["conv", "global_max_pool"]),
    "padding left out": (on(nn.AvgPool2d(3, 1, 1, count_include_pad=False)), ["conv", "average_pool"]),
    "padding left out in a function": (
        on(lambda y: F.avg_pool2d(y, 4, 2, padding=1, count_include_pad=False)),
        ["conv", "average_pool"],
    ),
    "padding counted": (on(nn.AvgPool2d(3, 1, 1)), ["conv", "pad", "average_pool"]),
    "ceil_mode of even maps": (
        on(nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)),
        ["conv", "average_pool"],
    ),
    "ceil_mode with padding": (on(nn.AvgPool2d(4, 2, 1, ceil_mode=True)), ["conv", "pad", "average_pool"]),
    "ceil_mode of a maximum": (on(lambda y: F.max_pool2d(y, 2, 2, ceil_mode=True)), ["conv", "max_pool"]),
}


@pytest.mark.parametrize("name", POOLS)
def test_poolings(name: str) -> None:
    check_forward(*POOLS[name])


def test_blocks_that_few_images_have() -> None:
    """Validation scores the model for the images that training saw, of which no other size need be possible."""
    q = quantized(Net(on(nn.AdaptiveAvgPool2d(7))).eval(), torch.rand(2, 3, 28, 56))
    x = torch.rand(2, 3, 28, 56)
    assert torch.equal(q.evaluation_model().run_network(x)[0], q.run_network(x)[0])
    with pytest.raises(UserError, match="maps of 320 x 320 are not 7 x 7 equal blocks.*; use an image"):
        q.int_graph((320, 320))


REFUSED: dict[str, tuple[Forward, str]] = {
    "ceil_mode that cuts": (
        on(nn.MaxPool2d(3, 2, ceil_mode=True)),
        r"pooling with ceil_mode, which cuts windows off, of maps of 64 x 96 or 256 x 320; leave ceil_mode out",
    ),
    "padding left out elsewhere": (
        on(nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
        r"average pooling that leaves padding out, with kernel 3, stride 2 and padding 1; set count_include",
    ),
    "no number": (on(nn.AdaptiveMaxPool2d((None, 1))), r"AdaptiveMaxPool2d to \(None, 1\); give rows and columns"),
    "indices": (on(lambda y: F.adaptive_max_pool2d(y, 1, return_indices=True)[0]), r"return_indices; leave it out"),
    "over channels": (on(lambda y: y.amax(1, keepdim=True)), r"a maximum over dim=1; only that of whole maps"),
    "dilation": (on(nn.MaxPool2d(3, 1, 1, dilation=2)), r"max pooling with dilation; leave it out"),
    "divisor": (on(nn.AvgPool2d(2, divisor_override=3)), r"average pooling with divisor_override; leave it out"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_poolings_without_integer_form(name: str) -> None:
    function, message = REFUSED[name]
    problems = [str(problem) for problem in unsupported_operators(Net(function).eval())]
    assert re.search(message, problems[0]) and "\n" not in problems[0], problems
