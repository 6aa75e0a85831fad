"""The extra levels of SSD (arXiv 1512.02325)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.csp_layer import conv_class
from hatdet.models.mmdet.layers.csp.defaults import RELU
from hatdet.models.mmdet.layers.init import initialize
from hatdet.registry import register
from hatdet.utils.annotations import Spec

_XAVIER: list[Spec] = [
    {"type": "Xavier", "distribution": "uniform", "layer": "Conv2d"},
    {"type": "Constant", "val": 1, "layer": "BatchNorm2d"},
]


class L2Norm(nn.Module):
    """The channels of each position divided by their length, times ``weight`` (ParseNet, arXiv 1506.04579).

    Args:
        n_dims: channels.
        scale: first value of ``weight``.
        eps: added to the length.
    """

    one_operator = True  # a quantizer refuses it by its name, not by what it is made of

    def __init__(self, n_dims: int, scale: float = 20.0, eps: float = 1e-10) -> None:
        super().__init__()
        self.n_dims, self.scale, self.eps = n_dims, scale, eps
        self.weight = nn.Parameter(torch.full((n_dims,), float(scale)))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()  # squares of half precision overflow
        length = wide.pow(2).sum(1, keepdim=True).sqrt() + self.eps
        return (self.weight.float().view(1, -1, 1, 1) * wide / length).type_as(x)


@register(scope="mmdet")
class SSDNeck(nn.Module):
    """The backbone's maps, the first one normalized (``l2_norm``), and maps that each follow from the one before by a
    1x1 and a 3x3 convolution (``extra_layers``).

    Args:
        in_channels: of the backbone's maps.
        out_channels: of all maps returned; begins with ``in_channels``.
        level_strides, level_paddings: of the 3x3 convolution of each further map.
        l2_norm_scale: first weight of :class:`L2Norm`; None: the first map stays as it is.
        last_kernel_size: side of the last of these kernels.
        use_depthwise: depthwise separable 3x3 convolutions.
        conv_cfg, norm_cfg, act_cfg: see :class:`ConvModule`.

    Raises:
        ValueError: lists that do not fit each other.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        level_strides: Sequence[int],
        level_paddings: Sequence[int],
        l2_norm_scale: float | None = 20.0,
        last_kernel_size: int = 3,
        use_depthwise: bool = False,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        act_cfg: Spec | None = RELU,
        init_cfg: Spec | list[Any] | None = _XAVIER,  # type: ignore[assignment]
    ) -> None:
        super().__init__()
        given = len(in_channels)
        widths = list(out_channels[given:])
        if list(out_channels[:given]) != list(in_channels) or not widths:
            raise ValueError(
                f"out_channels={list(out_channels)} has to begin with in_channels={list(in_channels)} and to go on"
            )
        if not len(widths) == len(level_strides) == len(level_paddings):
            raise ValueError(
                f"level_strides has {len(level_strides)} numbers and level_paddings {len(level_paddings)}; write "
                f"{len(widths)}, one for each further map"
            )
        self.in_channels, self.out_channels = list(in_channels), list(out_channels)
        self.level_strides = list(level_strides)
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg}
        conv, channels = conv_class(use_depthwise), in_channels[-1]
        self.extra_layers = nn.ModuleList()
        for i, (width, stride, padding) in enumerate(zip(widths, level_strides, level_paddings, strict=True), 1):
            side = last_kernel_size if i == len(widths) else 3
            self.extra_layers.append(
                nn.Sequential(
                    ConvModule(channels, width // 2, 1, **parts),
                    conv(width // 2, width, side, stride=stride, padding=padding, **parts),
                )
            )
            channels = width
        initialize(self, init_cfg)
        self.l2_norm = L2Norm(in_channels[0], l2_norm_scale) if l2_norm_scale else None

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        outs = list(feats)
        if self.l2_norm is not None:
            outs[0] = self.l2_norm(outs[0])
        for layer in self.extra_layers:
            outs.append(layer(outs[-1]))
        return tuple(outs)
