"""Focal losses whose target is a quality: generalized focal loss and varifocal loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hatdet.models.mmdet.losses.utils import Divisor, Reduction, WeightedLoss, full
from hatdet.registry import register


class _Quality(torch.autograd.Function):
    """``BCE(x, q) |q - sigmoid(x)|^beta`` of each logit, in one pass; only the gradient is kept."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, beta: float) -> Tensor:
        probability = logits.sigmoid()
        wrong = probability - target
        entropy = F.softplus(logits).sub_(target * logits)
        size = wrong.abs()
        less = size if beta == 2 else size.pow(beta - 1)  # size ** (beta - 1)
        more = size * less
        slope = probability.mul_(1 - probability).mul_(less).mul_(wrong.sign()).mul_(beta)
        ctx.save_for_backward(torch.addcmul(slope.mul_(entropy), wrong, more))
        return entropy * more

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None


@register(scope="mmdet")
class QualityFocalLoss(WeightedLoss):
    """``BCE(x, q) |q - sigmoid(x)|^beta``, summed over the classes of a prior (arXiv 2006.04388, equation 4).

    q is the quality of the prior's box for its own class, and 0 for all others.

    Args:
        use_sigmoid: must be True.
        beta: how little what is nearly right counts.
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.
        activated: the predictions are probabilities, not logits.

    Raises:
        ValueError: ``use_sigmoid=False``, or a beta below 1.
    """

    def __init__(
        self,
        use_sigmoid: bool = True,
        beta: float = 2.0,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
        activated: bool = False,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if not use_sigmoid or beta < 1:
            raise ValueError(f"use_sigmoid is True and beta at least 1 here, got {use_sigmoid} and {beta}")
        self.use_sigmoid, self.beta, self.activated = use_sigmoid, beta, activated

    def forward(
        self,
        pred: Tensor,
        target: Tensor | tuple[Tensor, Tensor],
        weight: Tensor | None = None,
        avg_factor: Divisor = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """The loss.

        Args:
            pred: logits (n, classes), or probabilities.
            target: labels int64 (n,) (the background: the number of classes, or negative) and qualities (n,), from 0
                to 1; or the quality of each class (n, classes).
            weight: (n,).
            avg_factor: see :class:`WeightedLoss`.
            reduction_override: in the place of ``reduction``.
        """
        wanted = target.type_as(pred) if isinstance(target, Tensor) else _dense(pred, *target)
        if self.activated:
            wrong = (wanted - pred).abs().pow(self.beta)
            loss = F.binary_cross_entropy(pred, wanted, reduction="none") * wrong
        else:
            logits = full(pred)
            loss = _Quality.apply(logits, wanted.type_as(logits), self.beta)  # type: ignore[no-untyped-call]
        return self.reduced(loss.sum(dim=1), weight, avg_factor, reduction_override)


def _dense(pred: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
    found = (labels >= 0) & (labels < pred.shape[1])
    values = torch.where(found, quality, 0).type_as(pred)
    return torch.zeros_like(pred).scatter_(1, torch.where(found, labels, 0).long()[:, None], values[:, None])


@register(scope="mmdet")
class DistributionFocalLoss(WeightedLoss):
    """Cross entropy with the two whole numbers around a distance (arXiv 2006.04388, equation 6).

    Args:
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.
    """

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
            pred: logits (n, count) of the numbers 0 to count - 1.
            target: (n,), at least 0 and below count - 1.
            weight: (n,).
            avg_factor: see :class:`WeightedLoss`.
            reduction_override: in the place of ``reduction``.
        """
        below = target.long()
        above_share = target - below
        around = pred.log_softmax(dim=1).gather(1, torch.stack([below, below + 1], dim=1))
        loss = -(around[:, 0] * (1 - above_share) + around[:, 1] * above_share)
        return self.reduced(loss, weight, avg_factor, reduction_override)


@register(scope="mmdet")
class VarifocalLoss(WeightedLoss):
    """Binary cross entropy with the quality as target, weighed by it; the rest as in focal loss (arXiv 2008.13367).

    Args:
        use_sigmoid: must be True.
        alpha: weight of what is to be 0.
        gamma: how little of that what is nearly right counts.
        iou_weighted: the quality is the weight of a positive; otherwise 1.
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.

    Raises:
        ValueError: ``use_sigmoid=False``, or a negative alpha.
    """

    def __init__(
        self,
        use_sigmoid: bool = True,
        alpha: float = 0.75,
        gamma: float = 2.0,
        iou_weighted: bool = True,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if not use_sigmoid or alpha < 0:
            raise ValueError(f"use_sigmoid is True and alpha at least 0 here, got {use_sigmoid} and {alpha}")
        self.use_sigmoid, self.alpha, self.gamma, self.iou_weighted = use_sigmoid, alpha, gamma, iou_weighted

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
            pred: logits (n, classes).
            target: (n, classes): the quality where a class is right, else 0.
            weight: of a shape that broadcasts.
            avg_factor: see :class:`WeightedLoss`.
            reduction_override: in the place of ``reduction``.
        """
        target = target.type_as(pred)
        positive = target if self.iou_weighted else torch.ones_like(target)
        factor = torch.where(target > 0, positive, self.alpha * (pred.sigmoid() - target).abs().pow(self.gamma))
        loss = F.binary_cross_entropy_with_logits(pred, target, reduction="none") * factor
        return self.reduced(loss, weight, avg_factor, reduction_override)
