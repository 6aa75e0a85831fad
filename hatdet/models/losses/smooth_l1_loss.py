"""Smooth L1 loss."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.registry import register


@register
class SmoothL1Loss(nn.Module):
    """``d**2 / (2 beta)`` for ``|d| < beta``, else ``|d| - beta / 2`` (arXiv 1504.08083, equation 3, with a width).

    Args:
        beta: width of the quadratic part; 0: the plain absolute difference.
        reduction: "mean": the sum over boxes and their four numbers, divided by the factor given (the number of
            positive anchors, as the RetinaNet paper has it: not by four times that); "sum": the sum alone.
        loss_weight: multiplies the result.

    Raises:
        ValueError: a negative beta, or another reduction.
    """

    def __init__(
        self, *, beta: float = 1.0, reduction: Literal["mean", "sum"] = "mean", loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        if beta < 0 or reduction not in ("mean", "sum"):
            raise ValueError(f"beta is at least 0 and reduction 'mean' or 'sum', got {beta} and {reduction!r}")
        self.beta, self.reduction, self.loss_weight = beta, reduction, loss_weight

    def forward(self, pred: Tensor, target: Tensor, avg_factor: Tensor | float) -> Tensor:
        """Scalar loss of (N, 4) and (N, 4); 0 where N is 0."""
        total = F.smooth_l1_loss(pred, target, reduction="sum", beta=self.beta)
        return self.loss_weight * (total / avg_factor if self.reduction == "mean" else total)
