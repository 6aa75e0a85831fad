"""Activations that only limit their input; a convolution or an addition takes them in."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from hatdet.integer.arithmetic import limits_name, limits_of
from hatdet.quantization.operators.pointwise.function import Function
from hatdet.quantization.tracing.refusals import NoModule

LIMITED: tuple[type[nn.Module], ...] = (nn.ReLU6, nn.ReLU, nn.Hardtanh)
"""The modules that stand for limits in a canonical network."""


def limit_module(low: Any, high: Any) -> nn.Module:
    """The module that limits values to [low, high]; None: no limit. It is one of :data:`LIMITED` where 0 is among the
    values that it leaves: others may lie outside of what the input's quantization can say.

    Raises:
        NoModule: these are no limits.
    """
    low, high = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    if not low < high:
        raise NoModule(f"a clamp to [{low:g}, {high:g}]", "use a lower limit below the upper one")
    if not low <= 0.0 <= high:
        return Function("clamp", low, high)
    modules: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}
    name = limits_name(low, high)
    return modules[name]() if name in modules else nn.Hardtanh(low, high)


def activation_of(module: nn.Module) -> str:
    """The activation that one of :data:`LIMITED` is, as ``arithmetic.limits_name`` says it."""
    if isinstance(module, nn.Hardtanh):
        return limits_name(module.min_val, module.max_val)
    return "relu"


def limited_range(low: float, high: float, activation: str) -> tuple[float, float]:
    """What limits leave of a range."""
    least, most = limits_of(activation)
    return min(max(low, least), most), min(max(high, least), most)
