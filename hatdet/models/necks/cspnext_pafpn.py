"""The path aggregation network of RTMDet, made of CSPNeXt layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hatdet.models.fitting import doubling, told
from hatdet.models.layers.conv import ConvModule, conv_class
from hatdet.models.layers.csp import CSPLayer
from hatdet.registry import register


@register
class CSPNeXtPAFPN(nn.Module):
    """Top-down, then bottom-up mixing of feature maps (PANet, arXiv 1803.01534) by :class:`CSPLayer`.

    Tuple of (B, in_channels[i], H_i, W_i), each half the size of the one before -> tuple of the same sizes
    with ``out_channels`` channels. Concatenations are (upsampled, lower level) and (downsampled, higher
    level).

    Args:
        in_channels: channels of the maps, finest first; ``backbone.feature_info.channels``. In a detector's config it
            may be left out.
        out_channels: channels of each returned map.
        num_csp_blocks: blocks of each CSPLayer.
        use_depthwise: depthwise separable 3x3 convolutions.
        expand_ratio: see :class:`CSPLayer`.
        activation: class name of ``torch.nn``.

    Raises:
        ValueError: fewer than two maps, or no ``in_channels``.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int] | None = None,
        out_channels: int,
        num_csp_blocks: int = 3,
        use_depthwise: bool = False,
        expand_ratio: float = 0.5,
        activation: str = "SiLU",
    ) -> None:
        super().__init__()
        in_channels = told(in_channels, "in_channels")
        if len(in_channels) < 2:
            raise ValueError(f"in_channels needs at least two maps to mix, got {list(in_channels)}")
        conv = conv_class(use_depthwise)
        self.in_channels = tuple(in_channels)
        self.out_channels = out_channels

        def csp(inputs: int, outputs: int) -> CSPLayer:
            return CSPLayer(
                inputs,
                outputs,
                expand_ratio=expand_ratio,
                num_blocks=num_csp_blocks,
                add_identity=False,
                use_depthwise=use_depthwise,
                activation=activation,
            )

        low_to_high = list(zip(self.in_channels[:-1], self.in_channels[1:], strict=True))
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        # Top-down layers are stored in the order they run: coarsest first.
        self.reduce_layers = nn.ModuleList(
            ConvModule(high, low, 1, activation=activation) for low, high in reversed(low_to_high)
        )
        self.top_down_blocks = nn.ModuleList(csp(2 * low, low) for low, _ in reversed(low_to_high))
        self.downsamples = nn.ModuleList(
            conv(low, low, 3, stride=2, activation=activation) for low, _ in low_to_high
        )
        self.bottom_up_blocks = nn.ModuleList(csp(2 * low, high) for low, high in low_to_high)
        self.out_convs = nn.ModuleList(
            conv(channels, out_channels, 3, activation=activation) for channels in self.in_channels
        )

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``.

        Raises:
            MisfitError: a map that is not half the size of the one before.
        """
        return doubling(in_strides)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        last = len(self.in_channels) - 1
        high = feats[last]
        reduced = []  # coarsest first
        for i in range(last):
            high = self.reduce_layers[i](high)
            reduced.append(high)
            high = self.top_down_blocks[i](torch.cat((self.upsample(high), feats[last - 1 - i]), dim=1))
        outs = [high]
        for i in range(last):
            down = self.downsamples[i](outs[-1])
            outs.append(self.bottom_up_blocks[i](torch.cat((down, reduced[last - 1 - i]), dim=1)))
        return tuple(conv(out) for conv, out in zip(self.out_convs, outs, strict=True))
