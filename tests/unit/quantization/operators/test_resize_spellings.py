"""Resizing, however it is written: by whole factors, to a size, and to a half, a quarter and an eighth."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.integer.executor import IntExecutor
from hatdet.quantization.qat.fx_adapter import unsupported_operators
from hatdet.utils.errors import UserError
from tests.helpers.spelled import Forward, check_forward, on, quantized
from tests.unit.quantization.forwards import Net


def like_another(net: Net, x: Tensor) -> Any:
    fine = net.stem(x)
    coarse = net.down(fine)
    return coarse + F.interpolate(fine, size=coarse.shape[-2:]), fine + F.interpolate(coarse, fine.shape[2:])


RESIZED: dict[str, tuple[Forward, list[str]]] = {
    "nearest-exact": (on(nn.Upsample(scale_factor=2, mode="nearest-exact")), ["conv", "resize_nearest"]),
    "F nearest-exact by 3": (
        on(lambda y: F.interpolate(y, scale_factor=(3, 3), mode="nearest-exact")),
        ["conv", "resize_nearest"],
    ),
    "half": (on(lambda y: F.interpolate(y, scale_factor=0.5)), ["conv", "slice"]),
    "half in a list": (on(lambda y: F.interpolate(y, scale_factor=[0.5, 0.5])), ["conv", "slice"]),
    "half in a module": (on(nn.Upsample(scale_factor=0.5)), ["conv", "slice"]),
    "half, recomputed": (
        on(lambda y: F.interpolate(y, scale_factor=0.5, recompute_scale_factor=True)),
        ["conv", "slice"],
    ),
    "half, exact": (on(lambda y: F.interpolate(y, scale_factor=0.5, mode="nearest-exact")), ["conv", "slice"]),
    "half, bilinear": (
        on(lambda y: F.interpolate(y, scale_factor=0.5, mode="bilinear", align_corners=False)),
        ["conv", "average_pool"],
    ),
    "quarter": (on(lambda y: F.interpolate(y, scale_factor=0.25)), ["conv", "slice"]),
    "quarter, exact": (on(nn.Upsample(scale_factor=0.25, mode="nearest-exact")), ["conv", "slice"]),
    "quarter, bilinear": (on(nn.Upsample(scale_factor=0.25, mode="bilinear")), ["conv", "slice", "average_pool"]),
    "eighth, bilinear": (on(nn.Upsample(scale_factor=0.125, mode="bilinear")), ["conv", "slice", "average_pool"]),
    "to half by size": (
        on(lambda y: F.interpolate(y, size=(y.shape[2] // 2, y.shape[3] // 2), mode="bilinear")),
        ["conv", "average_pool"],
    ),
    "like another": (like_another, ["conv", "conv", "slice", "add", "resize_nearest", "add"]),
}


@pytest.mark.parametrize("name", RESIZED)
def test_resizing(name: str) -> None:
    check_forward(*RESIZED[name])


@pytest.mark.parametrize("name", ["half", "half, exact", "half, bilinear", "quarter", "quarter, exact",
                                  "quarter, bilinear", "eighth, bilinear"])  # fmt: skip
@pytest.mark.parametrize("size", [(8, 8), (9, 15), (11, 13), (14, 10)])
def test_what_is_left_over_is_not_read(name: str, size: tuple[int, int]) -> None:
    """Maps of odd sizes: the module that stands for it gives what torch gives."""
    function, _ = RESIZED[name]
    network = Net(function).eval()
    trunk = quantized(network, torch.rand(2, 3, 96, 32)).quantized.trunk
    x = torch.rand(1, 3, *size)
    for module in trunk.modules():
        if hasattr(module, "enable_fake_quant"):
            module.enable_fake_quant(False)
    assert torch.allclose(trunk(x)[0], network(x)[0], atol=1e-6)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_to_a_size(mode: str) -> None:
    """It holds for the images of which it is a whole multiple, whatever that is."""
    network = Net(on(nn.Upsample(size=(64, 128), mode=mode))).eval()
    assert unsupported_operators(network) == []
    assert unsupported_operators(Net(on(lambda y: F.interpolate(y, (64, 128), mode=mode))).eval()) == []
    q = quantized(network, torch.rand(2, 3, 32, 64))
    graph = q.int_graph((32, 64))
    assert [op.kind for op in graph.ops] == ["conv", f"resize_{mode}"]
    for size in ((32, 64), (16, 32)):
        x = torch.rand(2, 3, *size)
        shipped = IntExecutor(graph).run_real(x)[0]
        assert torch.equal(shipped, q.run_network(x)[0]) and shipped.shape == (2, 4, 64, 128)
        scale = graph.qparams(graph.outputs[0]).scale
        real = F.interpolate(IntExecutor(graph)(graph_codes(graph, x), keep=True)["stem"].float(), (64, 128), mode=mode)
        assert float((shipped / scale - (real - graph.qparams("stem").zero_point)).abs().max()) <= 0.5 + 1e-4
    with pytest.raises(UserError, match="maps of 32 x 32 are resized to 64 x 128, no one whole multiple; use sc"):
        q.int_graph((32, 32))
    with pytest.raises(UserError, match="maps of 48 x 64 are resized to 64 x 128"):
        q.run_network(torch.rand(1, 3, 48, 64))


def graph_codes(graph: Any, x: Tensor) -> Tensor:
    p = graph.qparams(graph.inputs[0])
    return (torch.round(x / p.scale) + p.zero_point).clamp(-128, 127).to(torch.int8)


REFUSED: dict[str, tuple[Forward, str]] = {
    "a third": (on(nn.Upsample(scale_factor=1 / 3)), r"upsampling by 0.33.*; use one whole factor for both axes"),
    "corners": (
        on(nn.Upsample(scale_factor=0.5, mode="bilinear", align_corners=True)),
        r"align_corners=True; set align_corners=False",
    ),
    "corners of a size": (
        on(lambda y: F.interpolate(y, (64, 64), mode="bilinear", align_corners=True)),
        r"align_corners=True; set align_corners=False",
    ),
    "bicubic": (on(nn.Upsample(scale_factor=0.5, mode="bicubic")), r"mode 'bicubic'; use 'nearest' or 'bilinear'"),
    "area": (on(nn.Upsample(scale_factor=0.5, mode="area")), r"mode 'area'; use 'nearest' or 'bilinear'"),
    "two factors": (on(nn.Upsample(scale_factor=(0.5, 2))), r"upsampling by \(0.5, 2.0\); use one whole factor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_resizing_without_integer_form(name: str) -> None:
    function, message = REFUSED[name]
    problems = [str(problem) for problem in unsupported_operators(Net(function).eval())]
    assert re.search(message, problems[0]) and "\n" not in problems[0], problems
