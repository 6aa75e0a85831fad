"""The cross-stage-partial layer (CSPNet, arXiv 1911.11929) with the blocks of YOLOX and of RTMDet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.layers.attention import ChannelAttention
from hatdet.models.mmdet.layers.conv import ConvModule, DepthwiseSeparableConvModule
from hatdet.models.mmdet.layers.csp.defaults import SILU, SWISH, YOLO_BN
from hatdet.models.mmdet.layers.init import initialize
from hatdet.utils.annotations import Spec


def conv_class(use_depthwise: bool) -> type[ConvModule] | type[DepthwiseSeparableConvModule]:
    """What 3x3 convolutions are made of."""
    return DepthwiseSeparableConvModule if use_depthwise else ConvModule


class _Block(nn.Module):
    """Two convolutions, and the input added to what they give."""

    conv1: nn.Module
    conv2: nn.Module
    add_identity: bool

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x))
        return out + x if self.add_identity else out


class DarknetBottleneck(_Block):
    """1x1, then 3x3 convolution, and the input added where it has as many channels (``conv1``, ``conv2``).

    Args:
        in_channels, out_channels: of the block.
        expansion: channels between the two, as a share of ``out_channels``.
        add_identity: add the input.
        use_depthwise: depthwise separable 3x3 convolution.
        conv_cfg, norm_cfg, act_cfg: see :class:`ConvModule`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: float = 0.5,
        add_identity: bool = True,
        use_depthwise: bool = False,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = YOLO_BN,
        act_cfg: Spec | None = SWISH,
        init_cfg: Spec | list[Any] | None = None,
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg}
        self.conv1 = ConvModule(in_channels, hidden, 1, **parts)
        self.conv2 = conv_class(use_depthwise)(hidden, out_channels, 3, padding=1, **parts)
        self.add_identity = add_identity and in_channels == out_channels
        initialize(self, init_cfg)


class CSPNeXtBlock(_Block):
    """3x3 convolution, then a depthwise one and a 1x1 (RTMDet, arXiv 2212.07784, figure 3b); parts as in
    :class:`DarknetBottleneck`.

    Args:
        kernel_size: side of the depthwise kernel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: float = 0.5,
        add_identity: bool = True,
        use_depthwise: bool = False,
        kernel_size: int = 5,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = YOLO_BN,
        act_cfg: Spec | None = SILU,
        init_cfg: Spec | list[Any] | None = None,
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        parts: dict[str, Any] = {"norm_cfg": norm_cfg, "act_cfg": act_cfg}
        self.conv1 = conv_class(use_depthwise)(in_channels, hidden, 3, padding=1, **parts)
        self.conv2 = DepthwiseSeparableConvModule(
            hidden, out_channels, kernel_size, padding=kernel_size // 2, conv_cfg=conv_cfg, **parts
        )
        self.add_identity = add_identity and in_channels == out_channels
        initialize(self, init_cfg)


class CSPLayer(nn.Module):
    """Half of the channels through ``blocks``, half beside them, joined by a 1x1 convolution.

    (B, in_channels, H, W) -> (B, out_channels, H, W). Parts: ``main_conv``, ``short_conv``, ``final_conv``,
    ``blocks``, ``attention``; the concatenation is (main, short).

    Args:
        in_channels, out_channels: of the layer.
        expand_ratio: width of each branch, as a share of ``out_channels``.
        num_blocks: blocks of the main branch.
        add_identity: residual connections in the blocks.
        use_depthwise: depthwise separable 3x3 convolutions in the blocks.
        use_cspnext_block: :class:`CSPNeXtBlock` in the place of :class:`DarknetBottleneck`.
        channel_attention: a gate of each channel of the concatenation.
        conv_cfg, norm_cfg, act_cfg: see :class:`ConvModule`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expand_ratio: float = 0.5,
        num_blocks: int = 1,
        add_identity: bool = True,
        use_depthwise: bool = False,
        use_cspnext_block: bool = False,
        channel_attention: bool = False,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = YOLO_BN,
        act_cfg: Spec | None = SWISH,
        init_cfg: Spec | list[Any] | None = None,
    ) -> None:
        super().__init__()
        block = CSPNeXtBlock if use_cspnext_block else DarknetBottleneck
        middle = int(out_channels * expand_ratio)
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg}
        self.main_conv = ConvModule(in_channels, middle, 1, **parts)
        self.short_conv = ConvModule(in_channels, middle, 1, **parts)
        self.final_conv = ConvModule(2 * middle, out_channels, 1, **parts)
        self.blocks = nn.Sequential(
            *(block(middle, middle, 1.0, add_identity, use_depthwise, **parts) for _ in range(num_blocks))
        )
        self.channel_attention = channel_attention
        if channel_attention:
            self.attention = ChannelAttention(2 * middle)
        initialize(self, init_cfg)

    def forward(self, x: Tensor) -> Tensor:
        short = self.short_conv(x)
        joined = torch.cat((self.blocks(self.main_conv(x)), short), dim=1)
        if self.channel_attention:
            joined = self.attention(joined)
        return self.final_conv(joined)  # type: ignore[no-any-return]
