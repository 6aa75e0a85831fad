"""Scales that every runtime's kernels can compute with, and with which all of them round alike.

Observed ranges know nothing of kernels. An output that hardly differs from 0 on all calibration images (a ReLU that is
never passed, a sum that cancels) gets a scale so small for its inputs that fixed point overflows or a kernel refuses
it; and some products and activations are rounded in two ways. Such scales are raised: by as much as the kernels need
in the first case, by some units in 2**24 in the second.
"""

from __future__ import annotations

import numpy as np
import torch

from hatdet.integer.operators.pointwise.activation_codes import UNIT_INTERVAL
from hatdet.integer.profile import Profile
from hatdet.quantization.operators.base import Step
from hatdet.quantization.operators.table import FORMS
from hatdet.quantization.qat.fake_quant import ActivationFakeQuantize
from hatdet.quantization.qat.fx_adapter import Plan, QuantizedConv2d

_ROUNDS = 16
@torch.no_grad()
def suit_kernels(plan: Plan, profile: Profile) -> None:
    """Raise scales to what the profile's kernels can compute with (:func:`bound_scales`), and outputs of products and
    inputs of activations to where every runtime rounds alike."""
    _Scales(plan, profile).settle(agree=True)


@torch.no_grad()
def bound_scales(plan: Plan, profile: Profile) -> None:
    """Raise the scales of outputs that are too small for their inputs; those that are not stay as they are."""
    _Scales(plan, profile).settle(agree=False)


class _Scales:
    """The scales of a plan's quantizers while they are raised; a quantizer may belong to many values."""

    def __init__(self, plan: Plan, profile: Profile) -> None:
        self.profile = profile
        self.steps, self.quantizers = plan.steps, plan.quantizers
        unique = {id(q): q for q in plan.quantizers.values()}
        self.unique: dict[int, ActivationFakeQuantize] = unique
        self.scale = {key: float(q.scale) for key, q in unique.items()}
        self.zeros = {key: int(q.zero_point) for key, q in unique.items()}
        convs = [step for step in self.steps if isinstance(step.module, QuantizedConv2d)]
        peaks = [s.module.integer_scale().max() for s in convs if isinstance(s.module, QuantizedConv2d)]
        values = torch.stack(peaks).tolist() if peaks else []
        self.peaks: dict[str, float] = {s.output: v for s, v in zip(convs, values, strict=True)}
        self.products: dict[int, list[Step]] = {}
        for step in self.steps:
            if _factors(step) and not self.quantizers[step.output].fixed:
                self.products.setdefault(self._key(step.output), []).append(step)

    def settle(self, agree: bool) -> None:
        """Raise until nothing moves (an output may be another's input), then write back what moved."""
        start = dict(self.scale)
        for _ in range(_ROUNDS):
            before = dict(self.scale)
            for step in self.steps:
                self.lift(step.output, FORMS[step.kind].least_scale(step, self))
                if least := FORMS[step.kind].least_input(step, self):
                    self.lift(step.inputs[0], least)
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

    def of(self, name: str) -> float:
        return self.scale[self._key(name)] if name else UNIT_INTERVAL.scale

    def zero(self, name: str) -> int:
        return self.zeros[self._key(name)]

    def bits(self, name: str) -> int:
        return self.quantizers[name].bits

    def fixed(self, name: str) -> bool:
        return self.quantizers[name].fixed

    def others(self, step: Step) -> list[str]:
        return [name for name in step.inputs if self._key(name) != self._key(step.output)]

    def peak(self, step: Step) -> float:
        return self.peaks[step.output]

    def lift(self, name: str, least: float) -> None:
        """Set the scale of a value to ``least``, a float32, where it is below that and free."""
        if not self.fixed(name):
            self.scale[self._key(name)] = max(self.of(name), float(np.float32(least)))

    def _agree(self) -> None:
        for step in self.steps:
            FORMS[step.kind].agree(step, self)
        for key, members in self.products.items():
            inputs = [(self.of(a), self.of(b)) for a, b in map(_factors, members)]
            self.scale[key] = self.profile.product_scale(inputs, self.scale[key])


def _factors(step: Step) -> tuple[str, ...]:
    return FORMS[step.kind].factors(step)
