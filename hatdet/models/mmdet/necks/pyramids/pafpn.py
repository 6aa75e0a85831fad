"""The path aggregation network (arXiv 1803.01534)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import XAVIER
from hatdet.models.mmdet.layers.init import initialize
from hatdet.models.mmdet.necks.pyramids.fpn import FPN
from hatdet.registry import register
from hatdet.utils.annotations import Spec


@register(scope="mmdet")
class PAFPN(FPN):
    """:class:`FPN`, and once more from the finest map up: a stride-2 convolution (``downsample_convs``), addition, a
    3x3 convolution (``pafpn_convs``). Arguments as there.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
        no_norm_on_lateral: bool = False,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        act_cfg: Spec | None = None,
        init_cfg: Spec | list[Any] | None = XAVIER,
    ) -> None:
        super().__init__(
            in_channels, out_channels, num_outs, start_level, end_level, add_extra_convs, relu_before_extra_convs,
            no_norm_on_lateral, conv_cfg, norm_cfg, act_cfg, init_cfg=None,
        )  # fmt: skip
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg, "inplace": False}
        steps = self.backbone_end_level - start_level - 1

        def conv(stride: int) -> ConvModule:
            return ConvModule(out_channels, out_channels, 3, stride=stride, padding=1, **parts)

        self.downsample_convs = nn.ModuleList(conv(2) for _ in range(steps))
        self.pafpn_convs = nn.ModuleList(conv(1) for _ in range(steps))
        initialize(self, init_cfg)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        laterals = self.top_down(self.laterals(feats))
        maps = [conv(x) for conv, x in zip(self.fpn_convs, laterals)]
        for i, down in enumerate(self.downsample_convs):
            maps[i + 1] = maps[i + 1] + down(maps[i])
        outs = maps[:1] + [conv(x) for conv, x in zip(self.pafpn_convs, maps[1:], strict=True)]
        return self.extended(outs, feats, laterals[-1])
