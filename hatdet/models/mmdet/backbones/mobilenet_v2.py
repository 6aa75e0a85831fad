"""MobileNetV2 (arXiv 1801.04381), with MMDetection's parameter names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from hatdet.models.mmdet.backbones.staged import Staged, first_weights, make_divisible
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import BN, KAIMING
from hatdet.models.mmdet.layers.csp.inverted_residual import InvertedResidual
from hatdet.models.mmdet.layers.init import initialize
from hatdet.registry import register
from hatdet.utils.annotations import Spec

_RELU6: Spec = {"type": "ReLU6"}


@register(scope="mmdet")
class MobileNetV2(Staged):
    """(B, 3, H, W) -> maps of ``layer1`` to ``layer7`` and ``conv2``, at strides 2, 4, 8, 16, 16, 32, 32, 32.

    They have 16, 24, 32, 64, 96, 160, 320 and 1280 channels, times ``widen_factor``.

    Args:
        widen_factor: of channels; they stay multiples of 8.
        out_indices: what is returned; 0 is ``layer1``, 7 is ``conv2``.
        frozen_stages: -1: none; n: ``conv1`` and ``layer1`` to ``layer<n>`` keep weights and statistics.
        conv_cfg, norm_cfg, act_cfg: see :class:`ConvModule`.
        norm_eval: batch norms keep the statistics they were loaded with, in training too.
        with_cp: save memory in training, at the price of a second forward.
        pretrained: checkpoint to begin with, a short form of ``init_cfg``.

    Raises:
        ValueError: stages that do not exist.
    """

    # Table 2 of the paper: expansion, channels, blocks, stride.
    arch_settings = (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    )  # fmt: skip

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (1, 2, 4, 7),
        frozen_stages: int = -1,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = BN,
        act_cfg: Spec | None = _RELU6,
        norm_eval: bool = False,
        with_cp: bool = False,
        pretrained: str | None = None,
        init_cfg: Spec | list[Any] | None = None,
    ) -> None:
        super().__init__()
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg}
        channels, whole = make_divisible(32 * widen_factor), 2
        self.conv1 = ConvModule(3, channels, 3, stride=2, padding=1, **parts)
        stages = []
        for i, (expansion, base, count, stride) in enumerate(self.arch_settings, 1):
            width = make_divisible(base * widen_factor)
            blocks = []
            for j in range(count):
                blocks.append(
                    InvertedResidual(
                        channels, width, round(channels * expansion), stride=stride if j == 0 else 1,
                        with_expand_conv=expansion != 1, with_cp=with_cp, **parts,
                    )
                )  # fmt: skip
                channels = width
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
            whole *= stride
            stages.append((f"layer{i}", width, whole))
        last = int(1280 * max(widen_factor, 1.0))
        self.conv2 = ConvModule(channels, last, 1, **parts)
        stages.append(("conv2", last, whole))
        self._staged(stages, out_indices, frozen_stages + 1, norm_eval, stem=["conv1"])
        initialize(self, first_weights(pretrained, init_cfg, KAIMING))
