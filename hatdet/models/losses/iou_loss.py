"""Losses on the overlap of boxes."""

from __future__ import annotations

from torch import Tensor, nn

from hatdet.ops.boxes import aligned_giou
from hatdet.registry import register


@register
class GIoULoss(nn.Module):
    """``1 - GIoU`` (arXiv 1902.09630), weighted, summed, divided by a factor.

    Args:
        loss_weight: multiplies the result.
        eps: lower bound of the areas that are divided by.
    """

    def __init__(self, *, loss_weight: float = 1.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.eps = eps

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor, avg_factor: Tensor | float) -> Tensor:
        """Scalar loss of boxes (N, 4) and their targets (N, 4), xyxy, with weights (N,); 0 where N is 0."""
        loss = 1 - aligned_giou(pred, target, self.eps)
        return self.loss_weight * (loss * weight).sum() / avg_factor
