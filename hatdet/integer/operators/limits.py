"""Activations that only limit their input: a convolution or an addition takes them in."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from hatdet.integer.arithmetic import limits_of

_NAMED: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardsigmoid": F.hardsigmoid,
}
"""The real functions; a convolution's ``hardsigmoid`` is limited by its output's quantization."""


def real_limits(activation: str) -> Callable[[Tensor], Tensor]:
    """The real function of an activation: of a name, or of limits as ``arithmetic.limits_name`` says them."""
    if activation in _NAMED:
        return _NAMED[activation]
    low, high = limits_of(activation)
    return lambda x: F.hardtanh(x, low, high)
