"""Assignment of equally many priors to every box."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.assigners.result import AssignResult, assigned, last_pairs, nothing
from hatdet.models.mmdet.overlaps import BboxOverlaps2D, iou2d_calculator
from hatdet.registry import register


@register(scope="mmdet")
class UniformAssigner:
    """Uniform matching (YOLOF, arXiv 2103.09460).

    Each box takes the ``match_times`` priors nearest to it and as many whose predicted boxes are nearest (L1 of centre
    and size). ``max_overlaps`` of the result is, of each *box*, its greatest overlap with a prior; extra properties
    are, in the order of the pairs, ``pos_idx`` (whether the pair counts), ``pos_predicted_boxes`` and ``target_boxes``.

    Args:
        pos_ignore_thr: a pair whose prior overlaps the box less is ignored.
        neg_ignore_thr: a prior whose predicted box overlaps a box more is ignored where it would be background.
        match_times: see above.
        iou_calculator: :class:`BboxOverlaps2D` if not given.
    """

    def __init__(
        self,
        pos_ignore_thr: float,
        neg_ignore_thr: float,
        match_times: int = 4,
        iou_calculator: BboxOverlaps2D | None = None,
    ) -> None:
        self.pos_ignore_thr = pos_ignore_thr
        self.neg_ignore_thr = neg_ignore_thr
        self.match_times = match_times
        self.iou_calculator = iou_calculator or iou2d_calculator()

    @torch.no_grad()
    def assign(
        self, pred_instances: Any, gt_instances: Any, gt_instances_ignore: Any = None, **kwargs: Any
    ) -> AssignResult:
        """Assign ``priors`` (n, 4), where ``decoder_priors`` (n, 4) are predicted, to ``bboxes`` with ``labels``."""
        priors, boxes, predicted = pred_instances.priors, gt_instances.bboxes, pred_instances.decoder_priors
        if not len(boxes) or not len(priors):
            result = nothing(len(predicted), gt_instances.labels, None)
            self._extra(result, predicted.new_zeros(0, dtype=torch.bool), predicted[:0], boxes[:0])
            return result
        place = torch.cat((self._nearest(predicted, boxes), self._nearest(priors, boxes)), dim=1).flatten()
        row = torch.arange(len(boxes), device=boxes.device).repeat(len(place) // len(boxes))
        overlaps = self.iou_calculator(boxes, priors)
        gt_inds = torch.zeros(len(predicted), dtype=torch.int64, device=boxes.device)
        gt_inds[self.iou_calculator(boxes, predicted).amax(dim=0) > self.neg_ignore_thr] = -1
        counts = overlaps[row, place] >= self.pos_ignore_thr
        # The last pair of a prior decides, also where it is to be ignored.
        last = last_pairs(torch.arange(len(place), device=boxes.device), place, len(predicted))
        of_pair = torch.where(counts, row + 1, -1)
        gt_inds = torch.where(last > 0, of_pair[last - 1], gt_inds)
        result = assigned(gt_inds, gt_instances.labels, overlaps.amax(dim=1))
        with torch.enable_grad():  # the loss of boxes goes back through what was predicted
            chosen = predicted[place]
        self._extra(result, counts, chosen, boxes[row])
        return result

    def _nearest(self, candidates: Tensor, boxes: Tensor) -> Tensor:
        """Int64 (match_times, m): the nearest candidates of each box."""
        distance = torch.cdist(_centre_size(boxes), _centre_size(candidates), p=1)
        return distance.topk(min(self.match_times, len(candidates)), dim=1, largest=False).indices.T

    @staticmethod
    def _extra(result: AssignResult, counts: Tensor, predicted: Tensor, targets: Tensor) -> None:
        result.set_extra_property("pos_idx", counts)
        result.set_extra_property("pos_predicted_boxes", predicted)
        result.set_extra_property("target_boxes", targets)


def _centre_size(boxes: Tensor) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), dim=1)
