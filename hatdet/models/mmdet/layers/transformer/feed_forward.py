"""What follows attention in a block: two linear layers on each token, in PVTv2 with a look at its neighbours."""

from __future__ import annotations

from torch import Tensor, nn

from hatdet.models.mmdet.layers.activation import build_activation
from hatdet.models.mmdet.layers.csp.drop_path import drop_path
from hatdet.models.mmdet.layers.transformer.tokens import GELU, to_map, to_tokens
from hatdet.utils.annotations import Spec


class FFN(nn.Module):
    """``identity`` + linear, activation, linear of the tokens (``layers.0.0``, ``layers.1``).

    Args:
        embed_dims, feedforward_channels: of a token, and between the layers.
        act_cfg: see :func:`build_activation`.
        ffn_drop: dropout after each layer.
        drop_path_rate: stochastic depth.
    """

    def __init__(
        self,
        embed_dims: int,
        feedforward_channels: int,
        act_cfg: Spec = GELU,
        ffn_drop: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        first = nn.Linear(embed_dims, feedforward_channels), build_activation(act_cfg), nn.Dropout(ffn_drop)
        last = nn.Linear(feedforward_channels, embed_dims), nn.Dropout(ffn_drop)
        self.layers = nn.Sequential(nn.Sequential(*first), *last)
        self.drop_path = drop_path(drop_path_rate)

    def forward(self, x: Tensor, identity: Tensor) -> Tensor:
        out: Tensor = identity + self.drop_path(self.layers(x))
        return out


class MixFFN(nn.Module):
    """As :class:`FFN` with 1x1 convolutions, and a depthwise 3x3 one between (arXiv 2106.13797, section 3.2).

    Args:
        embed_dims, feedforward_channels, act_cfg, ffn_drop, drop_path_rate: see :class:`FFN`.
        use_conv: have the depthwise convolution (``layers.1``); the last layer is ``layers.4``, without it ``3``.
    """

    def __init__(
        self,
        embed_dims: int,
        feedforward_channels: int,
        act_cfg: Spec = GELU,
        ffn_drop: float = 0.0,
        drop_path_rate: float = 0.0,
        use_conv: bool = False,
    ) -> None:
        super().__init__()
        width = feedforward_channels
        depthwise = [nn.Conv2d(width, width, 3, padding=1, groups=width)] if use_conv else []
        self.layers = nn.Sequential(
            nn.Conv2d(embed_dims, width, 1), *depthwise, build_activation(act_cfg), nn.Dropout(ffn_drop),
            nn.Conv2d(width, embed_dims, 1), nn.Dropout(ffn_drop),
        )  # fmt: skip
        self.drop_path = drop_path(drop_path_rate)

    def forward(self, x: Tensor, hw: tuple[int, int], identity: Tensor) -> Tensor:
        out: Tensor = identity + self.drop_path(to_tokens(self.layers(to_map(x, hw))))
        return out
