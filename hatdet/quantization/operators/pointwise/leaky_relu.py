"""Leaky ReLU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor, nn

from hatdet.integer.agreement.together import Together
from hatdet.integer.operators.pointwise.leaky_relu import LeakyReluOp
from hatdet.quantization.operators.base import Form, Run, Scales, Step
from hatdet.quantization.operators.pointwise.lookup import real_inputs, run_lookup
from hatdet.quantization.tracing.applied import Applied, fixed
from hatdet.quantization.tracing.refusals import NoModule


def _leaky_relu(applied: Applied) -> nn.Module:
    slope = applied.arguments("negative_slope").get("negative_slope", 0.01)
    return nn.LeakyReLU(fixed(slope, "a leaky ReLU"))


def _rrelu(applied: Applied) -> nn.Module:
    given = applied.arguments("lower", "upper", "training")
    if given.get("training"):
        raise NoModule("rrelu with training=True, which draws its slopes", "leave out training=True")
    return nn.RReLU(given.get("lower", 1.0 / 8.0), given.get("upper", 1.0 / 3.0))


def _slope_of(module: nn.Module) -> float:
    """Of a randomized ReLU the one that it has at inference: the middle of its range."""
    if isinstance(module, nn.RReLU):
        return float(module.lower + module.upper) / 2.0
    assert isinstance(module, nn.LeakyReLU)
    return float(module.negative_slope)


class LeakyRelu(Form):
    op = LeakyReluOp
    modules = (nn.LeakyReLU,)
    spelled = (nn.RReLU,)
    makers = {"leaky_relu": _leaky_relu, "rrelu": _rrelu}

    def check(self, module: nn.Module) -> None:
        if not 0 <= _slope_of(module) < float("inf"):
            raise NoModule(f"{type(module).__name__} with the slope {_slope_of(module)}", "use a slope of 0 and up")

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        if _slope_of(module) == 0:
            return [("", nn.ReLU())]
        return [("", nn.LeakyReLU(_slope_of(module)) if isinstance(module, nn.RReLU) else module)]

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, nn.LeakyReLU)
        return {"slope": float(np.float32(module.negative_slope))}

    def least_scale(self, step: Step, scales: Scales) -> float:
        slope = max(1.0, step.arguments["slope"])
        largest = scales.profile.ratios(self.kind)[1]
        return scales.of(step.inputs[0]) * slope / largest if scales.others(step) else 0.0

    def least_input(self, step: Step, scales: Scales) -> float:
        least = scales.profile.ratios(self.kind)[0] / min(1.0, step.arguments["slope"])
        return scales.of(step.output) * least if scales.others(step) else 0.0

    def agree(self, step: Step, scales: Scales) -> None:
        sx, sy, shared = scales.of(step.inputs[0]), scales.of(step.output), not scales.others(step)
        scales.lift(step.output, scales.profile.leaky_relu_scale(sx, sy, step.arguments["slope"], shared))

    def instead(self, step: Step) -> str:
        return "use relu or relu6 instead"

    def both_agree(self, step: Step, scales: Scales, together: Together) -> bool:
        x, y = scales.params(step.inputs[0]), scales.params(step.output)
        return together.leaky_relus_agree(x, y, step.arguments["slope"])

    def agreeing_scales(self, step: Step, name: str, scales: Scales, together: Together) -> Iterable[float]:
        if name != step.output or not scales.others(step):
            return ()
        return together.ratio_scales(scales.of(step.inputs[0]), scales.of(step.output))

    def run(self, run: Run) -> Tensor:
        slope, real = run.step.arguments["slope"], real_inputs(run)
        codes = run.profile.leaky_relu(run.x[0], run.y, slope)
        return run_lookup(run, codes, np.where(real >= 0, real, slope * real), np.where(real >= 0, 1.0, slope))
