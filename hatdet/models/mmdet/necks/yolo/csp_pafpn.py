"""Path aggregation networks (arXiv 1803.01534) of cross-stage-partial layers: YOLOX's and RTMDet's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.csp_layer import CSPLayer, conv_class
from hatdet.models.mmdet.layers.csp.defaults import AS_TORCH, SWISH, YOLO_BN
from hatdet.models.mmdet.layers.init import initialize
from hatdet.registry import register
from hatdet.utils.annotations import Spec

_TWICE: Spec = {"scale_factor": 2, "mode": "nearest"}


class _CSPPAFPN(nn.Module):
    """Both: ``reduce_layers`` and ``top_down_blocks`` (coarsest first), ``downsamples`` and ``bottom_up_blocks``,
    ``out_convs``. Concatenations are (upsampled, finer map) and (downsampled, coarser map)."""

    def _make(
        self, in_channels: Sequence[int], csp: dict[str, Any], parts: dict[str, Any], upsample_cfg: Spec,
        out_conv: Callable[[int], nn.Module],
    ) -> None:  # fmt: skip
        if len(in_channels) < 2:
            raise ValueError(f"in_channels={list(in_channels)}; this neck mixes two maps or more")
        conv = conv_class(csp["use_depthwise"])
        self.in_channels = list(in_channels)
        steps = list(itertools.pairwise(in_channels))

        def layer(inputs: int, outputs: int) -> CSPLayer:
            return CSPLayer(inputs, outputs, add_identity=False, **csp, **parts)

        self.upsample = nn.Upsample(**upsample_cfg)
        self.reduce_layers = nn.ModuleList(ConvModule(high, low, 1, **parts) for low, high in reversed(steps))
        self.top_down_blocks = nn.ModuleList(layer(2 * low, low) for low, _ in reversed(steps))
        self.downsamples = nn.ModuleList(conv(low, low, 3, stride=2, padding=1, **parts) for low, _ in steps)
        self.bottom_up_blocks = nn.ModuleList(layer(2 * low, high) for low, high in steps)
        self.out_convs = nn.ModuleList(out_conv(channels) for channels in in_channels)

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``."""
        return tuple(in_strides)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        high, *lower = reversed(list(feats))
        reduced = []  # coarsest first
        for reduce, block, low in zip(self.reduce_layers, self.top_down_blocks, lower, strict=True):
            reduced.append(reduce(high))
            high = block(torch.cat((self.upsample(reduced[-1]), low), dim=1))
        outs = [high]
        for down, block, high in zip(self.downsamples, self.bottom_up_blocks, reversed(reduced), strict=True):
            outs.append(block(torch.cat((down(outs[-1]), high), dim=1)))
        return tuple(conv(x) for conv, x in zip(self.out_convs, outs, strict=True))


@register(scope="mmdet")
class YOLOXPAFPN(_CSPPAFPN):
    """Top-down, then bottom-up mixing of maps by :class:`CSPLayer`, and a 1x1 convolution of each.

    Tuple of (B, in_channels[i], H_i, W_i), each half the size of the one before -> tuple of the same sizes with
    ``out_channels`` channels.

    Args:
        in_channels, out_channels: of the maps.
        num_csp_blocks: blocks of each layer.
        use_depthwise: depthwise separable 3x3 convolutions.
        upsample_cfg: arguments of ``nn.Upsample``.
        conv_cfg, norm_cfg, act_cfg: see :class:`ConvModule`.

    Raises:
        ValueError: fewer than two maps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_csp_blocks: int = 3,
        use_depthwise: bool = False,
        upsample_cfg: Spec = _TWICE,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = YOLO_BN,
        act_cfg: Spec | None = SWISH,
        init_cfg: Spec | list[Any] | None = AS_TORCH,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg}
        csp: dict[str, Any] = {"num_blocks": num_csp_blocks, "use_depthwise": use_depthwise}
        self._make(in_channels, csp, parts, upsample_cfg, lambda c: ConvModule(c, out_channels, 1, **parts))
        initialize(self, init_cfg)


@register(scope="mmdet")
class CSPNeXtPAFPN(_CSPPAFPN):
    """As :class:`YOLOXPAFPN`, of CSPNeXt blocks, and with a 3x3 convolution of each map at the end.

    Args:
        expand_ratio: see :class:`CSPLayer`.

    The others are those of :class:`YOLOXPAFPN`.

    Raises:
        ValueError: fewer than two maps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_csp_blocks: int = 3,
        use_depthwise: bool = False,
        expand_ratio: float = 0.5,
        upsample_cfg: Spec = _TWICE,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = YOLO_BN,
        act_cfg: Spec | None = SWISH,
        init_cfg: Spec | list[Any] | None = AS_TORCH,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        conv = conv_class(use_depthwise)
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg}
        csp: dict[str, Any] = {
            "num_blocks": num_csp_blocks, "use_depthwise": use_depthwise, "use_cspnext_block": True,
            "expand_ratio": expand_ratio,
        }  # fmt: skip
        self._make(in_channels, csp, parts, upsample_cfg, lambda c: conv(c, out_channels, 3, padding=1, **parts))
        initialize(self, init_cfg)
