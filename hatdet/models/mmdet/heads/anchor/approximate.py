"""One square at each place, and the anchors that say whether it is near a box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.anchor.targets import inside_of
from hatdet.models.mmdet.heads.base import Levels, PictureMeta
from hatdet.models.mmdet.heads.common import featmap_sizes


class SquareAnchors:
    """Two generators for the same places.

    Args:
        approx: several anchors a place; None: 3 scales and 3 ratios.
        square: one square a place; None: of the usual size.
        base_scale: of both where they are None.
        first_stride: of the finest level where they are None.

    Raises:
        ValueError: generators of different scales or strides.
    """

    def __init__(self, approx: Any, square: Any, base_scale: int, first_stride: int) -> None:
        strides = [first_stride * 2**i for i in range(5)]
        self.approx = approx or build(
            {
                "type": "AnchorGenerator", "octave_base_scale": base_scale, "scales_per_octave": 3,
                "ratios": [0.5, 1.0, 2.0], "strides": strides,
            }
        )  # fmt: skip
        self.square = square or build(
            {"type": "AnchorGenerator", "ratios": [1.0], "scales": [base_scale], "strides": strides}
        )
        scale = float(self.square.scales[0])
        if self.approx.octave_base_scale != scale or self.approx.strides != self.square.strides:
            raise ValueError(
                "approx_anchor_generator and square_anchor_generator need one scale and the same strides, got "
                f"octave_base_scale={self.approx.octave_base_scale} and scales[0]={scale:g}, "
                f"strides {self.approx.strides} and {self.square.strides}"
            )

    @property
    def per_place(self) -> int:
        """Anchors a square is judged by."""
        return self.approx.num_base_priors[0]  # type: ignore[no-any-return]

    def approxs(self, maps: Levels) -> Tensor:
        """(N, per_place, 4) of all places of all levels."""
        levels = self.approx.grid_priors(featmap_sizes(maps), dtype=maps[0].dtype, device=maps[0].device)
        return torch.cat(levels).view(-1, self.per_place, 4)

    def inside(
        self, approxs: Tensor, sizes: Sequence[tuple[int, int]], meta: PictureMeta, allowed_border: int
    ) -> Tensor | None:
        """Which places (N,) of a picture have an anchor that takes part; None: all. See :func:`inside_of`."""
        return inside_of(self.approx, approxs.flatten(0, 1), sizes, meta, allowed_border, self.per_place)
