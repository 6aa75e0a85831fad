"""What all priors on grids have in common: strides, flags of cells, pairs of coordinates."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

Device = torch.device | str
Size = Sequence[int]
"""(height, width), in cells or in pixels."""


def pair(value: float | Sequence[float]) -> tuple[float, float]:
    """One number for both directions, or two (width, height)."""
    if isinstance(value, Sequence):
        width, height = value
        return width, height
    return value, value


def cells(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Column of each cell of a grid and row of each cell, cells row by row: (h * w,) each of (w,) and (h,)."""
    return x.repeat(len(y)), y.repeat_interleave(len(x))


class Grid(ABC):
    """Cells of feature maps, each with the same number of priors.

    Attributes:
        strides: (width, height) of a cell in pixels, a level.
    """

    strides: list[tuple[float, float]]

    @property
    def num_levels(self) -> int:
        """Of feature maps."""
        return len(self.strides)

    @property
    @abstractmethod
    def num_base_priors(self) -> list[int]:
        """Priors of a cell, a level."""

    def per_level(self, featmap_sizes: Sequence[Size]) -> Sequence[Size]:
        """The sizes, checked.

        Raises:
            ValueError: not one a level.
        """
        if len(featmap_sizes) != self.num_levels:
            raise ValueError(
                f"{len(featmap_sizes)} feature maps, but {type(self).__name__} has {self.num_levels} strides; "
                "give one stride for each map"
            )
        return featmap_sizes

    def valid_flags(
        self, featmap_sizes: Sequence[Size], pad_shape: Sequence[int], device: Device = "cpu"
    ) -> list[Tensor]:
        """Which priors belong to cells that begin inside the padded picture (h, w): bool (priors,) a level."""
        found = []
        for level, size in enumerate(self.per_level(featmap_sizes)):
            width, height = self.strides[level]
            inside = (min(math.ceil(pad_shape[0] / height), size[0]), min(math.ceil(pad_shape[1] / width), size[1]))
            flags = self.single_level_valid_flags(size, inside, self.num_base_priors[level], device)
            found.append(flags)
        return found

    @staticmethod
    def single_level_valid_flags(
        featmap_size: Size, valid_size: Size, num_base_priors: int = 1, device: Device = "cpu"
    ) -> Tensor:
        """Bool (h * w * priors of a cell,): the cell is one of the first ``valid_size`` rows and columns."""
        y = torch.arange(featmap_size[0], device=device) < valid_size[0]
        x = torch.arange(featmap_size[1], device=device) < valid_size[1]
        return (y[:, None] & x).reshape(-1).repeat_interleave(num_base_priors)
