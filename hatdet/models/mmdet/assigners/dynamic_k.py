"""Assignment by a cost, with as many priors a box as its overlaps add up to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hatdet.models.mmdet.assigners.result import AssignResult, assigned, blocks, centres, least, margins, nothing
from hatdet.models.mmdet.overlaps import BboxOverlaps2D, iou2d_calculator
from hatdet.registry import register

_EPS = 1e-7


class _DynamicK:
    """Each box takes its k cheapest candidates, k being the sum of its greatest overlaps, truncated, at least 1; a
    prior that several boxes took goes to the cheapest box of all, the first of equals."""

    topk: int
    iou_calculator: BboxOverlaps2D
    lowest: float
    """``max_overlaps`` where nothing matched."""

    def _match(
        self,
        predictions: Any,
        boxes: Tensor,
        labels: Tensor,
        candidate: Tensor,
        cost_of: Callable[[slice, Tensor], Tensor],
    ) -> AssignResult:
        """Assign.

        Args:
            candidate: int64 (c,): the priors to choose from.
            cost_of: boxes and their overlaps (k, c) -> costs (k, c).
        """
        count = len(predictions.bboxes)
        if not len(candidate):
            return nothing(count, labels, boxes.new_zeros(count))
        predicted = predictions.bboxes[candidate].T.contiguous().T  # a coordinate at a time, see bbox_overlaps
        cost = predicted.new_empty(len(boxes), len(candidate))
        rows, columns = [], []
        for part in blocks(len(boxes), len(candidate), boxes.device):
            ious = self.iou_calculator(boxes[part], predicted)
            greatest = -least(-ious, min(self.topk, len(candidate)))[0]
            wanted = greatest.T.contiguous().sum(0).int().clamp(min=1)  # as the reference adds up: the sum is cut
            cost[part] = cost_of(part, ious)
            row, column = _cheapest(cost[part], wanted, self.topk)
            rows.append(row + part.start)
            columns.append(column)
        row, column = _settle(torch.cat(rows), torch.cat(columns), cost)
        gt_inds = torch.zeros(count, dtype=torch.int64, device=boxes.device)
        overlaps = torch.full((count,), self.lowest, device=boxes.device)
        gt_inds[candidate[column]] = row + 1
        overlaps[candidate[column]] = self.iou_calculator(boxes[row], predicted[column], is_aligned=True).float()
        return assigned(gt_inds, labels, overlaps)


def _cheapest(cost: Tensor, wanted: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """(row, column) of the ``wanted`` (r,) cheapest of each row of (r, c), at most ``most``."""
    values, index = least(cost, min(most + 1, cost.shape[1]))
    place = torch.arange(values.shape[1], device=cost.device)
    row, column = (place < wanted[:, None]).nonzero(as_tuple=True)
    column = index[row, column]
    last = values.gather(1, wanted[:, None].long() - 1)
    beyond = values.gather(1, wanted[:, None].long().clamp(max=values.shape[1] - 1))
    tied = ((last == beyond)[:, 0] & (wanted < values.shape[1])).nonzero().squeeze(1)
    if not len(tied):
        return row, column
    # Which of equal costs are taken is topk's affair, and depends on k.
    open_row = torch.zeros(len(cost), dtype=torch.bool, device=cost.device)
    open_row[tied] = True
    rows, columns = [row[~open_row[row]]], [column[~open_row[row]]]
    for one, k in zip(tied.tolist(), wanted[tied].tolist(), strict=True):
        rows.append(tied.new_full((k,), one))
        columns.append(cost[one].topk(k, largest=False).indices)
    return torch.cat(rows), torch.cat(columns)


def _settle(row: Tensor, column: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Each candidate that was taken once, with its box: of several, with the cheapest of all."""
    taken = torch.zeros(cost.shape[1], dtype=torch.int64, device=row.device)
    taken.index_add_(0, column, torch.ones_like(column))
    owner = torch.zeros_like(taken).scatter_(0, column, row)
    several = (taken > 1).nonzero().squeeze(1)
    if len(several):
        owner[several] = cost[:, several].argmin(dim=0)
    chosen = taken.nonzero().squeeze(1)
    return owner[chosen], chosen


@register(scope="mmdet")
class SimOTAAssigner(_DynamicK):
    """SimOTA (YOLOX, arXiv 2107.08430): candidates are priors in a box or near the centre of one.

    The cost is ``cls_weight`` times the binary cross entropy of the scores, summed over the classes, minus
    ``iou_weight * log(iou)``, plus 1e5 for priors that are not both in the box and near its centre. See
    ``max_overlaps`` of the result for the overlap with the box, -1e5 where nothing matched.

    Args:
        center_radius: near is within so many strides in x and in y.
        candidate_topk: overlaps summed for the number of priors of a box.
        iou_weight, cls_weight: see above.
        iou_calculator: :class:`BboxOverlaps2D` if not given.
    """

    lowest = -1e5

    def __init__(
        self,
        center_radius: float = 2.5,
        candidate_topk: int = 10,
        iou_weight: float = 3.0,
        cls_weight: float = 1.0,
        iou_calculator: BboxOverlaps2D | None = None,
    ) -> None:
        self.center_radius = center_radius
        self.topk = self.candidate_topk = candidate_topk
        self.iou_weight = iou_weight
        self.cls_weight = cls_weight
        self.iou_calculator = iou_calculator or iou2d_calculator()

    @torch.no_grad()
    def assign(
        self, pred_instances: Any, gt_instances: Any, gt_instances_ignore: Any = None, **kwargs: Any
    ) -> AssignResult:
        """Assign ``priors`` (n, 4), (x, y, stride, stride), with predicted ``bboxes`` (n, 4) and ``scores``
        (n, classes) after their sigmoid, to ``bboxes`` (m, 4) with ``labels`` (m,)."""
        boxes, labels, priors = gt_instances.bboxes, gt_instances.labels, pred_instances.priors
        candidate = _any(priors, boxes, lambda columns, some: torch.maximum(*self._margins(columns, some)))
        columns = priors[candidate].T.contiguous()
        scores = pred_instances.scores[candidate].float().T.contiguous()
        no = -torch.log1p(-scores).clamp_(min=-100)
        yes = -torch.log(scores).clamp_(min=-100)
        others, swap = no.sum(0), yes - no

        def cost_of(part: slice, ious: Tensor) -> Tensor:
            cost = (others + swap[labels[part]]).to(ious.dtype).mul_(self.cls_weight)
            cost.add_((ious + _EPS).log_().neg_().mul_(self.iou_weight))
            far = torch.minimum(*self._margins(columns, boxes[part])).le_(0)
            return cost.add_(far.mul_(-self.lowest))

        return self._match(pred_instances, boxes, labels, candidate, cost_of)

    def _margins(self, columns: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Of priors (4, n): distances to the nearest side of boxes (k, 4), and of the squares at their centres."""
        x, y, w, h = columns
        reach_x, reach_y = self.center_radius * w, self.center_radius * h
        cx, cy = (centre[:, None] for centre in centres(boxes))
        # In the order of the reference: others round otherwise.
        in_x = torch.minimum(x - (cx - reach_x), (cx + reach_x).sub_(x))
        in_y = torch.minimum(y - (cy - reach_y), (cy + reach_y).sub_(y))
        return margins(x, y, boxes), torch.minimum(in_x, in_y)


@register(scope="mmdet")
class DynamicSoftLabelAssigner(_DynamicK):
    """Dynamic soft label assignment (RTMDet, arXiv 2212.07784): candidates are priors in a box.

    The cost is the binary cross entropy of the logits with the soft label (the overlap for the class of the box, 0 for
    the others), each term times ``|label - sigmoid(logit)| ** 2``, summed over the classes; minus
    ``iou_weight * log(iou)``; plus ``10 ** (distance to the box's centre, in strides - soft_center_radius)``.
    ``max_overlaps`` of the result is the overlap with the box, -1e8 where nothing matched.

    Args:
        soft_center_radius, iou_weight: see above.
        topk: overlaps summed for the number of priors of a box.
        iou_calculator: :class:`BboxOverlaps2D` if not given.
    """

    lowest = -1e8

    def __init__(
        self,
        soft_center_radius: float = 3.0,
        topk: int = 13,
        iou_weight: float = 3.0,
        iou_calculator: BboxOverlaps2D | None = None,
    ) -> None:
        self.soft_center_radius = soft_center_radius
        self.topk = topk
        self.iou_weight = iou_weight
        self.iou_calculator = iou_calculator or iou2d_calculator()

    @torch.no_grad()
    def assign(
        self, pred_instances: Any, gt_instances: Any, gt_instances_ignore: Any = None, **kwargs: Any
    ) -> AssignResult:
        """Assign ``priors`` (n, 4), (x, y, stride, stride), with predicted ``bboxes`` (n, 4) and ``scores``
        (n, classes), logits, to ``bboxes`` (m, 4) with ``labels`` (m,); centres are those of ``masks`` (m, h, w) where
        there are some."""
        boxes, labels, priors = gt_instances.bboxes, gt_instances.labels, pred_instances.priors
        candidate = _any(priors, boxes, lambda columns, some: margins(columns[0], columns[1], some))
        x, y, stride = priors[candidate, :3].T.contiguous()
        logits = pred_instances.scores[candidate].T.contiguous()
        chance, entropy = logits.sigmoid(), F.softplus(logits)
        zero = entropy * chance.square()
        others = zero.sum(0)
        masks = getattr(gt_instances, "masks", None)
        of_x, of_y = centres(boxes) if masks is None else centre_of_mass(masks)

        def cost_of(part: slice, ious: Tensor) -> Tensor:
            own = labels[part]
            soft = (entropy[own] - logits[own] * ious).mul_((ious - chance[own]).square_())
            cost = soft.add_(others - zero[own])
            cost.sub_((ious + _EPS).log_().mul_(self.iou_weight))
            distance = (x - of_x[part, None]).square_().add_((y - of_y[part, None]).square_()).sqrt_().div_(stride)
            # As a square: exp is slow where it overflows, a product is not.
            root = distance.sub_(self.soft_center_radius).mul_(math.log(10) / 2).clamp_(max=80).exp_()
            return cost.add_(root.square_())

        return self._match(pred_instances, boxes, labels, candidate, cost_of)


def _any(priors: Tensor, boxes: Tensor, margins_of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Int64: the priors (n, 4) that have a margin above 0 to at least one box.

    Args:
        margins_of: priors (4, n) and boxes (k, 4) -> (k, n).
    """
    columns, best = priors.T.contiguous(), priors.new_zeros(len(priors))
    for part in blocks(len(boxes), len(priors), priors.device):
        best = torch.maximum(best, margins_of(columns, boxes[part]).amax(dim=0))
    return (best > 0).nonzero().squeeze(1)


def centre_of_mass(masks: Tensor, eps: float = _EPS) -> tuple[Tensor, Tensor]:
    """x (m,) and y (m,) of masks (m, h, w), in pixels."""
    filled = masks.float()
    total = filled.sum(dim=(1, 2)).clamp(min=eps)
    y = torch.arange(masks.shape[1], device=masks.device)[:, None]
    x = torch.arange(masks.shape[2], device=masks.device)
    return (filled * x).sum(dim=(1, 2)) / total, (filled * y).sum(dim=(1, 2)) / total
