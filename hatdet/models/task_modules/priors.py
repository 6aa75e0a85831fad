"""Positions on the image, or boxes around them, that the outputs of a head stand for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hatdet.registry import register


class PriorGenerator:
    """The same priors at each position of a level: the position's point alone, or boxes (anchors) around it.

    Args:
        strides: pixels per position of each level, finest first.
        offset: place of the point in its cell, as a share of the stride: 0 is the top left corner, 0.5 the centre.
        base_anchors: of each level float32 (A, 4), xyxy around (0, 0); None: points.

    Attributes:
        num_priors: priors at a position, of each level.
    """

    def __init__(
        self, strides: Sequence[int], offset: float = 0.0, base_anchors: Sequence[Tensor] | None = None
    ) -> None:
        self.strides = tuple(strides)
        self.offset = offset
        self.base_anchors = None if base_anchors is None else tuple(base_anchors)
        self.num_priors = (1,) * len(self.strides) if base_anchors is None else tuple(map(len, base_anchors))
        self._cache: tuple[tuple[object, ...], Tensor] | None = None

    def counts(self, sizes: Sequence[Sequence[int]]) -> list[int]:
        """How many priors each level has, of maps of ``sizes`` (height, width)."""
        return [int(h) * int(w) * number for (h, w), number in zip(sizes, self.num_priors, strict=True)]

    def grid_priors(self, sizes: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> Tensor:
        """Priors of all levels, finest first, row by row: float32 (P, 4) in pixels, a point as (x, y, stride, stride),
        an anchor as xyxy.

        Args:
            sizes: (height, width) of each level's map.
            device: where they are needed.

        Raises:
            ValueError: another number of sizes than of strides.
        """
        if len(sizes) != len(self.strides):
            raise ValueError(f"strides {self.strides} need {len(self.strides)} map sizes, got {list(sizes)}")
        key = (tuple(tuple(size) for size in sizes), torch.device(device))
        if self._cache is None or self._cache[0] != key:
            levels = [self._level(number, int(size[0]), int(size[1])) for number, size in enumerate(sizes)]
            self._cache = (key, torch.cat(levels).to(device))
        return self._cache[1]

    def level_priors(self, sizes: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> list[Tensor]:
        """The same, level by level."""
        return list(self.grid_priors(sizes, device).split(self.counts(sizes)))

    def _level(self, number: int, height: int, width: int) -> Tensor:
        stride = self.strides[number]
        x = (torch.arange(width, dtype=torch.float32) + self.offset) * stride
        y = (torch.arange(height, dtype=torch.float32) + self.offset) * stride
        points = torch.stack((x.repeat(height), y.repeat_interleave(width)), dim=1)
        if self.base_anchors is None:
            return torch.cat((points, torch.full_like(points, stride)), dim=1)
        return (points.repeat(1, 2)[:, None] + self.base_anchors[number]).reshape(-1, 4)


@register
class MlvlPointGenerator(PriorGenerator):
    """One point for each position of each level.

    Args:
        strides, offset: see :class:`PriorGenerator`.
    """

    def __init__(self, *, strides: Sequence[int], offset: float = 0.0) -> None:
        super().__init__(strides, offset)
