"""Assignment to the middle of a box."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.assigners.result import AssignResult, assigned, blocks, centres, margins
from hatdet.models.mmdet.overlaps import BboxOverlaps2D, iou2d_calculator
from hatdet.ops.boxes import box_area
from hatdet.registry import register


@register(scope="mmdet")
class CenterRegionAssigner:
    """Priors in the core of a box learn it, those in its shadow around do not count for its class (FSAF, FoveaBox).

    A prior is in the core if its centre is in the box and a share of its area is in the box shrunk by ``pos_scale``; in
    the shadow if that share is in the box shrunk by ``neg_scale`` and it is not in the core. Of several cores the
    smallest box's counts, the last of equals; the others' are shadow too.

    The extra property ``shadowed_labels`` of the result, int64 (k, 2), has (prior, class) that do not count.

    Args:
        pos_scale, neg_scale: see above.
        min_pos_iof: the share, to be exceeded.
        ignore_gt_scale: priors with their centre in an ignored box, shrunk by this, are ignored.
        foreground_dominate: a prior that learns a class and is in the shadow of another box of the same class keeps it,
            else it becomes background.
        iou_calculator: :class:`BboxOverlaps2D` if not given.
    """

    def __init__(
        self,
        pos_scale: float,
        neg_scale: float,
        min_pos_iof: float = 1e-2,
        ignore_gt_scale: float = 0.5,
        foreground_dominate: bool = False,
        iou_calculator: BboxOverlaps2D | None = None,
    ) -> None:
        self.pos_scale = pos_scale
        self.neg_scale = neg_scale
        self.min_pos_iof = min_pos_iof
        self.ignore_gt_scale = ignore_gt_scale
        self.foreground_dominate = foreground_dominate
        self.iou_calculator = iou_calculator or iou2d_calculator()

    @torch.no_grad()
    def assign(
        self, pred_instances: Any, gt_instances: Any, gt_instances_ignore: Any = None, **kwargs: Any
    ) -> AssignResult:
        """Assign ``priors`` (n, 4) to ``bboxes`` (m, 4) with ``labels`` (m,); ignored: ``bboxes`` (k, 4)."""
        priors, boxes, labels = pred_instances.priors, gt_instances.bboxes, gt_instances.labels
        x, y = centres(priors)
        smaller = _rank(boxes)
        inds, shadows, others = [], [], []
        for part in blocks(len(priors), len(boxes), priors.device):
            core = (margins(x[part], y[part], boxes) > 0).T & self._share(priors[part], boxes, self.pos_scale)
            first = torch.tensor([part.start, 0], device=priors.device)
            shadows.append((self._share(priors[part], boxes, self.neg_scale) & ~core).nonzero() + first)
            found, left = _smallest(core, smaller)
            inds.append(found)
            others.append(left.nonzero() + first)
        gt_inds = torch.cat(inds) if inds else torch.zeros_like(x, dtype=torch.int64)
        shadowed = torch.cat((*shadows, *others)) if inds else gt_inds.new_zeros(0, 2)
        if gt_instances_ignore is not None and len(gt_instances_ignore.bboxes):
            ignored = _scaled(gt_instances_ignore.bboxes, self.ignore_gt_scale)
            gt_inds[(margins(x, y, ignored) > 0).any(dim=0)] = -1
        result = assigned(gt_inds, labels, None)
        prior, box = shadowed.unbind(1)
        pairs = torch.stack((prior, labels[box]), dim=1)
        same = result.labels[prior] == pairs[:, 1]
        if self.foreground_dominate:
            pairs = pairs[~same]
        else:
            result.labels[prior[same]] = -1
            result.gt_inds[prior[same]] = 0
        result.set_extra_property("shadowed_labels", pairs)
        return result

    def _share(self, priors: Tensor, boxes: Tensor, scale: float) -> Tensor:
        """Bool (n, m): enough of the prior is in the box shrunk by ``scale``."""
        return self.iou_calculator(priors, _scaled(boxes, scale), mode="iof") > self.min_pos_iof


def _rank(boxes: Tensor) -> Tensor:
    """Int64 (m,): how many boxes come before each when the large ones come first."""
    order = box_area(boxes).sort(descending=True).indices
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    return rank


def _smallest(core: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Of cores (n, m): the box (from 1) of the greatest rank of each prior, 0 for none; and the cores without it."""
    if not len(rank):
        return torch.zeros(len(core), dtype=torch.int64, device=core.device), core
    best, index = torch.where(core, rank, -1).max(dim=1)
    matched = (best >= 0).nonzero().squeeze(1)
    core[matched, index[matched]] = False
    return torch.where(best >= 0, index + 1, 0), core


def _scaled(boxes: Tensor, scale: float) -> Tensor:
    """Boxes (n, 4) of the same centre, with sides times ``scale``."""
    x1, y1, x2, y2 = boxes.unbind(1)
    x, y, w, h = (x2 + x1) * 0.5, (y2 + y1) * 0.5, (x2 - x1) * 0.5 * scale, (y2 - y1) * 0.5 * scale
    return torch.stack((x - w, y - h, x + w, y + h), dim=1)
