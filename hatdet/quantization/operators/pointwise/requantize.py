"""Changes of quantization, put where operators cannot agree on one."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from hatdet.integer.operators.pointwise.requantize import RequantizeOp, requantize_table
from hatdet.quantization.operators.base import Form, Run, Scales, Step
from hatdet.quantization.operators.pointwise.lookup import real_inputs, run_lookup

_LARGEST_RATIO = 2.0**20
"""Of a requantization: 255 times that fits int32."""


class Requantize(nn.Identity):
    """A change of quantization: in front of a concatenation where an input's own is fixed, for example."""


class RequantizeForm(Form):
    op = RequantizeOp
    modules = (Requantize,)

    def least_scale(self, step: Step, scales: Scales) -> float:
        return scales.of(step.inputs[0]) / _LARGEST_RATIO if scales.others(step) else 0.0

    def run(self, run: Run) -> Tensor:
        codes = requantize_table(run.x[0].scale, run.x[0].zero_point, run.y.scale, run.y.zero_point)
        values = real_inputs(run)
        return run_lookup(run, codes, values, np.ones_like(values))
