"""The balanced feature pyramid of Libra R-CNN (arXiv 1904.02701)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import XAVIER
from hatdet.models.mmdet.layers.init import initialize
from hatdet.models.mmdet.layers.plugins.non_local import NonLocal2d
from hatdet.registry import register
from hatdet.utils.annotations import Spec


def pooled_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """The maxima of ``x`` in ``size`` windows; the ordinary pool, which is the same, where these are equally large."""
    (rows, columns), (height, width) = size, x.shape[2:]
    if height % rows or width % columns:
        return F.adaptive_max_pool2d(x, tuple(size))
    window = (height // rows, width // columns)
    return F.max_pool2d(x, window, stride=window)


@register(scope="mmdet")
class BFP(nn.Module):
    """The mean of all maps on one size, refined, and added to each map. Shapes stay.

    Args:
        in_channels: of each map.
        num_levels: maps.
        refine_level: number of the map whose size is taken.
        refine_type: ``conv``: 3x3 convolution, ``non_local``: attention over all positions, None: nothing.
        conv_cfg, norm_cfg: of ``refine``.

    Raises:
        ValueError: a level that does not exist.
    """

    def __init__(
        self,
        in_channels: int,
        num_levels: int,
        refine_level: int = 2,
        refine_type: Literal["conv", "non_local"] | None = None,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        init_cfg: Spec | list[Any] | None = XAVIER,
    ) -> None:
        super().__init__()
        if not 0 <= refine_level < num_levels:
            raise ValueError(f"refine_level={refine_level}; write one from 0 to num_levels - 1 = {num_levels - 1}")
        self.out_channels, self.num_levels, self.refine_level = in_channels, num_levels, refine_level
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg}
        self.refine: nn.Module = nn.Identity()
        if refine_type == "conv":
            self.refine = ConvModule(in_channels, in_channels, 3, padding=1, **parts)
        initialize(self, init_cfg)
        if refine_type == "non_local":
            self.refine = NonLocal2d(in_channels, reduction=1, use_scale=False, **parts)  # begins as the identity

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``."""
        return tuple(in_strides)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        level, size = self.refine_level, feats[self.refine_level].shape[2:]
        gathered = [pooled_to(x, size) for x in feats[:level]]
        gathered += [F.interpolate(x, size=size, mode="nearest") for x in feats[level:]]
        total = gathered[0]
        for x in gathered[1:]:
            total = total + x
        mean = self.refine(total / len(gathered))
        outs = [F.interpolate(mean, size=x.shape[2:], mode="nearest") + x for x in feats[:level]]
        return tuple(outs + [pooled_to(mean, x.shape[2:]) + x for x in feats[level:]])
