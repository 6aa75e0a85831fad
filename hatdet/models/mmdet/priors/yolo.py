"""The boxes of YOLO."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hatdet.models.mmdet.priors.anchors import Anchors, Pairs, no_box_type
from hatdet.models.mmdet.priors.grid import Device, Size, pair
from hatdet.registry import register


@register(scope="mmdet")
class YOLOAnchorGenerator(Anchors):
    """Boxes of given sizes around the centres of cells (YOLOv3, arXiv 1804.02767).

    Args:
        strides: of each level in pixels, coarsest first in YOLOv3.
        base_sizes: of each level: sizes (width, height) of the boxes; equally many a level.
        use_box_type: must be False.

    Raises:
        ValueError: lists of other lengths.
    """

    def __init__(
        self, strides: Pairs, base_sizes: Sequence[Sequence[float | Sequence[float]]], use_box_type: bool = False
    ) -> None:
        no_box_type(use_box_type)
        self.strides = [pair(stride) for stride in strides]
        self.base_sizes = [[pair(size) for size in sizes] for sizes in base_sizes]
        counts = [len(sizes) for sizes in self.base_sizes]
        if len(counts) != self.num_levels or len(set(counts)) > 1:
            raise ValueError(
                f"base_sizes has {counts} boxes for {self.num_levels} strides; give equally many for each stride"
            )
        self.centers = [(width / 2, height / 2) for width, height in self.strides]
        self.base_anchors = [
            torch.tensor([[x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h] for w, h in sizes])
            for (x, y), sizes in zip(self.centers, self.base_sizes, strict=True)
        ]

    def responsible_flags(
        self, featmap_sizes: Sequence[Size], gt_bboxes: Tensor, device: Device = "cpu"
    ) -> list[Tensor]:
        """Which priors stand in a cell that has the centre of a ground truth: uint8 (h * w * n,) a level."""
        counts = self.num_base_priors
        return [
            self.single_level_responsible_flags(size, gt_bboxes, self.strides[level], counts[level], device)
            for level, size in enumerate(self.per_level(featmap_sizes))
        ]

    @staticmethod
    def single_level_responsible_flags(
        featmap_size: Size,
        gt_bboxes: Tensor,
        stride: tuple[float, float],
        num_base_anchors: int,
        device: Device = "cpu",
    ) -> Tensor:
        """See :meth:`responsible_flags`. A centre on the edge of the map belongs to the last cell."""
        height, width = featmap_size
        boxes = gt_bboxes.to(device)
        x = torch.floor((boxes[:, 0] + boxes[:, 2]) * 0.5 / stride[0]).long().clamp(0, width - 1)
        y = torch.floor((boxes[:, 1] + boxes[:, 3]) * 0.5 / stride[1]).long().clamp(0, height - 1)
        flags = torch.zeros(height * width, dtype=torch.uint8, device=device)
        flags[y * width + x] = 1
        return flags.repeat_interleave(num_base_anchors)
