"""Leaky ReLU."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from hatdet.integer.operators.pointwise.leaky_relu import LeakyReluOp, agreeing_output_scale, leaky_relu_table
from hatdet.quantization.operators.base import Form, Run, Scales, Step
from hatdet.quantization.operators.pointwise.lookup import real_inputs, run_lookup
from hatdet.quantization.tracing.applied import Applied, fixed
from hatdet.quantization.tracing.refusals import NoModule

_LARGEST_RATIO = 2.0**20
"""Of the input's scale to the output's: 255 times that fits int32."""


def _leaky_relu(applied: Applied) -> nn.Module:
    slope = applied.arguments("negative_slope").get("negative_slope", 0.01)
    return nn.LeakyReLU(fixed(slope, "a leaky ReLU"))


class LeakyRelu(Form):
    op = LeakyReluOp
    modules = (nn.LeakyReLU,)
    makers = {"leaky_relu": _leaky_relu}

    def check(self, module: nn.Module) -> None:
        assert isinstance(module, nn.LeakyReLU)
        if not 0 <= module.negative_slope < float("inf"):
            raise NoModule(f"LeakyReLU with negative_slope={module.negative_slope}", "use a slope of 0 and up")

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        assert isinstance(module, nn.LeakyReLU)
        if module.negative_slope == 0:
            return [("", nn.ReLU())]
        return [("", module)]

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, nn.LeakyReLU)
        return {"slope": float(np.float32(module.negative_slope))}

    def least_scale(self, step: Step, scales: Scales) -> float:
        slope = max(1.0, step.arguments["slope"])
        return scales.of(step.inputs[0]) * slope / _LARGEST_RATIO if scales.others(step) else 0.0

    def agree(self, step: Step, scales: Scales) -> None:
        if scales.others(step):
            sx, sy = scales.of(step.inputs[0]), scales.of(step.output)
            scales.lift(step.output, agreeing_output_scale(sx, sy, step.arguments["slope"]))

    def run(self, run: Run) -> Tensor:
        slope, real = run.step.arguments["slope"], real_inputs(run)
        codes = leaky_relu_table(run.x[0], run.y, slope)
        return run_lookup(run, codes, np.where(real >= 0, real, slope * real), np.where(real >= 0, 1.0, slope))
