"""What operators with weights have in common: one training form, one lowering, the same bounds of scales."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from hatdet.integer.agreement.together import Together
from hatdet.integer.arithmetic import EXACT_FLOAT32, LARGEST_MULTIPLIER
from hatdet.integer.kernels import accumulator_bounds, as_rows, parts_needed, worst_bound
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.pointwise.activation_codes import UNIT_INTERVAL
from hatdet.integer.operators.windows.weighted import Sums, WeightedOp
from hatdet.integer.profile import Profile, Requantizer, WeightedSums
from hatdet.integer.tensors import QuantParams, TensorInfo
from hatdet.quantization.operators.base import Arrays, Form, Run, Scales, Step
from hatdet.quantization.operators.pointwise.limits import limited_range
from hatdet.quantization.qat.learned_steps import step_gradient
from hatdet.quantization.qat.quantized_conv import (
    QuantizedConv2d,
    QuantizedSharedConv2d,
    integer_parameters,
    step_parameters,
)
from hatdet.quantization.tracing.refusals import NoModule

_LARGEST_WIDE_MULTIPLIER = 16.0
"""Of a convolution to 16 bits; the kernels take less than 2**7."""
_INT32_MAX = float(2**31 - 1)
View = Callable[[Tensor], Tensor]
_kernels = WeakTensorKeyDictionary()
"""Parameter -> (weight, back) of its :class:`Kernel`."""

Gradients = Callable[[Tensor, Tensor, Tensor, list[bool]], Any]
"""Gradients of an operator's output, its input, its weight, and which are wanted -> those of input, weight and bias."""


@dataclass(frozen=True)
class Call:
    """One operator's exact parameters for one forward pass."""

    weight: Tensor  # integer codes, float32 (O, I/g, kh, kw)
    sums: Sums  # centred codes -> accumulators
    gradients: Gradients
    requantization: Requantizer
    lo: int  # limits of the centred output codes
    hi: int
    weight_scale: Tensor  # (O,), of the weights as they are trained (a Hardsigmoid's 1/6 is in the requantization)
    bias_scale: Tensor  # (O,)
    weight_limit: Tensor | None  # (O,) magnitude beyond which a weight is clamped; None: none is
    gain_slope: Tensor | None  # (O,) relative change of the channel's scale by its gain, where it has one
    observe: Callable[[Tensor], None] | None
    backward: torch.dtype | None = None  # in what the gradients' products are computed; None: float32
    limit: int = 127  # the largest weight code
    held: Tensor | None = None  # (O,) where the weight scale is not the learned one

    def products(self, g: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]) -> list[Tensor | None]:
        """The gradients in float32."""
        if self.backward is None:
            return list(self.gradients(g, x, weight, wanted))
        made = self.gradients(g.to(self.backward), x.to(self.backward), weight.to(self.backward), wanted)
        return [None if gradient is None else gradient.float() for gradient in made]


class IntegerSums(torch.autograd.Function):
    """Centred codes (B, I, H, W) -> centred codes (B, O, H', W'); gradients reach x, the float weight and bias,
    the gain (O,) of a shared weight, and the learned step (O,) of the weight's scale."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, gain: Tensor | None, step: Tensor | None, call: Call
    ) -> Tensor:
        acc = call.sums(x)
        if call.observe is not None:
            call.observe(acc)
        y = call.requantization.centred(acc, call.lo, call.hi)
        ctx.save_for_backward(x, y, weight, gain, step)
        ctx.call = call
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, y, weight, gain, step = ctx.saved_tensors
        call: Call = ctx.call
        g = torch.ops.aten.hardtanh_backward(grad, y, call.lo, call.hi)
        multiplier = call.requantization.scale.to(torch.float32)
        column = (-1, 1, 1, 1)
        wanted = ctx.needs_input_grad
        needs = [wanted[0], wanted[1] or wanted[3] or wanted[4], wanted[2]]
        gx, gw, gb = call.products(g, x, call.weight * multiplier.view(column), needs)
        gg = None
        if wanted[3]:
            assert gain is not None and call.gain_slope is not None
            slope = torch.where(gain < 0, -call.gain_slope, call.gain_slope) * multiplier
            assert gw is not None
            gg = (gw * call.weight).sum((1, 2, 3)) * slope
        gs = None
        if gw is not None:
            gw = gw * (multiplier / call.weight_scale).view(column)
            if wanted[4]:
                assert call.held is not None
                gs = step_gradient(gw, weight, call.weight, call.weight_scale, step, call.held, call.limit)
            if call.weight_limit is not None:
                gw = gw * (weight.abs() <= call.weight_limit.view(column))
        if gb is not None:
            gb = gb * (multiplier / call.bias_scale)
        return gx, gw, gb, gg, gs, None


class WeightedForm(Form):
    """A form whose trained modules are :class:`QuantizedConv2d`, and whose operator is a :class:`WeightedOp`."""

    op: ClassVar[type[WeightedOp]]

    @abstractmethod
    def sums(self, step: Step, weight: Tensor, bias: Tensor, zero: int, parts: int) -> Sums:
        """Accumulators of centred codes, exact in so many parts; ``zero`` is the input's zero point."""

    @abstractmethod
    def gradients(self, step: Step) -> Gradients:
        """The gradients of these sums."""

    def parameters(self, module: nn.Module | None) -> tuple[Tensor | None, Tensor | None]:
        assert isinstance(module, QuantizedConv2d)
        return module.effective_weight(), module.bias

    def fixed_output(self, module: nn.Module | None) -> QuantParams | None:
        hard = isinstance(module, QuantizedConv2d) and module.activation == "hardsigmoid"
        return UNIT_INTERVAL if hard else None

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

    def both_agree(self, step: Step, scales: Scales, together: Together) -> bool:
        """The limits; that sums agree, weight scales see to (:mod:`hatdet.quantization.qat.agreeing_weights`)."""
        conv = step.module
        assert isinstance(conv, QuantizedConv2d)
        return together.limits_agree(conv.integer_activation, scales.params(step.output))

    def run(self, run: Run) -> Tensor:
        conv = run.step.module
        assert isinstance(conv, QuantizedConv2d)
        gain = conv.gain if isinstance(conv, QuantizedSharedConv2d) else None
        call = self._call(conv, run)
        return IntegerSums.apply(run.inputs[0], conv.weight, conv.bias, gain, conv.weight_fake_quant.step, call)

    def lower(
        self, step: Step, inputs: Sequence[TensorInfo], output: TensorInfo, arrays: Arrays, profile: Profile
    ) -> Operator:
        """Calls of one module share their arrays."""
        conv, x, y = step.module, inputs[0], output.qparams
        assert isinstance(conv, QuantizedConv2d)
        conv.observe_weight()

        def array(value: Tensor, dtype: type[np.generic]) -> Any:
            made = value.detach().cpu().numpy().astype(dtype)
            return arrays.setdefault((made.shape, dtype, made.tobytes()), made)

        weight, bias = integer_parameters(conv, x.qparams.scale)
        lo, hi = profile.limits(conv.integer_activation, y)
        settings = {name: step.arguments[name] for name in self.op.setting_names}
        settings |= {"activation": conv.integer_activation, "lo": lo, "hi": hi}
        settings |= {"weight_bits": conv.weight_fake_quant.bits}
        arrays_ = array(weight, np.int8), array(bias, np.int32), array(conv.integer_scale(), np.float32)
        make: Any = self.op
        made: Operator = make(step.name, x.name, output.name, *arrays_, **settings)
        return made

    def _call(self, conv: QuantizedConv2d, run: Run) -> Call:
        sx, sy = run.x[0], run.y
        p = run.parameters or step_parameters([conv], [sx.scale])[0]
        weight, bias = p.weight, p.bias
        if conv.groups == 1 or weight.shape[1] > 1:
            weight = weight.contiguous(memory_format=torch.channels_last)
        x_lo, x_hi = -128 - sx.zero_point, 127 - sx.zero_point
        parts = 0
        bound = worst_bound(weight[0].numel(), max(-x_lo, x_hi)) + p.bias_peak
        if bound >= EXACT_FLOAT32:
            bounds = accumulator_bounds(weight, bias, x_lo, x_hi)
            bound = float(bounds.max())
            parts = parts_needed(weight, bias, x_lo, x_hi, bounds)
        bounds_ = np.full(p.integer_scale.shape, bound)
        sums = WeightedSums(sx.scale, p.integer_scale, sy, bounds_, weight.device)
        requantization = run.profile.sums(sums)
        lo, hi = run.profile.limits(conv.integer_activation, sy)
        quantizer = conv.weight_fake_quant
        beyond = None if bool(quantizer.observer_enabled[0]) else quantizer.quant_max + 0.5  # the scale is frozen
        if quantizer.step is not None:
            beyond = float(quantizer.quant_max)
        depthwise = conv.groups > 1 and weight.shape[1] == 1  # 16 bits cost its gradients several times the time
        gain_slope = p.weight_scale / p.channel_scale if isinstance(conv, QuantizedSharedConv2d) else None
        return Call(
            weight, self.sums(run.step, weight, bias, sx.zero_point, parts), self.gradients(run.step), requantization,
            lo - sy.zero_point, hi - sy.zero_point, p.weight_scale, p.bias_scale,
            None if beyond is None else p.weight_scale * beyond, gain_slope,
            partial(_observe_accumulators, run, p.bias_scale, conv.activation) if run.observing else None,
            None if depthwise else run.backward, quantizer.quant_max, quantizer.held,
        )  # fmt: skip


def _observe_accumulators(run: Run, scale: Tensor, activation: str, acc: Tensor) -> None:
    """Range of the real output before its quantization, from the integer accumulators; by way of long rows, as torch's
    maximum over positions is slow where channels are few."""
    rows, pixels = as_rows(acc.contiguous(memory_format=torch.channels_last))
    high = float((rows.amax(0).view(pixels, -1).amax(0) * scale).max())
    low = 0.0
    if activation not in ("relu", "relu6"):
        low = float((rows.amin(0).view(pixels, -1).amin(0) * scale).min())
    run.observe(*limited_range(low, high, activation))


@dataclass(frozen=True)
class Kernel:
    """A parameter of the float network and the weight (O, I, kh, kw) that is trained in its place. They are in one
    memory; to move or copy a model parts them."""

    parameter: Tensor
    weight: nn.Parameter
    back: View

    def join(self) -> None:
        """Let the parameter lie in the weight's memory again."""
        self.parameter.data = self.back(self.weight.data)


def as_kernel(parameter: Tensor, layout: View, back: View) -> nn.Parameter:
    """A parameter as the weight of a convolution, in the same memory; the same object each time.

    Args:
        layout: gives the view.
        back: its inverse.
    """
    weight = _kernels[parameter][0] if parameter in _kernels else None
    if weight is None or weight.data_ptr() != parameter.data_ptr():  # it may have been moved since
        weight = nn.Parameter(layout(parameter.detach()))
        _kernels[parameter] = weight, back
    return cast(nn.Parameter, weight.requires_grad_(parameter.requires_grad))


def kernels_of(network: nn.Module) -> list[Kernel]:
    """Those that stand in for parameters of a float network."""
    return [Kernel(p, *_kernels[p]) for p in network.parameters() if p in _kernels]


def check_weight(module: nn.Module) -> None:
    """Refuse a weight that is none of the module's own.

    Raises:
        NoModule: it is computed.
    """
    if not isinstance(module.weight, nn.Parameter):
        raise NoModule(
            f"{type(module).__name__} whose weight is computed in each call (weight or spectral normalization)",
            "remove the parametrization from the trained model first",
        )
