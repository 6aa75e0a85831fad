"""The dilated encoder of YOLOF (arXiv 2103.09460)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import LEARNED_BN
from hatdet.models.mmdet.layers.init import caffe2_xavier_init, normal_init
from hatdet.registry import register


class Bottleneck(nn.Module):
    """1x1, dilated 3x3 and 1x1 convolution, and the input added (``conv1``, ``conv2``, ``conv3``)."""

    def __init__(self, in_channels: int, mid_channels: int, dilation: int) -> None:
        super().__init__()
        parts: dict[str, Any] = {"norm_cfg": LEARNED_BN}
        self.conv1 = ConvModule(in_channels, mid_channels, 1, **parts)
        self.conv2 = ConvModule(mid_channels, mid_channels, 3, padding=dilation, dilation=dilation, **parts)
        self.conv3 = ConvModule(mid_channels, in_channels, 1, **parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.conv2(self.conv1(x))) + x  # type: ignore[no-any-return]


@register(scope="mmdet")
class DilatedEncoder(nn.Module):
    """The coarsest map through a 1x1 and a 3x3 convolution, normalized, and residual blocks of growing dilation.

    Tuple of maps -> tuple of one map (B, out_channels, H, W).

    Args:
        in_channels: of the coarsest map.
        out_channels: of the map returned.
        block_mid_channels: inside the blocks.
        num_residual_blocks: blocks.
        block_dilations: of each block.

    Raises:
        ValueError: fewer dilations than blocks.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        block_mid_channels: int,
        num_residual_blocks: int,
        block_dilations: Sequence[int],
    ) -> None:
        super().__init__()
        if len(block_dilations) < num_residual_blocks:
            raise ValueError(
                f"block_dilations has {len(block_dilations)} numbers for num_residual_blocks={num_residual_blocks}; "
                "write as many"
            )
        self.out_channels = out_channels
        self.lateral_conv = nn.Conv2d(in_channels, out_channels, 1)
        self.lateral_norm = nn.BatchNorm2d(out_channels)
        self.fpn_conv = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.fpn_norm = nn.BatchNorm2d(out_channels)
        self.dilated_encoder_blocks = nn.Sequential(
            *(Bottleneck(out_channels, block_mid_channels, d) for d in block_dilations[:num_residual_blocks])
        )
        caffe2_xavier_init(self.lateral_conv)
        caffe2_xavier_init(self.fpn_conv)
        for module in self.dilated_encoder_blocks.modules():
            if isinstance(module, nn.Conv2d):
                normal_init(module, std=0.01)

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``."""
        return (in_strides[-1],)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        x = self.lateral_norm(self.lateral_conv(feats[-1]))
        return (self.dilated_encoder_blocks(self.fpn_norm(self.fpn_conv(x))),)
