from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hatdet.engine.processes.depthwise import depthwise_apart


def _conv(groups: int) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(6, 6, 3, padding=1, groups=groups)


def _step(groups: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Output and gradients of a convolution."""
    conv = _conv(groups)
    x = torch.randn(2, 6, 7, 5).to(dtype).requires_grad_()
    y = conv(x)
    return [y, *torch.autograd.grad((y.float() ** 2).sum(), (x, *conv.parameters()))]


def test_a_depthwise_convolution_is_that_of_float32() -> None:
    plain = _step(6)
    with depthwise_apart():
        apart = _step(6)
    assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in zip(plain, apart, strict=True))


def test_a_map_in_bfloat16_is_widened_and_its_gradient_narrowed() -> None:
    with depthwise_apart():
        y, gx, gw, _ = _step(6, torch.bfloat16)
    assert (y.dtype, gx.dtype, gw.dtype) == (torch.float32, torch.bfloat16, torch.float32)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_all_others_are_in_bfloat16(groups: int) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = _step(groups)
    with depthwise_apart():
        apart = _step(groups)
    assert apart[0].dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(mixed, apart, strict=True))


def test_one_channel_and_one_group_is_an_ordinary_convolution() -> None:
    with depthwise_apart():
        assert nn.Conv2d(1, 8, 3)(torch.zeros(1, 1, 5, 5)).dtype == torch.bfloat16


def test_a_convolution_without_bias_and_a_map_without_a_batch() -> None:
    with depthwise_apart():
        assert nn.Conv2d(6, 12, 3, groups=6, bias=False)(torch.zeros(6, 5, 5)).dtype == torch.float32


def test_where_autocast_does_nothing_this_does_nothing() -> None:
    conv, x = _conv(6), torch.zeros(1, 6, 5, 5)
    with depthwise_apart():
        assert conv.double()(x.double()).dtype == torch.float64
        with torch.autocast("cpu", enabled=False):
            assert conv.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


def test_afterwards_all_is_as_before_whatever_happened() -> None:
    before = nn.Conv2d._conv_forward
    with pytest.raises(ZeroDivisionError), depthwise_apart(), depthwise_apart():
        raise ZeroDivisionError
    assert nn.Conv2d._conv_forward is before and not torch.is_autocast_enabled("cpu")
