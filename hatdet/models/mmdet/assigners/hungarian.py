"""One prediction for each box, at the least cost of all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.assigners.linear_sum import linear_sum_assignment
from hatdet.models.mmdet.assigners.result import AssignResult, assigned, nothing
from hatdet.models.mmdet.assigners.task_aligned import TaskAlignedAssigner
from hatdet.models.mmdet.costs.boxes import BaseMatchCost, BBoxL1Cost, IoUCost
from hatdet.models.mmdet.costs.focal import FocalLossCost
from hatdet.models.mmdet.instances import Instances
from hatdet.models.mmdet.overlaps import BboxOverlaps2D
from hatdet.registry import register


@register(scope="mmdet")
class HungarianAssigner:
    """Bipartite matching (DETR, arXiv 2005.12872).

    Args:
        match_costs: costs that are added up; at least one.

    Raises:
        ValueError: no cost.
    """

    def __init__(self, match_costs: Sequence[BaseMatchCost] | BaseMatchCost) -> None:
        self.match_costs = [match_costs] if isinstance(match_costs, BaseMatchCost) else list(match_costs)
        if not self.match_costs:
            raise ValueError("match_costs is empty; write at least one cost")

    @torch.no_grad()
    def assign(
        self,
        pred_instances: Any,
        gt_instances: Any,
        gt_instances_ignore: Any = None,
        img_meta: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> AssignResult:
        """Assign predictions, with what the costs ask for, to ``bboxes`` (m, 4) with ``labels`` (m,).

        Args:
            img_meta: ``img_shape`` (h, w) of the picture.
        """
        count, labels = len(pred_instances), gt_instances.labels
        if not len(labels) or not count:
            return nothing(count, labels, None)
        cost = torch.stack([cost(pred_instances, gt_instances, img_meta) for cost in self.match_costs]).sum(dim=0)
        row, column = (torch.from_numpy(index).to(labels.device) for index in linear_sum_assignment(cost.cpu()))
        gt_inds = torch.zeros(count, dtype=torch.int64, device=labels.device)
        gt_inds[row] = column + 1
        return assigned(gt_inds, labels, None)


@register(scope="mmdet")
class TopkHungarianAssigner(TaskAlignedAssigner):
    """Bipartite matching of ``topk`` predictions for each box (DDQ, arXiv 2303.12776).

    ``max_overlaps`` and ``assign_metrics`` (``score ** alpha * iou ** beta``) of the result are of the pairs, in the
    order of the predictions.

    Args:
        topk: predictions of a box, fewer where there are too few.
        iou_calculator: :class:`BboxOverlaps2D` if not given.
        cls_cost, reg_cost, iou_cost: costs that are added up; focal loss (2), L1 (5) and generalized IoU (2) if not
            given.
    """

    def __init__(
        self,
        topk: int,
        iou_calculator: BboxOverlaps2D | None = None,
        cls_cost: BaseMatchCost | None = None,
        reg_cost: BaseMatchCost | None = None,
        iou_cost: BaseMatchCost | None = None,
    ) -> None:
        super().__init__(topk, iou_calculator)
        self.cls_cost = cls_cost or FocalLossCost(weight=2.0)
        self.reg_cost = reg_cost or BBoxL1Cost(weight=5.0)
        self.iou_cost = iou_cost or IoUCost("giou", weight=2.0)

    @torch.no_grad()
    def assign(  # type: ignore[override]
        self,
        pred_scores: Tensor,
        decode_bboxes: Tensor,
        gt_bboxes: Tensor,
        gt_labels: Tensor,
        img_meta: Mapping[str, Any],
        alpha: float = 1,
        beta: float = 6,
        **kwargs: Any,
    ) -> AssignResult:
        """Assign predictions ``decode_bboxes`` (n, 4) with ``pred_scores`` (n, classes) to boxes (m, 4) with labels."""
        count, boxes = len(pred_scores), len(gt_bboxes)
        if not boxes:
            return nothing(count, gt_labels, None)
        predicted = Instances(bboxes=decode_bboxes, scores=pred_scores)
        truth = Instances(bboxes=gt_bboxes, labels=gt_labels)
        parts = (part(predicted, truth, img_meta) for part in (self.cls_cost, self.reg_cost, self.iou_cost))
        cost = torch.stack(list(parts)).sum(dim=0)
        topk = min(self.topk, count // boxes)
        found = linear_sum_assignment(cost.repeat_interleave(topk, dim=1).cpu())
        row, column = (torch.from_numpy(index).to(gt_labels.device) for index in found)
        column = column // max(topk, 1)
        gt_inds = torch.zeros(count, dtype=torch.int64, device=gt_labels.device)
        gt_inds[row] = column + 1
        overlaps = self.iou_calculator(decode_bboxes[row], gt_bboxes[column], is_aligned=True)
        result = assigned(gt_inds, gt_labels, overlaps)
        result.assign_metrics = pred_scores[row, gt_labels[column]] ** alpha * overlaps**beta
        return result
