"""Functions of predictions whose float32 result depends on the value alone, so that a decoder on a device finds it too.

Each is computed in float64 and rounded once (:mod:`hatdet.ops.rounded`); sums go from the first to the last. Where a
gradient is asked for they are torch's own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hatdet.ops import rounded


def _trains(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad


def _plain(x: Tensor) -> bool:
    """While a network is traced or trained, and for tensors that are not float32, torch's functions do."""
    return _trains(x) or x.dtype != torch.float32 or torch.jit.is_tracing()


def exp(x: Tensor) -> Tensor:
    """``exp(x)``."""
    return x.exp() if _plain(x) else rounded.exp(x)


def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return x.sigmoid() if _plain(x) else rounded.sigmoid(x)


def divide(x: Tensor, number: float) -> Tensor:
    """``x / number``; on a GPU torch multiplies by the inverse of a plain number, which may be one unit off."""
    return x / torch.full((), number, dtype=x.dtype, device=x.device)


def sqrt(x: Tensor) -> Tensor:
    """The root of ``x``; a vector library's float32 root is one unit off now and then."""
    return x.sqrt() if _plain(x) else x.double().sqrt().float()


def softmax(x: Tensor) -> Tensor:
    """Shares of the last dimension."""
    if _plain(x):
        return x.softmax(dim=-1)
    return rounded.softmax(x)


def expectation(x: Tensor) -> Tensor:
    """Mean of 0, 1, 2, ... under the softmax of the last dimension: (..., n) -> (...)."""
    if _plain(x):
        shares = x.softmax(dim=-1)
        return shares @ torch.arange(x.shape[-1], device=x.device, dtype=x.dtype)
    parts = rounded.exponentials(x)
    weighted = parts * torch.arange(x.shape[-1], device=x.device, dtype=torch.float64)
    return (rounded.in_order(weighted) / rounded.in_order(parts)).float()
