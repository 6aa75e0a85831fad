"""Activations that only limit their input; a convolution or an addition takes them in."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from hatdet.quantization.tracing.refusals import NoModule

LIMITS: dict[type[nn.Module], str] = {nn.ReLU6: "relu6", nn.ReLU: "relu"}


def limit_module(low: Any, high: Any) -> nn.Module:
    """ReLU or ReLU6 for these limits.

    Raises:
        NoModule: other limits.
    """
    if low == 0 and (high is None or high == math.inf):
        return nn.ReLU()
    if low == 0 and high == 6:
        return nn.ReLU6()
    raise NoModule(f"a clamp to [{low}, {high}]", "use ReLU (0 and up) or ReLU6 (0 to 6)")


def limited_range(low: float, high: float, activation: str) -> tuple[float, float]:
    """What ``none``, ``relu`` or ``relu6`` leaves of a range."""
    if activation == "none":
        return low, high
    return 0.0, min(max(high, 0.0), 6.0) if activation == "relu6" else max(high, 0.0)
