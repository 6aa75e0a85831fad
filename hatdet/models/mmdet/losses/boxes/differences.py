"""Losses of the difference of prediction and target."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from hatdet.models.mmdet.losses.utils import Divisor, Reduction, WeightedLoss
from hatdet.registry import register


class DifferenceLoss(WeightedLoss, ABC):
    """A loss of ``pred - target``, element by element."""

    @abstractmethod
    def elements(self, pred: Tensor, target: Tensor) -> Tensor:
        """The loss of each element, in their shape."""

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
            pred: any shape.
            target: the same shape; where it is empty the loss is 0.
            weight: of a shape that broadcasts.
            avg_factor: see :class:`WeightedLoss`.
            reduction_override: in the place of ``reduction``.
        """
        if target.numel() == 0 and self.chosen(reduction_override) != "none":
            return pred.sum() * 0  # the mean of nothing would be no number
        return self.reduced(self.elements(pred, target), weight, avg_factor, reduction_override)


@register(scope="mmdet")
class L1Loss(DifferenceLoss):
    """``|d|``.

    Args:
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.
    """

    def elements(self, pred: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(pred, target, reduction="none")


@register(scope="mmdet")
class MSELoss(DifferenceLoss):
    """``d^2``.

    Args:
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.
    """

    def elements(self, pred: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(pred, target, reduction="none")


@register(scope="mmdet")
class SmoothL1Loss(DifferenceLoss):
    """``d^2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2`` (arXiv 1504.08083, equation 3, with a width).

    Args:
        beta: width of the quadratic part; 0: there is none.
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.

    Raises:
        ValueError: a negative beta.
    """

    def __init__(self, beta: float = 1.0, reduction: Reduction = "mean", loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight)
        if beta < 0:
            raise ValueError(f"beta is the width of the quadratic part, at least 0, got {beta}")
        self.beta = beta

    def elements(self, pred: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(pred, target, reduction="none", beta=self.beta)


@register(scope="mmdet")
class BalancedL1Loss(DifferenceLoss):
    """Smooth L1 whose gradient is lifted where the difference is small (arXiv 1904.02701, equation 10).

    With ``b = exp(gamma / alpha) - 1``: ``alpha / b (b |d| + 1) ln(b |d| / beta + 1) - alpha |d|`` where
    ``|d| < beta``, else ``gamma |d| + gamma / b - alpha beta``.

    Args:
        alpha: how much small differences are lifted (less is more).
        gamma: the largest gradient.
        beta: where the two parts meet.
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.

    Raises:
        ValueError: one of the three is not positive.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        gamma: float = 1.5,
        beta: float = 1.0,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if min(alpha, gamma, beta) <= 0:
            raise ValueError(f"alpha, gamma and beta are above 0, got {alpha}, {gamma}, {beta}")
        self.alpha, self.gamma, self.beta = alpha, gamma, beta

    def elements(self, pred: Tensor, target: Tensor) -> Tensor:
        alpha, gamma, beta = self.alpha, self.gamma, self.beta
        lift = math.exp(gamma / alpha) - 1
        distance = (pred - target).abs()
        near = alpha / lift * (lift * distance + 1) * torch.log(lift * distance / beta + 1) - alpha * distance
        far = gamma * distance + (gamma / lift - alpha * beta)
        return torch.where(distance < beta, near, far)
