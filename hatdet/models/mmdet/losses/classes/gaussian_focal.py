"""Focal loss of heat maps."""

from __future__ import annotations

from torch import Tensor

from hatdet.models.mmdet.losses.utils import Divisor, Reduction, WeightedLoss, weight_reduce_loss
from hatdet.registry import register

_EPS = 1e-12


@register(scope="mmdet")
class GaussianFocalLoss(WeightedLoss):
    """Focal loss of the keypoints of a heat map; near one a pixel counts less (arXiv 1808.01244, equation 1).

    Args:
        alpha: how little what is nearly right counts.
        gamma: how little the surroundings of a keypoint count.
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.
        pos_weight: of keypoints.
        neg_weight: of all other pixels.
    """

    def __init__(
        self,
        alpha: float = 2.0,
        gamma: float = 4.0,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
        pos_weight: float = 1.0,
        neg_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction, loss_weight)
        self.alpha, self.gamma, self.pos_weight, self.neg_weight = alpha, gamma, pos_weight, neg_weight

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        pos_inds: Tensor | None = None,
        pos_labels: Tensor | None = None,
        weight: Tensor | None = None,
        avg_factor: Divisor = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """The loss.

        Args:
            pred: probabilities, any shape; with ``pos_inds`` (pixels, classes).
            target: the heat map, in the same shape; 1 where a keypoint is.
            pos_inds: int64 (k,), pixels that hold a keypoint, whatever the heat map says (CenterNet2), with
            pos_labels: int64 (k,), their classes.
            weight: of a shape that broadcasts; not with ``pos_inds``.
            avg_factor: see :class:`WeightedLoss`.
            reduction_override: in the place of ``reduction``.
        """
        away = -(1 - pred + _EPS).log() * pred.pow(self.alpha) * (1 - target).pow(self.gamma)
        if pos_inds is None:
            loss = self.pos_weight * self._keypoints(pred) * target.eq(1) + self.neg_weight * away
            return self.reduced(loss, weight, avg_factor, reduction_override)
        if pos_labels is None:
            raise ValueError("pos_inds need the classes of their pixels; give pos_labels")
        reduction = self.chosen(reduction_override)
        parts = [
            factor * weight_reduce_loss(part, None, reduction, avg_factor)
            for factor, part in (
                (self.pos_weight, self._keypoints(pred[pos_inds, pos_labels][:, None])),
                (self.neg_weight, away),
            )
        ]
        return self.loss_weight * (parts[0] + parts[1])

    def _keypoints(self, pred: Tensor) -> Tensor:
        return -(pred + _EPS).log() * (1 - pred).pow(self.alpha)
