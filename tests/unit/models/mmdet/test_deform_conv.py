"""Deformable convolution against a loop over its taps."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.layers import deform_conv
from hatdet.models.mmdet.layers.conv import build_conv
from hatdet.models.mmdet.layers.deform_conv import (
    DeformConv2d,
    DeformConv2dPack,
    ModulatedDeformConv2dPack,
    deform_conv2d,
)
from hatdet.utils.errors import RegistryError


def _read(plane: Tensor, y: float, x: float) -> float:
    """By the four neighbours, zero outside."""
    top, left, total = math.floor(y), math.floor(x), 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * float(plane[row, column])
    return total


def _slow(x: Tensor, offset: Tensor, weight: Tensor, mask: Tensor, stride: int, padding: int, dilation: int,
          groups: int, deform_groups: int) -> Tensor:  # fmt: skip
    batch, channels = x.shape[:2]
    outputs, kh, kw = weight.shape[0], *weight.shape[2:]
    result = torch.zeros(batch, outputs, *offset.shape[2:], dtype=x.dtype)
    moves = offset.view(batch, deform_groups, kh, kw, 2, *offset.shape[2:])
    factors = mask.view(batch, deform_groups, kh, kw, *mask.shape[2:])
    for b, o, y, c in torch.cartesian_prod(*(torch.arange(n) for n in result.shape)).tolist():
        for i in range(channels // groups):
            plane = o // (outputs // groups) * (channels // groups) + i
            d = plane // (channels // deform_groups)
            for p in range(kh):
                for q in range(kw):
                    down, right = moves[b, d, p, q, :, y, c].tolist()
                    at = (y * stride - padding + p * dilation + down, c * stride - padding + q * dilation + right)
                    factor = float(factors[b, d, p, q, y, c]) * float(weight[o, i, p, q])
                    result[b, o, y, c] += factor * _read(x[b, plane], *at)
    return result


@pytest.mark.parametrize("stride, padding, dilation, groups, deform_groups", [(1, 1, 1, 1, 1), (2, 2, 2, 2, 4)])
def test_against_a_loop(stride: int, padding: int, dilation: int, groups: int, deform_groups: int) -> None:
    torch.manual_seed(1)
    x, weight = torch.randn(2, 4, 5, 6).double(), torch.randn(4, 4 // groups, 3, 2).double()
    rows = (5 + 2 * padding - 2 * dilation - 1) // stride + 1
    columns = (6 + 2 * padding - dilation - 1) // stride + 1
    offset = torch.randn(2, deform_groups * 12, rows, columns).double() * 2
    mask = torch.rand(2, deform_groups * 6, rows, columns).double()
    got = deform_conv2d(x, offset, weight, None, mask, stride, padding, dilation, groups, deform_groups)
    want = _slow(x, offset, weight, mask, stride, padding, dilation, groups, deform_groups)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("groups, dilation", [(1, 1), (2, 3)])
def test_without_offsets_it_is_a_convolution(groups: int, dilation: int) -> None:
    torch.manual_seed(2)
    layer = DeformConv2dPack(4, 6, 3, stride=2, padding=1, dilation=dilation, groups=groups, deform_groups=2)
    x = torch.randn(2, 4, 13, 11)
    want = F.conv2d(x, layer.weight, None, 2, 1, dilation, groups)
    torch.testing.assert_close(layer(x), want, rtol=1e-5, atol=1e-5)
    offset = torch.zeros(2, 36, *want.shape[2:])
    assert torch.equal(layer(x), deform_conv2d(x, offset, layer.weight, None, None, 2, 1, dilation, groups, 2))


def test_factors_begin_at_a_half() -> None:
    layer = ModulatedDeformConv2dPack(4, 6, (1, 3), padding=(0, 1))
    torch.nn.init.ones_(layer.bias)
    x = torch.randn(1, 4, 7, 9)
    want = F.conv2d(x, layer.weight, None, padding=(0, 1)) / 2 + 1
    torch.testing.assert_close(layer(x), want, rtol=1e-5, atol=1e-5)


def test_a_shift_by_hand() -> None:
    x = torch.tensor([[[[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]]])
    offset = torch.zeros(1, 2, 2, 3)
    offset[0, 0] = 0.5  # down
    offset[0, 1] = 1.0  # to the right
    got = deform_conv2d(x, offset, torch.ones(1, 1, 1, 1))
    assert got[0, 0].tolist() == [[9.0, 18.0, 0.0], [8.0, 16.0, 0.0]]  # below the last row is zero


def test_a_tap_that_is_not_moved_has_the_slope_to_its_right() -> None:
    x = torch.tensor([[[[0.0, 1.0, 3.0, 9.0, 4.0]]]])
    offset = torch.zeros(1, 2, 1, 5, requires_grad=True)
    deform_conv2d(x, offset, torch.ones(1, 1, 1, 1)).sum().backward()
    assert offset.grad is not None and offset.grad[0, 1, 0].tolist() == [1.0, 2.0, 6.0, -5.0, -4.0]


def test_half_precision_moves_taps_exactly() -> None:
    torch.manual_seed(0)
    layer, x = ModulatedDeformConv2dPack(2, 2, 1, bias=False), torch.arange(400.0).view(1, 1, 1, 400).repeat(1, 2, 1, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2).view(2, 2, 1, 1))
        layer.conv_offset.bias[1] = 1.0  # a whole position to the right
    with torch.autocast("cpu", torch.bfloat16):
        got = layer(x)
    want = (x + 1) / 2
    torch.testing.assert_close(got[..., :-1].float(), want[..., :-1], rtol=2**-7, atol=0)
    halves = deform_conv2d(x.half(), torch.zeros(1, 2, 1, 400).half(), layer.weight.detach().half())
    assert halves.dtype == torch.float16 and torch.equal(halves, x.half())


def test_names_of_its_state() -> None:
    layer = build_conv({"type": "DCNv2", "deform_groups": 2}, 4, 6, 3, bias=False)
    shapes = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
    older = build_conv({"type": "DCNv2", "deformable_groups": 2}, 4, 6, 3, bias=False)
    assert {name: tuple(value.shape) for name, value in older.state_dict().items()} == shapes
    assert shapes == {"weight": (6, 4, 3, 3), "conv_offset.weight": (54, 4, 3, 3), "conv_offset.bias": (54,)}


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"offset has shape \(1, 2, 3, 3\); give \(1, 18, 1, 1\)"):
        deform_conv2d(torch.zeros(1, 1, 3, 3), torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 3, 3))
    with pytest.raises(ValueError, match=r"mask has shape \(1, 1\); give \(1, 9, 1, 1\)"):
        deform_conv2d(torch.zeros(1, 1, 3, 3), torch.zeros(1, 18, 1, 1), torch.zeros(1, 1, 3, 3), mask=torch.ones(1, 1))
    with pytest.raises(ValueError, match="bias=True: this layer has none"):
        DeformConv2d(2, 2, 3, bias=True)
    with pytest.raises(ValueError, match="deform_groups=3 does not divide the channels 4 -> 4"):
        DeformConv2d(4, 4, 3, deform_groups=3)
    with pytest.raises(RegistryError, match="conv_cfg DCN: .*'deform_group'"):
        build_conv({"type": "DCN", "deform_group": 1}, 2, 2, 1)


@pytest.mark.parametrize("kind", [DeformConv2dPack, ModulatedDeformConv2dPack])
def test_taps_that_are_read_a_second_time_give_the_same_gradients(
    kind: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer = kind(4, 6, 3, padding=1)
    nn.init.normal_(layer.conv_offset.weight, std=0.3)
    image = torch.randn(2, 4, 9, 11)
    found, calls = [], []
    once = deform_conv._convolved
    monkeypatch.setattr(deform_conv, "_convolved", lambda *a: calls.append(1) or once(*a))
    for kept, reads in ((2**24, 1), (0, 2)):
        monkeypatch.setattr(deform_conv, "_KEPT", kept)
        layer.zero_grad()
        x = image.clone().requires_grad_()
        result = layer(x)
        result.square().sum().backward()
        found.append([result, x.grad, *(p.grad for p in layer.parameters())])
        assert len(calls) == reads
        calls.clear()
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
