"""ReLU and other limits that no other operator takes in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.integer.agreement.together import Together
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.pointwise.clamp import ClampOp
from hatdet.integer.profile import Profile
from hatdet.integer.tensors import TensorInfo
from hatdet.quantization.operators.base import Arrays, Form, Maker, Run, Scales, Step
from hatdet.quantization.operators.pointwise.function import Function
from hatdet.quantization.operators.pointwise.limits import LIMITED, activation_of, limit_module
from hatdet.quantization.tracing.applied import Applied, fixed
from hatdet.quantization.tracing.refusals import NoModule


def _clamp(low: str | None = "min", high: str | None = "max", **defaults: float) -> Maker:
    """Of a function whose arguments after the map have these names."""

    def make(applied: Applied) -> nn.Module:
        given = {**defaults, **applied.arguments(*(name for name in (low, high) if name))}
        if any(isinstance(limit, Tensor) and limit.numel() > 1 for limit in given.values()):
            raise NoModule("a clamp by a tensor of limits", "use the same two numbers for all channels")
        return limit_module(*(fixed(given.get(name or ""), "a clamp") for name in (low, high)))

    return make


def _threshold(applied: Applied) -> nn.Module:
    a = applied.arguments("threshold", "value")
    if a["threshold"] == 0 and a["value"] == 0:
        return nn.ReLU()
    return Function("threshold", fixed(a["threshold"], "a threshold"), fixed(a["value"], "a threshold"))


class Clamp(Form):
    op = ClampOp
    modules = LIMITED
    subclasses = (nn.Hardtanh,)
    makers = {
        "relu": lambda _: nn.ReLU(),
        "relu6": lambda _: nn.ReLU6(),
        "hardtanh": _clamp("min_val", "max_val", min_val=-1.0, max_val=1.0),
        "threshold": _threshold,
        "clamp": _clamp(),
        "clip": _clamp(),
        "clamp_min": _clamp("min", None),
        "clamp_max": _clamp(None, "max"),
    }

    def check(self, module: nn.Module) -> None:
        if isinstance(module, nn.Hardtanh):
            limit_module(module.min_val, module.max_val)

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        if isinstance(module, nn.Hardtanh) and type(module) is not nn.ReLU6:
            return [("", limit_module(module.min_val, module.max_val))]
        return [("", module)]

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert module is not None
        return {"activation": activation_of(module)}

    def both_agree(self, step: Step, scales: Scales, together: Together) -> bool:
        return together.limits_agree(step.arguments["activation"], scales.params(step.output))

    def run(self, run: Run) -> Tensor:
        lo, hi = run.profile.limits(run.step.arguments["activation"], run.y)
        return F.hardtanh(run.inputs[0], lo - run.y.zero_point, hi - run.y.zero_point)

    def lower(
        self, step: Step, inputs: Sequence[TensorInfo], output: TensorInfo, arrays: Arrays, profile: Profile
    ) -> Operator:
        activation, q = step.arguments["activation"], output.qparams
        limits = profile.limits(activation, q)
        return ClampOp(step.name, inputs[0].name, output.name, activation, *limits)
