"""Changes of quantization, put where operators cannot agree on one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import Tensor, nn

from hatdet.integer.agreement.together import Together
from hatdet.integer.operators.pointwise.requantize import RequantizeOp
from hatdet.quantization.operators.base import Form, Run, Scales, Step
from hatdet.quantization.operators.pointwise.lookup import real_inputs, run_lookup


class Requantize(nn.Identity):
    """A change of quantization: in front of a concatenation where an input's own is fixed, for example.

    Args:
        gated: what reads it is a product with a gate, and not every arithmetic has it there.
    """

    def __init__(self, gated: bool = False) -> None:
        super().__init__()
        self.gated = gated


class RequantizeForm(Form):
    op = RequantizeOp
    modules = (Requantize,)

    def least_scale(self, step: Step, scales: Scales) -> float:
        return scales.of(step.inputs[0]) / scales.profile.ratios(self.kind)[1] if scales.others(step) else 0.0

    def least_input(self, step: Step, scales: Scales) -> float:
        return scales.of(step.output) * scales.profile.ratios(self.kind)[0] if scales.others(step) else 0.0

    def both_agree(self, step: Step, scales: Scales, together: Together) -> bool:
        return together.requantizations_agree(scales.params(step.inputs[0]), scales.params(step.output))

    def agreeing_scales(self, step: Step, name: str, scales: Scales, together: Together) -> Iterable[float]:
        if name != step.output or not scales.others(step):
            return ()
        return together.ratio_scales(scales.of(step.inputs[0]), scales.of(step.output))

    def run(self, run: Run) -> Tensor:
        codes = run.profile.requantize(run.x[0], run.y)
        values = real_inputs(run)
        return run_lookup(run, codes, values, np.ones_like(values))
