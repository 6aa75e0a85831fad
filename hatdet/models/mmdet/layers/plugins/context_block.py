"""Global context (arXiv 1904.11492)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.layers.init import constant_init, kaiming_init
from hatdet.registry import register


@register(scope="mmdet")
class ContextBlock(nn.Module):
    """One vector from all positions of a map, transformed, and added to (or multiplied with) each of them.

    State: ``conv_mask``, ``channel_add_conv``, ``channel_mul_conv``.

    Args:
        in_channels: of the map.
        ratio: ``in_channels * ratio`` channels in between.
        pooling_type: ``att``: the vector is a mean with learned weights; ``avg``: the plain mean.
        fusion_types: ``channel_add``, ``channel_mul`` or both.
    """

    plugin_name = "context_block"
    keeps_init = True
    one_operator = True  # a quantizer refuses it by its name, not by what it is made of

    def __init__(
        self,
        in_channels: int,
        ratio: float,
        pooling_type: str = "att",
        fusion_types: Sequence[str] = ("channel_add",),
    ) -> None:
        super().__init__()
        if pooling_type not in ("att", "avg"):
            raise ValueError(f"pooling_type={pooling_type!r}: write 'att' or 'avg'")
        if not fusion_types or set(fusion_types) - {"channel_add", "channel_mul"}:
            raise ValueError(f"fusion_types={fusion_types!r}: write 'channel_add', 'channel_mul' or both")
        self.pooling_type = pooling_type
        between = int(in_channels * ratio)
        if pooling_type == "att":
            self.conv_mask = nn.Conv2d(in_channels, 1, 1)
            kaiming_init(self.conv_mask, mode="fan_in")
        self.channel_add_conv = _transform(in_channels, between) if "channel_add" in fusion_types else None
        self.channel_mul_conv = _transform(in_channels, between) if "channel_mul" in fusion_types else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if self.pooling_type == "att":
            weights = self.conv_mask(x).flatten(2).softmax(dim=2)  # (B, 1, H * W)
            context = torch.matmul(x.flatten(2), weights.transpose(1, 2)).unsqueeze(-1)
        else:
            context = x.mean(dim=(2, 3), keepdim=True)
        if self.channel_mul_conv is not None:
            x = x * torch.sigmoid(self.channel_mul_conv(context))
        return x if self.channel_add_conv is None else x + self.channel_add_conv(context)


def _transform(channels: int, between: int) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Conv2d(channels, between, 1),
        nn.LayerNorm([between, 1, 1]),
        nn.ReLU(inplace=True),
        nn.Conv2d(between, channels, 1),
    )
    constant_init(layers[-1], 0)  # the block begins as the identity
    return layers
