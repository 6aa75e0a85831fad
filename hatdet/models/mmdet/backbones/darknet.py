"""Darknet-53 of YOLOv3 (arXiv 1804.02767)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.models.mmdet.backbones.staged import Staged, first_weights
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import KAIMING, LEAKY, LEARNED_BN
from hatdet.models.mmdet.layers.init import initialize
from hatdet.registry import register
from hatdet.utils.annotations import Spec


class ResBlock(nn.Module):
    """1x1 convolution to half the channels, 3x3 back, the input added (``conv1``, ``conv2``)."""

    def __init__(self, channels: int, **parts: Any) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels // 2, 1, **parts)
        self.conv2 = ConvModule(channels // 2, channels, 3, padding=1, **parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))  # type: ignore[no-any-return]


@register(scope="mmdet")
class Darknet(Staged):
    """(B, 3, H, W) -> maps of ``conv1`` (stride 1), ``conv_res_block1`` (stride 2), ... ``conv_res_block5`` (32).

    Args:
        depth: 53.
        out_indices: what is returned; 0 is ``conv1``.
        frozen_stages: -1: none; n: the first n of them keep weights and statistics.
        conv_cfg, norm_cfg, act_cfg: see :class:`ConvModule`.
        norm_eval: batch norms keep the statistics they were loaded with, in training too.
        pretrained: checkpoint to begin with, a short form of ``init_cfg``.

    Raises:
        ValueError: another depth, or stages that do not exist.
    """

    arch_settings = {53: ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))}

    def __init__(
        self,
        depth: int = 53,
        out_indices: Sequence[int] = (3, 4, 5),
        frozen_stages: int = -1,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = LEARNED_BN,
        act_cfg: Spec | None = LEAKY,
        norm_eval: bool = True,
        pretrained: str | None = None,
        init_cfg: Spec | list[Any] | None = None,
    ) -> None:
        super().__init__()
        if depth not in self.arch_settings:
            raise ValueError(f"depth={depth}; Darknet has the depths {', '.join(map(str, self.arch_settings))}")
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg}
        self.conv1 = ConvModule(3, 32, 3, padding=1, **parts)
        stages, channels = [("conv1", 32, 1)], 32
        for i, (width, blocks) in enumerate(self.arch_settings[depth], 1):
            stage = nn.Sequential()
            stage.add_module("conv", ConvModule(channels, width, 3, stride=2, padding=1, **parts))
            for j in range(blocks):
                stage.add_module(f"res{j}", ResBlock(width, **parts))
            self.add_module(f"conv_res_block{i}", stage)
            stages.append((f"conv_res_block{i}", width, 2**i))
            channels = width
        self._staged(stages, out_indices, max(frozen_stages, 0), norm_eval)
        initialize(self, first_weights(pretrained, init_cfg, KAIMING))
