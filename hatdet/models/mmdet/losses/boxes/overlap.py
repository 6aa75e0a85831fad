"""Losses of the overlap of boxes. Boxes are (x1, y1, x2, y2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor

from hatdet.models.mmdet.losses.utils import Divisor, Reduction, WeightedLoss, full
from hatdet.ops.boxes import aligned_giou, aligned_iou
from hatdet.registry import register

_Mode = Literal["linear", "square", "log"]


class BoxLoss(WeightedLoss, ABC):
    """A loss of pairs of boxes.

    Args:
        eps: keeps what is divided by, or what a logarithm is taken of, from 0.
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.
    """

    def __init__(self, eps: float = 1e-6, reduction: Reduction = "mean", loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight)
        self.eps = eps

    @abstractmethod
    def elements(self, pred: Tensor, target: Tensor) -> Tensor:
        """The loss of each pair: (n,)."""

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Divisor = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """The loss.

        Args:
            pred: (n, 4).
            target: (n, 4).
            weight: (n,), or (n, 4), of which the mean counts. Where none is above 0 the loss is 0, whatever the
                boxes are: there are no positives, and what stands in the rows need not be a box.
            avg_factor: see :class:`WeightedLoss`.
            reduction_override: in the place of ``reduction``.
        """
        if weight is not None and self.chosen(reduction_override) != "none" and not bool((weight > 0).any()):
            return (pred * (weight[:, None] if weight.dim() < pred.dim() else weight)).sum()
        loss = self.elements(full(pred), target)
        return self.reduced(loss, self.weights(weight), avg_factor, reduction_override)

    def weights(self, weight: Tensor | None) -> Tensor | None:
        """Weights in the shape of the loss."""
        return weight.mean(-1) if weight is not None and weight.dim() > 1 else weight


@register(scope="mmdet")
class IoULoss(BoxLoss):
    """``-log IoU`` (arXiv 1608.01471), or ``1 - IoU``, or ``1 - IoU^2``.

    Args:
        linear: ``mode="linear"`` (the name of earlier versions).
        eps: the least IoU.
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.
        mode: "log", "linear" or "square".

    Raises:
        ValueError: another mode.
    """

    def __init__(
        self,
        linear: bool = False,
        eps: float = 1e-6,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
        mode: _Mode = "log",
    ) -> None:
        super().__init__(eps, reduction, loss_weight)
        if mode not in get_args(_Mode):
            raise ValueError(f"mode is 'linear', 'square' or 'log', got {mode!r}")
        self.mode: _Mode = "linear" if linear else mode

    def elements(self, pred: Tensor, target: Tensor) -> Tensor:
        iou = aligned_iou(pred, target).clamp(min=self.eps)
        if self.mode == "log":
            return -iou.log()
        return 1 - (iou if self.mode == "linear" else iou.square())


@register(scope="mmdet")
class GIoULoss(BoxLoss):
    """``1 - GIoU`` (arXiv 1902.09630, algorithm 1)."""

    def elements(self, pred: Tensor, target: Tensor) -> Tensor:
        return 1 - aligned_giou(pred, target, self.eps)


@register(scope="mmdet")
class BoundedIoULoss(BoxLoss):
    """Upper bounds of the IoU that centre and sides, one at a time, allow (arXiv 1711.00164), in smooth L1.

    Args:
        beta: width of the quadratic part.
        eps: added to what is divided by.
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.
    """

    def __init__(
        self, beta: float = 0.2, eps: float = 1e-3, reduction: Reduction = "mean", loss_weight: float = 1.0
    ) -> None:
        super().__init__(eps, reduction, loss_weight)
        self.beta = beta

    def weights(self, weight: Tensor | None) -> Tensor | None:
        return weight

    def elements(self, pred: Tensor, target: Tensor) -> Tensor:
        """Of centre x, centre y, width and height: (n, 4)."""
        target = target.detach()
        sides, wanted = pred[:, 2:] - pred[:, :2], target[:, 2:] - target[:, :2]
        apart = ((target[:, :2] + target[:, 2:]) - (pred[:, :2] + pred[:, 2:])).abs()  # twice the centres' distance
        centres = ((wanted - apart) / (wanted + apart + self.eps)).clamp(min=0)
        ratios = torch.minimum(wanted / (sides + self.eps), sides / (wanted + self.eps))
        loss = 1 - torch.cat([centres, ratios], dim=-1)
        return torch.where(loss < self.beta, 0.5 * loss.square() / self.beta, loss - 0.5 * self.beta)
