"""Boxes on a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hatdet.models.mmdet.priors.grid import Device, Grid, Size, cells, pair
from hatdet.registry import register

Pairs = Sequence[float | Sequence[float]]
"""Numbers, or (width, height)."""


class Anchors(Grid):
    """The same boxes around each cell of a level.

    Attributes:
        base_anchors: float32 (n, 4) a level: those of the cell in row 0, column 0.
    """

    base_anchors: list[Tensor]

    @property
    def num_base_priors(self) -> list[int]:
        """Boxes of a cell, a level."""
        return [len(anchors) for anchors in self.base_anchors]

    @property
    def num_base_anchors(self) -> list[int]:
        """The older name of ``num_base_priors``."""
        return self.num_base_priors

    def grid_priors(
        self, featmap_sizes: Sequence[Size], dtype: torch.dtype = torch.float32, device: Device = "cpu"
    ) -> list[Tensor]:
        """Boxes (h * w * n, 4) of each level, xyxy: cell by cell, row by row."""
        return [
            self.single_level_grid_priors(size, level, dtype, device)
            for level, size in enumerate(self.per_level(featmap_sizes))
        ]

    def single_level_grid_priors(
        self, featmap_size: Size, level_idx: int, dtype: torch.dtype = torch.float32, device: Device = "cpu"
    ) -> Tensor:
        """Boxes of one level, see :meth:`grid_priors`."""
        width, height = self.strides[level_idx]
        x = torch.arange(featmap_size[1], device=device).to(dtype) * width
        y = torch.arange(featmap_size[0], device=device).to(dtype) * height
        corner = torch.stack(cells(x, y) * 2, dim=1)
        return (corner[:, None] + self.base_anchors[level_idx].to(device, dtype)).reshape(-1, 4)

    def sparse_priors(
        self,
        prior_idxs: Tensor,
        featmap_size: Size,
        level_idx: int,
        dtype: torch.dtype = torch.float32,
        device: Device = "cpu",
    ) -> Tensor:
        """The boxes (n, 4) of these positions in ``grid_priors`` of the level."""
        base = self.base_anchors[level_idx].to(device)
        cell = prior_idxs.to(device) // len(base)
        width, height = self.strides[level_idx]
        x = cell % featmap_size[1] * width
        y = cell // featmap_size[1] % featmap_size[0] * height
        return torch.stack((x, y, x, y), dim=1).to(dtype) + base[prior_idxs.to(device) % len(base)].to(dtype)


def no_box_type(use_box_type: bool) -> None:
    if use_box_type:
        raise ValueError("use_box_type=True wraps anchors in a class that does not exist here; leave it out")


@register(scope="mmdet")
class AnchorGenerator(Anchors):
    """Boxes of some scales and shapes (arXiv 1506.01497; scales in octaves: RetinaNet, arXiv 1708.02002).

    Args:
        strides: of each level in pixels, a number or (width, height).
        ratios: height / width; the area stays.
        scales: sides of the square box, in ``base_sizes``; or
        octave_base_scale, scales_per_octave: scales ``octave_base_scale * 2 ** (i / scales_per_octave)``.
        base_sizes: pixels of scale 1, a level; the (lesser) stride where not given.
        scale_major: the scales of the first ratio come first; else the ratios of the first scale.
        centers: (x, y) of the boxes of the first cell, in pixels, a level; or
        center_offset: their centre, from 0 to 1, in base sizes.
        use_box_type: must be False.

    Raises:
        ValueError: both or neither of the two ways to give scales (or both to give centres), or lists of other lengths.
    """

    less = 0
    """Pixels that a side of a box is shorter than its size (MMDetection 1: right - left + 1 = width)."""

    def __init__(
        self,
        strides: Pairs,
        ratios: Sequence[float],
        scales: Sequence[float] | None = None,
        base_sizes: Sequence[float] | None = None,
        scale_major: bool = True,
        octave_base_scale: float | None = None,
        scales_per_octave: int | None = None,
        centers: Sequence[Sequence[float]] | None = None,
        center_offset: float = 0.0,
        use_box_type: bool = False,
    ) -> None:
        no_box_type(use_box_type)
        octaves = (octave_base_scale, scales_per_octave)
        if (scales is None) == (None in octaves) or (scales is not None and octaves != (None, None)):
            raise ValueError(
                "give either scales, or octave_base_scale and scales_per_octave; "
                f"got scales={scales}, octave_base_scale={octave_base_scale}, scales_per_octave={scales_per_octave}"
            )
        if not 0 <= center_offset <= 1 or (center_offset and centers is not None):
            raise ValueError(f"center_offset is from 0 to 1, and 0 beside centers; got {center_offset} and {centers}")
        self.strides = [pair(stride) for stride in strides]
        self.base_sizes = [min(stride) for stride in self.strides] if base_sizes is None else list(base_sizes)
        for name, values in (("base_sizes", self.base_sizes), ("centers", centers)):
            if values is not None and len(values) != self.num_levels:
                raise ValueError(f"{name} has {len(values)} entries for {self.num_levels} strides; give one for each")
        if scales is None:
            assert octave_base_scale is not None and scales_per_octave is not None
            scales = [octave_base_scale * 2 ** (i / scales_per_octave) for i in range(scales_per_octave)]
        self.scales, self.ratios = torch.tensor(scales).float(), torch.tensor(ratios).float()
        self.octave_base_scale, self.scales_per_octave = octave_base_scale, scales_per_octave
        self.scale_major = scale_major
        self.centers = centers
        self.center_offset = center_offset
        self.base_anchors = []
        for level, size in enumerate(self.base_sizes):
            center = [center_offset * (size - self.less)] * 2 if centers is None else centers[level]
            self.base_anchors.append(self.around(size, self.scales, self.ratios, center))

    def around(self, size: float, scales: Tensor, ratios: Tensor, center: Sequence[float]) -> Tensor:
        """Boxes (scales * ratios, 4) around a point."""
        tall = ratios.sqrt()
        sides = []
        for factor in (1 / tall, tall):
            # The order of the products is that of the reference: other orders round otherwise.
            table = (size * factor)[:, None] * scales if self.scale_major else (size * scales)[:, None] * factor
            sides.append(0.5 * (table.reshape(-1) - self.less))
        (x, y), (width, height) = center, sides
        boxes = torch.stack((x - width, y - height, x + width, y + height), dim=1)
        return boxes.round() if self.less else boxes


@register(scope="mmdet")
class LegacyAnchorGenerator(AnchorGenerator):
    """The boxes of MMDetection 1: right and bottom edges are the last pixel, and all edges are whole numbers."""

    less = 1
