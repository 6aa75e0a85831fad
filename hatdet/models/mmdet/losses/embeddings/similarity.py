"""Losses of the likeness of embeddings (tracking)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet.losses.utils import Divisor, Reduction, WeightedLoss
from hatdet.registry import register


@register(scope="mmdet")
class L2Loss(WeightedLoss):
    """``(similarity - target)^2`` with margins, and a limit to the number of negatives.

    Args:
        neg_pos_ub: at most so many negatives count for each positive; -1: all.
        pos_margin: taken from the similarity of positives; -1: nothing.
        neg_margin: taken from that of negatives; -1: nothing.
        hard_mining: where negatives are limited, the worst count; otherwise any.
        reduction: see :class:`WeightedLoss`; the mean is over what counts.
        loss_weight: multiplies the result.
    """

    def __init__(
        self,
        neg_pos_ub: int = -1,
        pos_margin: float = -1,
        neg_margin: float = -1,
        hard_mining: bool = False,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction, loss_weight)
        self.neg_pos_ub, self.hard_mining = neg_pos_ub, hard_mining
        self.pos_margin, self.neg_margin = pos_margin, neg_margin

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
            pred: similarities (n, m), from 0 to 1.
            target: (n, m): 1 positive, 0 negative.
            weight: (n, m); what is not above 0 does not count.
            avg_factor: not used: the mean is over what counts.
            reduction_override: in the place of ``reduction``.
        """
        weight = torch.ones_like(pred) if weight is None else weight.type_as(pred)
        positive, negative = (target == 1) & (weight > 0), (target == 0) & (weight > 0)
        pred = pred - max(self.pos_margin, 0) * positive - max(self.neg_margin, 0) * negative
        loss = (pred.clamp(0, 1) - target.type_as(pred)).square()
        limit = int(positive.sum()) * self.neg_pos_ub
        if self.neg_pos_ub > 0 and int(negative.sum()) > limit:
            weight = weight * (positive | self._some(negative, loss.detach(), limit))
        divisor = None if self.chosen(reduction_override) == "sum" else (weight > 0).sum()
        return self.reduced(loss, weight, divisor, reduction_override)

    def _some(self, negative: Tensor, loss: Tensor, count: int) -> Tensor:
        places = negative.flatten().nonzero().flatten()
        order = loss.flatten()[places] if self.hard_mining else torch.rand(len(places), device=places.device)
        kept = torch.zeros_like(negative).flatten()
        kept[places[order.topk(count).indices]] = True
        return kept.view_as(negative)


@register(scope="mmdet")
class MarginL2Loss(L2Loss):
    """:class:`L2Loss` under its other name."""


@register(scope="mmdet")
class MultiPosCrossEntropyLoss(WeightedLoss):
    """``log(1 + sum exp(negative - positive))`` over all pairs of a row (arXiv 2006.06664, equation 3).

    Args:
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.
    """

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: Divisor = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """The loss of similarities (n, m) and labels (n, m), 1 or 0, with weights (n,)."""
        never = torch.finfo(cls_score.dtype).min / 4  # finite: the gradient of a row without one kind is 0
        negatives = cls_score.masked_fill(label != 0, never).logsumexp(dim=1)
        positives = (-cls_score).masked_fill(label < 1, never).logsumexp(dim=1)
        loss = F.softplus(negatives + positives)  # the sum over pairs is a product of sums
        return self.reduced(loss, None if weight is None else weight.float(), avg_factor, reduction_override)


@register(scope="mmdet")
class TripletLoss(nn.Module):
    """``max(0, farthest of the same - nearest of the others + margin)`` of each row (arXiv 1703.07737, equation 5).

    Args:
        margin: see above.
        loss_weight: multiplies the result.
        hard_mining: must be True.

    Raises:
        ValueError: ``hard_mining=False``.
    """

    def __init__(self, margin: float = 0.3, loss_weight: float = 1.0, hard_mining: bool = True) -> None:
        super().__init__()
        if not hard_mining:
            raise ValueError("of triplets only the hardest are taken; set hard_mining=True")
        self.margin, self.loss_weight, self.hard_mining = margin, loss_weight, hard_mining

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over the rows of embeddings (n, d) of identities int64 (n,); a row without others counts 0."""
        squares = inputs.square().sum(1)
        distances = (squares[:, None] + squares[None] - 2 * inputs @ inputs.T).clamp(min=1e-12).sqrt()
        same = targets[:, None] == targets[None]
        farthest = distances.masked_fill(~same, 0).amax(dim=1)
        nearest = distances.masked_fill(same, float("inf")).amin(dim=1)
        return self.loss_weight * (farthest - nearest + self.margin).clamp(min=0).mean()
