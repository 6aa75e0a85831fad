"""Convolutions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hatdet.integer import onednn
from hatdet.integer.arithmetic import (
    EXACT_FLOAT32,
    LARGEST_MULTIPLIER,
    activation_limits,
    conv_multiplier,
    prepare_requantization,
    prepare_requantization16,
)
from hatdet.integer.kernels import (
    TensorRequantization,
    accumulator_bounds,
    convolve,
    parts_needed,
    requantize_,
    worst_bound,
)
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.windows.conv import ConvOp, weight_settings
from hatdet.integer.tensors import TensorInfo
from hatdet.quantization.operators.base import Arrays, Form, Run, Scales, Step
from hatdet.quantization.operators.pointwise.limits import limited_range
from hatdet.quantization.qat.live_bn import BnConv2d
from hatdet.quantization.qat.quantized_conv import (
    QuantizedBnConv2d,
    QuantizedConv2d,
    QuantizedSharedConv2d,
    integer_parameters,
)
from hatdet.quantization.qat.shared_conv import LeafConv2d, SharedConv2d
from hatdet.quantization.tracing.refusals import NoModule, numeric_padding, pair

_LARGEST_WIDE_MULTIPLIER = 16.0
"""Of a convolution to 16 bits; the kernels take less than 2**7."""
_INT32_MAX = float(2**31 - 1)


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
            acc = call.int8(onednn.to_uint8(x))
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


class Conv(Form):
    op = ConvOp
    modules = (nn.Conv2d, LeafConv2d)
    subclasses = (LeafConv2d, QuantizedConv2d)
    floats = (nn.Conv2d, SharedConv2d, BnConv2d)
    quantized = (QuantizedConv2d, QuantizedSharedConv2d, QuantizedBnConv2d)

    def check(self, module: nn.Module) -> None:
        assert isinstance(module, nn.Conv2d)
        name = type(module).__name__
        if module.padding_mode != "zeros":
            raise NoModule(
                f"{name} with padding {module.padding!r} ({module.padding_mode})", "set padding_mode='zeros'"
            )
        if numeric_padding(module) is None:
            raise NoModule(
                f"{name} with padding='same' and an even kernel, which pads unevenly",
                "set padding=0 and put nn.ZeroPad2d before it",
            )
        if not isinstance(module.weight, nn.Parameter):
            raise NoModule(
                f"{name} whose weight is computed in each call (weight or spectral normalization)",
                "remove the parametrization from the trained model first",
            )

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        if isinstance(module, nn.Conv2d) and isinstance(module.padding, str):
            module = copy.copy(module)
            module.padding = numeric_padding(module)  # type: ignore[assignment]
        return [("", module)]

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, QuantizedConv2d)
        geometry = {name: pair(getattr(module, name)) for name in ("stride", "padding", "dilation")}
        own = {"groups": module.groups, "activation": module.activation}
        return {**geometry, **own, **weight_settings(module.weight.shape)}

    def parameters(self, module: nn.Module | None) -> tuple[Tensor | None, Tensor | None]:
        assert isinstance(module, QuantizedConv2d)
        return module.effective_weight(), module.bias

    def fixes_output(self, module: nn.Module | None) -> bool:
        return isinstance(module, QuantizedConv2d) and module.activation == "hardsigmoid"

    def least_scale(self, step: Step, scales: Scales) -> float:
        """Its multiplier stays below the limit, and its accumulators fit int32 after the kernel's left shift."""
        conv, name = step.module, step.inputs[0]
        assert isinstance(conv, QuantizedConv2d)
        if not scales.others(step):
            return 0.0  # raising one would raise the other
        product = scales.peak(step) * scales.of(name)
        if product <= scales.of(step.output):
            return 0.0  # nothing is shifted left
        if scales.bits(step.output) == 16:
            return float(np.float32(product)) / _LARGEST_WIDE_MULTIPLIER
        weight, bias = integer_parameters(conv, scales.of(name))
        zero = scales.zero(name)
        bound = accumulator_bounds(weight, bias, -128 - zero, 127 - zero).clamp(min=1.0)
        power = torch.floor(torch.log2(_INT32_MAX / bound)).exp2()
        limit = (power * (1.0 - 2.0**-16)).clamp(max=LARGEST_MULTIPLIER)
        return float((conv.integer_scale().double() * scales.of(name) / limit).max())

    def run(self, run: Run) -> Tensor:
        conv = run.step.module
        assert isinstance(conv, QuantizedConv2d)
        gain = conv.gain if isinstance(conv, QuantizedSharedConv2d) else None
        return IntegerConv.apply(run.inputs[0], conv.weight, conv.bias, gain, _conv_call(conv, run))

    def lower(self, step: Step, inputs: Sequence[TensorInfo], output: TensorInfo, arrays: Arrays) -> Operator:
        """Calls of one module share their arrays."""
        conv, x, y = step.module, inputs[0], output.qparams
        assert isinstance(conv, QuantizedConv2d)
        conv.observe_weight()

        def array(value: Tensor, dtype: type[np.generic]) -> Any:
            made = value.detach().cpu().numpy().astype(dtype)
            return arrays.setdefault((made.shape, dtype, made.tobytes()), made)

        weight, bias = integer_parameters(conv, x.qparams.scale)
        lo, hi = activation_limits(conv.integer_activation, y.scale, y.zero_point, y.bits)
        a = step.arguments
        return ConvOp(
            step.name, x.name, output.name, array(weight, np.int8), array(bias, np.int32),
            array(conv.integer_scale(), np.float32), a["stride"], a["padding"], a["dilation"], a["groups"],
            conv.integer_activation, lo, hi,
        )  # fmt: skip


def _conv_call(conv: QuantizedConv2d, run: Run) -> ConvCall:
    sx, sy = run.x[0], run.y
    conv.observe_weight()
    with torch.no_grad():
        weight, bias = integer_parameters(conv, sx.scale)
    if conv.groups == 1 or weight.shape[1] > 1:
        weight = weight.contiguous(memory_format=torch.channels_last)
    weight_scale, channel_scale = conv.weight_fake_quant.scale.detach(), conv.channel_scale()
    x_lo, x_hi = -128 - sx.zero_point, 127 - sx.zero_point
    parts = 0
    bound = worst_bound(weight[0].numel(), max(-x_lo, x_hi)) + float(bias.abs().max())
    if bound >= EXACT_FLOAT32:
        bounds = accumulator_bounds(weight, bias, x_lo, x_hi)
        bound = float(bounds.max())
        parts = parts_needed(weight, bias, x_lo, x_hi, bounds)
    scales = conv.integer_scale().cpu().numpy()
    multiplier = conv_multiplier(sx.scale, scales, sy.scale)
    prepare = prepare_requantization16 if sy.bits == 16 else prepare_requantization
    requantization = TensorRequantization(prepare(multiplier, np.full(scales.shape, bound)), weight.device)
    lo, hi = activation_limits(conv.integer_activation, sy.scale, sy.zero_point, sy.bits)
    a = run.step.arguments
    stride, padding, dilation, groups = a["stride"], a["padding"], a["dilation"], a["groups"]
    int8 = None
    if x_lo == 0 and groups == 1 and weight.device.type == "cpu" and onednn.available():
        int8 = onednn.packed_conv(weight, bias, 0, stride, padding, dilation, groups, parts)
    frozen = not bool(conv.weight_fake_quant.observer_enabled[0])
    bias_scale = channel_scale * sx.scale
    return ConvCall(
        weight, bias, requantization, stride, padding, dilation, groups,
        parts, lo - sy.zero_point, hi - sy.zero_point, weight_scale.clone(), bias_scale,
        weight_scale * 127.5 if frozen else None, weight_scale / channel_scale,
        partial(_observe_accumulators, run, bias_scale, conv.activation) if run.observing else None, int8,
    )  # fmt: skip


def _observe_accumulators(run: Run, scale: Tensor, activation: str, acc: Tensor) -> None:
    """Range of the real output before its quantization, from the integer accumulators."""
    high = float((acc.amax((0, 2, 3)) * scale).max())
    low = float((acc.amin((0, 2, 3)) * scale).min()) if activation == "none" else 0.0
    run.observe(*limited_range(low, high, activation))
