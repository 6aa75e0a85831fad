"""Quality focal loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.registry import register


@register
class QualityFocalLoss(nn.Module):
    """Focal loss with the quality of the box as the target (arXiv 2006.04388, equation 4).

    For a logit s with target q: ``BCE(s, q) * |q - sigmoid(s)| ** beta``; the target of a prior's own class
    is its quality, that of every other class 0. Summed over priors and classes, divided by a factor.

    Args:
        beta: exponent of the modulating term.
        loss_weight: multiplies the result.
    """

    def __init__(self, *, beta: float = 2.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.beta = beta
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor, avg_factor: Tensor | float) -> Tensor:
        """Scalar loss.

        Args:
            logits: float32 (..., C).
            labels: int64 (...); class, or -1 for background.
            quality: (...) target of the class's score, from 0 to 1; read only where ``labels`` is a class.
            avg_factor: divisor.
        """
        background = _sum_background(logits, self.beta)
        where = (labels >= 0).nonzero(as_tuple=True)
        # Every class counted as background above: put that right for the class of each positive prior.
        own, target = logits[(*where, labels[where])], quality[where]
        positive = F.binary_cross_entropy_with_logits(own, target, reduction="none")
        positive = positive * (target - own.sigmoid()).abs().pow(self.beta)
        negative = F.softplus(own) * own.sigmoid().pow(self.beta)
        return self.loss_weight * (background + (positive - negative).sum()) / avg_factor


def _sum_background(logits: Tensor, beta: float) -> Tensor:
    """Sum of ``softplus(s) * sigmoid(s) ** beta``."""
    return _SumBackground.apply(logits, beta)  # type: ignore[no-any-return, no-untyped-call]


class _SumBackground(torch.autograd.Function):
    """One pass each way over the (B, P, C) logits, which are nearly all background."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, beta: float) -> Tensor:
        probability = logits.sigmoid()
        entropy = F.softplus(logits)
        modulation = probability.square() if beta == 2 else probability.pow(beta)
        ctx.beta = beta
        loss = (entropy * modulation).sum()
        # d/ds softplus = p and d/ds p**beta = beta * p**beta * (1 - p)
        gradient = entropy.mul_(1 - probability).mul_(beta).add_(probability).mul_(modulation)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None
