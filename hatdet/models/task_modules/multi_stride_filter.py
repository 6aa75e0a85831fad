"""Positions that are worth decoding, told by their class scores alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hatdet.registry import register


@register
class RetinanetMultiStrideFilter:
    """Keeps the positions whose best class logit, of all anchors and classes, is at least ``threshold``.

    On the device this is a comparison of codes (:meth:`code_threshold`), before anything is dequantized: a position
    that fails costs nothing more. The toolbox drops the same positions.

    Args:
        strides: of the levels, in order.
        threshold: logit; -2.944 is a score of 0.05.

    Raises:
        ValueError: no stride, or a threshold that is not finite.
    """

    def __init__(self, *, strides: Sequence[int], threshold: float) -> None:
        if not strides or not np.isfinite(threshold):
            raise ValueError(f"one or more strides and a finite threshold are needed, got {list(strides)}, {threshold}")
        self.strides = tuple(int(stride) for stride in strides)
        self.threshold = float(threshold)

    def __call__(self, cls_maps: Sequence[Tensor]) -> list[Tensor]:
        """bool (B, H, W) of each level's map (B, C, H, W) of logits; not a number never passes.

        Raises:
            ValueError: another number of maps than of strides.
        """
        if len(cls_maps) != len(self.strides):
            raise ValueError(f"the filter has the strides {self.strides}, but there are {len(cls_maps)} levels")
        return [m.amax(dim=1) >= torch.tensor(self.threshold, dtype=m.dtype, device=m.device) for m in cls_maps]

    def code_threshold(self, scale: float, zero_point: int, low: int = -128, high: int = 127) -> int | None:
        """The smallest code of ``low`` to ``high`` whose real value passes; None where none does.

        Real values are computed as the toolbox does: float32 ``scale * (code - zero_point)``.
        """
        codes = np.arange(low, high + 1)
        real = np.float32(scale) * (codes - zero_point).astype(np.float32)
        passing = codes[real >= np.float32(self.threshold)]
        return int(passing[0]) if len(passing) else None
