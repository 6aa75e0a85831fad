"""What a box coder is: boxes to what a network regresses, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hatdet.registry import register

Shape = Sequence[int] | Sequence[Sequence[int]] | Tensor
"""(height, width) of a picture, or of each picture of a batch."""


class BaseBBoxCoder(ABC):
    """Encodes boxes relative to priors, and decodes predictions.

    Args:
        use_box_type: must be False.

    Attributes:
        encode_size: numbers of a box.
    """

    encode_size = 4

    def __init__(self, use_box_type: bool = False) -> None:
        if use_box_type:
            raise ValueError("use_box_type=True wraps boxes in a class that does not exist here; leave it out")

    @abstractmethod
    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> Any:
        """What a network should say at priors (n, 4) for boxes (n, 4) xyxy."""

    @abstractmethod
    def decode(self, bboxes: Tensor, pred_bboxes: Any) -> Any:
        """The boxes (n, 4) xyxy of predictions at priors (n, 4)."""


@register(scope="mmdet")
class PseudoBBoxCoder(BaseBBoxCoder):
    """Boxes as they are."""

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """``gt_bboxes``."""
        return gt_bboxes

    def decode(self, bboxes: Tensor, pred_bboxes: Tensor) -> Tensor:
        """``pred_bboxes``."""
        return pred_bboxes


def clip(columns: Sequence[Tensor], max_shape: Shape | None, less: int = 0) -> list[Tensor]:
    """x, y, x, y of boxes inside the picture: (n, ...), or (B, n, ...) where the batch has a shape a picture.

    Args:
        less: pixels that the last place is before the edge.
    """
    if max_shape is None:
        return list(columns)
    if isinstance(max_shape, Tensor) or isinstance(max_shape[0], Sequence):
        limits = torch.as_tensor(max_shape, device=columns[0].device)[..., :2].to(columns[0].dtype) - less
        while limits.dim() <= columns[0].dim() and limits.dim() > 1:  # (B, 2) -> (B, 1, 2)
            limits = limits.unsqueeze(-2)
        zero = limits.new_zeros(())
        return [torch.minimum(torch.maximum(column, zero), limits[..., 1 - i % 2]) for i, column in enumerate(columns)]
    height, width = (int(side) - less for side in max_shape[:2])  # type: ignore[arg-type]
    return [column.clamp(0, limit) for column, limit in zip(columns, (width, height) * 2, strict=True)]
