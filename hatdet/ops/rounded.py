"""Sigmoid, exp and softmax whose float32 result is a function of the value alone.

torch computes a float32 sigmoid or exp by vectors and the remainder of a row by another routine: the last bit then
depends on the position of a value, so on the batch. Computed in float64 and rounded once, the result is the correctly
rounded one but for about one value in 2**29, wherever it stands, and any program in double precision finds the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 80.0
"""Logits beyond it, either way, count as this in a softmax: their exponentials stay finite in sums."""


def sigmoid(x: Tensor) -> Tensor:
    """float32 sigmoid of float32 ``x``, any shape; no gradient is meant to pass."""
    return x.to(torch.float64).sigmoid_().to(torch.float32)


def exp(x: Tensor) -> Tensor:
    """float32 exp of float32 ``x``, any shape; no gradient is meant to pass."""
    return x.to(torch.float64).exp_().to(torch.float32)


def softmax(x: Tensor) -> Tensor:
    """float32 shares of the last dimension of ``x``; no gradient is meant to pass."""
    parts = exponentials(x)
    return (parts / in_order(parts)[..., None]).float()


def exponentials(x: Tensor) -> Tensor:
    """float64 exponentials of logits, as :func:`softmax` adds them up."""
    return x.double().clamp(-MOST, MOST).exp_()


def in_order(parts: Tensor) -> Tensor:
    """Sums over the last dimension, one after the other, as a loop in C does."""
    total = parts[..., 0].clone()
    for number in range(1, parts.shape[-1]):
        total += parts[..., number]
    return total
