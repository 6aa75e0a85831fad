"""Activations that only limit their input: a convolution or an addition takes them in."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

LIMITS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardsigmoid": F.hardsigmoid,
}
"""The real functions; a convolution's ``hardsigmoid`` is limited by its output's quantization."""


def real_limits(activation: str) -> Callable[[Tensor], Tensor]:
    return LIMITS[activation]
