"""Results of the same picture, augmented in several ways, to one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.instances import Instances
from hatdet.models.mmdet.post.suppression import nms

Meta = Mapping[str, Any]
"""``img_shape`` (h, w), ``scale_factor`` (a number, (x, y) or (x, y, x, y)), ``flip``, ``flip_direction``."""

_AXES = {"horizontal": (-1,), "vertical": (-2,), "diagonal": (-1, -2)}


def _axes(direction: str | None) -> tuple[int, ...]:
    found = _AXES.get(direction or "horizontal")
    if found is None:
        raise ValueError(f"unknown flip_direction {direction!r}; write one of {', '.join(_AXES)}")
    return found


def bbox_mapping_back(
    bboxes: Tensor,
    img_shape: Sequence[int],
    scale_factor: float | Sequence[float] | Tensor,
    flip: bool,
    flip_direction: str | None = "horizontal",
) -> Tensor:
    """Boxes (..., 4 k) of an augmented picture in pixels of the file.

    Args:
        img_shape: (h, w) of the augmented picture.
        scale_factor: its pixels per pixel of the file: a number, (x, y) or (x, y, x, y).
    """
    columns = list(bboxes.reshape(*bboxes.shape[:-1], bboxes.shape[-1] // 4, 4).unbind(-1))
    for axis in _axes(flip_direction) if flip else ():
        first, size = (0, img_shape[1]) if axis == -1 else (1, img_shape[0])
        columns[first], columns[first + 2] = size - columns[first + 2], size - columns[first]
    factors = torch.as_tensor(scale_factor, dtype=bboxes.dtype, device=bboxes.device).reshape(-1)
    each = factors.repeat(4 // len(factors))
    return torch.stack([column / by for column, by in zip(columns, each, strict=True)], dim=-1).reshape(bboxes.shape)


def _back(bboxes: Tensor, meta: Meta) -> Tensor:
    return bbox_mapping_back(
        bboxes, meta["img_shape"], meta["scale_factor"], meta.get("flip", False), meta.get("flip_direction")
    )


def merge_aug_proposals(aug_proposals: Sequence[Tensor], img_metas: Sequence[Meta], cfg: Mapping[str, Any]) -> Tensor:
    """The best proposals (k, 5) of all augmentations, in pixels of the file.

    Args:
        aug_proposals: (n, 5) of each augmentation.
        img_metas: of each augmentation.
        cfg: ``nms`` with ``iou_threshold``, ``max_per_img``; or MMDetection 1's ``nms_thr``, ``max_num``.
    """
    threshold = cfg["nms"]["iou_threshold"] if "nms" in cfg else cfg["nms_thr"]
    boxes = torch.cat([_back(some[:, :4], meta) for some, meta in zip(aug_proposals, img_metas, strict=True)])
    merged, _ = nms(boxes, torch.cat([some[:, 4] for some in aug_proposals]), threshold)
    return merged[: cfg.get("max_per_img", cfg.get("max_num"))]


def merge_aug_bboxes(
    aug_bboxes: Sequence[Tensor], aug_scores: Sequence[Tensor] | None, img_metas: Sequence[Any]
) -> Any:
    """Mean boxes (n, 4 k), in pixels of the file, and mean scores (n, c) of the augmentations.

    Args:
        aug_bboxes, aug_scores: of each augmentation, of the same n proposals; without scores only boxes are returned.
        img_metas: of each augmentation, or a list with the one of it.
    """
    metas = [meta if isinstance(meta, Mapping) else meta[0] for meta in img_metas]
    boxes = torch.stack([_back(some, meta) for some, meta in zip(aug_bboxes, metas, strict=True)]).mean(dim=0)
    return boxes if aug_scores is None else (boxes, merge_aug_scores(aug_scores))


def merge_aug_scores(aug_scores: Sequence[Tensor]) -> Tensor:
    """Mean scores of the augmentations."""
    return torch.stack([torch.as_tensor(scores) for scores in aug_scores]).mean(dim=0)


def merge_aug_results(
    aug_batch_results: Sequence[Sequence[Instances]], aug_batch_img_metas: Sequence[Sequence[Meta]]
) -> list[Instances]:
    """All detections of all augmentations of each picture, ``bboxes`` in pixels of the file.

    Args:
        aug_batch_results, aug_batch_img_metas: of each augmentation: of each picture.
    """
    merged = []
    for results, metas in zip(
        zip(*aug_batch_results, strict=True), zip(*aug_batch_img_metas, strict=True), strict=True
    ):
        fields = {key: [result.get(key) for result in results] for key in results[0].keys()}  # noqa: SIM118
        fields["bboxes"] = [_back(result.bboxes, meta) for result, meta in zip(results, metas, strict=True)]
        merged.append(Instances(**{key: torch.cat(values) for key, values in fields.items()}))
    return merged


def merge_aug_masks(aug_masks: Sequence[Tensor], img_metas: Meta, weights: Sequence[float] | None = None) -> Tensor:
    """Mean masks (..., h, w) of the augmentations, flipped back.

    Args:
        img_metas: ``flip`` and ``flip_direction`` of all of them.
        weights: of each augmentation.
    """
    axes = _axes(img_metas.get("flip_direction")) if img_metas.get("flip", False) else ()
    each = [1.0] * len(aug_masks) if weights is None else list(weights)
    parts = [torch.as_tensor(mask).flip(axes) * by for mask, by in zip(aug_masks, each, strict=True)]
    return torch.stack(parts).sum(dim=0) / sum(each)
