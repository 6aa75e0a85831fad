"""The integer operators as autograd functions: integer forward, straight-through backward.

Tensors carry centred codes (``code - zero_point``) as float32; a gradient with respect to a code is ``scale`` times
the gradient with respect to the real value. Rounding passes the gradient unchanged, a clamp stops it (Bengio et al.,
"Estimating or Propagating Gradients Through Stochastic Neurons", 2013; Jacob et al., CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hatdet.integer.kernels import TensorRequantization, convolve, lookup, lookup_pairs, requantize_
from hatdet.integer.onednn import to_uint8
from hatdet.integer.operators.layout.resize_bilinear import resize_bilinear
from hatdet.integer.operators.windows.average_pool import average_pool
from hatdet.integer.operators.windows.global_average_pool import global_average_pool


@dataclass(frozen=True)
class ConvCall:
    """One convolution's exact parameters for one forward pass."""

    weight: Tensor  # integer codes, float32 (O, I/g, kh, kw)
    bias: Tensor  # integers, float32 (O,)
    requantization: TensorRequantization
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    parts: int
    lo: int  # limits of the centred output codes
    hi: int
    weight_scale: Tensor  # (O,), of the weights as they are trained (a Hardsigmoid's 1/6 is in the requantization)
    bias_scale: Tensor  # (O,)
    weight_limit: Tensor | None  # (O,) magnitude beyond which a weight is clamped; None: none is
    gain_slope: Tensor  # (O,) relative change of the channel's scale by its gain, where it has one
    observe: Callable[[Tensor], None] | None
    int8: Callable[[Tensor], Tensor] | None  # the same convolution on int8 kernels, for inputs in [0, 255]


class IntegerConv(torch.autograd.Function):
    """Centred codes (B, I, H, W) -> centred codes (B, O, H', W'); gradients reach x, the float weight and bias,
    and the gain (O,) of a shared weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, gain: Tensor | None, call: ConvCall) -> Tensor:
        if call.int8 is not None:
            acc = call.int8(to_uint8(x))
        else:
            acc = convolve(x, call.weight, call.bias, call.stride, call.padding, call.dilation, call.groups, call.parts)
        if call.observe is not None:
            call.observe(acc)
        y = requantize_(acc, call.requantization, call.lo, call.hi)
        ctx.save_for_backward(x, y, weight, gain)
        ctx.call = call
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, y, weight, gain = ctx.saved_tensors
        call: ConvCall = ctx.call
        g = torch.ops.aten.hardtanh_backward(grad, y, call.lo, call.hi)
        multiplier = call.requantization.scale.to(torch.float32)
        column = (-1, 1, 1, 1)
        wanted = ctx.needs_input_grad
        needs = [wanted[0], wanted[1] or wanted[3], wanted[2]]
        gx, gw, gb = torch.ops.aten.convolution_backward(
            g, x, call.weight * multiplier.view(column), [call.weight.shape[0]], call.stride, call.padding,
            call.dilation, False, [0, 0], call.groups, needs,
        )  # fmt: skip
        gg = None
        if wanted[3]:
            assert gain is not None
            slope = torch.where(gain < 0, -call.gain_slope, call.gain_slope) * multiplier
            gg = (gw * call.weight).sum((1, 2, 3)) * slope
        if gw is not None:
            gw = gw * (multiplier / call.weight_scale).view(column)
            if call.weight_limit is not None:
                gw = gw * (weight.abs() <= call.weight_limit.view(column))
        if gb is not None:
            gb = gb * (multiplier / call.bias_scale)
        return gx, gw, gb, gg, None


@dataclass(frozen=True)
class AddCall:
    """One addition's exact parameters for one forward pass."""

    table: Tensor  # float32, 65 536 centred output codes
    zeros: tuple[int, int]
    factors: tuple[float, float]  # S1 / Sy, S2 / Sy
    lo: int
    hi: int


class IntegerAdd(torch.autograd.Function):
    """Sum of two tensors of centred codes through the table of the integer operator."""

    @staticmethod
    def forward(ctx: Any, x1: Tensor, x2: Tensor, call: AddCall) -> Tensor:
        y = lookup_pairs(x1, x2, call.table, *call.zeros)
        ctx.save_for_backward(y)
        ctx.call = call
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        call: AddCall = ctx.call
        g = torch.ops.aten.hardtanh_backward(grad, y, call.lo, call.hi)
        return g * call.factors[0], g * call.factors[1], None


@dataclass(frozen=True)
class MulCall:
    """One product's exact parameters for one forward pass."""

    requantization: TensorRequantization
    factor: float  # S1 * S2 / Sy
    lo: int
    hi: int


class IntegerMul(torch.autograd.Function):
    """Product of centred codes (B, C, H, W) and (B, C, H, W) or (B, C, 1, 1)."""

    @staticmethod
    def forward(ctx: Any, x1: Tensor, x2: Tensor, call: MulCall) -> Tensor:
        product = (x1 * x2).contiguous(memory_format=torch.channels_last)  # at most 255 * 255: exact
        y = requantize_(product, call.requantization, call.lo, call.hi)
        ctx.save_for_backward(x1, x2, y)
        ctx.call = call
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x1, x2, y = ctx.saved_tensors
        call: MulCall = ctx.call
        g = torch.ops.aten.hardtanh_backward(grad, y, call.lo, call.hi) * call.factor
        g2 = g * x1
        return g * x2, g2 if x1.shape == x2.shape else g2.sum((2, 3), keepdim=True), None


@dataclass(frozen=True)
class LookupCall:
    """One activation's exact parameters for one forward pass."""

    table: Tensor  # float32, 256 centred output codes
    slopes: Tensor  # float32, 256 derivatives of the output code by the input code; 0 where the output is clamped
    zero: int


class IntegerLookup(torch.autograd.Function):
    """A function of one code, by table; the gradient is that of the real function at the quantized input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: LookupCall) -> Tensor:
        ctx.save_for_backward(x)
        ctx.call = call
        return lookup(x, call.table, call.zero)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return grad * lookup(x, ctx.call.slopes, ctx.call.zero), None


class IntegerAveragePool(torch.autograd.Function):
    """Mean of unpadded windows of centred codes, for a zero point."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], zero: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.window = kernel, stride
        return average_pool(x, kernel, stride, zero)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        gx = torch.ops.aten.avg_pool2d_backward(grad, x, *ctx.window, [0, 0], False, True, None)
        return gx, None, None, None


class IntegerBilinear(torch.autograd.Function):
    """Bilinear enlargement of centred codes by a factor, for a zero point."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: int, zero: int) -> Tensor:
        ctx.shape, ctx.factor = x.shape, factor
        return resize_bilinear(x, factor, zero)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        scale, size = float(ctx.factor), list(grad.shape[2:])
        gx = torch.ops.aten.upsample_bilinear2d_backward(grad, size, list(ctx.shape), False, scale, scale)
        return gx, None, None


class IntegerMean(torch.autograd.Function):
    """Global average of centred codes, (B, C, H, W) -> (B, C, 1, 1), for a zero point."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, zero: int) -> Tensor:
        ctx.shape = x.shape
        return global_average_pool(x, zero)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return (grad / (ctx.shape[2] * ctx.shape[3])).expand(ctx.shape), None
