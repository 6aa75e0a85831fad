"""Between boxes and what a head predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from hatdet.registry import register


class BoxCoder(Protocol):
    """How the values that a head gives for a prior say a box.

    Attributes:
        form: its name in the exported decoders (``hatdet/export/decoder``), which have to know it.
        num_values: values of a prior.
    """

    form: ClassVar[str]
    num_values: ClassVar[int]

    def decode(self, priors: Tensor, values: Tensor, exp: Callable[[Tensor], Tensor] = torch.exp) -> Tensor:
        """Boxes (..., 4), xyxy in pixels, not clipped, of ``values`` (..., num_values) at ``priors`` (..., 4)."""

    def metadata(self) -> dict[str, Any]:
        """Plain values that say it all."""


@register
class DistancePointBBoxCoder:
    """Boxes as distances (left, top, right, bottom) of their sides from a point (FCOS, arXiv 1904.01355).

    Args:
        exp: what is predicted is the distances' logarithm.
        in_strides: it is in strides of the point's level, not in pixels.
    """

    form: ClassVar[str] = "distances"
    num_values: ClassVar[int] = 4

    def __init__(self, *, exp: bool = False, in_strides: bool = False) -> None:
        self.exp, self.in_strides = exp, in_strides

    def encode(self, points: Tensor, boxes: Tensor) -> Tensor:
        """Distances (..., 4) in pixels of the sides of ``boxes`` (..., 4), xyxy, from ``points`` (..., 2)."""
        return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1)

    def decode(self, points: Tensor, distances: Tensor, exp: Callable[[Tensor], Tensor] = torch.exp) -> Tensor:
        """Boxes (..., 4), xyxy, not clipped, from ``points`` (..., 4), x, y, stride, stride (x, y alone will do for
        distances in pixels), and ``distances`` (..., 4)."""
        if self.exp:
            distances = exp(distances)
        if self.in_strides:
            distances = distances * points[..., 2:3]
        points = points[..., :2]
        return torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)

    def metadata(self) -> dict[str, Any]:
        return {"exp_on_reg": self.exp, **({} if self.in_strides else {"in_pixels": True})}
