"""Scales that every runtime's kernels can compute with, and with which all of them round alike.

Observed ranges know nothing of kernels. An output that hardly differs from 0 on all calibration images (a ReLU that is
never passed, a sum that cancels) gets a scale so small for its inputs that fixed point overflows or a kernel refuses
it; and some products and activations are rounded in two ways. Such scales are raised: by as much as the kernels need
in the first case, by some units in 2**24 in the second.
"""

from __future__ import annotations

import numpy as np
import torch

from hatdet.integer.activations import UNIT_INTERVAL, agreeing_input_scale
from hatdet.integer.arithmetic import LARGEST_MULTIPLIER
from hatdet.integer.kernels import accumulator_bounds
from hatdet.integer.operators.pairs.mul import agreeing_output_scale
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.qat.fake_quant import ActivationFakeQuantize
from hatdet.quantization.qat.fx_adapter import Plan, QuantizedConv2d, Step
from hatdet.quantization.qat.quantized_conv import integer_parameters

_ROUNDS = 16
_LARGEST_WIDE_MULTIPLIER = 16.0
"""Of a convolution to 16 bits; the kernels take less than 2**7."""
_LARGEST_RATIO = 2.0**20
"""Of a requantization: 255 times that fits int32."""
_INT32_MAX = float(2**31 - 1)


def product_inputs(step: Step) -> tuple[str, ...]:
    """The two factors where a step is a product in the file, else (); the gate inside a SiLU has the name ''."""
    if step.kind == "mul":
        return step.inputs
    return (step.inputs[0], "") if step.arguments.get("function") == "silu" else ()


@torch.no_grad()
def suit_kernels(plan: Plan) -> None:
    """Raise scales to what the kernels can compute with (:func:`bound_scales`), and outputs of products and inputs of
    activations to where every runtime rounds alike."""
    _Scales(plan).settle(agree=True)


@torch.no_grad()
def bound_scales(plan: Plan) -> None:
    """Raise the scales of outputs that are too small for their inputs; those that are not stay as they are."""
    _Scales(plan).settle(agree=False)


class _Scales:
    """The scales of a plan's quantizers while they are raised; a quantizer may belong to many values."""

    def __init__(self, plan: Plan) -> None:
        self.steps, self.quantizers = plan.steps, plan.quantizers
        unique = {id(q): q for q in plan.quantizers.values()}
        self.unique: dict[int, ActivationFakeQuantize] = unique
        self.scale = {key: float(q.scale) for key, q in unique.items()}
        self.zero = {key: int(q.zero_point) for key, q in unique.items()}
        convs = [step for step in self.steps if isinstance(step.module, QuantizedConv2d)]
        peaks = [s.module.integer_scale().max() for s in convs if isinstance(s.module, QuantizedConv2d)]
        values = torch.stack(peaks).tolist() if peaks else []
        self.peak: dict[str, float] = {s.output: v for s, v in zip(convs, values, strict=True)}
        self.products: dict[int, list[Step]] = {}
        for step in self.steps:
            if product_inputs(step) and not self.quantizers[step.output].fixed:
                self.products.setdefault(self._key(step.output), []).append(step)

    def settle(self, agree: bool) -> None:
        """Raise until nothing moves (an output may be another's input), then write back what moved."""
        start = dict(self.scale)
        for _ in range(_ROUNDS):
            before = dict(self.scale)
            for step in self.steps:
                self._raise(step.output, self._least(step))
            if agree:
                self._agree()
            if self.scale == before:
                break
        for key, quantizer in self.unique.items():
            if self.scale[key] != start[key]:
                quantizer.scale.fill_(self.scale[key])
                if quantizer.bits == 16:  # the recorded range too: it tells the bits (``fake_quant.bits_of``)
                    quantizer.activation_post_process.max_val.fill_(self.scale[key] * 32767.0)

    def _key(self, name: str) -> int:
        return id(self.quantizers[name])

    def _of(self, name: str) -> float:
        return self.scale[self._key(name)] if name else UNIT_INTERVAL.scale

    def _raise(self, name: str, least: float) -> None:
        """Set the scale of a value to ``least``, a float32, where it is below that and free."""
        if not self.quantizers[name].fixed:
            self.scale[self._key(name)] = max(self._of(name), float(np.float32(least)))

    def _least(self, step: Step) -> float:
        """The least scale that the step's output may have, by the scales of its inputs; 0: any."""
        others = [name for name in step.inputs if self._key(name) != self._key(step.output)]
        if step.kind == "add":
            return max((self._of(name) for name in others), default=0.0) / LARGEST_MULTIPLIER
        if len(others) < len(step.inputs):
            return 0.0  # raising one would raise the other
        if step.kind == "conv":
            return self._least_of_convolution(step)
        if product_inputs(step):
            first, second = (self._of(name) for name in product_inputs(step))
            return first * second / LARGEST_MULTIPLIER
        if step.arguments.get("function") == "hardswish":
            return self._of(step.inputs[0]) / 120.0
        return self._of(step.inputs[0]) / _LARGEST_RATIO if step.kind == "requantize" else 0.0

    def _least_of_convolution(self, step: Step) -> float:
        """Its multiplier stays below the limit, and its accumulators fit int32 after the kernel's left shift."""
        conv, name = step.module, step.inputs[0]
        assert isinstance(conv, QuantizedConv2d)
        bits, product = self.quantizers[step.output].bits, self.peak[step.output] * self._of(name)
        if product <= self._of(step.output):
            return 0.0  # nothing is shifted left
        if bits == 16:
            return float(np.float32(product)) / _LARGEST_WIDE_MULTIPLIER
        weight, bias = integer_parameters(conv, self._of(name))
        zero = self.zero[self._key(name)]
        bound = accumulator_bounds(weight, bias, -128 - zero, 127 - zero).clamp(min=1.0)
        power = torch.floor(torch.log2(_INT32_MAX / bound)).exp2()
        limit = (power * (1.0 - 2.0**-16)).clamp(max=LARGEST_MULTIPLIER)
        return float((conv.integer_scale().double() * self._of(name) / limit).max())

    def _agree(self) -> None:
        for step in self.steps:
            if step.kind != "activation":
                continue
            name = step.inputs[0]
            if step.arguments["function"] == "hardswish":  # the kernel's exponents end where x is 2**9 times finer
                self._raise(name, self._of(step.output) / 256.0)
            if not self.quantizers[name].fixed:
                x, y = (QuantParams(self._of(n), self.zero[self._key(n)]) for n in (name, step.output))
                self.scale[self._key(name)] = agreeing_input_scale(step.arguments["function"], x, y)
        for key, members in self.products.items():
            inputs = [(self._of(a), self._of(b)) for a, b in map(product_inputs, members)]
            self.scale[key] = agreeing_output_scale(inputs, self.scale[key])
