"""The backbones of DetectoRS (arXiv 2006.02334): switchable dilation, and features of a pyramid that come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from hatdet.models.feature_info import FeatureInfo
from hatdet.models.mmdet.backbones.resnet.blocks import Bottleneck
from hatdet.models.mmdet.backbones.resnet.resnet import BN, Flags, Init, Ints, Plugins, ResNet, deep
from hatdet.models.mmdet.backbones.resnet.stages import Stage
from hatdet.models.mmdet.layers.init import constant_init
from hatdet.models.mmdet.layers.res_layer import BN as PLAIN_BN
from hatdet.registry import register
from hatdet.utils.annotations import Spec


class RecursiveBottleneck(Bottleneck):
    """A bottleneck that adds features of the pyramid where it has a ``rfp_conv``; other arguments: :class:`Bottleneck`.

    Args:
        sac: of the 3x3 convolution, in its place.
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
        sac: Mapping[str, Any] | None = None,
        groups: int = 1,
        base_width: int = 4,
        base_channels: int = 64,
    ) -> None:
        self._sac = sac
        super().__init__(
            inplanes, planes, stride, dilation, downsample, style, with_cp, conv_cfg, norm_cfg, dcn, plugins, None,
            groups, base_width, base_channels,
        )  # fmt: skip
        self.rfp_conv: nn.Conv2d | None = None

    def _middle_cfg(self, dcn: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        return super()._middle_cfg(dcn) if self._sac is None else self._sac

    def rfp_forward(self, x: Tensor, rfp_feat: Tensor | None) -> Tensor:
        """The map, and the pyramid's features of the size of what comes out."""
        out = self._saving(self._inside, x)
        if self.rfp_conv is not None and rfp_feat is not None:
            out = out + self.rfp_conv(rfp_feat)
        return self.relu3(out)  # type: ignore[no-any-return]


@register(scope="mmdet")
class DetectoRS_ResNet(ResNet):
    """ResNet of DetectoRS; other arguments: :class:`ResNet`.

    Args:
        sac: switchable convolution (``dict(type="SAC", use_deform=True)``) in the stages of ``stage_with_sac``.
        rfp_inplanes: channels of the pyramid's features that the first blocks of stages 2 to 4 add; None: none.
        output_img: give the image, too, before the maps.
    """

    arch_settings = deep(RecursiveBottleneck)

    def __init__(
        self, depth: int, sac: Spec | None = None, stage_with_sac: Flags = (False, False, False, False),
        rfp_inplanes: int | None = None, output_img: bool = False, in_channels: int = 3,
        stem_channels: int | None = None, base_channels: int = 64, num_stages: int = 4, strides: Ints = (1, 2, 2, 2),
        dilations: Ints = (1, 1, 1, 1), out_indices: Ints = (0, 1, 2, 3), style: str = "pytorch",
        deep_stem: bool = False, avg_down: bool = False, frozen_stages: int = -1, conv_cfg: Spec | None = None,
        norm_cfg: Spec = BN, norm_eval: bool = True, dcn: Spec | None = None,
        stage_with_dcn: Flags = (False, False, False, False), plugins: Plugins | None = None, with_cp: bool = False,
        zero_init_residual: bool = True, pretrained: str | None = None, init_cfg: Init = None,
    ) -> None:  # fmt: skip
        if sac is not None and len(stage_with_sac) != num_stages:
            got = len(stage_with_sac)
            raise ValueError(f"stage_with_sac has {got} entries; give one for each of {num_stages} stages")
        self.sac, self.stage_with_sac, self.rfp_inplanes = sac, stage_with_sac, rfp_inplanes
        self.output_img = output_img
        super().__init__(
            depth, in_channels, stem_channels, base_channels, num_stages, strides, dilations, out_indices, style,
            deep_stem, avg_down, frozen_stages, conv_cfg, norm_cfg, norm_eval, dcn, stage_with_dcn, plugins, with_cp,
            zero_init_residual, pretrained, init_cfg,
        )  # fmt: skip
        for module in self.modules():
            if isinstance(module, RecursiveBottleneck) and module.rfp_conv is not None:
                constant_init(module.rfp_conv, 0)
        if output_img:
            told = self.feature_info
            self.feature_info = FeatureInfo((in_channels, *told.channels), (1, *told.strides))

    def _stage(self, index: int, stage: Stage) -> Stage:
        if self.sac is not None and self.stage_with_sac[index]:
            return replace(stage, options={**stage.options, "sac": self.sac})
        return stage

    def _make_stage(self, stage: Stage, inplanes: int, index: int, avg_down: bool, **options: Any) -> nn.Sequential:
        layer = super()._make_stage(stage, inplanes, index, avg_down, always_pool=False, **options)
        if self.rfp_inplanes is not None and index > 0:
            layer[0].rfp_conv = nn.Conv2d(self.rfp_inplanes, stage.channels, 1)
        return layer

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) -> maps, after the image where ``output_img`` asks for it."""
        outs = super().forward(x)
        return (x, *outs) if self.output_img else outs

    def rfp_forward(self, x: Tensor, rfp_feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The image, and the pyramid's features of each stage (the first one's are not read) -> maps."""
        x, outs = self._stem(x), []
        for i, name in enumerate(self.res_layers):
            for block in getattr(self, name):
                x = block.rfp_forward(x, rfp_feats[i] if i > 0 else None)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)


@register(scope="mmdet")
class DetectoRS_ResNeXt(DetectoRS_ResNet):
    """ResNeXt of DetectoRS; other arguments: :class:`DetectoRS_ResNet`, and of the groups:
    :class:`~hatdet.models.mmdet.backbones.resnet.resnext.ResNeXt`."""

    falls_back = False

    def __init__(
        self, depth: int, groups: int = 1, base_width: int = 4, sac: Spec | None = None,
        stage_with_sac: Flags = (False, False, False, False), rfp_inplanes: int | None = None,
        output_img: bool = False, in_channels: int = 3, stem_channels: int | None = None, base_channels: int = 64,
        num_stages: int = 4, strides: Ints = (1, 2, 2, 2), dilations: Ints = (1, 1, 1, 1),
        out_indices: Ints = (0, 1, 2, 3), style: str = "pytorch", deep_stem: bool = False, avg_down: bool = False,
        frozen_stages: int = -1, conv_cfg: Spec | None = None, norm_cfg: Spec = BN, norm_eval: bool = True,
        dcn: Spec | None = None, stage_with_dcn: Flags = (False, False, False, False), plugins: Plugins | None = None,
        with_cp: bool = False, zero_init_residual: bool = True, pretrained: str | None = None, init_cfg: Init = None,
    ) -> None:  # fmt: skip
        self.groups, self.base_width = groups, base_width
        super().__init__(
            depth, sac, stage_with_sac, rfp_inplanes, output_img, in_channels, stem_channels, base_channels,
            num_stages, strides, dilations, out_indices, style, deep_stem, avg_down, frozen_stages, conv_cfg, norm_cfg,
            norm_eval, dcn, stage_with_dcn, plugins, with_cp, zero_init_residual, pretrained, init_cfg,
        )  # fmt: skip

    def _stage(self, index: int, stage: Stage) -> Stage:
        stage = super()._stage(index, stage)
        groups = {"groups": self.groups, "base_width": self.base_width, "base_channels": self.base_channels}
        return replace(stage, options={**stage.options, **groups})
