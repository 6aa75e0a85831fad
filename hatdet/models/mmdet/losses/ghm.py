"""Gradient harmonizing: examples count less the more there are with a gradient as large as theirs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hatdet.models.mmdet.losses.utils import Reduction, WeightedLoss, one_hot
from hatdet.registry import register


class HarmonizedLoss(WeightedLoss):
    """A loss weighed by the density of gradients (arXiv 1811.05181, equations 5 to 8).

    Args:
        bins: of the size of gradients, from 0 to 1.
        momentum: share of earlier batches in the number of examples of a bin.
        top: upper edge of the last bin.
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.

    Raises:
        ValueError: no bin, or a momentum that is not from 0 to 1.
    """

    edges: Tensor
    acc_sum: Tensor

    def __init__(self, bins: int, momentum: float, top: float, reduction: Reduction, loss_weight: float) -> None:
        super().__init__(reduction, loss_weight)
        if bins < 1 or not 0 <= momentum < 1:
            raise ValueError(f"bins is at least 1 and momentum from 0 to below 1, got {bins} and {momentum}")
        self.bins, self.momentum = bins, momentum
        edges = torch.arange(bins + 1).float() / bins
        edges[-1] = top
        self.register_buffer("edges", edges)
        if momentum > 0:
            self.register_buffer("acc_sum", torch.zeros(bins))

    def weights(self, size: Tensor, valid: Tensor, total: Tensor) -> Tensor:
        """``total / examples in the bin / bins that are not empty`` of each example; 0 where it does not count.

        Args:
            size: of gradients, any shape.
            valid: bool, the same shape.
            total: of the weights to be.
        """
        bins = torch.bucketize(size, self.edges, right=True) - 1
        valid = valid & (bins >= 0) & (bins < self.bins)
        counts = torch.bincount(bins[valid], minlength=self.bins).to(size.dtype)
        filled = counts > 0
        if self.momentum > 0:
            moved = self.momentum * self.acc_sum + (1 - self.momentum) * counts
            self.acc_sum = torch.where(filled, moved, self.acc_sum)
            counts = self.acc_sum
        each = total / counts / filled.sum()
        return torch.where(valid, each[bins.clamp(0, self.bins - 1)], 0)


@register(scope="mmdet")
class GHMC(HarmonizedLoss):
    """Binary cross entropy, harmonized.

    Args:
        bins: see :class:`HarmonizedLoss`.
        momentum: see there.
        use_sigmoid: must be True.
        loss_weight: multiplies the result.
        reduction: see :class:`WeightedLoss`.

    Raises:
        ValueError: ``use_sigmoid=False``.
    """

    def __init__(
        self,
        bins: int = 10,
        momentum: float = 0,
        use_sigmoid: bool = True,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(bins, momentum, _top(bins), reduction, loss_weight)
        if not use_sigmoid:
            raise ValueError("GHMC harmonizes sigmoids; set use_sigmoid=True")
        self.use_sigmoid = use_sigmoid

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        label_weight: Tensor,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """The loss.

        Args:
            pred: logits (n, classes).
            target: int64 (n,), or (n, classes).
            label_weight: of the target's shape; what is not above 0 does not count.
            avg_factor: not used: the mean is over what counts.
            reduction_override: in the place of ``reduction``.
        """
        if pred.dim() != target.dim():
            target = one_hot(target, pred.shape[-1])
            label_weight = label_weight.view(-1, 1).expand_as(target)
        wanted, valid = target.float(), label_weight > 0
        total = valid.sum().float().clamp(min=1)
        weights = self.weights((pred.detach().sigmoid() - wanted).abs(), valid, total)
        loss = F.binary_cross_entropy_with_logits(pred, wanted, reduction="none")
        return self.reduced(loss, weights, _divisor(total, self.chosen(reduction_override)), reduction_override)


@register(scope="mmdet")
class GHMR(HarmonizedLoss):
    """``sqrt(d^2 + mu^2) - mu``, harmonized.

    Args:
        mu: where the loss turns from quadratic to linear.
        bins: see :class:`HarmonizedLoss`.
        momentum: see there.
        loss_weight: multiplies the result.
        reduction: see :class:`WeightedLoss`.
    """

    def __init__(
        self,
        mu: float = 0.02,
        bins: int = 10,
        momentum: float = 0,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(bins, momentum, 1e3, reduction, loss_weight)
        self.mu = mu

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        label_weight: Tensor,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """The loss.

        Args:
            pred: (n, 4).
            target: (n, 4).
            label_weight: (n, 4); what is not above 0 does not count.
            avg_factor: not used: the mean is over the sum of the weights.
            reduction_override: in the place of ``reduction``.
        """
        difference = pred - target
        length = (difference.square() + self.mu**2).sqrt()
        total = label_weight.float().sum().clamp(min=1)
        weights = self.weights((difference / length).detach().abs(), label_weight > 0, total)
        divisor = _divisor(total, self.chosen(reduction_override))
        return self.reduced(length - self.mu, weights, divisor, reduction_override)


def _top(bins: int) -> float:
    return float(torch.arange(bins + 1).float().div(max(bins, 1))[-1] + 1e-6)  # a gradient of 1 is in the last bin


def _divisor(total: Tensor, reduction: Reduction) -> Tensor | None:
    return None if reduction == "sum" else total
