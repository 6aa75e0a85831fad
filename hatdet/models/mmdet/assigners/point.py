"""Assignment to the points nearest to a box, of the level of its size."""

from __future__ import annotations

from typing import Any

import torch

from hatdet.models.mmdet.assigners.result import AssignResult, assigned, best_pairs, nothing
from hatdet.registry import register


@register(scope="mmdet")
class PointAssigner:
    """Each box takes the nearest points of the level that fits its size (RepPoints, arXiv 1904.11490).

    The level of a box is ``log2(sqrt(width * height) / scale)``, that of a point ``log2(stride)``. Distances are in
    sides of the box. A point that several boxes want goes to the nearest one, the first of equals.

    Args:
        scale: see above.
        pos_num: points of a box.
    """

    def __init__(self, scale: float = 4, pos_num: int = 3) -> None:
        self.scale = scale
        self.pos_num = pos_num

    @torch.no_grad()
    def assign(
        self, pred_instances: Any, gt_instances: Any, gt_instances_ignore: Any = None, **kwargs: Any
    ) -> AssignResult:
        """Assign ``priors`` (n, 3), (x, y, stride), to ``bboxes`` (m, 4) with ``labels`` (m,)."""
        points, boxes, labels = pred_instances.priors, gt_instances.bboxes, gt_instances.labels
        if not len(boxes) or not len(points):
            return nothing(len(points), labels, None)
        level = torch.log2(points[:, 2]).int()
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
        wanted = (torch.log2(size / self.scale).sum(1) / 2).int().clamp(level.min(), level.max())
        rows, columns, nearness = [], [], []
        for one in level.unique():
            row, place = (wanted == one).nonzero().squeeze(1), (level == one).nonzero().squeeze(1)
            distance = ((points[place, :2] - centre[row, None]) / size[row, None]).norm(dim=2)
            nearest, index = distance.topk(min(self.pos_num, len(place)), dim=1, largest=False)
            rows.append(row[:, None].expand_as(index).flatten())
            columns.append(place[index].flatten())
            nearness.append(-nearest.flatten())
        found, _ = best_pairs(torch.cat(rows), torch.cat(columns), torch.cat(nearness), len(points), float("-inf"))
        return assigned(found, labels, None)
