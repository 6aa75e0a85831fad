"""Maps of one number of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import RELU, XAVIER
from hatdet.models.mmdet.layers.init import initialize
from hatdet.models.mmdet.necks.levels import continued
from hatdet.registry import register
from hatdet.utils.annotations import Spec


@register(scope="mmdet")
class ChannelMapper(nn.Module):
    """A convolution of each map (``convs``); further maps by stride-2 convolutions (``extra_convs``), the first of the
    backbone's last map.

    Args:
        in_channels: of the maps.
        out_channels: of each map returned.
        kernel_size: of ``convs``.
        conv_cfg, norm_cfg, act_cfg, bias: see :class:`ConvModule`.
        num_outs: maps returned; None: as many as come in.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        kernel_size: int = 3,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        act_cfg: Spec | None = RELU,
        bias: bool | str = "auto",
        num_outs: int | None = None,
        init_cfg: Spec | list[Any] | None = XAVIER,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = list(in_channels), out_channels
        count = len(self.in_channels)
        self.num_outs = max(num_outs or count, count)
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg, "bias": bias}
        self.convs = nn.ModuleList(
            ConvModule(channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2, **parts)
            for channels in in_channels
        )
        self.extra_convs = nn.ModuleList(
            ConvModule(in_channels[-1] if i == 0 else out_channels, out_channels, 3, stride=2, padding=1, **parts)
            for i in range(self.num_outs - count)
        )
        initialize(self, init_cfg)

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``."""
        return continued(in_strides, 0, len(self.in_channels), self.num_outs)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        outs = [conv(x) for conv, x in zip(self.convs, feats, strict=True)]
        source = feats[-1]
        for conv in self.extra_convs:
            source = conv(source)
            outs.append(source)
        return tuple(outs)
