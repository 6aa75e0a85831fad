"""ResNeSt (arXiv 2004.08955): the 3x3 convolution gives several maps, which attention mixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.backbones.resnet.blocks import Bottleneck
from hatdet.models.mmdet.backbones.resnet.resnet import BN, Flags, Init, Ints, Plugins, ResNetV1d, deep
from hatdet.models.mmdet.backbones.resnet.stages import Stage
from hatdet.models.mmdet.layers.conv import build_conv
from hatdet.models.mmdet.layers.norm import build_norm, norm_name
from hatdet.models.mmdet.layers.res_layer import BN as PLAIN_BN
from hatdet.registry import register
from hatdet.utils.annotations import Spec


class SplitAttentionConv2d(nn.Module):
    """``radix`` convolutions side by side; for each channel, weights of the ``radix`` maps come from their mean.

    State: ``conv``, ``bn0``, ``fc1``, ``bn1``, ``fc2``.

    Args:
        channels: in and out.
        stride, dilation, groups: of the 3x3 convolutions.
        radix: how many.
        reduction_factor: ``channels * radix / reduction_factor`` channels, at least 32, inside of the attention.
        conv_cfg, norm_cfg: of the convolutions, of all normalization.
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        dilation: int,
        groups: int,
        radix: int,
        reduction_factor: int,
        conv_cfg: Mapping[str, Any] | None,
        norm_cfg: Mapping[str, Any],
    ) -> None:
        super().__init__()
        between = max(channels * radix // reduction_factor, 32)
        self.one_operator = radix > 1  # a quantizer refuses its softmax by the name of the whole
        self.radix, self.groups, self._norms = radix, groups, (norm_name(norm_cfg, 0), norm_name(norm_cfg, 1))
        self.conv = build_conv(
            conv_cfg, channels, channels * radix, 3, stride=stride, padding=dilation, dilation=dilation,
            groups=groups * radix, bias=False,
        )  # fmt: skip
        self.add_module(self._norms[0], build_norm(norm_cfg, channels * radix))
        self.fc1 = nn.Conv2d(channels, between, 1, groups=groups)
        self.add_module(self._norms[1], build_norm(norm_cfg, between))
        self.fc2 = nn.Conv2d(between, channels * radix, 1, groups=groups)
        self.relu0, self.relu1 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W')."""
        x = self.relu0(getattr(self, self._norms[0])(self.conv(x)))
        maps = x.chunk(self.radix, dim=1)
        mean = self.pool(sum(maps[1:], maps[0]))
        raw = self.fc2(self.relu1(getattr(self, self._norms[1])(self.fc1(mean))))
        if self.radix == 1:
            return torch.sigmoid(raw) * x
        # fc2 says group after group, in each radix after radix; a softmax over radix gives radix after radix.
        weights = raw.view(len(raw), self.groups, self.radix, -1).transpose(1, 2).softmax(dim=1)
        weighted = [w * m for w, m in zip(weights.reshape(len(raw), -1, 1, 1).chunk(self.radix, dim=1), maps)]
        return sum(weighted[1:], weighted[0])


class SplitAttentionBottleneck(Bottleneck):
    """A bottleneck with :class:`SplitAttentionConv2d`; other arguments: :class:`Bottleneck`.

    Args:
        radix, reduction_factor: see there.
        avg_down_stride: a mean of 3 x 3 positions has the stride, not the convolution.
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
        groups: int = 1,
        base_width: int = 4,
        base_channels: int = 64,
        radix: int = 2,
        reduction_factor: int = 4,
        avg_down_stride: bool = True,
    ) -> None:
        self.radix, self.reduction_factor, self.avg_down_stride = radix, reduction_factor, avg_down_stride
        super().__init__(
            inplanes, planes, stride, dilation, downsample, style, with_cp, conv_cfg, norm_cfg, dcn, plugins, None,
            groups, base_width, base_channels,
        )  # fmt: skip

    def _make_middle(self, width: int, dcn: Mapping[str, Any] | None) -> None:
        pooled = self.avg_down_stride and self.conv2_stride > 1
        self.conv2 = SplitAttentionConv2d(
            width, 1 if pooled else self.conv2_stride, self.dilation, self.groups, self.radix, self.reduction_factor,
            self._middle_cfg(dcn), self.norm_cfg,
        )  # fmt: skip
        self.avd_layer = nn.AvgPool2d(3, self.conv2_stride, padding=1) if pooled else nn.Identity()

    def _middle(self, x: Tensor) -> Tensor:
        return self.avd_layer(self.conv2(x))  # type: ignore[no-any-return]


@register(scope="mmdet")
class ResNeSt(ResNetV1d):
    """ResNeSt; other arguments: :class:`ResNetV1d`.

    Args:
        depth: 50, 101, 152 or 200.
        groups, base_width: of the 3x3 convolutions, as in ResNeXt.
        radix, reduction_factor: of the attention, see :class:`SplitAttentionConv2d`.
        avg_down_stride: see :class:`SplitAttentionBottleneck`.
    """

    arch_settings = {**deep(SplitAttentionBottleneck), 200: (SplitAttentionBottleneck, (3, 24, 36, 3))}

    falls_back = False

    def __init__(
        self, depth: int, groups: int = 1, base_width: int = 4, radix: int = 2, reduction_factor: int = 4,
        avg_down_stride: bool = True, in_channels: int = 3, stem_channels: int | None = None, base_channels: int = 64,
        num_stages: int = 4, strides: Ints = (1, 2, 2, 2), dilations: Ints = (1, 1, 1, 1),
        out_indices: Ints = (0, 1, 2, 3), style: str = "pytorch", frozen_stages: int = -1,
        conv_cfg: Spec | None = None, norm_cfg: Spec = BN, norm_eval: bool = True, dcn: Spec | None = None,
        stage_with_dcn: Flags = (False, False, False, False), plugins: Plugins | None = None, with_cp: bool = False,
        zero_init_residual: bool = True, pretrained: str | None = None, init_cfg: Init = None,
    ) -> None:  # fmt: skip
        self._attention = {
            "groups": groups, "base_width": base_width, "base_channels": base_channels, "radix": radix,
            "reduction_factor": reduction_factor, "avg_down_stride": avg_down_stride,
        }  # fmt: skip
        super().__init__(
            depth, in_channels, stem_channels, base_channels, num_stages, strides, dilations, out_indices, style,
            frozen_stages, conv_cfg, norm_cfg, norm_eval, dcn, stage_with_dcn, plugins, with_cp, zero_init_residual,
            pretrained, init_cfg,
        )  # fmt: skip

    def _stage(self, index: int, stage: Stage) -> Stage:
        return replace(stage, options=self._attention)
