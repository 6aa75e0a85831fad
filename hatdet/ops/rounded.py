"""Sigmoid and exp whose float32 result is a function of the value alone.

torch computes a float32 sigmoid or exp by vectors and the remainder of a row by another routine: the last bit then
depends on the position of a value, so on the batch. Computed in float64 and rounded once, the result is the correctly
rounded one but for about one value in 2**29, wherever it stands, and any program in double precision finds the same.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sigmoid(x: Tensor) -> Tensor:
    """float32 sigmoid of float32 ``x``, any shape; no gradient is meant to pass."""
    return x.to(torch.float64).sigmoid_().to(torch.float32)


def exp(x: Tensor) -> Tensor:
    """float32 exp of float32 ``x``, any shape; no gradient is meant to pass."""
    return x.to(torch.float64).exp_().to(torch.float32)
