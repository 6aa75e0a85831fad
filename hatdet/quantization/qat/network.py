"""The quantized network: the same convolutions run as float (calibration), fake-quantized, or in the integers that
ship."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from hatdet.integer import onednn
from hatdet.integer.activations import activation_table, real_function
from hatdet.integer.arithmetic import (
    EXACT_FLOAT32,
    activation_limits,
    conv_multiplier,
    prepare_requantization,
    prepare_requantization16,
)
from hatdet.integer.kernels import TensorRequantization, accumulator_bounds, parts_needed, worst_bound
from hatdet.integer.operators.layout.pad import pad
from hatdet.integer.operators.pairs.add import add_table
from hatdet.integer.operators.pairs.mul import mul_multiplier
from hatdet.integer.operators.pointwise.requantize import requantize_table
from hatdet.integer.operators.windows.max_pool import max_pool
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.qat.fake_quant import ActivationFakeQuantize
from hatdet.quantization.qat.finite_activations import refuse_activations
from hatdet.quantization.qat.fx_adapter import Plan, QuantizedConv2d, QuantizedSharedConv2d, Step, plan
from hatdet.quantization.qat.islands import QuantizeReal, island_quantizers, resolve_islands, run_float
from hatdet.quantization.qat.kernel_scales import suit_kernels
from hatdet.quantization.qat.quantized_conv import integer_parameters
from hatdet.quantization.qat.straight_through import (
    AddCall,
    ConvCall,
    IntegerAdd,
    IntegerAveragePool,
    IntegerBilinear,
    IntegerConv,
    IntegerLookup,
    IntegerMean,
    IntegerMul,
    LookupCall,
    MulCall,
)

QAT_FORWARDS = ("integer", "fake_quant")


def quant_params(quantizer: ActivationFakeQuantize) -> QuantParams:
    """The exact quantization that simulation, integer forward, lowering and export share."""
    return QuantParams(float(quantizer.scale), int(quantizer.zero_point), quantizer.bits)


class QuantizedNetwork(nn.Module):
    """Maps a normalized image batch (B, C, H, W) to the tuple of raw maps, through quantized operators.

    Args:
        trunk: what ``fx_adapter.prepare`` returned.
        qat_forward: ``integer`` (the arithmetic that ships) or ``fake_quant`` (torch.ao's, for comparison).
        input_params: the fixed quantization of the input.
        keep_float: names of layers that run in float (``islands.resolve_islands``); normally none.
    """

    def __init__(
        self, *, trunk: fx.GraphModule, qat_forward: str, input_params: QuantParams, keep_float: Sequence[str] = ()
    ) -> None:
        super().__init__()
        if qat_forward not in QAT_FORWARDS:
            raise ValueError(f"qat_forward is {qat_forward!r}; use one of {', '.join(QAT_FORWARDS)}")
        self.trunk = trunk
        self.qat_forward = qat_forward
        self.quantizing = False
        self._plan: tuple[int, Plan] | None = None
        self._add_tables: dict[Any, Tensor] = {}
        self.plan.quantizers[self.plan.input].fix(input_params.scale, input_params.zero_point)
        self.islands = resolve_islands(self.plan, keep_float)

    @property
    def plan(self) -> Plan:
        if self._plan is None or self._plan[0] != id(self.trunk):
            self._plan = (id(self.trunk), plan(self.trunk))
        return self._plan[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plan": None, "_add_tables": {}}

    def quantizers(self) -> list[ActivationFakeQuantize]:
        """Every activation quantizer once."""
        return list({id(q): q for q in self.plan.quantizers.values()}.values())

    def convolutions(self) -> list[QuantizedConv2d]:
        return [s.module for s in self.plan.steps if isinstance(s.module, QuantizedConv2d)]

    def set_observing(self, on: bool) -> None:
        """Let ranges follow the data (activations) and the weights, or freeze them."""
        for module in [*self.quantizers(), *(c.weight_fake_quant for c in self.convolutions())]:
            module.enable_observer(on)

    def set_quantizing(self, on: bool) -> None:
        """Quantize in the forward pass, or run in float (as calibration does)."""
        self.quantizing = on
        for module in [*self.quantizers(), *(c.weight_fake_quant for c in self.convolutions())]:
            module.enable_fake_quant(on)
        for module in island_quantizers(self.plan, self.islands):
            module.enable_fake_quant(False)

    @property
    def calibrated(self) -> bool:
        return all(q.calibrated for q in self.quantizers())

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if self.quantizing and not self.calibrated:
            self._initialize(x)
        if self.quantizing and self.qat_forward == "integer":
            with torch.autocast(x.device.type, enabled=False):  # a convolution in 16 bits would not be that of integers
                maps = self._integer_forward(x.float())
        else:
            maps = tuple(self.trunk(x))
        if self.training or not self.quantizing:
            self._commit(None if self.quantizing else x)
        return maps

    def _commit(self, seen: Tensor | None = None) -> None:
        """Let a step's ranges count. With ``seen``, the images, a value that is not finite is refused by its layer."""
        if seen is not None and any(q.activation_post_process.not_finite for q in self.quantizers()):
            refuse_activations(self.trunk, seen, {step.output: step.name for step in self.plan.steps})
        for quantizer in self.quantizers():
            quantizer.commit()
        if any(quantizer.observing for quantizer in self.quantizers()):
            suit_kernels(self.plan)

    def copy_ranges(self, other: QuantizedNetwork) -> None:
        """Take the activations' quantization over from a network of the same operators."""
        pairs = [(self.plan.input, other.plan.input)]
        for ours, theirs in zip(self.plan.steps, other.plan.steps, strict=True):
            assert ours.kind == theirs.kind, (ours.name, theirs.name)
            pairs.append((ours.output, theirs.output))
        for mine, its in pairs:
            self.plan.quantizers[mine].copy_quantization(other.plan.quantizers[its])
        suit_kernels(self.plan)

    @torch.no_grad()
    def _initialize(self, x: Tensor) -> None:
        """First ranges of an uncalibrated network: one float pass over this batch."""
        self.set_quantizing(False)
        self.trunk(x)
        self._commit(x)
        self.set_quantizing(True)

    def _integer_forward(self, x: Tensor) -> tuple[Tensor, ...]:
        steps, quantizers = self.plan.steps, self.plan.quantizers
        unique = {id(q): quant_params(q) for q in self.quantizers()}
        params = {name: unique[id(q)] for name, q in quantizers.items()}
        values = {self.plan.input: quantize(x, params[self.plan.input])}
        if self.islands:
            return self._mixed_forward(values, params)
        for step in steps:
            values[step.output] = self._run(step, [values[name] for name in step.inputs], params)
        return tuple(values[name] * params[name].scale for name in self.plan.outputs)

    def _mixed_forward(self, codes: dict[str, Tensor], params: dict[str, QuantParams]) -> tuple[Tensor, ...]:
        """As :meth:`_integer_forward`, with islands: values that are real stay so until an integer step reads them."""
        real: dict[str, Tensor] = {}

        def as_real(name: str) -> Tensor:
            return real[name] if name in real else codes[name] * params[name].scale

        for step in self.plan.steps:
            if step.output in self.islands:
                real[step.output] = run_float(step, [as_real(name) for name in step.inputs])
                if self._observing(self.plan.quantizers[step.output]):
                    self.plan.quantizers[step.output].activation_post_process(real[step.output])
                continue
            for name in step.inputs:
                if name not in codes:
                    codes[name] = QuantizeReal.apply(real[name], params[name])
            codes[step.output] = self._run(step, [codes[name] for name in step.inputs], params)
        return tuple(as_real(name) for name in self.plan.outputs)

    def _run(self, step: Step, inputs: list[Tensor], params: dict[str, QuantParams]) -> Tensor:
        if step.kind == "conv":
            assert isinstance(step.module, QuantizedConv2d)
            call = self._conv_call(step.module, step, params)
            gain = step.module.gain if isinstance(step.module, QuantizedSharedConv2d) else None
            return IntegerConv.apply(inputs[0], step.module.weight, step.module.bias, gain, call)
        if step.kind == "add":
            call_add = self._add_call(step, inputs, params)
            return IntegerAdd.apply(inputs[0], inputs[1], call_add)
        if step.kind == "mul":
            first, second = inputs if inputs[0].numel() >= inputs[1].numel() else inputs[::-1]
            return IntegerMul.apply(first, second, self._mul_call(step, inputs, params))
        if step.kind in ("activation", "requantize"):
            return IntegerLookup.apply(inputs[0], self._lookup_call(step, inputs[0], params))
        y = params[step.output]
        if step.kind == "global_average_pool":
            return IntegerMean.apply(inputs[0], y.zero_point)
        if step.kind == "average_pool":
            return IntegerAveragePool.apply(inputs[0], step.arguments["kernel"], step.arguments["stride"], y.zero_point)
        if step.kind == "resize_bilinear":
            return IntegerBilinear.apply(inputs[0], step.arguments["factor"], y.zero_point)
        if step.kind == "clamp":
            lo, hi = activation_limits(step.arguments["activation"], y.scale, y.zero_point)
            return F.hardtanh(inputs[0], lo - y.zero_point, hi - y.zero_point)
        if step.kind == "pad":
            return pad(inputs[0], step.arguments["padding"], 0)
        if step.kind == "concat":
            return torch.cat(inputs, 1)
        if step.kind == "max_pool":
            return max_pool(inputs[0], **step.arguments)
        assert step.kind == "resize_nearest", step.kind
        return F.interpolate(inputs[0], scale_factor=float(step.arguments["factor"]), mode="nearest")

    def _observing(self, quantizer: ActivationFakeQuantize) -> bool:
        return self.training and quantizer.observing

    def _conv_call(self, conv: QuantizedConv2d, step: Step, params: dict[str, QuantParams]) -> ConvCall:
        sx, sy = params[step.inputs[0]], params[step.output]
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
        quantizer = self.plan.quantizers[step.output]
        stride, padding, dilation = _pair(conv.stride), _pair(conv.padding), _pair(conv.dilation)
        int8 = None
        if x_lo == 0 and conv.groups == 1 and weight.device.type == "cpu" and onednn.available():
            int8 = onednn.packed_conv(weight, bias, 0, stride, padding, dilation, conv.groups, parts)
        frozen = not bool(conv.weight_fake_quant.observer_enabled[0])
        return ConvCall(
            weight, bias, requantization, stride, padding, dilation, conv.groups,
            parts, lo - sy.zero_point, hi - sy.zero_point, weight_scale.clone(), channel_scale * sx.scale,
            weight_scale * 127.5 if frozen else None, weight_scale / channel_scale,
            partial(_observe_accumulators, quantizer, channel_scale * sx.scale, conv.activation)
            if self._observing(quantizer) else None, int8,
        )  # fmt: skip

    def _add_call(self, step: Step, inputs: list[Tensor], params: dict[str, QuantParams]) -> AddCall:
        p1, p2, py = params[step.inputs[0]], params[step.inputs[1]], params[step.output]
        quantizer, activation = self.plan.quantizers[step.output], step.arguments["activation"]
        if self._observing(quantizer):
            with torch.no_grad():
                low, high = torch.aminmax(torch.add(inputs[0] * p1.scale, inputs[1], alpha=p2.scale))
                quantizer.activation_post_process.add_range(*limited_range(float(low), float(high), activation))
        lo, hi = activation_limits(activation, py.scale, py.zero_point)
        key = (p1, p2, py, activation, str(inputs[0].device))
        if key not in self._add_tables:
            if len(self._add_tables) > 256:
                self._add_tables.clear()
            self._add_tables[key] = centred_add_table(p1, p2, py, lo, hi).to(inputs[0].device)
        factors = p1.scale / py.scale, p2.scale / py.scale
        zeros = p1.zero_point, p2.zero_point
        return AddCall(self._add_tables[key], zeros, factors, lo - py.zero_point, hi - py.zero_point)

    def _mul_call(self, step: Step, inputs: list[Tensor], params: dict[str, QuantParams]) -> MulCall:
        p1, p2, py = params[step.inputs[0]], params[step.inputs[1]], params[step.output]
        quantizer = self.plan.quantizers[step.output]
        small = min((x.shape for x in inputs), key=lambda s: s.numel())
        if inputs[0].shape != inputs[1].shape and tuple(small[1:]) != (inputs[0].shape[1], 1, 1):
            raise ValueError(
                f"{step.name}: cannot multiply tensors of shapes {tuple(inputs[0].shape)} and "
                f"{tuple(inputs[1].shape)}; use equal shapes, or one factor for each channel"
            )
        if self._observing(quantizer):
            with torch.no_grad():
                low, high = torch.aminmax(inputs[0] * inputs[1])
                factor = p1.scale * p2.scale
                quantizer.activation_post_process.add_range(float(low) * factor, float(high) * factor)
        channels = inputs[0].shape[1]
        multiplier = mul_multiplier(p1.scale, p2.scale, py.scale)
        requantization = TensorRequantization(
            prepare_requantization(np.full(channels, multiplier), np.full(channels, 255.0 * 255.0)), inputs[0].device
        )
        limits = -128 - py.zero_point, 127 - py.zero_point
        return MulCall(requantization, p1.scale * p2.scale / py.scale, *limits)

    def _lookup_call(self, step: Step, x: Tensor, params: dict[str, QuantParams]) -> LookupCall:
        px, py = params[step.inputs[0]], params[step.output]
        function, quantizer = step.arguments.get("function", "requantize"), self.plan.quantizers[step.output]
        values, slopes = real_function(function, px.scale * (np.arange(-128.0, 128.0) - px.zero_point))
        if self._observing(quantizer):
            low, high = (int(v) + px.zero_point + 128 for v in torch.aminmax(x.detach()))
            seen = values[low : high + 1]
            quantizer.activation_post_process.add_range(float(seen.min()), float(seen.max()))
        codes = values / py.scale + py.zero_point
        slopes = np.where((codes > -128.5) & (codes < 127.5), slopes * (px.scale / py.scale), 0.0)
        if function == "requantize":
            codes_out = requantize_table(px.scale, px.zero_point, py.scale, py.zero_point)
        else:
            codes_out = activation_table(function, px, py)
        table = codes_out.astype(np.float32) - py.zero_point
        tables = [torch.from_numpy(v.astype(np.float32)).to(x.device) for v in (table, slopes)]
        return LookupCall(tables[0], tables[1], px.zero_point)


def quantize(x: Tensor, params: QuantParams) -> Tensor:
    """Real values to centred codes: clamp(round(x / S) + Z, -128, 127) - Z, as float32."""
    codes = torch.round(x.detach() / params.scale)
    return codes.clamp_(-128 - params.zero_point, 127 - params.zero_point)


def centred_add_table(p1: QuantParams, p2: QuantParams, py: QuantParams, lo: int = -128, hi: int = 127) -> Tensor:
    """The integer ADD's 65 536 results as centred codes, float32."""
    table = add_table((p1.scale, p2.scale, py.scale), (p1.zero_point, p2.zero_point, py.zero_point), lo, hi)
    return torch.from_numpy(table.reshape(-1).astype(np.float32) - py.zero_point)


def _observe_accumulators(quantizer: ActivationFakeQuantize, scale: Tensor, activation: str, acc: Tensor) -> None:
    """Range of the real output before its quantization, from the integer accumulators."""
    high = float((acc.amax((0, 2, 3)) * scale).max())
    low = float((acc.amin((0, 2, 3)) * scale).min()) if activation == "none" else 0.0
    quantizer.activation_post_process.add_range(*limited_range(low, high, activation))


def limited_range(low: float, high: float, activation: str) -> tuple[float, float]:
    """What ``none``, ``relu`` or ``relu6`` leaves of a range."""
    if activation == "none":
        return low, high
    return 0.0, min(max(high, 0.0), 6.0) if activation == "relu6" else max(high, 0.0)


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[1]))
