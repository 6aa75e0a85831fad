"""Assignment to the priors of the cells that have the centre of a box."""

from __future__ import annotations

from typing import Any

import torch

from hatdet.models.mmdet.assigners.max_iou import Threshold, bounds
from hatdet.models.mmdet.assigners.result import AssignResult, assigned, last_pairs, nothing
from hatdet.models.mmdet.assigners.scan import Table, greatest
from hatdet.models.mmdet.overlaps import BboxOverlaps2D, iou2d_calculator
from hatdet.registry import register


@register(scope="mmdet")
class GridAssigner:
    """Only priors of responsible cells learn boxes (YOLOv3, arXiv 1804.02767).

    ``max_overlaps`` of the result is the greatest overlap with a box, -1 for priors of other cells.

    Args:
        pos_iou_thr: above this overlap a responsible prior learns the box that it overlaps most.
        neg_iou_thr: up to it a prior is background; or (above, up to).
        min_pos_iou: above this overlap a box gets the responsible prior that overlaps it most, the last box of several.
        gt_max_assign_all: all of equal overlap, else the first of them.
        iou_calculator: :class:`BboxOverlaps2D` if not given.
    """

    def __init__(
        self,
        pos_iou_thr: float,
        neg_iou_thr: Threshold,
        min_pos_iou: float = 0.0,
        gt_max_assign_all: bool = True,
        iou_calculator: BboxOverlaps2D | None = None,
    ) -> None:
        self.pos_iou_thr = pos_iou_thr
        self.neg_iou_thr = neg_iou_thr
        self._background = bounds(neg_iou_thr)
        self.min_pos_iou = min_pos_iou
        self.gt_max_assign_all = gt_max_assign_all
        self.iou_calculator = iou_calculator or iou2d_calculator()

    @torch.no_grad()
    def assign(
        self, pred_instances: Any, gt_instances: Any, gt_instances_ignore: Any = None, **kwargs: Any
    ) -> AssignResult:
        """Assign ``priors`` (n, 4) with ``responsible_flags`` (n,) to ``bboxes`` (m, 4) with ``labels`` (m,)."""
        priors, boxes = pred_instances.priors, gt_instances.bboxes
        if not len(boxes) or not len(priors):
            return nothing(len(priors), gt_instances.labels, priors.new_zeros(len(priors)))
        responsible = pred_instances.responsible_flags.bool()
        calculate = self.iou_calculator
        table = Table(
            len(boxes),
            len(priors),
            boxes.device,
            lambda part: calculate(boxes, priors[part]),
            lambda row, column: calculate(boxes[row], priors[column], is_aligned=True),
        )
        found = greatest(table, masked=~responsible)
        above, most = self._background
        least = found.best > above if isinstance(self.neg_iou_thr, (tuple, list)) else found.best >= 0
        gt_inds = torch.where(least & (found.best <= most), 0, -1)
        best = found.best.masked_fill(~responsible, -1)
        positive = ((best > self.pos_iou_thr) & responsible).nonzero().squeeze(1)
        gt_inds[positive] = found.boxes_of(positive) + 1
        row, column = found.matches(found.of_box > self.min_pos_iou, self.gt_max_assign_all)
        matched = last_pairs(row, column, len(priors))
        return assigned(torch.where(matched > 0, matched, gt_inds), gt_instances.labels, best)
