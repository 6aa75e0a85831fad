"""Losses of the overlap of boxes with the distance and the shape in them. Boxes are (x1, y1, x2, y2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hatdet.models.mmdet.losses.boxes.overlap import BoxLoss
from hatdet.models.mmdet.losses.utils import Reduction
from hatdet.registry import register


@dataclass(frozen=True)
class _Pair:
    """What the losses here are made of; x and y in the last dimension of (n, 2).

    Attributes:
        iou: (n,).
        sides: of the prediction, and ``wanted`` of the target: width and height.
        apart: from the centre of the prediction to that of the target.
        enclosing: sides of the smallest box around both.
    """

    iou: Tensor
    sides: Tensor
    wanted: Tensor
    apart: Tensor
    enclosing: Tensor

    @classmethod
    def of(cls, pred: Tensor, target: Tensor, eps: float) -> _Pair:
        (low, high), (least, most) = (pred[:, :2], pred[:, 2:]), (target[:, :2], target[:, 2:])
        sides, wanted = high - low, most - least
        common = (torch.minimum(high, most) - torch.maximum(low, least)).clamp(min=0).prod(-1)
        return cls(
            iou=common / (sides.prod(-1) + wanted.prod(-1) - common + eps),
            sides=sides,
            wanted=wanted,
            apart=((least + most) - (low + high)) / 2,
            enclosing=(torch.maximum(high, most) - torch.minimum(low, least)).clamp(min=0),
        )


@register(scope="mmdet")
class DIoULoss(BoxLoss):
    """``1 - IoU`` plus the squared distance of the centres in units of the enclosing diagonal (arXiv 1911.08287)."""

    def elements(self, pred: Tensor, target: Tensor) -> Tensor:
        pair = _Pair.of(pred, target, self.eps)
        return 1 - (pair.iou - _distance(pair, self.eps))


@register(scope="mmdet")
class CIoULoss(BoxLoss):
    """:class:`DIoULoss` plus the difference of the aspect ratios, where boxes overlap (arXiv 1911.08287, 2005.03572).

    The aspect ratios count ``v^2 / (1 - IoU + v)`` where the IoU is above 0.5; 0 where the boxes are equal.
    """

    def elements(self, pred: Tensor, target: Tensor) -> Tensor:
        pair = _Pair.of(pred, target, self.eps)
        angles = [torch.atan(s[:, 0] / (s[:, 1] + self.eps)) for s in (pair.wanted, pair.sides)]
        shape = 4 / math.pi**2 * (angles[0] - angles[1]).square()
        with torch.no_grad():  # equal boxes: 0 / 0
            share = (pair.iou > 0.5) * shape / (1 - pair.iou + shape).clamp(min=1e-12)
        return 1 - (pair.iou - (_distance(pair, self.eps) + share * shape)).clamp(-1, 1)


def _distance(pair: _Pair, eps: float) -> Tensor:
    return pair.apart.square().sum(-1) / (pair.enclosing.square().sum(-1) + eps)


@register(scope="mmdet")
class EIoULoss(BoxLoss):
    """The extended IoU (doi 10.1109/TMM.2021.3077925) in smooth L1: it goes on falling where boxes are apart.

    Args:
        eps: added to the union.
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.
        smooth_point: width of the quadratic part.
    """

    def __init__(
        self,
        eps: float = 1e-6,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
        smooth_point: float = 0.1,
    ) -> None:
        super().__init__(eps, reduction, loss_weight)
        self.smooth_point = smooth_point

    def elements(self, pred: Tensor, target: Tensor) -> Tensor:
        origin = torch.minimum(pred[:, :2], target[:, :2])  # all below is seen from the enclosing box's corner
        begin = torch.maximum(pred[:, :2], target[:, :2]) - origin
        end = torch.minimum(pred[:, 2:], target[:, 2:]) - origin
        first, last = torch.minimum(begin, end), torch.maximum(begin, end)
        # of boxes that overlap: end area + begin area - the two strips; apart: the negative area between them
        common = end.prod(-1) + first.prod(-1) - begin[:, 0] * last[:, 1] - last[:, 0] * begin[:, 1]
        areas = (pred[:, 2:] - pred[:, :2]).prod(-1) + (target[:, 2:] - target[:, :2]).prod(-1)
        loss, point = 1 - common / (areas - common + self.eps), self.smooth_point
        return torch.where(loss < point, 0.5 * loss.square() / point, loss - 0.5 * point)


@register(scope="mmdet")
class SIoULoss(BoxLoss):
    """``1 - IoU`` plus costs of angle and distance and of shape (arXiv 2205.12740).

    Args:
        eps: keeps what is divided by from 0.
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.
        neg_gamma: the exponent of the distance is negative, as the paper has it.
    """

    def __init__(
        self,
        eps: float = 1e-6,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
        neg_gamma: bool = False,
    ) -> None:
        super().__init__(eps, reduction, loss_weight)
        self.neg_gamma = neg_gamma

    def elements(self, pred: Tensor, target: Tensor) -> Tensor:
        eps, pair = self.eps, _Pair.of(pred, target, self.eps)
        apart = pair.apart + eps  # equal centres: the length's gradient would be no number
        sines = apart.abs() / apart.square().sum(-1, keepdim=True).sqrt()
        sine = torch.where(sines[:, 0] > math.sqrt(0.5), sines[:, 1], sines[:, 0])
        angle = torch.cos(torch.asin(sine) * 2 - math.pi / 2)
        exponent = angle - 2 if self.neg_gamma else 2 - angle
        reach = (apart / pair.enclosing.clamp(min=eps)).square()
        distance = (1 - torch.exp(exponent[:, None] * reach)).sum(-1)
        heights = pair.sides.new_tensor([0, eps])
        sides, wanted = pair.sides + heights, pair.wanted + heights
        unlike = (sides - wanted).abs() / torch.maximum(sides, wanted)
        shape = (1 - torch.exp(-unlike)).pow(4).sum(-1)
        return 1 - (pair.iou - 0.5 * (distance + shape)).clamp(-1, 1)
