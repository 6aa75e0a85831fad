"""Points on a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hatdet.models.mmdet.priors.grid import Device, Grid, Size, cells, pair
from hatdet.registry import register


@register(scope="mmdet")
class MlvlPointGenerator(Grid):
    """A point in each cell.

    Args:
        strides: of each level in pixels, a number or (width, height).
        offset: place of the point in its cell, in strides: 0 is the top left corner, 0.5 the centre.
    """

    def __init__(self, strides: Sequence[float | Sequence[float]], offset: float = 0.5) -> None:
        self.strides = [pair(stride) for stride in strides]
        self.offset = offset

    @property
    def num_base_priors(self) -> list[int]:
        """1 a level."""
        return [1] * self.num_levels

    def grid_priors(
        self,
        featmap_sizes: Sequence[Size],
        dtype: torch.dtype = torch.float32,
        device: Device = "cpu",
        with_stride: bool = False,
    ) -> list[Tensor]:
        """Points (h * w, 2) of each level, row by row; with the strides in columns 2 and 3 if asked for: (h * w, 4)."""
        return [
            self.single_level_grid_priors(size, level, dtype, device, with_stride)
            for level, size in enumerate(self.per_level(featmap_sizes))
        ]

    def single_level_grid_priors(
        self,
        featmap_size: Size,
        level_idx: int,
        dtype: torch.dtype = torch.float32,
        device: Device = "cpu",
        with_stride: bool = False,
    ) -> Tensor:
        """Points of one level, see :meth:`grid_priors`."""
        width, height = self.strides[level_idx]
        x = (torch.arange(featmap_size[1], device=device) + self.offset) * width
        y = (torch.arange(featmap_size[0], device=device) + self.offset) * height
        columns = list(cells(x.to(dtype), y.to(dtype)))
        if with_stride:
            columns += [torch.full_like(columns[0], width), torch.full_like(columns[0], height)]
        return torch.stack(columns, dim=1)

    def sparse_priors(
        self,
        prior_idxs: Tensor,
        featmap_size: Size,
        level_idx: int,
        dtype: torch.dtype = torch.float32,
        device: Device = "cpu",
    ) -> Tensor:
        """The points (n, 2) of these positions in ``grid_priors`` of the level."""
        width, height = self.strides[level_idx]
        x = (prior_idxs % featmap_size[1] + self.offset) * width
        y = (prior_idxs // featmap_size[1] % featmap_size[0] + self.offset) * height
        return torch.stack((x, y), dim=1).to(device, dtype)


@register(scope="mmdet")
class PointGenerator:
    """The top left corner of each cell, with the stride (RepPoints, arXiv 1904.11490)."""

    def grid_points(self, featmap_size: Size, stride: float = 16, device: Device = "cpu") -> Tensor:
        """(x, y, stride) of each cell, row by row: float32 (h * w, 3)."""
        x = torch.arange(featmap_size[1], device=device) * float(stride)
        y = torch.arange(featmap_size[0], device=device) * float(stride)
        columns = cells(x, y)
        return torch.stack((*columns, torch.full_like(columns[0], stride)), dim=1)

    def valid_flags(self, featmap_size: Size, valid_size: Size, device: Device = "cpu") -> Tensor:
        """Bool (h * w,): the cell is one of the first ``valid_size`` rows and columns."""
        return Grid.single_level_valid_flags(featmap_size, valid_size, device=device)
