"""ResNet and ResNet-D under MMDetection's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from hatdet.models.mmdet.backbones.resnet.blocks import BasicBlock, Bottleneck
from hatdet.models.mmdet.backbones.resnet.stages import ResidualNet, Stage
from hatdet.models.mmdet.layers.init import InitCfg
from hatdet.registry import register
from hatdet.utils.annotations import AsWritten, Spec

Flags = Sequence[bool]
Ints = Sequence[int]
Plugins = Annotated[Sequence[dict[str, Any]], AsWritten]
Init = Annotated[InitCfg, AsWritten]
BN: Spec = {"type": "BN", "requires_grad": True}
DEEP = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks in the stages of networks made of bottlenecks."""


def deep(block: type[Bottleneck]) -> dict[int, tuple[type[Bottleneck], Ints]]:
    """``arch_settings`` of a network of this block."""
    return {depth: (block, blocks) for depth, blocks in DEEP.items()}


@register(scope="mmdet")
class ResNet(ResidualNet):
    """ResNet (arXiv 1512.03385); arguments and state: :class:`ResidualNet`.

    Args:
        depth: 18, 34, 50, 101 or 152.
        stem_channels: of the stem's map; None: ``base_channels``.
        base_channels: of the first stage's blocks; each stage has twice as many as the one before.
        num_stages: how many of the four.
        strides, dilations: of each stage.
    """

    arch_settings: Mapping[int, tuple[Any, Ints]] = {
        18: (BasicBlock, (2, 2, 2, 2)),
        34: (BasicBlock, (3, 4, 6, 3)),
        **deep(Bottleneck),
    }

    falls_back = True

    def __init__(
        self, depth: int, in_channels: int = 3, stem_channels: int | None = None, base_channels: int = 64,
        num_stages: int = 4, strides: Ints = (1, 2, 2, 2), dilations: Ints = (1, 1, 1, 1),
        out_indices: Ints = (0, 1, 2, 3), style: str = "pytorch", deep_stem: bool = False, avg_down: bool = False,
        frozen_stages: int = -1, conv_cfg: Spec | None = None, norm_cfg: Spec = BN, norm_eval: bool = True,
        dcn: Spec | None = None, stage_with_dcn: Flags = (False, False, False, False), plugins: Plugins | None = None,
        with_cp: bool = False, zero_init_residual: bool = True, pretrained: str | None = None, init_cfg: Init = None,
    ) -> None:  # fmt: skip
        if depth not in self.arch_settings:
            known = ", ".join(map(str, self.arch_settings))
            raise ValueError(f"depth={depth}: {type(self).__name__} has {known}; write one of them")
        if not 1 <= num_stages <= 4 or not len(strides) == len(dilations) == num_stages:
            raise ValueError(
                f"num_stages={num_stages} with {len(strides)} strides and {len(dilations)} dilations: "
                "give one of each for each of 1 to 4 stages"
            )
        block, blocks = self.arch_settings[depth]
        self.depth, self.base_channels = depth, base_channels
        stages = [
            self._stage(i, Stage(block, base_channels * 2**i, blocks[i], strides[i], dilations[i], block.expansion))
            for i in range(num_stages)
        ]
        super().__init__(
            stages, in_channels, stem_channels or base_channels, out_indices, style, deep_stem, avg_down,
            frozen_stages, conv_cfg, norm_cfg, norm_eval, dcn, stage_with_dcn, plugins, with_cp, zero_init_residual,
            pretrained, init_cfg,
        )  # fmt: skip

    def _stage(self, index: int, stage: Stage) -> Stage:
        """The stage as this network has it."""
        return stage


@register(scope="mmdet")
class ResNetV1d(ResNet):
    """ResNet-D (arXiv 1812.01187): a deep stem, and means where the identity loses positions."""

    def __init__(
        self, depth: int, in_channels: int = 3, stem_channels: int | None = None, base_channels: int = 64,
        num_stages: int = 4, strides: Ints = (1, 2, 2, 2), dilations: Ints = (1, 1, 1, 1),
        out_indices: Ints = (0, 1, 2, 3), style: str = "pytorch", frozen_stages: int = -1,
        conv_cfg: Spec | None = None, norm_cfg: Spec = BN, norm_eval: bool = True, dcn: Spec | None = None,
        stage_with_dcn: Flags = (False, False, False, False), plugins: Plugins | None = None, with_cp: bool = False,
        zero_init_residual: bool = True, pretrained: str | None = None, init_cfg: Init = None,
    ) -> None:  # fmt: skip
        super().__init__(
            depth, in_channels, stem_channels, base_channels, num_stages, strides, dilations, out_indices, style,
            True, True, frozen_stages, conv_cfg, norm_cfg, norm_eval, dcn, stage_with_dcn, plugins, with_cp,
            zero_init_residual, pretrained, init_cfg,
        )  # fmt: skip
