"""Distances from a point to the sides of a box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hatdet.models.mmdet.coders.base import BaseBBoxCoder, Shape, clip
from hatdet.registry import register


def bbox2distance(points: Tensor, bbox: Tensor, max_dis: float | None = None, eps: float = 0.1) -> Tensor:
    """Left, top, right, bottom (..., 4): from points (..., 2) to the sides of boxes (..., 4).

    Args:
        max_dis: if given, distances are from 0 to ``max_dis - eps``.
    """
    x, y = points.unbind(-1)
    x1, y1, x2, y2 = bbox.unbind(-1)
    found = torch.stack((x - x1, y - y1, x2 - x, y2 - y), dim=-1)
    return found if max_dis is None else found.clamp(0, max_dis - eps)


def distance2bbox(points: Tensor, distance: Tensor, max_shape: Shape | None = None) -> Tensor:
    """Boxes (..., 4) of points (..., 2) and distances (..., 4); inside the picture if ``max_shape`` is given."""
    x, y = points[..., 0], points[..., 1]
    left, top, right, bottom = distance.unbind(-1)
    return torch.stack(clip((x - left, y - top, x + right, y + bottom), max_shape), dim=-1)


@register(scope="mmdet")
class DistancePointBBoxCoder(BaseBBoxCoder):
    """Distances from a point to left, top, right and bottom, in pixels (FCOS, arXiv 1904.01355).

    Args:
        clip_border: decoded boxes are cut to the picture.
        use_box_type: must be False.
    """

    def __init__(self, clip_border: bool = True, use_box_type: bool = False) -> None:
        super().__init__(use_box_type)
        self.clip_border = clip_border

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor, max_dis: float | None = None, eps: float = 0.1) -> Tensor:
        """Distances (..., 4) of points (..., 2) and boxes (..., 4), see :func:`bbox2distance`."""
        return bbox2distance(bboxes, gt_bboxes, max_dis, eps)

    def decode(self, bboxes: Tensor, pred_bboxes: Tensor, max_shape: Shape | None = None) -> Tensor:
        """Boxes (..., 4) of points (..., 2) and distances (..., 4)."""
        return distance2bbox(bboxes, pred_bboxes, max_shape if self.clip_border else None)


@register(scope="mmdet")
class TBLRBBoxCoder(BaseBBoxCoder):
    """Distances from the prior's centre to top, bottom, left and right, in sizes of the prior (FSAF, arXiv 1903.00621).

    Args:
        normalizer: they are divided by it, or each by its own (top, bottom, left, right).
        clip_border: decoded boxes are cut to the picture.
        use_box_type: must be False.

    Raises:
        ValueError: not 1 or 4 normalizers.
    """

    def __init__(
        self, normalizer: float | Sequence[float] = 4.0, clip_border: bool = True, use_box_type: bool = False
    ) -> None:
        super().__init__(use_box_type)
        each = list(normalizer) if isinstance(normalizer, Sequence) else [normalizer] * 4
        if len(each) != 4:
            raise ValueError(f"normalizer is a number or 4 numbers, got {normalizer}")
        self.normalizer = normalizer
        self.each = each
        self.clip_border = clip_border

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Targets (..., 4) of priors (..., 4) and boxes (..., 4)."""
        x, y, w, h = _centres(bboxes)
        x1, y1, x2, y2 = gt_bboxes.unbind(-1)
        shares = ((y - y1) / h, (y2 - y) / h, (x - x1) / w, (x2 - x) / w)
        return torch.stack([share / by for share, by in zip(shares, self.each, strict=True)], dim=-1)

    def decode(self, bboxes: Tensor, pred_bboxes: Tensor, max_shape: Shape | None = None) -> Tensor:
        """Boxes (..., 4) of priors (..., 4) and predictions (..., 4)."""
        x, y, w, h = _centres(bboxes)
        shares = zip(pred_bboxes.unbind(-1), self.each, (h, h, w, w), strict=True)
        top, bottom, left, right = (side * (share * by) for share, by, side in shares)
        columns = (x - left, y - top, x + right, y + bottom)
        return torch.stack(clip(columns, max_shape if self.clip_border else None), dim=-1)


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
