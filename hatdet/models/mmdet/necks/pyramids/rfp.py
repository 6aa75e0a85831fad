"""The recursive feature pyramid of DetectoRS (arXiv 2006.02334)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.layers.init import constant_init, initialize, xavier_init
from hatdet.models.mmdet.necks.pyramids.fpn import FPN, NEAREST
from hatdet.registry import register
from hatdet.utils.annotations import Spec

_KAIMING: Spec = {"type": "Kaiming", "layer": "Conv2d"}


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (arXiv 1706.05587): convolutions of several dilations and of the global mean,
    a ReLU each, concatenated: (B, in_channels, H, W) -> (B, len(dilations) * out_channels, H, W).

    Args:
        dilations: 1: a 1x1 convolution, else a 3x3 one; the last, 1, is that of the global mean.

    Raises:
        ValueError: the last dilation is not 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dilations: Sequence[int] = (1, 3, 6, 1),
        init_cfg: Spec | list[Any] | None = _KAIMING,
    ) -> None:
        super().__init__()
        if dilations[-1] != 1:
            raise ValueError(f"dilations={list(dilations)}; the last, that of the global mean, has to be 1")
        self.aspp = nn.ModuleList(
            nn.Conv2d(in_channels, out_channels, 3, dilation=d, padding=d) if d > 1
            else nn.Conv2d(in_channels, out_channels, 1)
            for d in dilations
        )  # fmt: skip
        self.gap = nn.AdaptiveAvgPool2d(1)
        initialize(self, init_cfg)

    def forward(self, x: Tensor) -> Tensor:
        *convs, last = self.aspp
        outs = [F.relu(conv(x)) for conv in convs]
        return torch.cat([*outs, F.relu(last(self.gap(x))).expand_as(outs[-1])], dim=1)


@register(scope="mmdet")
class RFP(FPN):
    """:class:`FPN` whose maps, through :class:`ASPP`, go into another backbone that sees the picture again; old and
    new maps are mixed by a gate of the new ones.

    Its backbone gives the picture first (``output_img=True``). The other arguments are those of :class:`FPN`.

    Args:
        rfp_steps: how often the picture is seen.
        rfp_backbone: a DetectoRS backbone with ``rfp_inplanes``.
        aspp_out_channels, aspp_dilations: see :class:`ASPP`.
    """

    def __init__(
        self,
        rfp_steps: int,
        rfp_backbone: Spec,
        aspp_out_channels: int,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        aspp_dilations: Sequence[int] = (1, 3, 6, 1),
        init_cfg: None = None,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
        no_norm_on_lateral: bool = False,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        act_cfg: Spec | None = None,
        upsample_cfg: Spec = NEAREST,
    ) -> None:
        super().__init__(
            in_channels, out_channels, num_outs, start_level, end_level, add_extra_convs, relu_before_extra_convs,
            no_norm_on_lateral, conv_cfg, norm_cfg, act_cfg, upsample_cfg, init_cfg=None,
        )  # fmt: skip
        self.rfp_modules = nn.ModuleList(build(rfp_backbone) for _ in range(rfp_steps - 1))
        self.rfp_aspp = ASPP(out_channels, aspp_out_channels, aspp_dilations)
        self.rfp_weight = nn.Conv2d(out_channels, 1, 1)
        for convs in (self.lateral_convs, self.fpn_convs):
            for module in convs.modules():
                if isinstance(module, nn.Conv2d):
                    xavier_init(module, distribution="uniform")
        constant_init(self.rfp_weight, 0)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        picture, maps = feats[0], super().forward(feats[1:])
        for backbone in self.rfp_modules:
            fed = [maps[0], *(self.rfp_aspp(x) for x in maps[1:])]
            again = super().forward(backbone.rfp_forward(picture, fed))  # type: ignore[operator]
            gates = [torch.sigmoid(self.rfp_weight(x)) for x in again]
            maps = tuple(gate * new + (1 - gate) * old for gate, new, old in zip(gates, again, maps, strict=True))
        return maps
