"""Stacked hourglasses (arXiv 1603.06937), as CornerNet has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.feature_info import FeatureInfo
from hatdet.models.mmdet.backbones.resnet.blocks import BasicBlock
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import LEARNED_BN
from hatdet.models.mmdet.layers.res_layer import ResLayer
from hatdet.registry import register
from hatdet.utils.annotations import Spec

_NEAREST: Spec = {"mode": "nearest"}


class HourglassModule(nn.Module):
    """A branch at the map's own size (``up1``) and one at half of it (``low1``, ``low2``, ``low3``), added; ``low2`` is
    an hourglass again until ``depth`` is 1.

    Args:
        depth: how often the map is halved.
        stage_channels, stage_blocks: at each size, largest first.
        norm_cfg: of this size; inner ones have batch norm.
        upsample_cfg: arguments of ``F.interpolate``; without ``scale_factor`` to the size of the other branch.
    """

    def __init__(
        self,
        depth: int,
        stage_channels: Sequence[int],
        stage_blocks: Sequence[int],
        norm_cfg: Spec = LEARNED_BN,
        upsample_cfg: Spec = _NEAREST,
    ) -> None:
        super().__init__()
        width, inner = stage_channels[:2]
        blocks = stage_blocks[0]
        self.up1 = ResLayer(BasicBlock, width, width, blocks, norm_cfg=norm_cfg)
        self.low1 = ResLayer(BasicBlock, width, inner, blocks, stride=2, norm_cfg=norm_cfg)
        self.low2: nn.Module = (
            HourglassModule(depth - 1, stage_channels[1:], stage_blocks[1:])
            if depth > 1
            else ResLayer(BasicBlock, inner, inner, stage_blocks[1], norm_cfg=norm_cfg)
        )
        self.low3 = ResLayer(BasicBlock, inner, width, blocks, norm_cfg=norm_cfg, downsample_first=False)
        self.upsample_cfg = dict(upsample_cfg)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.up1(x)
        size: dict[str, Any] = {} if "scale_factor" in self.upsample_cfg else {"size": fine.shape[2:]}
        small = self.low3(self.low2(self.low1(x)))
        return fine + F.interpolate(small, **size, **self.upsample_cfg)  # type: ignore[no-any-return]


@register(scope="mmdet")
class HourglassNet(nn.Module):
    """(B, 3, H, W) -> a map (B, feat_channel, H / 4, W / 4) of each hourglass, the last one the best.

    State: ``stem``, ``hourglass_modules``, ``inters``, ``conv1x1s``, ``out_convs``, ``remap_convs``.

    Args:
        downsample_times: how often each hourglass halves the map.
        num_stacks: hourglasses.
        stage_channels, stage_blocks: at each size, largest first; one more than ``downsample_times`` at least.
        feat_channel: of the maps returned.
        norm_cfg: of all but the hourglasses, which have batch norm.

    Raises:
        ValueError: no hourglass, or lists that do not fit.
    """

    def __init__(
        self,
        downsample_times: int = 5,
        num_stacks: int = 2,
        stage_channels: Sequence[int] = (256, 256, 384, 384, 384, 512),
        stage_blocks: Sequence[int] = (2, 2, 2, 2, 2, 4),
        feat_channel: int = 256,
        norm_cfg: Spec = LEARNED_BN,
        init_cfg: None = None,
    ) -> None:
        super().__init__()
        if num_stacks < 1:
            raise ValueError(f"num_stacks={num_stacks}; write 1 or more")
        if len(stage_channels) != len(stage_blocks) or len(stage_channels) <= downsample_times:
            raise ValueError(
                f"stage_channels has {len(stage_channels)} numbers and stage_blocks {len(stage_blocks)}; write as "
                f"many, and more than downsample_times={downsample_times}"
            )
        width = stage_channels[0]
        between = range(num_stacks - 1)

        def conv(inputs: int, outputs: int, side: int, **options: Any) -> ConvModule:
            return ConvModule(inputs, outputs, side, padding=side // 2, norm_cfg=norm_cfg, **options)

        self.stem = nn.Sequential(
            conv(3, width // 2, 7, stride=2),
            ResLayer(BasicBlock, width // 2, width, 1, stride=2, norm_cfg=norm_cfg),
        )
        self.hourglass_modules = nn.ModuleList(
            HourglassModule(downsample_times, stage_channels, stage_blocks) for _ in range(num_stacks)
        )
        # A single hourglass has one of these, too, which nothing runs through.
        self.inters = ResLayer(BasicBlock, width, width, num_stacks - 1, norm_cfg=norm_cfg)
        self.conv1x1s = nn.ModuleList(conv(width, width, 1, act_cfg=None) for _ in between)
        self.out_convs = nn.ModuleList(conv(width, feat_channel, 3) for _ in range(num_stacks))
        self.remap_convs = nn.ModuleList(conv(feat_channel, width, 1, act_cfg=None) for _ in between)
        self.relu = nn.ReLU(inplace=True)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
        self.feature_info = FeatureInfo((feat_channel,) * num_stacks, (4,) * num_stacks)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        outs: list[Tensor] = []
        for i, (hourglass, out_conv) in enumerate(zip(self.hourglass_modules, self.out_convs, strict=True)):
            if i > 0:
                mixed = self.conv1x1s[i - 1](x) + self.remap_convs[i - 1](outs[-1])
                x = self.inters[i - 1](self.relu(mixed))
            outs.append(out_conv(hourglass(x)))
        return tuple(outs)
