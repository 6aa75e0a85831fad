"""Overlap of boxes, as assigners and samplers are configured with it. Boxes are (x1, y1, x2, y2)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from hatdet.ops.boxes import aligned_giou, aligned_iou, box_area, pairwise_giou, pairwise_iou
from hatdet.registry import register

MODES = ("iou", "iof", "giou")


class Overlaps(Protocol):
    """Boxes (m, 4), boxes (n, 4) -> (m, n), or (m,) where aligned."""

    def __call__(self, bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", is_aligned: bool = False) -> Tensor: ...


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", is_aligned: bool = False, eps: float = 1e-6
) -> Tensor:
    """Overlap of each of boxes (..., m, 4) with each of boxes (..., n, 4): (..., m, n).

    Args:
        mode: ``iou``, intersection over union; ``iof``, over the area of the first box; ``giou``, generalized IoU
            (arXiv 1902.09630), from -1 to 1.
        is_aligned: overlap of the first with the first, and so on: (..., m).
        eps: the least denominator.

    Raises:
        ValueError: an unknown mode, or shapes that do not fit.
    """
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; write one of {', '.join(MODES)}")
    if bboxes1.shape[:-2] != bboxes2.shape[:-2] or (is_aligned and bboxes1.shape[-2] != bboxes2.shape[-2]):
        raise ValueError(f"boxes do not fit: {tuple(bboxes1.shape)} and {tuple(bboxes2.shape)}, aligned: {is_aligned}")
    if not bboxes1.shape[-2] or not bboxes2.shape[-2]:  # also of shape (0,) or (0, 5)
        return bboxes1.new_zeros(bboxes1.shape[:-1] if is_aligned else (*bboxes1.shape[:-1], bboxes2.shape[-2]))
    if not is_aligned:  # each coordinate of the many by itself: kernels do not vectorize over a stride of 4
        bboxes1, bboxes2 = bboxes1.mT.contiguous().mT, bboxes2.mT.contiguous().mT
    if mode == "iof":
        first, second = (bboxes1, bboxes2) if is_aligned else (bboxes1[..., :, None, :], bboxes2[..., None, :, :])
        return _intersection(first, second) / box_area(first).clamp(min=eps)
    if is_aligned:
        return (aligned_iou if mode == "iou" else aligned_giou)(bboxes1, bboxes2, eps)
    return (pairwise_iou if mode == "iou" else pairwise_giou)(bboxes1, bboxes2, eps)


def _intersection(first: Tensor, second: Tensor, offset: float = 0) -> Tensor:
    """Area (...) that boxes share whose leading dimensions broadcast."""
    x11, y11, x12, y12 = first.unbind(-1)
    x21, y21, x22, y22 = second.unbind(-1)
    width = (torch.minimum(x12, x22) - torch.maximum(x11, x21) + offset).clamp(min=0)
    height = (torch.minimum(y12, y22) - torch.maximum(y11, y21) + offset).clamp(min=0)
    return width * height


@register(scope="mmdet")
class BboxOverlaps2D:
    """:func:`bbox_overlaps`; a fifth column (a score) is left out.

    Args:
        scale: with ``dtype="fp16"`` coordinates are divided by it first, so that areas stay below 65504.
        dtype: ``fp16`` computes in half precision.
    """

    def __init__(self, scale: float = 1.0, dtype: str | None = None) -> None:
        self.scale = scale
        self.dtype = dtype

    def __call__(self, bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", is_aligned: bool = False) -> Tensor:
        """Boxes (m, 4 or 5) and (n, 4 or 5) -> (m, n), or (m,) where aligned."""
        first, second = bboxes1[..., :4], bboxes2[..., :4]
        if self.dtype == "fp16":
            found = bbox_overlaps((first / self.scale).half(), (second / self.scale).half(), mode, is_aligned)
            return found if found.is_cuda else found.float()
        return bbox_overlaps(first, second, mode, is_aligned)


@register(scope="mmdet")
class BboxOverlaps2D_GLIP(BboxOverlaps2D):
    """IoU of boxes whose right and bottom edges are the last pixel: 1 is added to each side. The mode has no effect."""

    def __call__(self, bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", is_aligned: bool = False) -> Tensor:
        """Boxes (m, 4 or 5) and (n, 4 or 5) -> (m, n), or (m,) where aligned."""
        first, second = bboxes1[..., :4], bboxes2[..., :4]
        if not is_aligned:
            first, second = first[..., :, None, :], second[..., None, :, :]
        shared = _intersection(first, second, offset=1)
        grown = first.new_tensor([0, 0, 1, 1])
        return shared / (box_area(first + grown) + box_area(second + grown) - shared)


def iou2d_calculator() -> BboxOverlaps2D:
    """What an assigner measures with when its config says nothing."""
    return BboxOverlaps2D()
