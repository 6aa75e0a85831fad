"""Soft non-maximum suppression (Bodla et al., arXiv 1704.04503): overlapping boxes lose score, not their place."""

from __future__ import annotations

import torch
from torch import Tensor

METHODS = ("linear", "gaussian")


def batched_soft_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    method: str = "linear",
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 0.001,
    max_keep: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Take the best box, lower the scores of the boxes of its class that overlap it, repeat.

    ``linear``: a score is multiplied by 1 - IoU where the IoU is above ``iou_threshold``; ``gaussian``: by
    exp(-IoU**2 / sigma) always. Equal scores are taken in the order of their index. Computed in float64.

    Args:
        boxes: (N, 4) xyxy. scores: (N,). labels: (N,); boxes of different labels do not touch each other.
        min_score: a box whose score falls below is dropped.
        max_keep: return only the best so many.

    Returns:
        Indices (K,) int64 of the kept boxes by falling new score, and these scores (K,) in the scores' type.

    Raises:
        ValueError: an unknown method, or numbers out of range.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; write one of {', '.join(METHODS)}")
    if not 0 <= iou_threshold <= 1 or sigma <= 0 or min_score < 0:
        raise ValueError(
            "iou_threshold is from 0 to 1, sigma above 0, min_score at least 0; got "
            f"{iou_threshold}, {sigma}, {min_score}"
        )
    kept: list[Tensor] = []
    values: list[Tensor] = []
    for label in torch.unique(labels):
        index = (labels == label).nonzero().squeeze(1)
        order, lowered = _one_class(
            boxes[index].double(), scores[index].double(), method, iou_threshold, sigma, min_score
        )
        kept.append(index[order])
        values.append(lowered)
    if not kept:
        return labels.new_zeros(0, dtype=torch.int64), scores
    indices, lowered = torch.cat(kept), torch.cat(values)
    by_index = torch.argsort(indices)  # so that equal scores come in the order of their index
    indices, lowered = indices[by_index], lowered[by_index]
    order = torch.sort(lowered, descending=True, stable=True).indices[:max_keep]
    return indices[order], lowered[order].to(scores.dtype)


def _one_class(
    boxes: Tensor, scores: Tensor, method: str, iou_threshold: float, sigma: float, min_score: float
) -> tuple[Tensor, Tensor]:
    areas = (boxes[:, 2] - boxes[:, 0]).clamp(min=0) * (boxes[:, 3] - boxes[:, 1]).clamp(min=0)
    alive = torch.arange(len(boxes), device=boxes.device)[scores >= min_score]
    scores = scores.clone()
    order: list[int] = []
    values: list[float] = []
    while len(alive):
        position = int(torch.argmax(scores[alive]))  # the first of equal ones
        best = int(alive[position])
        order.append(best)
        values.append(float(scores[best]))
        alive = alive[alive != best]
        corner = torch.maximum(boxes[alive, :2], boxes[best, :2])
        size = (torch.minimum(boxes[alive, 2:], boxes[best, 2:]) - corner).clamp(min=0)
        intersection = size[:, 0] * size[:, 1]
        iou = intersection / (areas[alive] + areas[best] - intersection).clamp(min=1e-12)
        linear = torch.where(iou > iou_threshold, 1 - iou, 1.0)
        scores[alive] = scores[alive] * (torch.exp(-(iou**2) / sigma) if method == "gaussian" else linear)
        alive = alive[scores[alive] >= min_score]
    return torch.tensor(order, dtype=torch.int64, device=boxes.device), torch.tensor(
        values, dtype=torch.float64, device=boxes.device
    )
