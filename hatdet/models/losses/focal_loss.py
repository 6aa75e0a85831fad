"""Focal loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.registry import register


@register
class FocalLossV2(nn.Module):
    """``-alpha_t * (1 - p_t) ** gamma * log(p_t)`` (arXiv 1708.02002, equation 5), summed and divided by a factor.

    p is the sigmoid of a logit; p_t is p for target 1 and 1 - p for target 0, alpha_t is ``alpha`` and ``1 - alpha``.
    Computed from the logit (``log(1 - p) = -softplus(logit)``), so that no logit is too large.

    Args:
        alpha: weight of target 1.
        gamma: how little easy examples count.
        loss_weight: multiplies the result.

    Raises:
        ValueError: alpha outside 0..1, or a negative gamma.
    """

    def __init__(self, *, alpha: float = 0.25, gamma: float = 2.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        if not 0 <= alpha <= 1 or gamma < 0:
            raise ValueError(f"alpha is from 0 to 1 and gamma at least 0, got alpha={alpha}, gamma={gamma}")
        self.alpha, self.gamma, self.loss_weight = alpha, gamma, loss_weight

    def forward(self, logits: Tensor, targets: Tensor, avg_factor: Tensor | float) -> Tensor:
        """Scalar loss.

        Args:
            logits: float32, any shape.
            targets: the same shape: 1, 0, or negative where nothing is learned.
            avg_factor: divisor: the number of positive anchors.
        """
        total = _SumFocal.apply(logits, targets, self.alpha, self.gamma)  # type: ignore[no-untyped-call]
        return self.loss_weight * total / avg_factor  # type: ignore[no-any-return]


class _SumFocal(torch.autograd.Function):
    """One pass over logits and targets; only the gradient is kept.

    With z = logit for target 0 and -logit for target 1, both cases are ``weight * sigmoid(z)**gamma * softplus(z)``.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
        positive = targets > 0
        z = torch.where(positive, -logits, logits)
        weight = torch.where(positive, alpha, 1 - alpha).to(logits.dtype).mul_(targets >= 0)
        wrong = z.sigmoid()
        entropy = F.softplus(z)
        weight.mul_(wrong.square() if gamma == 2 else wrong.pow(gamma))
        loss = (weight * entropy).sum()
        # d/dz softplus = p and d/dz p**gamma = gamma * p**gamma * (1 - p)
        gradient = entropy.mul_(1 - wrong).mul_(gamma).add_(wrong).mul_(weight)
        ctx.save_for_backward(torch.where(positive, -gradient, gradient))
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None
