"""ReLU and ReLU6 that no other operator takes in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.integer.arithmetic import activation_limits
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.pointwise.clamp import ClampOp
from hatdet.integer.tensors import TensorInfo
from hatdet.quantization.operators.base import Arrays, Form, Run, Step
from hatdet.quantization.operators.pointwise.function import Function
from hatdet.quantization.operators.pointwise.limits import LIMITS, limit_module
from hatdet.quantization.tracing.applied import Applied, fixed
from hatdet.quantization.tracing.refusals import NoModule


def _clamp(applied: Applied) -> nn.Module:
    a = applied.arguments("min", "max")
    for limit in a.values():
        if isinstance(limit, Tensor) and limit.numel() > 1:
            raise NoModule("a clamp by a tensor of limits", "use ReLU (0 and up) or ReLU6 (0 to 6)")
    return limit_module(fixed(a.get("min"), "a clamp"), fixed(a.get("max"), "a clamp"))


def _hardtanh(applied: Applied) -> nn.Module:
    a = applied.arguments("min_val", "max_val")
    return limit_module(fixed(a.get("min_val", -1.0), "a clamp"), fixed(a.get("max_val", 1.0), "a clamp"))


def _threshold(applied: Applied) -> nn.Module:
    a = applied.arguments("threshold", "value")
    if a["threshold"] == 0 and a["value"] == 0:
        return nn.ReLU()
    return Function("threshold", fixed(a["threshold"], "a threshold"), fixed(a["value"], "a threshold"))


class Clamp(Form):
    op = ClampOp
    modules = tuple(LIMITS)
    spelled = (nn.Hardtanh,)
    subclasses = (nn.Hardtanh,)
    makers = {
        "relu": lambda _: nn.ReLU(),
        "relu6": lambda _: nn.ReLU6(),
        "hardtanh": _hardtanh,
        "threshold": _threshold,
        "clamp": _clamp,
        "clip": _clamp,
        "clamp_min": _clamp,
        "clamp_max": lambda applied: limit_module(None, applied.arguments("max")["max"]),
    }

    def check(self, module: nn.Module) -> None:
        if isinstance(module, nn.Hardtanh):
            limit_module(module.min_val, module.max_val)

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        if type(module) is nn.Hardtanh:
            return [("", limit_module(module.min_val, module.max_val))]
        return [("", module)]

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        return {"activation": LIMITS[type(module)]}  # type: ignore[index]

    def run(self, run: Run) -> Tensor:
        lo, hi = activation_limits(run.step.arguments["activation"], run.y.scale, run.y.zero_point)
        return F.hardtanh(run.inputs[0], lo - run.y.zero_point, hi - run.y.zero_point)

    def lower(self, step: Step, inputs: Sequence[TensorInfo], output: TensorInfo, arrays: Arrays) -> Operator:
        activation, q = step.arguments["activation"], output.qparams
        limits = activation_limits(activation, q.scale, q.zero_point)
        return ClampOp(step.name, inputs[0].name, output.name, activation, *limits)
