"""Poolings, however they are written."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.quantization.qat.fx_adapter import unsupported_operators
from hatdet.utils.errors import UserError
from tests.helpers.spelled import Forward, check_forward, on, quantized
from tests.helpers.spellings import check_spelling
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


def gated(pool: Callable[[Tensor], Tensor]) -> Forward:
    """Squeeze and excite."""

    def forward(net: Net, x: Tensor) -> Tensor:
        y = net.stem(x)
        return y * torch.sigmoid(net.gate(pool(y)))

    return forward


MEANS: dict[str, Callable[[Tensor], Tensor]] = {
    "kept": lambda y: y.mean((2, 3), keepdim=True),
    "from the end": lambda y: y.mean([-1, -2], keepdim=True),
    "function": lambda y: torch.mean(y, dim=(2, 3), keepdim=True),
    "twice, kept": lambda y: y.mean(3, keepdim=True).mean(2, keepdim=True),
    "rows first": lambda y: y.mean(dim=2, keepdim=True).mean(dim=-1, keepdim=True),
    "twice": lambda y: y.mean(-1).mean(-1)[:, :, None, None],
    "flat": lambda y: y.flatten(2).mean(2).unsqueeze(-1).unsqueeze(-1),
    "flat, kept": lambda y: y.flatten(2).mean(-1, keepdim=True)[..., None],
    "viewed": lambda y: y.view(y.size(0), y.size(1), -1).mean(-1).view(y.size(0), -1, 1, 1),
    "reshaped": lambda y: torch.mean(y.reshape(*y.shape[:2], -1), 2).reshape(len(y), 4, 1, 1),
    "pixels first": lambda y: y.permute(0, 2, 3, 1).mean((1, 2))[..., None, None],
    "as a sequence": lambda y: y.flatten(2).transpose(1, 2).mean(1).view(len(y), 4, 1, 1),
    "AdaptiveAvgPool1d": lambda y: nn.AdaptiveAvgPool1d(1)(y.flatten(2)).unsqueeze(-1),
    "adaptive and flat": lambda y: F.adaptive_avg_pool2d(y, 1).flatten(1).view(y.shape[0], y.shape[1], 1, 1),
    "adaptive and squeezed": lambda y: F.adaptive_avg_pool2d(y, 1).squeeze(-1).squeeze(-1)[:, :, None, None],
}
MAXIMA: dict[str, Callable[[Tensor], Tensor]] = {
    "amax": lambda y: y.amax((2, 3))[..., None, None],
    "twice": lambda y: y.amax(-1, keepdim=True).amax(-2, keepdim=True),
    "max": lambda y: y.flatten(2).max(2)[0].view(len(y), -1, 1, 1),
    "max, named": lambda y: torch.max(y.flatten(2), dim=2, keepdim=True).values.unsqueeze(-1),
    "max of rows": lambda y: y.max(-1, keepdim=True)[0].max(2, keepdim=True)[0],
    "as pixels": lambda y: y.permute(0, 2, 3, 1).amax((1, 2))[:, :, None, None],
}


@pytest.mark.parametrize(("kind", "name"), [*(("average", n) for n in MEANS), *(("max", n) for n in MAXIMA)])
def test_the_mean_and_the_maximum_of_whole_maps(kind: str, name: str) -> None:
    pool = MEANS[name] if kind == "average" else MAXIMA[name]
    check_forward(gated(pool), ["conv", f"global_{kind}_pool", "conv", "activation", "mul"])


def test_a_mean_as_a_vector_is_an_output() -> None:
    check_forward(on(lambda y: y.mean((-2, -1))), ["conv", "global_average_pool"])


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
    "mean over channels": (on(lambda y: y.mean(1, keepdim=True)), r"a mean over dim=1; only the mean of whole maps"),
    "mean of rows": (on(lambda y: y.mean(3, keepdim=True)), r"a mean over dim=3; only the mean of whole maps"),
    "mean of half a map": (on(lambda y: y.flatten(2)[:, :, ::2].mean(2).view(len(y), -1, 1, 1)), r"^flatten: "),
    "maximum of a mean": (on(lambda y: y.mean(3).amax(2)[..., None, None]), r"^mean: a mean over dim=3"),
    "over channels": (on(lambda y: y.amax(1, keepdim=True)), r"a maximum over dim=1; only that of whole maps"),
    "dilation": (on(nn.MaxPool2d(3, 1, 1, dilation=2)), r"max pooling with dilation; leave it out"),
    "divisor": (on(nn.AvgPool2d(2, divisor_override=3)), r"average pooling with divisor_override; leave it out"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_poolings_without_integer_form(name: str) -> None:
    function, message = REFUSED[name]
    problems = [str(problem) for problem in unsupported_operators(Net(function).eval())]
    assert re.search(message, problems[0]) and "\n" not in problems[0], problems


def test_a_pool_to_the_size_that_a_map_has_is_nothing() -> None:
    check_spelling(lambda x: F.adaptive_avg_pool2d(x, x.shape[2:]), [])
    check_spelling(lambda x: F.adaptive_avg_pool2d(x, (x.shape[2] // 2, x.shape[3])), ["average_pool"])
