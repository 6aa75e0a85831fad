"""Between boxes and what a head predicts."""

from __future__ import annotations

import torch
from torch import Tensor

from hatdet.registry import register


@register
class DistancePointBBoxCoder:
    """Boxes as distances (left, top, right, bottom) of their sides from a point, all in pixels (FCOS)."""

    def encode(self, points: Tensor, boxes: Tensor) -> Tensor:
        """Distances (..., 4) of the sides of ``boxes`` (..., 4), xyxy, from ``points`` (..., 2)."""
        return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1)

    def decode(self, points: Tensor, distances: Tensor) -> Tensor:
        """Boxes (..., 4), xyxy, from ``points`` (..., 2) and ``distances`` (..., 4); nothing is clipped."""
        return torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)
