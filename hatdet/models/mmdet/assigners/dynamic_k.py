"""Assignment by a cost, with as many priors a box as its overlaps add up to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hatdet.models.mmdet.assigners.result import AssignResult, assigned, blocks, centres, margins, nothing
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
        predicted = predictions.bboxes[candidate]
        ious = predicted.new_empty(len(boxes), len(candidate))
        cost = torch.empty_like(ious)
        for part in blocks(len(boxes), len(candidate), boxes.device):
            ious[part] = self.iou_calculator(boxes[part], predicted)
            cost[part] = cost_of(part, ious[part])
        row, column = self._cheapest(cost, ious)
        row, column = _settle(row, column, cost)
        gt_inds = torch.zeros(count, dtype=torch.int64, device=boxes.device)
        overlaps = torch.full((count,), self.lowest, device=boxes.device)
        gt_inds[candidate[column]] = row + 1
        overlaps[candidate[column]] = ious[row, column].float()
        return assigned(gt_inds, labels, overlaps)

    def _cheapest(self, cost: Tensor, ious: Tensor) -> tuple[Tensor, Tensor]:
        """(box, candidate) of every pair that a box takes."""
        greatest = ious.topk(min(self.topk, ious.shape[1]), dim=1).values
        wanted = greatest.T.contiguous().sum(0).int().clamp(min=1)  # added up as the reference does: the sum is cut
        rows, columns = [], []
        # Which of equal costs topk takes depends on k: once for each k that occurs, of which there are few.
        for k in wanted.unique().tolist():
            some = (wanted == k).nonzero().squeeze(1)
            column = cost[some].topk(k, dim=1, largest=False).indices
            rows.append(some.repeat_interleave(k))
            columns.append(column.flatten())
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
        boxes, labels = gt_instances.bboxes, gt_instances.labels
        inside, both = self._places(pred_instances.priors, boxes)
        candidate = inside.nonzero().squeeze(1)
        scores = pred_instances.scores[candidate].float().T.contiguous()
        no = -torch.log1p(-scores).clamp_(min=-100)
        yes = -torch.log(scores).clamp_(min=-100)
        others, swap = no.sum(0), yes - no
        near = both[:, candidate]

        def cost_of(part: slice, ious: Tensor) -> Tensor:
            cost = (others + swap[labels[part]]).to(ious.dtype).mul_(self.cls_weight)
            cost.add_((ious + _EPS).log_().neg_().mul_(self.iou_weight))
            return cost.add_((~near[part]) * -self.lowest)

        return self._match(pred_instances, boxes, labels, candidate, cost_of)

    def _places(self, priors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Bool (n,): in a box or near the centre of one; bool (m, n): in the box and near its centre."""
        x, y, w, h = priors.T.contiguous()
        either = torch.zeros(len(priors), dtype=torch.bool, device=priors.device)
        both = torch.zeros(len(boxes), len(priors), dtype=torch.bool, device=priors.device)
        reach_x, reach_y = self.center_radius * w, self.center_radius * h
        for part in blocks(len(boxes), len(priors), priors.device):
            cx, cy = (centre[:, None] for centre in centres(boxes[part]))
            inside = margins(x, y, boxes[part]) > 0
            # Compared as the reference does it: other orders round otherwise.
            near = (x - (cx - reach_x) > 0) & ((cx + reach_x) - x > 0)
            near &= (y - (cy - reach_y) > 0) & ((cy + reach_y) - y > 0)
            both[part] = inside & near
            either |= (inside | near).any(dim=0)
        return either, both


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
        candidate = _in_any(priors, boxes)
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
            return cost.add_(torch.pow(10, distance.sub_(self.soft_center_radius)))

        return self._match(pred_instances, boxes, labels, candidate, cost_of)


def _in_any(priors: Tensor, boxes: Tensor) -> Tensor:
    """Int64: the priors strictly in at least one box."""
    x, y = priors[:, 0].contiguous(), priors[:, 1].contiguous()
    found = torch.zeros(len(priors), dtype=torch.bool, device=priors.device)
    for part in blocks(len(boxes), len(priors), priors.device):
        found |= (margins(x, y, boxes[part]) > 0).any(dim=0)
    return found.nonzero().squeeze(1)


def centre_of_mass(masks: Tensor, eps: float = _EPS) -> tuple[Tensor, Tensor]:
    """x (m,) and y (m,) of masks (m, h, w), in pixels."""
    filled = masks.float()
    total = filled.sum(dim=(1, 2)).clamp(min=eps)
    y = torch.arange(masks.shape[1], device=masks.device)[:, None]
    x = torch.arange(masks.shape[2], device=masks.device)
    return (filled * x).sum(dim=(1, 2)) / total, (filled * y).sum(dim=(1, 2)) / total
