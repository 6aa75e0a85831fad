"""Assignment to the cells around the centre of a box, of the level of its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.assigners.result import AssignResult, last_pairs, nothing
from hatdet.registry import register


@register(scope="mmdet")
class RegionAssigner:
    """Cells in the middle of a box learn it, those around are ignored (guided anchoring, arXiv 1901.03278).

    On the level that fits the size of a box, anchors with their centre in its middle (``center_ratio`` of its sides)
    are positive, others in its surroundings (``ignore_ratio``) ignored, the last box of several deciding. On the levels
    next to it the surroundings are ignored. Anchors outside of the picture are ignored.

    Args:
        center_ratio, ignore_ratio: see above.
    """

    def __init__(self, center_ratio: float = 0.2, ignore_ratio: float = 0.5) -> None:
        self.center_ratio = center_ratio
        self.ignore_ratio = ignore_ratio

    @torch.no_grad()
    def assign(
        self,
        pred_instances: Any,
        gt_instances: Any,
        img_meta: Mapping[str, Any],
        featmap_sizes: Sequence[Sequence[int]],
        num_level_anchors: Sequence[int],
        anchor_scale: float,
        anchor_strides: Sequence[float],
        gt_instances_ignore: Any = None,
        allowed_border: float = 0,
    ) -> AssignResult:
        """Assign ``priors`` (n, 4), squares with ``valid_flags`` (n,), to ``bboxes`` (m, 4) with ``labels`` (m,).

        Args:
            img_meta: ``img_shape`` (h, w) of the picture.
            featmap_sizes: (h, w) of each level.
            num_level_anchors: anchors of each level, in their order.
            anchor_scale: side of an anchor in strides.
            anchor_strides: of each level.
            gt_instances_ignore: must be None.
            allowed_border: pixels that an anchor may be outside of the picture; negative: any.

        Raises:
            ValueError: ignored boxes.
        """
        if gt_instances_ignore is not None:
            raise ValueError("RegionAssigner cannot ignore boxes; leave the ignored ones out of the annotations")
        priors, boxes, labels = pred_instances.priors, gt_instances.bboxes, gt_instances.labels
        if not len(boxes) or not len(priors):
            return nothing(len(priors), labels, boxes.new_zeros(len(priors)))
        wanted = _levels(boxes, anchor_scale * anchor_strides[0], len(num_level_anchors))
        found = []
        for level, anchors in enumerate(priors.split(list(num_level_anchors))):
            stride, size = anchor_strides[level], featmap_sizes[level]
            centre = ((anchors[:, :2] / stride) + (anchors[:, 2:] / stride)) * 0.5
            own = (wanted == level).nonzero().squeeze(1)
            middle = _inside(centre, boxes[own] / stride, self.center_ratio, size)
            around = _inside(centre, boxes[own] / stride, self.ignore_ratio, size)
            row, column = (middle | around).nonzero(as_tuple=True)
            last = last_pairs(row, column, len(anchors))
            gt_inds = last.clone()
            some = (last > 0).nonzero().squeeze(1)
            of_box = last[some] - 1
            gt_inds[some] = torch.where(middle[of_box, some], own[of_box] + 1, -1)
            beside = boxes[(wanted - level).abs() == 1] / stride
            gt_inds[_inside(centre, beside, self.ignore_ratio, size).any(dim=0)] = -1
            found.append(gt_inds)
        gt_inds = torch.cat(found)
        gt_inds[~_in_picture(priors, pred_instances.valid_flags, img_meta["img_shape"], allowed_border)] = -1
        # Anchors without a box have label 0 here, not -1: there is one class, and only positives are looked at.
        classes = torch.where(gt_inds > 0, labels[(gt_inds - 1).clamp(min=0)], 0)
        return AssignResult(len(boxes), gt_inds, None, classes)


def _levels(boxes: Tensor, smallest: float, levels: int) -> Tensor:
    """Int64 (m,): the level whose anchors are about as large as the box."""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    octave = side.log2() - side.new_tensor(smallest).log2() + 0.5
    return octave.floor().clamp(0, levels - 1).long()


def _inside(points: Tensor, boxes: Tensor, ratio: float, size: Sequence[int]) -> Tensor:
    """Bool (m, n): points (n, 2) in the middle of boxes (m, 4), cut to whole cells of the map; all in cells."""
    share = (1 - ratio) / 2
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
    left, right = (1 - share) * x1 + share * x2, share * x1 + (1 - share) * x2
    top, bottom = (1 - share) * y1 + share * y2, share * y1 + (1 - share) * y2
    left, right = left.round().clamp(0, size[1]), right.round().clamp(0, size[1])
    top, bottom = top.round().clamp(0, size[0]), bottom.round().clamp(0, size[0])
    x, y = points.unbind(1)
    return (x >= left) & (x <= right) & (y >= top) & (y <= bottom)


def _in_picture(anchors: Tensor, valid: Tensor, img_shape: Sequence[int], border: float) -> Tensor:
    if border < 0:
        return valid.bool()
    x1, y1, x2, y2 = anchors.unbind(1)
    inside = (x1 >= -border) & (y1 >= -border) & (x2 < img_shape[1] + border) & (y2 < img_shape[0] + border)
    return inside & valid.bool()
