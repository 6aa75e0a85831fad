"""Positions on the image that the outputs of a head stand for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hatdet.registry import register


@register
class MlvlPointGenerator:
    """One point for each position of each level.

    Args:
        strides: pixels per position of each level.
        offset: place of the point in its cell, as a share of the stride: 0 is the top left corner, 0.5 the
            centre.
    """

    def __init__(self, *, strides: Sequence[int], offset: float = 0.0) -> None:
        self.strides = tuple(strides)
        self.offset = offset
        self._cache: tuple[tuple[object, ...], Tensor] | None = None

    def grid_priors(self, sizes: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> Tensor:
        """Points of all levels, finest first, row by row: float32 (P, 4), (x, y, stride, stride) in pixels.

        Args:
            sizes: (height, width) of each level's map.
            device: where the points are needed.

        Raises:
            ValueError: another number of sizes than of strides.
        """
        if len(sizes) != len(self.strides):
            raise ValueError(f"strides {self.strides} need {len(self.strides)} map sizes, got {list(sizes)}")
        key = (tuple(tuple(size) for size in sizes), torch.device(device))
        if self._cache is None or self._cache[0] != key:
            levels = [
                self._level(int(height), int(width), stride)
                for (height, width), stride in zip(sizes, self.strides, strict=True)
            ]
            self._cache = (key, torch.cat(levels).to(device))
        return self._cache[1]

    def _level(self, height: int, width: int, stride: int) -> Tensor:
        x = (torch.arange(width, dtype=torch.float32) + self.offset) * stride
        y = (torch.arange(height, dtype=torch.float32) + self.offset) * stride
        sides = torch.full((height * width,), float(stride))
        return torch.stack((x.repeat(height), y.repeat_interleave(width), sides, sides), dim=1)
