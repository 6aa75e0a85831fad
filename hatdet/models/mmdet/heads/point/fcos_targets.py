"""Which point learns which box by where it lies and how large the box is (FCOS, arXiv 1904.01355)."""

from __future__ import annotations

import torch
from torch import Tensor

from hatdet.models.mmdet.heads.base import Truth
from hatdet.models.mmdet.heads.towers import INFINITE


def edge_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """From points (n, 2) to the left, top, right and bottom edges of boxes (m, 4): (n, m, 4), negative outside."""
    xy = points[:, None]
    return torch.cat((xy - boxes[None, :, :2], boxes[None, :, 2:] - xy), dim=-1)


def centre_cells(boxes: Tensor, reach: Tensor) -> Tensor:
    """The middle of boxes (m, 4), ``reach`` (n,) pixels to each side of the centre, inside the box: (n, m, 4)."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    low = torch.maximum(centres[None] - reach[:, None, None], boxes[None, :, :2])
    high = torch.minimum(centres[None] + reach[:, None, None], boxes[None, :, 2:])
    return torch.cat((low, high), dim=-1)


def fcos_targets(
    points: Tensor, ranges: Tensor, truth: Truth, num_classes: int, reach: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Classes and distances for the points of one picture: of boxes that fit a point, it takes the smallest.

    Args:
        points: (n, 2).
        ranges: (n, 2) least and largest distance to an edge that a point may learn.
        truth: of the picture.
        num_classes: the class of what learns nothing.
        reach: (n,) pixels from a box's centre that still count; None: the whole box.

    Returns:
        Classes (n,) and distances (n, 4).
    """
    boxes = truth.bboxes
    if not len(boxes):
        return truth.labels.new_full((len(points),), num_classes), points.new_zeros((len(points), 4))
    distances = edge_distances(points, boxes)
    if reach is None:
        inside = distances.amin(dim=-1) > 0
    else:
        cells = centre_cells(boxes, reach)
        xy = points[:, None]
        inside = (torch.minimum(xy - cells[..., :2], cells[..., 2:] - xy) > 0).all(dim=-1)
    farthest = distances.amax(dim=-1)
    fits = inside & (farthest >= ranges[:, :1]) & (farthest <= ranges[:, 1:])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    smallest, chosen = torch.where(fits, areas[None], INFINITE).min(dim=1)
    labels = torch.where(smallest == INFINITE, num_classes, truth.labels[chosen])
    return labels, distances[torch.arange(len(points), device=points.device), chosen]


def centerness_of(distances: Tensor) -> Tensor:
    """Distances to the edges (n, 4) -> 1 at the centre of the box, 0 at its edges: (n,)."""
    left, top, right, bottom = distances.unbind(dim=-1)
    across = torch.minimum(left, right) / torch.maximum(left, right)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return torch.sqrt(across * down)
