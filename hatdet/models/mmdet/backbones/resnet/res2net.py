"""Res2Net (arXiv 1904.01169): inside of a block, groups of channels see one after the other what came before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.backbones.resnet.blocks import Bottleneck
from hatdet.models.mmdet.backbones.resnet.resnet import BN, Flags, Init, Ints, Plugins, ResNet, deep
from hatdet.models.mmdet.backbones.resnet.stages import Stage
from hatdet.models.mmdet.layers.conv import build_conv
from hatdet.models.mmdet.layers.norm import build_norm
from hatdet.models.mmdet.layers.res_layer import BN as PLAIN_BN
from hatdet.registry import register
from hatdet.utils.annotations import Spec


class Bottle2neck(Bottleneck):
    """A bottleneck whose 3x3 convolution is ``scales - 1`` small ones in a row; other arguments: :class:`Bottleneck`.

    State: ``convs``, ``bns`` in the place of ``conv2``, ``bn2``.

    Args:
        scales: parts of the channels.
        base_width: channels of a part in the first stage, where ``base_channels`` is 64.
    """

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        style: str = "pytorch",
        with_cp: bool = False,
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] = PLAIN_BN,
        dcn: Mapping[str, Any] | None = None,
        plugins: Sequence[Mapping[str, Any]] | None = None,
        scales: int = 4,
        base_width: int = 26,
        base_channels: int = 64,
    ) -> None:
        if scales < 2:
            raise ValueError(f"scales={scales}: a Res2Net has two or more; take ResNet for one")
        self.scales, self.begins_stage = scales, False
        super().__init__(
            inplanes, planes, stride, dilation, downsample, style, with_cp, conv_cfg, norm_cfg, dcn, plugins, None, 1,
            base_width, base_channels,
        )  # fmt: skip

    def _width(self) -> int:
        return math.floor(self.planes * (self.base_width / self.base_channels)) * self.scales

    def _make_middle(self, width: int, dcn: Mapping[str, Any] | None) -> None:
        part, count = width // self.scales, self.scales - 1
        self.convs = nn.ModuleList(
            build_conv(
                self._middle_cfg(dcn), part, part, 3, stride=self.conv2_stride, padding=self.dilation,
                dilation=self.dilation, bias=False,
            )
            for _ in range(count)
        )  # fmt: skip
        self.bns = nn.ModuleList(build_norm(self.norm_cfg, part) for _ in range(count))
        self.relus = nn.ModuleList(nn.ReLU(inplace=True) for _ in range(count))
        self.pool = nn.AvgPool2d(3, stride=self.conv2_stride, padding=1)

    def _middle(self, x: Tensor) -> Tensor:
        parts = x.chunk(self.scales, dim=1)
        outs: list[Tensor] = []
        for i, (conv, norm, relu) in enumerate(zip(self.convs, self.bns, self.relus)):
            given = parts[i] if i == 0 or self.begins_stage else parts[i] + outs[-1]
            outs.append(relu(norm(conv(given))))
        last = self.pool(parts[-1]) if self.begins_stage and self.conv2_stride != 1 else parts[-1]
        return torch.cat([*outs, last], dim=1)


@register(scope="mmdet")
class Res2Net(ResNet):
    """Res2Net; other arguments: :class:`ResNet`. It has always a deep stem and means where the identity loses positions
    (``deep_stem``, ``avg_down``), and its stride in the 3x3 convolution (``style``), whatever these say.

    Args:
        depth: 50, 101 or 152.
        scales: parts of the channels inside of a block.
        base_width: channels of a part in the first stage, where ``base_channels`` is 64.
    """

    arch_settings = deep(Bottle2neck)

    falls_back = False

    def __init__(
        self, depth: int, scales: int = 4, base_width: int = 26, style: str = "pytorch", deep_stem: bool = True,
        avg_down: bool = True, in_channels: int = 3, stem_channels: int | None = None, base_channels: int = 64,
        num_stages: int = 4, strides: Ints = (1, 2, 2, 2), dilations: Ints = (1, 1, 1, 1),
        out_indices: Ints = (0, 1, 2, 3), frozen_stages: int = -1, conv_cfg: Spec | None = None, norm_cfg: Spec = BN,
        norm_eval: bool = True, dcn: Spec | None = None, stage_with_dcn: Flags = (False, False, False, False),
        plugins: Plugins | None = None, with_cp: bool = False, zero_init_residual: bool = True,
        pretrained: str | None = None, init_cfg: Init = None,
    ) -> None:  # fmt: skip
        self.scales, self.base_width = scales, base_width
        super().__init__(
            depth, in_channels, stem_channels, base_channels, num_stages, strides, dilations, out_indices, "pytorch",
            True, True, frozen_stages, conv_cfg, norm_cfg, norm_eval, dcn, stage_with_dcn, plugins, with_cp,
            zero_init_residual, pretrained, init_cfg,
        )  # fmt: skip

    def _stage(self, index: int, stage: Stage) -> Stage:
        widths = {"scales": self.scales, "base_width": self.base_width, "base_channels": self.base_channels}
        return replace(stage, options=widths)

    def _make_stage(self, stage: Stage, inplanes: int, index: int, avg_down: bool, **options: Any) -> nn.Sequential:
        layer = super()._make_stage(stage, inplanes, index, avg_down, **options)
        first = layer[0]
        assert isinstance(first, Bottle2neck)
        first.begins_stage = True
        return layer
