"""The pyramid of high-resolution networks (arXiv 1904.04514)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import CAFFE2_XAVIER
from hatdet.models.mmdet.layers.init import initialize
from hatdet.registry import register
from hatdet.utils.annotations import Spec


@register(scope="mmdet")
class HRFPN(nn.Module):
    """All maps on the size of the finest, concatenated and joined by a 1x1 convolution (``reduction_conv``); of that,
    pooled by 1, 2, 4, ..., a 3x3 convolution each (``fpn_convs``).

    Args:
        in_channels: of the maps, each of which has half the size of the one before.
        out_channels: of each map returned.
        num_outs: maps returned.
        pooling_type: ``MAX`` or ``AVG``.
        conv_cfg: see :class:`ConvModule`.
        norm_cfg: without effect, as in MMDetection.
        with_cp: save memory in training, at the price of a second forward.
        stride: of the 3x3 convolutions.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int = 5,
        pooling_type: str = "AVG",
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        with_cp: bool = False,
        stride: int = 1,
        init_cfg: Spec | list[Any] | None = CAFFE2_XAVIER,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.num_outs = list(in_channels), out_channels, num_outs
        self.with_cp, self.stride = with_cp, stride
        self.reduction_conv = ConvModule(sum(in_channels), out_channels, 1, conv_cfg=conv_cfg, act_cfg=None)
        self.fpn_convs = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, padding=1, stride=stride, conv_cfg=conv_cfg, act_cfg=None)
            for _ in range(num_outs)
        )
        self.pooling = F.max_pool2d if pooling_type == "MAX" else F.avg_pool2d
        initialize(self, init_cfg)

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``."""
        return tuple(in_strides[0] * self.stride * 2**i for i in range(self.num_outs))

    def _run(self, layer: nn.Module, x: Tensor) -> Tensor:
        again = self.with_cp and x.requires_grad
        return checkpoint(layer, x, use_reentrant=False) if again else layer(x)  # type: ignore[no-any-return]

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        maps = [feats[0]]
        maps += [F.interpolate(x, scale_factor=2**i, mode="bilinear") for i, x in enumerate(feats) if i > 0]
        joined = self._run(self.reduction_conv, torch.cat(maps, dim=1))
        pooled = [joined, *(self.pooling(joined, 2**i, stride=2**i) for i in range(1, self.num_outs))]
        return tuple(self._run(conv, x) for conv, x in zip(self.fpn_convs, pooled, strict=True))
