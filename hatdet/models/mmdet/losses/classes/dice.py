"""Dice loss of masks."""

from __future__ import annotations

from torch import Tensor

from hatdet.models.mmdet.losses.utils import Divisor, Reduction, WeightedLoss
from hatdet.registry import register


@register(scope="mmdet")
class DiceLoss(WeightedLoss):
    """``1 - 2 sum(p t) / (sum(p^2) + sum(t^2))`` of each mask (arXiv 1606.04797, equation 3).

    Args:
        use_sigmoid: how logits become probabilities; must be True where they do.
        activate: the predictions are logits.
        reduction: see :class:`WeightedLoss`.
        naive_dice: sums of p and t in the denominator, not of their squares.
        loss_weight: multiplies the result.
        eps: keeps the denominator from 0.

    Raises:
        ValueError: ``activate`` without ``use_sigmoid``.
    """

    def __init__(
        self,
        use_sigmoid: bool = True,
        activate: bool = True,
        reduction: Reduction = "mean",
        naive_dice: bool = False,
        loss_weight: float = 1.0,
        eps: float = 1e-3,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if activate and not use_sigmoid:
            raise ValueError("logits become probabilities by a sigmoid; set use_sigmoid=True or activate=False")
        self.use_sigmoid, self.activate, self.naive_dice, self.eps = use_sigmoid, activate, naive_dice, eps

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        reduction_override: Reduction | None = None,
        avg_factor: Divisor = None,
    ) -> Tensor:
        """The loss of masks (n, ...) and their targets (the same shape, 0 to 1), with weights (n,)."""
        masks = (pred.sigmoid() if self.activate else pred).flatten(1)
        wanted = target.flatten(1).float()
        common = 2 * (masks * wanted).sum(1)
        if self.naive_dice:
            share = (common + self.eps) / (masks.sum(1) + wanted.sum(1) + self.eps)
        else:
            share = common / (masks.square().sum(1) + wanted.square().sum(1) + 2 * self.eps)
        return self.reduced(1 - share, weight, avg_factor, reduction_override)
