"""Assignment to the priors whose predictions fit best in class and place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.assigners.result import AssignResult, assigned, best_pairs, blocks, centres, margins, nothing
from hatdet.models.mmdet.overlaps import BboxOverlaps2D, iou2d_calculator
from hatdet.registry import register

_LOWEST = -1e8


@register(scope="mmdet")
class TaskAlignedAssigner:
    """Task alignment learning (TOOD, arXiv 2108.07755).

    Each box takes the ``topk`` priors of the greatest ``score ** alpha * iou ** beta`` of their predictions that have
    their centre in the box. A prior that several boxes want goes to the one that its prediction overlaps most, the
    first of equals. ``max_overlaps`` of the result is that overlap, -1e8 where nothing matched; ``assign_metrics`` the
    product, 0 there.

    Args:
        topk: see above.
        iou_calculator: :class:`BboxOverlaps2D` if not given.

    Raises:
        ValueError: topk below 1.
    """

    def __init__(self, topk: int, iou_calculator: BboxOverlaps2D | None = None) -> None:
        if topk < 1:
            raise ValueError(f"topk must be at least 1, got {topk}")
        self.topk = topk
        self.iou_calculator = iou_calculator or iou2d_calculator()

    @torch.no_grad()
    def assign(
        self,
        pred_instances: Any,
        gt_instances: Any,
        gt_instances_ignore: Any = None,
        alpha: float = 1,
        beta: float = 6,
    ) -> AssignResult:
        """Assign ``priors`` (n, 4), predicted ``bboxes`` (n, 4) and ``scores`` (n, classes) after their sigmoid, to
        ``bboxes`` (m, 4) with ``labels`` (m,)."""
        priors, boxes, labels = pred_instances.priors[:, :4], gt_instances.bboxes, gt_instances.labels
        if not len(boxes) or not len(priors):
            result = nothing(len(priors), labels, priors.new_zeros(len(priors)))
            result.assign_metrics = priors.new_zeros(len(priors))
            return result
        place, metrics, overlaps = self._best(pred_instances, boxes, labels, alpha, beta)
        x, y = centres(priors)
        wanted = (metrics > 0) & (margins(x[place], y[place], boxes) > 0.01)
        row, column = wanted.nonzero(as_tuple=True)
        prior = place[row, column]
        found, best = best_pairs(row, prior, overlaps[row, column], len(priors), _LOWEST)
        result = assigned(found, labels, best)
        won = found[prior] == row + 1
        result.assign_metrics = priors.new_zeros(len(priors))
        result.assign_metrics[prior[won]] = metrics[row, column][won]
        return result

    def _best(
        self, predictions: Any, boxes: Tensor, labels: Tensor, alpha: float, beta: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of each box the best priors: their index, their product and their overlap, (m, k) each."""
        scores = predictions.scores.T
        most = min(self.topk, scores.shape[1])
        parts = []
        for part in blocks(len(boxes), scores.shape[1], boxes.device):
            overlaps = self.iou_calculator(boxes[part], predictions.bboxes)
            metrics, place = (scores[labels[part]] ** alpha * overlaps**beta).topk(most, dim=1)
            parts.append((place, metrics, overlaps.gather(1, place)))
        place, metrics, overlaps = (torch.cat(columns) for columns in zip(*parts, strict=True))
        return place, metrics, overlaps
