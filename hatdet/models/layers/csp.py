"""The cross-stage-partial layer of CSPNeXt and its block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hatdet.models.layers.attention import ChannelAttention
from hatdet.models.layers.conv import ConvModule, DepthwiseSeparableConvModule, conv_class


class CSPNeXtBlock(nn.Module):
    """3x3 convolution, then a 5x5 depthwise and a 1x1 one (RTMDet, arXiv 2212.07784, figure 3b).

    Args:
        channels: channels of the input and of the output.
        add_identity: add the input to the result.
        use_depthwise: make the 3x3 convolution depthwise separable too.
        kernel_size: side of the depthwise kernel.
        activation: see :class:`ConvModule`.
    """

    def __init__(
        self,
        channels: int,
        *,
        add_identity: bool = True,
        use_depthwise: bool = False,
        kernel_size: int = 5,
        activation: str | None = "SiLU",
    ) -> None:
        super().__init__()
        self.conv1 = conv_class(use_depthwise)(channels, channels, 3, activation=activation)
        self.conv2 = DepthwiseSeparableConvModule(channels, channels, kernel_size, activation=activation)
        self.add_identity = add_identity

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        x = self.conv2(self.conv1(x))
        return x + identity if self.add_identity else x


class CSPLayer(nn.Module):
    """Half of the channels through ``blocks``, half beside them, joined by a 1x1 convolution.

    (B, in_channels, H, W) -> (B, out_channels, H, W). Parts: ``main_conv``, ``short_conv``, ``blocks``,
    ``attention`` (on request), ``final_conv``; the concatenation is (main, short).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        expand_ratio: width of each branch, as a share of ``out_channels``.
        num_blocks: blocks of the main branch.
        add_identity: residual connections in the blocks.
        use_depthwise: depthwise separable 3x3 convolutions in the blocks.
        channel_attention: :class:`ChannelAttention` on the concatenation.
        activation: see :class:`ConvModule`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expand_ratio: float = 0.5,
        num_blocks: int = 1,
        add_identity: bool = True,
        use_depthwise: bool = False,
        channel_attention: bool = False,
        activation: str | None = "SiLU",
    ) -> None:
        super().__init__()
        mid_channels = int(out_channels * expand_ratio)
        self.main_conv = ConvModule(in_channels, mid_channels, 1, activation=activation)
        self.short_conv = ConvModule(in_channels, mid_channels, 1, activation=activation)
        self.final_conv = ConvModule(2 * mid_channels, out_channels, 1, activation=activation)
        self.blocks = nn.Sequential(
            *(
                CSPNeXtBlock(
                    mid_channels,
                    add_identity=add_identity,
                    use_depthwise=use_depthwise,
                    activation=activation,
                )
                for _ in range(num_blocks)
            )
        )
        self.attention = ChannelAttention(2 * mid_channels) if channel_attention else None

    def forward(self, x: Tensor) -> Tensor:
        short = self.short_conv(x)
        main = self.blocks(self.main_conv(x))
        x = torch.cat((main, short), dim=1)
        if self.attention is not None:
            x = self.attention(x)
        return self.final_conv(x)
