"""Focal loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hatdet.models.mmdet.losses.accuracy import accuracy
from hatdet.models.mmdet.losses.utils import Divisor, Reduction, WeightedLoss, fitted, full, one_hot
from hatdet.registry import register


def sigmoid_focal_loss(logits: Tensor, positive: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """``-alpha_t (1 - p_t)^gamma log p_t`` of each logit; ``positive`` (bool, the same shape) says which t is."""
    return _Focal.apply(full(logits), positive, gamma, alpha)  # type: ignore[no-any-return, no-untyped-call]


class _Focal(torch.autograd.Function):
    """One pass over the logits; only the gradient is kept.

    With z = logit for target 0 and -logit for target 1, both cases are ``weight * sigmoid(z)**gamma * softplus(z)``.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, positive: Tensor, gamma: float, alpha: float) -> Tensor:
        z = torch.where(positive, -logits, logits)
        wrong, entropy = z.sigmoid(), F.softplus(z)
        modulation = wrong.square() if gamma == 2 else wrong.pow(gamma)
        modulation.mul_(torch.where(positive, alpha, 1 - alpha))
        loss = modulation * entropy
        # d/dz softplus = p and d/dz p**gamma = gamma * p**gamma * (1 - p)
        gradient = entropy.mul_(1 - wrong).mul_(gamma).add_(wrong).mul_(modulation)
        ctx.save_for_backward(torch.where(positive, -gradient, gradient))
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None


def dense_focal_loss(
    pred: Tensor, target: Tensor, gamma: float = 2.0, alpha: float = 0.25, activated: bool = False
) -> Tensor:
    """Focal loss of each logit (or probability, ``activated``) with a target (the same shape) from 0 to 1."""
    target = target.type_as(pred)
    probability = pred if activated else pred.sigmoid()
    wrong = (1 - probability) * target + probability * (1 - target)
    weight = (alpha * target + (1 - alpha) * (1 - target)) * wrong.pow(gamma)
    entropy = F.binary_cross_entropy if activated else F.binary_cross_entropy_with_logits
    return entropy(pred, target, reduction="none") * weight


@register(scope="mmdet")
class FocalLoss(WeightedLoss):
    """Focal loss (arXiv 1708.02002, equation 5) of sigmoids.

    Args:
        use_sigmoid: must be True: each class is a decision of its own.
        gamma: how little easy examples count.
        alpha: weight of target 1.
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.
        activated: the predictions are probabilities, not logits.

    Raises:
        ValueError: ``use_sigmoid=False``.
    """

    def __init__(
        self,
        use_sigmoid: bool = True,
        gamma: float = 2.0,
        alpha: float = 0.25,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
        activated: bool = False,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if not use_sigmoid:
            raise ValueError("a focal loss of softmax is not defined; set use_sigmoid=True")
        self.use_sigmoid, self.gamma, self.alpha, self.activated = use_sigmoid, gamma, alpha, activated

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
            pred: logits (n, classes), or probabilities.
            target: int64 (n,), a class or, for the background, their number; or dense, in the shape of ``pred``.
            weight: (n,), or in the shape of ``pred``.
            avg_factor: see :class:`WeightedLoss`.
            reduction_override: in the place of ``reduction``.
        """
        labels = pred.dim() != target.dim()
        if labels and not self.activated:
            loss = sigmoid_focal_loss(pred, one_hot(target, pred.shape[1]), self.gamma, self.alpha)
        else:
            dense = one_hot(target, pred.shape[1]) if labels else target
            loss = dense_focal_loss(pred, dense, self.gamma, self.alpha, self.activated)
        weight = None if weight is None else fitted(weight, loss)
        return self.reduced(loss, weight, avg_factor, reduction_override)


@register(scope="mmdet")
class FocalCustomLoss(FocalLoss):
    """:class:`FocalLoss` that says itself what its scores are: a sigmoid of each class.

    Args:
        num_classes: of foreground.
        use_sigmoid: see :class:`FocalLoss`, as all others.
    """

    custom_cls_channels = custom_activation = custom_accuracy = True

    def __init__(
        self,
        use_sigmoid: bool = True,
        num_classes: int = -1,
        gamma: float = 2.0,
        alpha: float = 0.25,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
        activated: bool = False,
    ) -> None:
        super().__init__(use_sigmoid, gamma, alpha, reduction, loss_weight, activated)
        if num_classes < 1:
            raise ValueError(f"num_classes is the number of foreground classes, got {num_classes}")
        self.num_classes = num_classes

    def get_cls_channels(self, num_classes: int) -> int:
        """Channels of the scores."""
        return num_classes

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Probabilities (n, num_classes)."""
        return cls_score[:, : self.num_classes].sigmoid()

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Percent of the foreground whose class is the best."""
        found = labels < self.num_classes
        return {"acc_classes": accuracy(cls_score[found, : self.num_classes], labels[found])}
