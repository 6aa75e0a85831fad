"""Assignment to the priors nearest to a box, with a threshold that the box sets itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.assigners.result import (
    AssignResult,
    assigned,
    best_pairs,
    blocks,
    centres,
    margins,
    nothing,
)
from hatdet.models.mmdet.overlaps import BboxOverlaps2D, iou2d_calculator
from hatdet.registry import register

_LOWEST = -1e8
_FAR = 1e8


@register(scope="mmdet")
class ATSSAssigner:
    """Adaptive training sample selection (ATSS, arXiv 1912.02424).

    Candidates of a box are, of each level, the ``topk`` priors whose centres are nearest to the box's. Those become
    positive that overlap the box at least by the mean plus the standard deviation of all its candidates and have
    their centre in the box. A prior that several boxes want goes to the one that it overlaps most, the first of equals.

    ``max_overlaps`` of the result is that overlap, -1e8 where nothing matched.

    Args:
        topk: see above.
        alpha: with a number, overlaps are ``sigmoid(score) ** (1 - alpha) * iou ** alpha`` of predictions
            (DDOD, arXiv 2107.02963), which need ``scores`` (n, classes), logits, and ``bboxes`` (n, 4).
        iou_calculator: :class:`BboxOverlaps2D` if not given.
        ignore_iof_thr: a prior is ignored that lies in an ignored box with more than this share of its area;
            -1: never.
    """

    def __init__(
        self,
        topk: int,
        alpha: float | None = None,
        iou_calculator: BboxOverlaps2D | None = None,
        ignore_iof_thr: float = -1,
    ) -> None:
        self.topk = topk
        self.alpha = alpha
        self.iou_calculator = iou_calculator or iou2d_calculator()
        self.ignore_iof_thr = ignore_iof_thr

    @torch.no_grad()
    def assign(
        self,
        pred_instances: Any,
        gt_instances: Any,
        gt_instances_ignore: Any = None,
        *,
        num_level_priors: Sequence[int],
    ) -> AssignResult:
        """Assign ``priors`` (n, 4) to ``bboxes`` (m, 4) with ``labels`` (m,).

        Args:
            num_level_priors: priors of each level, in their order.
        """
        priors, boxes, labels = pred_instances.priors[:, :4], gt_instances.bboxes, gt_instances.labels
        if not len(boxes) or not len(priors):
            return nothing(len(priors), labels, priors.new_zeros(len(priors)))
        ignored = self._ignored(priors, gt_instances_ignore)
        candidates = self._nearest(priors, boxes, num_level_priors, ignored)
        overlaps = self._overlaps(pred_instances, boxes, labels, candidates)
        # Down the columns of (candidates, boxes), as the reference reduces them: the last bit may decide.
        columns = overlaps.T.contiguous()
        enough = overlaps >= (columns.mean(0) + columns.std(0))[:, None]
        x, y = centres(priors)
        inside = margins(x[candidates], y[candidates], boxes) > 0.01
        row, place = (enough & inside).nonzero(as_tuple=True)
        found, best = best_pairs(row, candidates[row, place], overlaps[row, place], len(priors), _LOWEST)
        if ignored is not None:
            found = torch.where(ignored & (found == 0), -1, found)
        return assigned(found, labels, best)

    def _ignored(self, priors: Tensor, ignored: Any) -> Tensor | None:
        if self.ignore_iof_thr <= 0 or ignored is None or not len(ignored.bboxes):
            return None
        return self.iou_calculator(priors, ignored.bboxes, mode="iof").amax(dim=1) > self.ignore_iof_thr

    def _nearest(
        self, priors: Tensor, boxes: Tensor, num_level_priors: Sequence[int], ignored: Tensor | None
    ) -> Tensor:
        """Int64 (m, k): the candidates of each box, level by level."""
        x, y = centres(priors)
        of_x, of_y = centres(boxes)
        found = []
        for part in blocks(len(boxes), len(priors), priors.device):
            distance = (x - of_x[part, None]).square_().add_((y - of_y[part, None]).square_()).sqrt_()
            if ignored is not None:
                distance[:, ignored] = _FAR
            indices, start = [], 0
            for level in distance.split(list(num_level_priors), dim=1):
                nearest = level.topk(min(self.topk, level.shape[1]), dim=1, largest=False).indices
                indices.append(nearest + start)
                start += level.shape[1]
            found.append(torch.cat(indices, dim=1))
        return torch.cat(found)

    def _overlaps(self, predictions: Any, boxes: Tensor, labels: Tensor, candidates: Tensor) -> Tensor:
        """(m, k): overlap of each box with its candidates, or with what is predicted there."""
        measured = predictions.priors[:, :4] if self.alpha is None else predictions.bboxes
        flat = candidates.flatten()
        repeated = boxes.repeat_interleave(candidates.shape[1], dim=0)
        overlaps = self.iou_calculator(measured[flat], repeated, is_aligned=True).view(candidates.shape)
        if self.alpha is None:
            return overlaps
        scores = predictions.scores[candidates, labels[:, None]].sigmoid()
        return scores ** (1 - self.alpha) * overlaps**self.alpha
