"""The largest value from each position to an edge of the map (CornerNet, arXiv 1808.01244)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.init import initialize
from hatdet.utils.annotations import Spec

NORM = {"type": "BN", "requires_grad": True}
DIRECTIONS = {"top": (2, True), "bottom": (2, False), "left": (3, True), "right": (3, False)}
"""Dimension, and whether the maximum runs from its end."""


class CornerPool(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): ``top`` looks down from each position, ``left`` to the right, ``bottom`` up,
    ``right`` to the left.

    Args:
        mode: one of the four.

    Raises:
        ValueError: another one.
    """

    one_operator = True  # a quantizer refuses it by its name, not by what it is made of

    def __init__(self, mode: str) -> None:
        super().__init__()
        if mode not in DIRECTIONS:
            raise ValueError(f"unknown direction {mode!r}; write one of {', '.join(DIRECTIONS)}")
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        dim, backwards = DIRECTIONS[self.mode]
        if backwards:
            return _highest_so_far(x.flip(dim), dim).flip(dim)
        return _highest_so_far(x, dim)


def _highest_so_far(x: Tensor, dim: int) -> Tensor:
    """The running maximum; traced, of operators that ONNX has: reaches of 2, 4, 8, ... positions."""
    if not torch.jit.is_tracing():
        return x.cummax(dim=dim)[0]
    size, reach = int(x.shape[dim]), 1
    while reach < size:
        first, rest = x.narrow(dim, 0, reach), x.narrow(dim, reach, size - reach)
        x = torch.cat((first, torch.maximum(rest, x.narrow(dim, 0, size - reach))), dim=dim)
        reach *= 2
    return x


class BiCornerPool(nn.Module):
    """Pools in two directions, added, and joined with the input.

    Args:
        in_channels: of the input.
        directions: of the pools.
        feat_channels: between.
        out_channels: of the result.
        norm_cfg: of the convolutions.
        init_cfg: first weights.
    """

    def __init__(
        self,
        in_channels: int,
        directions: Sequence[str],
        feat_channels: int = 128,
        out_channels: int = 128,
        norm_cfg: Spec | None = NORM,
        init_cfg: Spec | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.direction1_conv = ConvModule(in_channels, feat_channels, 3, padding=1, norm_cfg=norm_cfg)
        self.direction2_conv = ConvModule(in_channels, feat_channels, 3, padding=1, norm_cfg=norm_cfg)
        self.aftpool_conv = ConvModule(feat_channels, out_channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=None)
        self.conv1 = ConvModule(in_channels, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None)
        self.conv2 = ConvModule(in_channels, out_channels, 3, padding=1, norm_cfg=norm_cfg)
        self.direction1_pool, self.direction2_pool = CornerPool(directions[0]), CornerPool(directions[1])
        self.relu = nn.ReLU(inplace=True)
        initialize(self, init_cfg)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.direction1_pool(self.direction1_conv(x)) + self.direction2_pool(self.direction2_conv(x))
        return self.conv2(self.relu(self.aftpool_conv(pooled) + self.conv1(x)))  # type: ignore[no-any-return]
