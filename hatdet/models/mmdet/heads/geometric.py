"""The geometric mean of two scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet import exact


class _SigmoidGeometricMean(torch.autograd.Function):
    """With a gradient that does not break down where both scores are tiny."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        first, second = x.sigmoid(), y.sigmoid()
        mean = (first * second).sqrt()
        ctx.save_for_backward(first, second, mean)
        return mean

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        first, second, mean = ctx.saved_tensors
        half = grad * mean / 2
        return half * (1 - first), (half * (1 - second)).sum_to_size(second.shape)


def sigmoid_geometric_mean(x: Tensor, y: Tensor) -> Tensor:
    """sqrt(sigmoid(x) * sigmoid(y)); ``y`` may have one channel for all of ``x``."""
    if not (x.requires_grad or y.requires_grad):
        return exact.sqrt(exact.sigmoid(x) * exact.sigmoid(y))
    return _SigmoidGeometricMean.apply(x, y)  # type: ignore[no-any-return, no-untyped-call]


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """The logits of scores; scores and their counterparts count as at least ``eps``."""
    x = x.clamp(min=0, max=1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))
