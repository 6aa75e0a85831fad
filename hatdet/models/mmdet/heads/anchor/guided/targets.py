"""Where the centres of boxes are, and which squares should take their shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.heads.anchor.targets import truth_instances, where_of
from hatdet.models.mmdet.heads.base import Levels, Truth
from hatdet.models.mmdet.instances import Instances

_ELSEWHERE = 0.1  # the weight of a place that is no centre
_PLACES_A_LOSS = 200  # the loss is divided by the number of places over this


def regions(boxes: Tensor, margin: float, size: tuple[int, int]) -> Tensor:
    """Which cells are in the middle of boxes: bool (n, h, w).

    Args:
        boxes: (n, 4) in cells.
        margin: share of a side that is cut off at each end; corners are rounded to cells and belong to the region.
        size: (h, w).
    """
    low = torch.round((1 - margin) * boxes[:, :2] + margin * boxes[:, 2:]).clamp(min=0)
    high = torch.round(margin * boxes[:, :2] + (1 - margin) * boxes[:, 2:])
    rows = torch.arange(size[0], device=boxes.device)
    columns = torch.arange(size[1], device=boxes.device)
    across = (columns >= low[:, :1]) & (columns <= high[:, :1].clamp(min=0))
    down = (rows >= low[:, 1:]) & (rows <= high[:, 1:].clamp(min=0))
    return down[:, :, None] & across[:, None, :]


def location_targets(
    truths: Sequence[Truth],
    sizes: Sequence[tuple[int, int]],
    strides: Sequence[float],
    base_scale: float,
    center_ratio: float,
    ignore_ratio: float,
) -> tuple[Levels, Levels, float]:
    """Of each level int64 (B, h, w), 1 at the centres of boxes of its size, weights (B, h, w), and a divisor.

    Around a centre nothing counts, neither on its level nor on those beside. Of boxes that overlap the last decides.
    """
    wanted, weights = [], []
    for level, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        targets, shares = [], []
        for truth in truths:
            boxes = truth.bboxes
            scale = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
            smallest = scale.new_tensor(float(base_scale * strides[0]))
            own = torch.floor(torch.log2(scale) - torch.log2(smallest) + 0.5).clamp(0, len(sizes) - 1)
            centers = regions(boxes[own == level] / stride, (1 - center_ratio) / 2, size)
            around = regions(boxes[own == level] / stride, (1 - ignore_ratio) / 2, size) | centers
            beside = regions(boxes[(own - level).abs() == 1] / stride, (1 - ignore_ratio) / 2, size).any(dim=0)
            share = torch.where(beside, 0.0, _ELSEWHERE)
            if len(centers):
                order = torch.arange(1, len(centers) + 1, device=boxes.device)[:, None, None]
                last = (around * order).max(dim=0).values
                decided = centers.gather(0, (last - 1).clamp(min=0)[None])[0]
                share = torch.where(last > 0, decided.to(share), share)
            targets.append(centers.any(dim=0).long())
            shares.append(share)
        wanted.append(torch.stack(targets))
        weights.append(torch.stack(shares))
    total = len(truths) * sum(height * width for height, width in sizes) / _PLACES_A_LOSS
    return wanted, weights, total


def shape_targets(
    assigner: Any,
    sampler: Any,
    squares: Tensor,
    approxs: Tensor,
    places: Sequence[Tensor | None],
    truths: Sequence[Truth],
) -> tuple[Tensor, Tensor, float]:
    """The squares that are to take the shape of a box.

    Args:
        assigner, sampler: of squares (N, 4) judged by ``approxs`` (N, k, 4).
        places: which squares of a picture take part (N,), None: all.
        truths: of the pictures.

    Returns:
        (picture, square) (p, 2), the boxes (p, 4), and the divisor of the loss.
    """
    rows, boxes, total = [], [], 0.0
    for i, (truth, inside) in enumerate(zip(truths, places, strict=True)):
        picked = (squares, approxs) if inside is None else (squares[inside], approxs[inside])
        instances, (found, _) = Instances(priors=picked[0], approxs=picked[1]), truth_instances(truth)
        sample = sampler.sample(assigner.assign(instances, found), instances, found)
        positive, _ = where_of(sample, inside)
        rows.append(torch.stack([torch.full_like(positive, i), positive], dim=1))
        boxes.append(sample.pos_gt_bboxes)
        total += sample.avg_factor
    return torch.cat(rows), torch.cat(boxes), total
