"""ResNeXt (arXiv 1611.05431): bottlenecks whose 3x3 convolution is in groups."""

from __future__ import annotations

from dataclasses import replace

from hatdet.models.mmdet.backbones.resnet.blocks import Bottleneck
from hatdet.models.mmdet.backbones.resnet.resnet import BN, Flags, Init, Ints, Plugins, ResNet, deep
from hatdet.models.mmdet.backbones.resnet.stages import Stage
from hatdet.registry import register
from hatdet.utils.annotations import Spec


@register(scope="mmdet")
class ResNeXt(ResNet):
    """ResNeXt; other arguments: :class:`ResNet`.

    Args:
        depth: 50, 101 or 152.
        groups: of the 3x3 convolutions.
        base_width: channels of a group in the first stage, where ``base_channels`` is 64.
    """

    arch_settings = deep(Bottleneck)

    falls_back = False

    def __init__(
        self, depth: int, groups: int = 1, base_width: int = 4, in_channels: int = 3,
        stem_channels: int | None = None, base_channels: int = 64, num_stages: int = 4, strides: Ints = (1, 2, 2, 2),
        dilations: Ints = (1, 1, 1, 1), out_indices: Ints = (0, 1, 2, 3), style: str = "pytorch",
        deep_stem: bool = False, avg_down: bool = False, frozen_stages: int = -1, conv_cfg: Spec | None = None,
        norm_cfg: Spec = BN, norm_eval: bool = True, dcn: Spec | None = None,
        stage_with_dcn: Flags = (False, False, False, False), plugins: Plugins | None = None, with_cp: bool = False,
        zero_init_residual: bool = True, pretrained: str | None = None, init_cfg: Init = None,
    ) -> None:  # fmt: skip
        self.groups, self.base_width = groups, base_width
        super().__init__(
            depth, in_channels, stem_channels, base_channels, num_stages, strides, dilations, out_indices, style,
            deep_stem, avg_down, frozen_stages, conv_cfg, norm_cfg, norm_eval, dcn, stage_with_dcn, plugins, with_cp,
            zero_init_residual, pretrained, init_cfg,
        )  # fmt: skip

    def _stage(self, index: int, stage: Stage) -> Stage:
        groups = {"groups": self.groups, "base_width": self.base_width, "base_channels": self.base_channels}
        return replace(stage, options=groups)
