"""Parts of maps, orders of channels, blocks of pixels: however they are written, they are operators that move codes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.export.float_graph import trace_float
from hatdet.export.onnx.compare import compare_integer
from hatdet.export.onnx.exact import write_exact
from hatdet.export.runtimes.floating import FloatTFLite
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.floating import write_float
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.quantization.analysis.stage import StageNetwork
from hatdet.quantization.qat.fx_adapter import unsupported_operators
from tests.helpers.spelled import Forward, between, check_forward, on, quantized
from tests.unit.quantization.forwards import Net


def focus(net: Net, x: Tensor) -> Any:
    return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)


def c2f(net: Net, x: Tensor) -> Any:
    y = list(net.stem(x).chunk(2, 1))
    y.extend(torch.cat([y[-1], y[-1]], 1)[:, :2] for _ in range(2))
    return net.conv(torch.cat(y[1:3], 1)), torch.cat(y, 1)


PARTS: dict[str, tuple[Forward, list[str]]] = {
    "slices": (between(lambda y: torch.cat([y[:, 2:], y[:, :2]], 1)), ["conv", "slice", "slice", "concat", "conv"]),
    "split by a number": (on(lambda y: torch.split(y, 2, 1)[1]), ["conv", "slice"]),
    "split by a list": (on(lambda y: y.split([1, 3], dim=1)[1]), ["conv", "slice"]),
    "split by keywords": (on(lambda y: torch.split(tensor=y, split_size_or_sections=2, dim=1)[:1]), ["conv", "slice"]),
    "chunk": (on(lambda y: torch.chunk(y, chunks=2, dim=1)[0]), ["conv", "slice"]),
    "chunks from the end": (on(lambda y: y.chunk(2, -3)[1]), ["conv", "slice"]),
    "tensor_split": (on(lambda y: y.tensor_split((1, 2), dim=1)[1]), ["conv", "slice"]),
    "tensor_split by a number": (on(lambda y: torch.tensor_split(y, 3, 1)[0]), ["conv", "slice"]),
    "hsplit": (on(lambda y: torch.hsplit(y, 2)[1]), ["conv", "slice"]),
    "dsplit by size": (on(lambda y: torch.dsplit(y, [y.shape[2] // 2])[0]), ["conv", "slice"]),
    "narrow": (on(lambda y: y.narrow(1, 1, 2)), ["conv", "slice"]),
    "one channel": (on(lambda y: y[:, 1].unsqueeze(1)), ["conv", "slice"]),
    "unbind": (on(lambda y: y.unbind(1)[2][:, None]), ["conv", "slice"]),
    "part of a part": (on(lambda y: y[:, 1:][:, :2]), ["conv", "slice", "slice"]),
    "all": (between(lambda y: y[:, :4].relu()), ["conv", "conv"]),
    "C2f": (c2f, ["conv", "slice", "slice", "concat", "slice", "concat", "slice", "concat", "conv", "concat"]),
    "rows and columns": (on(lambda y: y[..., 1:-1, :-2]), ["conv", "slice"]),
    "fixed rows": (on(lambda y: y[:, :, 3:20]), ["conv", "slice"]),
    "half by size": (on(lambda y: y[:, :, : y.shape[2] // 2]), ["conv", "slice"]),
    "half by chunk": (on(lambda y: torch.cat(y.chunk(2, 3), 1)), ["conv", "slice", "slice", "concat"]),
    "last half and more": (on(lambda y: y[..., y.size(-1) // 2 - 1 :]), ["conv", "slice"]),
    "every second": (on(lambda y: y[:, :, 1::2, ::2]), ["conv", "slice"]),
    "in other order": (on(lambda y: y.permute(0, 2, 3, 1)[:, ::2].permute(0, 3, 1, 2)), ["conv", "slice"]),
    "cropped by padding": (on(lambda y: F.pad(y, (-1, -2, 0, -3))), ["conv", "slice"]),
    "cropped and padded": (on(nn.ZeroPad2d((-1, 2, 0, -3))), ["conv", "slice", "pad"]),
    "Focus": (focus, ["slice"] * 4 + ["concat"]),
}


def shuffled(x: Tensor, groups: int, final: str = "reshape") -> Tensor:
    b, c, h, w = x.size()
    x = x.view(b, groups, c // groups, h, w).transpose(1, 2)
    return x.reshape(b, c, h, w) if final == "reshape" else x.contiguous().view(b, -1, h, w)


def unshuffled(x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(b, c * 4, h // 2, w // 2)


def shuffle_net(net: Net, x: Tensor) -> Any:
    """A unit of ShuffleNet V2, and the first convolution behind it."""
    kept, second = net.stem(x).chunk(2, dim=1)
    branch = net.conv(torch.cat((second, second), 1))
    return net.other(shuffled(torch.cat((kept, branch[:, :2]), dim=1), 2, "view"))


ORDERS: dict[str, tuple[Forward, list[str]]] = {
    "shuffle": (on(lambda y: shuffled(y, 2)), ["conv"]),
    "shuffle in contiguous memory": (on(lambda y: shuffled(y, 2, "view")), ["conv"]),
    "shuffle of the image": (lambda net, x: (x.roll(1, 1), net.stem(x)), ["channel_order", "conv"]),
    "F.channel_shuffle": (on(lambda y: F.channel_shuffle(y, 2)), ["conv"]),
    "nn.ChannelShuffle": (on(nn.ChannelShuffle(2)), ["conv"]),
    "by stacking": (on(lambda y: torch.stack(y.chunk(2, 1), 2).flatten(1, 2)), ["conv"]),
    "of two branches": (
        lambda net, x: net.stem(torch.stack([x[:, 0], x[:, 1], x[:, 2]], 1)),
        ["conv"],
    ),
    "of two maps": (
        lambda net, x: (lambda y: torch.stack([net.conv(y), y], 2).flatten(1, 2))(net.stem(x)),
        ["conv", "conv", "concat", "channel_order"],
    ),
    "by einops": (
        on(lambda y: y.unflatten(1, (2, 2)).permute(0, 2, 1, 3, 4).flatten(1, 2)),
        ["conv"],
    ),
    "ShuffleNet": (
        shuffle_net,
        ["conv", "slice", "slice", "concat", "conv", "slice", "concat", "conv"],
    ),
    "BGR": (lambda net, x: net.stem(x[:, [2, 1, 0]]), ["conv"]),
    "flip of channels": (between(lambda y: y.flip(1)), ["conv", "conv"]),
    "index_select": (on(lambda y: y.index_select(1, torch.tensor([1, 1, 0]))), ["conv"]),
    "every second channel": (on(lambda y: y[:, ::2]), ["conv"]),
    "repeat": (on(lambda y: y.repeat(1, 2, 1, 1)), ["conv"]),
    "both readers": (
        lambda net, x: (lambda y: (net.conv(y), net.other(y)))(torch.cat([net.stem(x)[:, :2]] * 2, 1).flip(1)),
        ["conv", "slice", "concat", "conv", "conv"],
    ),
    "PixelUnshuffle": (on(nn.PixelUnshuffle(2)), ["conv"] + ["slice"] * 4 + ["concat", "channel_order"]),
    "F.pixel_unshuffle": (
        lambda net, x: (F.pixel_unshuffle(x, 2), F.pixel_unshuffle(net.stem(x)[:, :1], 2)),
        ["slice"] * 4 + ["concat", "channel_order", "conv"] + ["slice"] * 5 + ["concat"],
    ),
    "by windows": (
        on(lambda y: y.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 4, 5, 1, 2, 3).flatten(1, 3)),
        ["conv"] + ["slice"] * 4 + ["concat"],
    ),
    "F.unfold": (
        on(lambda y: F.unfold(y, 2, stride=2).view(len(y), -1, y.shape[2] // 2, y.shape[3] // 2)),
        ["conv"] + ["slice"] * 4 + ["concat", "channel_order"],
    ),
    "F.fold": (
        on(lambda y: F.fold(y.flatten(2), (y.shape[2] * 2, y.shape[3] * 2), 2, stride=2)),
        ["conv", "depth_to_space"],
    ),
    "by hand": (on(unshuffled), ["conv"] + ["slice"] * 4 + ["concat", "channel_order"]),
    "Focus before a convolution": (
        lambda net, x: net.gate(focus(net, net.conv(net.stem(x))[:, :1])),
        ["conv", "conv", "slice", "slice", "slice", "slice", "slice", "concat", "conv"],
    ),
    "PixelShuffle": (on(nn.PixelShuffle(2)), ["conv", "depth_to_space"]),
    "F.pixel_shuffle": (
        on(lambda y: F.pixel_shuffle(y.repeat(1, 2, 1, 1), upscale_factor=2)),
        ["conv", "depth_to_space"],
    ),
    "pixels by hand": (
        on(lambda y: y.view(len(y), 1, 2, 2, *y.shape[2:]).permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)),
        ["conv", "depth_to_space"],
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_orders_and_blocks(name: str) -> None:
    """What a convolution can take in is in its weights."""
    check_forward(*ORDERS[name])


@pytest.mark.parametrize("name", PARTS)
def test_parts_are_slices(name: str) -> None:
    check_forward(*PARTS[name])


def test_layers_are_looked_at_in_the_order_in_which_the_network_has_them() -> None:
    """What ships has the shuffle in the convolution's weights; the analysis of layers sees both."""
    q = quantized(Net(ORDERS["shuffle"][0]).eval(), torch.rand(2, 3, 96, 32))
    x = torch.rand(1, 3, 64, 64)
    stage = StageNetwork(name="q", model=q, mode="integer", image_size=(64, 64))
    values = stage.values(x)
    assert list(stage.steps) == ["stem", "reshape"] and torch.equal(values["reshape"], shuffled(values["stem"], 2))
    assert torch.equal(values["reshape"], IntExecutor(q.int_graph((64, 64))).run_real(x)[0])


REFUSED: dict[str, tuple[Forward, str]] = {
    "mirrored": (on(lambda y: y.flip(3)), r"^flip: flip has no integer form"),
    "more rows than there are": (on(lambda y: y[:, :, :200]), r"^getitem: a part of a map .*; take"),
    "to a number that large maps have": (on(lambda y: y[..., :1000]), r"^getitem: "),
    "windows with padding": (
        on(lambda y: F.unfold(y, 2, stride=2, padding=1).view(len(y), -1, y.shape[2] // 2 + 1, y.shape[3] // 2 + 1)),
        r"^unfold: unfold has no integer form",
    ),
    "windows that overlap": (
        on(lambda y: F.unfold(y, 3, padding=1).view(len(y), -1, *y.shape[2:])),
        r"^unfold: unfold has no integer form",
    ),
    "a view in place": (on(lambda y: y.transpose_(2, 3).transpose_(2, 3)), r"changed in place .*; change whole"),
    "a flat map": (on(lambda y: y.flatten(1)), r"^flatten: flatten has no integer form; give \(B, C, H, W\) maps"),
    "a batch in parts": (on(lambda y: y[:1]), r"^Net: another network for images of another size or number"),
    "channels to rows": (on(lambda y: y.reshape(len(y), 1, -1, y.shape[3])), r"^reshape: reshape has no integer form"),
    "parts of another's size": (
        lambda net, x: net.stem(x)[:, :, : x.shape[3] // 2],
        r"^getitem: a part of a map .*; take",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_looks_like_a_part_is_refused(name: str) -> None:
    function, message = REFUSED[name]
    problems = [str(problem) for problem in unsupported_operators(Net(function).eval())]
    assert re.search(message, problems[0]) and "\n" not in problems[0], problems


def mixed(net: Net, x: Tensor) -> Any:
    """All of it in one network: Focus, a split, a shuffle that two readers keep, pixels, blocks and halves."""
    kept, second = net.stem(focus(net, x)[:, :3]).chunk(2, 1)
    y = shuffled(torch.cat([kept, net.conv(torch.cat([second, second], 1))[:, :2]], 1), 2, "view")
    y = y + F.pixel_shuffle(torch.cat([net.down(y)] * 4, 1), 2)
    y = y * torch.sigmoid(net.gate(y.flatten(2).mean(2)[:, :, None, None]))
    half = F.interpolate(y, scale_factor=0.25, mode="bilinear")
    return y, F.adaptive_max_pool2d(y, 2), half, F.avg_pool2d(y, 3, 1, 1, count_include_pad=False), unshuffled(y)


def test_a_network_of_all_of_it_in_every_file() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    torch.manual_seed(0)
    network, x = Net(mixed).eval(), torch.rand(2, 3, 64, 96) * 2 - 0.5
    q = quantized(network, x)
    graph = q.int_graph((64, 96))
    p = graph.qparams(graph.inputs[0])
    codes = (torch.round(x / p.scale) + p.zero_point).clamp(-128, 127).to(torch.int8)
    report = check_parity(graph, write(graph), codes)
    assert report.ok and min(tensor.levels for tensor in report.tensors) > 20, report.text()
    assert compare_integer(graph, write_exact(graph), codes, exact=True).ok
    found = FloatTFLite(write_float(trace_float(q.task, (64, 96)), "{}")).run(x)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, network(x), strict=True))
