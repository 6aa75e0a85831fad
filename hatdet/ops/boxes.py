"""Overlap of boxes. Boxes are (x1, y1, x2, y2) in any unit, in the last dimension."""

from __future__ import annotations

import torch
from torch import Tensor

_EPS = 1e-6


def box_area(boxes: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4); negative sides count as they are."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _overlap(boxes1: Tensor, boxes2: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Intersection and union of boxes whose leading dimensions broadcast; the union is at least ``eps``."""
    # Coordinate by coordinate: a trailing dimension of 2 would keep the kernels from vectorizing.
    x11, y11, x12, y12 = boxes1.unbind(-1)
    x21, y21, x22, y22 = boxes2.unbind(-1)
    width = (torch.minimum(x12, x22) - torch.maximum(x11, x21)).clamp(min=0)
    height = (torch.minimum(y12, y22) - torch.maximum(y11, y21)).clamp(min=0)
    intersection = width * height
    union = (box_area(boxes1) + box_area(boxes2) - intersection).clamp(min=eps)
    return intersection, union


def _enclosing_area(boxes1: Tensor, boxes2: Tensor, eps: float) -> Tensor:
    x11, y11, x12, y12 = boxes1.unbind(-1)
    x21, y21, x22, y22 = boxes2.unbind(-1)
    width = (torch.maximum(x12, x22) - torch.minimum(x11, x21)).clamp(min=0)
    height = (torch.maximum(y12, y22) - torch.minimum(y11, y21)).clamp(min=0)
    return (width * height).clamp(min=eps)


def aligned_iou(boxes1: Tensor, boxes2: Tensor, eps: float = _EPS) -> Tensor:
    """Intersection over union of boxes (..., 4) with boxes (..., 4), entry by entry (or broadcast): (...)."""
    intersection, union = _overlap(boxes1, boxes2, eps)
    return intersection / union


def pairwise_iou(boxes1: Tensor, boxes2: Tensor, eps: float = _EPS) -> Tensor:
    """Intersection over union of each of boxes (..., N, 4) with each of boxes (..., M, 4): (..., N, M)."""
    return aligned_iou(boxes1[..., :, None, :], boxes2[..., None, :, :], eps)


def aligned_giou(boxes1: Tensor, boxes2: Tensor, eps: float = _EPS) -> Tensor:
    """Generalized IoU (arXiv 1902.09630, algorithm 1) entry by entry: (...), from -1 to 1.

    ``iou - (enclosing - union) / enclosing`` with the smallest box that encloses both.
    """
    intersection, union = _overlap(boxes1, boxes2, eps)
    enclosing = _enclosing_area(boxes1, boxes2, eps)
    return intersection / union - (enclosing - union) / enclosing


def pairwise_giou(boxes1: Tensor, boxes2: Tensor, eps: float = _EPS) -> Tensor:
    """Generalized IoU of each of boxes (..., N, 4) with each of boxes (..., M, 4): (..., N, M)."""
    return aligned_giou(boxes1[..., :, None, :], boxes2[..., None, :, :], eps)
