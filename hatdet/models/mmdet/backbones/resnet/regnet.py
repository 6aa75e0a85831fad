"""RegNet (arXiv 2003.13678): the widths of blocks lie on a line, rounded to a few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from hatdet.models.mmdet.backbones.resnet.blocks import Bottleneck
from hatdet.models.mmdet.backbones.resnet.resnet import BN, Flags, Init, Ints, Plugins
from hatdet.models.mmdet.backbones.resnet.stages import ResidualNet, Stage
from hatdet.models.mmdet.layers.conv import build_conv
from hatdet.models.mmdet.layers.norm import build_norm, norm_name
from hatdet.registry import register
from hatdet.utils.annotations import Spec
from hatdet.utils.errors import did_you_mean


def _arch(w0: int, wa: float, wm: float, group_w: int, depth: int) -> dict[str, Any]:
    return {"w0": w0, "wa": wa, "wm": wm, "group_w": group_w, "depth": depth, "bot_mul": 1.0}


def widths_of(arch: Mapping[str, Any]) -> list[int]:
    """Channels of each block (section 3.3): ``w0 + wa * i``, to the nearest ``w0 * wm ** k``, to a multiple of 8.

    Raises:
        ValueError: numbers that give no network.
    """
    w0, wa, wm = arch["w0"], arch["wa"], arch["wm"]
    if wa < 0 or w0 <= 0 or wm <= 1 or w0 % 8:
        raise ValueError(f"arch with w0={w0}, wa={wa}, wm={wm}: give w0 a multiple of 8, wa >= 0 and wm > 1")
    steps = np.round(np.log((np.arange(arch["depth"]) * wa + w0) / w0) / np.log(wm))
    return [int(width) for width in np.round(w0 * np.power(wm, steps) / 8) * 8]


@register(scope="mmdet")
class RegNet(ResidualNet):
    """RegNetX; other arguments and state: :class:`ResidualNet`. ``base_channels``, ``deep_stem`` are without meaning.

    Args:
        arch: ``regnetx_400mf`` ... ``regnetx_12gf``, or a dict of ``w0`` (first width), ``wa`` (slope), ``wm`` (step),
            ``depth`` (blocks), ``group_w`` (channels of a group), ``bot_mul`` (width inside of a block).
        strides, dilations: of each stage.
    """

    arch_settings: Mapping[str, Mapping[str, Any]] = {
        "regnetx_400mf": _arch(24, 24.48, 2.54, 16, 22),
        "regnetx_800mf": _arch(56, 35.73, 2.28, 16, 16),
        "regnetx_1.6gf": _arch(80, 34.01, 2.25, 24, 18),
        "regnetx_3.2gf": _arch(88, 26.31, 2.25, 48, 25),
        "regnetx_4.0gf": _arch(96, 38.65, 2.43, 40, 23),
        "regnetx_6.4gf": _arch(184, 60.83, 2.07, 56, 17),
        "regnetx_8.0gf": _arch(80, 49.56, 2.88, 120, 23),
        "regnetx_12gf": _arch(168, 73.36, 2.37, 112, 19),
    }

    def __init__(
        self, arch: str | Spec, in_channels: int = 3, stem_channels: int = 32, base_channels: int = 32,
        strides: Ints = (2, 2, 2, 2), dilations: Ints = (1, 1, 1, 1), out_indices: Ints = (0, 1, 2, 3),
        style: str = "pytorch", deep_stem: bool = False, avg_down: bool = False, frozen_stages: int = -1,
        conv_cfg: Spec | None = None, norm_cfg: Spec = BN, norm_eval: bool = True, dcn: Spec | None = None,
        stage_with_dcn: Flags = (False, False, False, False), plugins: Plugins | None = None, with_cp: bool = False,
        zero_init_residual: bool = True, pretrained: str | None = None, init_cfg: Init = None,
    ) -> None:  # fmt: skip
        if isinstance(arch, str) and arch not in self.arch_settings:
            near = did_you_mean(arch, self.arch_settings)
            raise ValueError(f"arch={arch!r}{near}: write one of {', '.join(self.arch_settings)}, or a dict")
        told = self.arch_settings[arch] if isinstance(arch, str) else arch
        stages = [
            _stage(width, blocks, stride, dilation, told)
            for (width, blocks), stride, dilation in zip(Counter(widths_of(told)).items(), strides, dilations)
        ]
        count = len(set(widths_of(told)))
        if not count == len(strides) == len(dilations) or count > 4:
            raise ValueError(
                f"arch has {count} stages, with {len(strides)} strides and {len(dilations)} dilations: "
                "give one of each for each of 1 to 4 stages"
            )
        super().__init__(
            stages, in_channels, stem_channels, out_indices, style, False, avg_down, frozen_stages, conv_cfg,
            norm_cfg, norm_eval, dcn, stage_with_dcn, plugins, with_cp, zero_init_residual, pretrained, init_cfg,
        )  # fmt: skip

    def _make_stem(self, in_channels: int, channels: int) -> int:
        self.conv1 = build_conv(self.conv_cfg, in_channels, channels, 3, stride=2, padding=1, bias=False)
        self.add_module(norm_name(self.norm_cfg, 1), build_norm(self.norm_cfg, channels))
        self.relu = nn.ReLU(inplace=True)
        return 2

    def _stem(self, x: Tensor) -> Tensor:
        return self.relu(self.norm1(self.conv1(x)))  # type: ignore[no-any-return]


def _stage(width: int, blocks: int, stride: int, dilation: int, arch: Mapping[str, Any]) -> Stage:
    """A stage whose width its groups divide."""
    inside = int(width * arch["bot_mul"])
    group = min(arch["group_w"], inside)
    width = int(int(round(inside / group) * group) / arch["bot_mul"])
    groups = round(width * arch["bot_mul"]) // group
    options = {"groups": groups, "base_width": group, "base_channels": width}
    return Stage(Bottleneck, width, blocks, stride, dilation, 1, options)
