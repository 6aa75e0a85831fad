"""A stem and stages of residual blocks: what all networks of the family are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from hatdet.models.backbones.freezing import freeze, keep_frozen
from hatdet.models.feature_info import FeatureInfo
from hatdet.models.mmdet.backbones.resnet.blocks import Block
from hatdet.models.mmdet.layers.conv import build_conv
from hatdet.models.mmdet.layers.init import InitCfg, constant_init, initialize
from hatdet.models.mmdet.layers.norm import build_norm, norm_name
from hatdet.models.mmdet.layers.res_layer import ResLayer, without_fallback

KAIMING: tuple[dict[str, Any], ...] = (
    {"type": "Kaiming", "layer": ["Conv2d", "ConvAWS2d"]},
    {"type": "Constant", "val": 1, "layer": ["_BatchNorm", "GroupNorm"]},
)


@dataclass(frozen=True)
class Stage:
    """One stage: ``blocks`` blocks of ``planes * expansion`` channels.

    Attributes:
        options: further arguments of the blocks.
    """

    block: Any
    planes: int
    blocks: int
    stride: int
    dilation: int
    expansion: int
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Of the map that comes out."""
        return self.planes * self.expansion


class ResidualNet(nn.Module):
    """Stem and stages: image (B, C, H, W) -> the maps of ``out_indices``, finest first.

    State: ``conv1``, ``bn1`` (or ``stem``), ``layer1``, ``layer2``, ...

    Args:
        stages: first to last.
        in_channels: of the image.
        stem_channels: of the stem's map.
        out_indices: stages whose maps are given, from 0.
        style: ``pytorch`` or ``caffe``: which convolution of a block has the stride.
        deep_stem: three 3x3 convolutions in the place of one of 7x7.
        avg_down: see :func:`~hatdet.models.mmdet.layers.res_layer.build_downsample`.
        frozen_stages: the stem (from 0) and so many stages do not learn; -1: all do.
        conv_cfg, norm_cfg: of convolutions and normalization.
        norm_eval: batch norms keep their statistics in training.
        dcn: of the 3x3 convolutions in the stages of ``stage_with_dcn``; ``fallback_on_stride``: not in the very first
            block of these (:attr:`falls_back`).
        plugins: ``cfg``, ``position`` and perhaps ``stages`` (whether in each stage) of each.
        with_cp: compute the inside of blocks twice, to save memory.
        zero_init_residual: blocks begin as the identity.
        pretrained: a checkpoint, as ``init_cfg=dict(type="Pretrained", checkpoint=pretrained)``.
        init_cfg: of first weights; None: He's.

    Attributes:
        feature_info: channels and strides of the maps.
    """

    falls_back: ClassVar[bool] = False
    """Whether ``fallback_on_stride`` of ``dcn`` has a meaning; in MMDetection's files it is of one block alone."""

    def __init__(
        self,
        stages: Sequence[Stage],
        in_channels: int,
        stem_channels: int,
        out_indices: Sequence[int],
        style: str,
        deep_stem: bool,
        avg_down: bool,
        frozen_stages: int,
        conv_cfg: Mapping[str, Any] | None,
        norm_cfg: Mapping[str, Any],
        norm_eval: bool,
        dcn: Mapping[str, Any] | None,
        stage_with_dcn: Sequence[bool],
        plugins: Sequence[Mapping[str, Any]] | None,
        with_cp: bool,
        zero_init_residual: bool,
        pretrained: str | None,
        init_cfg: InitCfg,
    ) -> None:
        super().__init__()
        _check(stages, out_indices, stage_with_dcn if dcn is not None else None, plugins, init_cfg, pretrained)
        self.out_indices, self.frozen_stages, self.norm_eval = tuple(sorted(out_indices)), frozen_stages, norm_eval
        self.conv_cfg, self.norm_cfg, self.deep_stem = conv_cfg, norm_cfg, deep_stem
        stride = self._make_stem(in_channels, stem_channels)
        self.res_layers, infos, inplanes = [f"layer{i + 1}" for i in range(len(stages))], [], stem_channels
        dcns = _of_stages(dcn, stage_with_dcn, self.falls_back, len(stages))
        for i, stage in enumerate(stages):
            layer = self._make_stage(
                stage, inplanes, index=i, style=style, avg_down=avg_down, with_cp=with_cp, dcn=dcns[i],
                plugins=_of_stage(plugins, i),
            )  # fmt: skip
            self.add_module(self.res_layers[i], layer)
            stride, inplanes = stride * stage.stride, stage.channels
            infos.append((stage.channels, stride))
        self.feature_info = FeatureInfo(*zip(*(infos[i] for i in self.out_indices)))  # type: ignore[arg-type]
        self.feat_dim = stages[-1].channels
        if pretrained is not None:
            init_cfg = {"type": "Pretrained", "checkpoint": pretrained}
        initialize(self, KAIMING if init_cfg is None else init_cfg)
        if init_cfg is None and zero_init_residual:
            for module in self.modules():
                if isinstance(module, Block):
                    constant_init(module.last_norm, 0)
        freeze(self._frozen())

    def _make_stem(self, in_channels: int, channels: int) -> int:
        """Its layers, and its stride."""
        if self.deep_stem:
            half, layers = channels // 2, []
            for i, (inputs, outputs) in enumerate(((in_channels, half), (half, half), (half, channels))):
                conv = build_conv(self.conv_cfg, inputs, outputs, 3, stride=1 if i else 2, padding=1, bias=False)
                layers += [conv, build_norm(self.norm_cfg, outputs), nn.ReLU(inplace=True)]
            self.stem = nn.Sequential(*layers)
        else:
            self.conv1 = build_conv(self.conv_cfg, in_channels, channels, 7, stride=2, padding=3, bias=False)
            self.add_module(norm_name(self.norm_cfg, 1), build_norm(self.norm_cfg, channels))
            self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        return 4

    def _make_stage(self, stage: Stage, inplanes: int, index: int, avg_down: bool, **options: Any) -> nn.Sequential:
        if stage.expansion != stage.block.expansion:
            options["expansion"] = stage.expansion
        return ResLayer(
            stage.block, inplanes, stage.planes, stage.blocks, stage.stride, avg_down, self.conv_cfg, self.norm_cfg,
            dilation=stage.dilation, **options, **stage.options,
        )  # fmt: skip

    @property
    def norm1(self) -> nn.Module:
        """After the stem's convolution."""
        return self.get_submodule(norm_name(self.norm_cfg, 1))

    def _frozen(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        stem = [self.stem] if self.deep_stem else [self.conv1, self.norm1]
        return [*stem, *(self.get_submodule(name) for name in self.res_layers[: self.frozen_stages])]

    def train(self, mode: bool = True) -> ResidualNet:
        """Training mode, but for what is frozen."""
        super().train(mode)
        keep_frozen(self, self._frozen(), mode and self.norm_eval)
        return self

    def _stem(self, x: Tensor) -> Tensor:
        x = self.stem(x) if self.deep_stem else self.relu(self.norm1(self.conv1(x)))
        return self.maxpool(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) -> maps (B, C_i, H_i, W_i)."""
        x, outs = self._stem(x), []
        for i, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)


def _of_stages(
    dcn: Mapping[str, Any] | None, stages: Sequence[bool], falls_back: bool, count: int
) -> list[Mapping[str, Any] | None]:
    """``dcn`` of each stage; the first that has one keeps ``fallback_on_stride``."""
    if dcn is None:
        return [None] * count
    plain, first = without_fallback(dcn), list(stages).index(True) if falls_back and any(stages) else -1
    return [(dcn if i == first else plain) if there else None for i, there in enumerate(stages)]


def _of_stage(plugins: Sequence[Mapping[str, Any]] | None, index: int) -> list[dict[str, Any]] | None:
    if plugins is None:
        return None
    found = [plugin for plugin in plugins if plugin.get("stages") is None or plugin["stages"][index]]
    return [{key: value for key, value in plugin.items() if key != "stages"} for plugin in found]


def _check(
    stages: Sequence[Stage],
    out_indices: Sequence[int],
    stage_with_dcn: Sequence[bool] | None,
    plugins: Sequence[Mapping[str, Any]] | None,
    init_cfg: InitCfg,
    pretrained: str | None,
) -> None:
    count = len(stages)
    if not out_indices or not set(out_indices) <= set(range(count)):
        raise ValueError(f"out_indices={tuple(out_indices)}: give stages from 0 to {count - 1}")
    if stage_with_dcn is not None and len(stage_with_dcn) != count:
        raise ValueError(f"stage_with_dcn has {len(stage_with_dcn)} entries; give one for each of {count} stages")
    for plugin in plugins or ():
        if plugin.get("stages") is not None and len(plugin["stages"]) != count:
            got = len(plugin["stages"])
            raise ValueError(f"stages of a plugin has {got} entries; give one for each of {count} stages")
    if init_cfg is not None and pretrained is not None:
        raise ValueError("init_cfg and pretrained both say the first weights; leave pretrained out")
