"""EfficientNet (arXiv 1905.11946) and EfficientNet-EdgeTPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from hatdet.models.mmdet.backbones.staged import Staged, make_divisible
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import KAIMING, SWISH
from hatdet.models.mmdet.layers.csp.inverted_residual import EdgeResidual, InvertedResidual
from hatdet.models.mmdet.layers.init import initialize
from hatdet.registry import register
from hatdet.utils.annotations import Spec

_SAME_CONV: Spec = {"type": "Conv2dAdaptivePadding"}
_BN: Spec = {"type": "BN", "eps": 1e-3}


class _Row(NamedTuple):
    """The first of ``blocks`` blocks has the stride; channels and blocks grow with the model."""

    blocks: int
    kernel: int
    channels: int
    stride: int
    expansion: int
    squeeze: int
    """Channels of a block's input for one channel inside its squeeze-and-excitation; 0: none."""
    edge: bool


def _rows(squeeze: int, edges: int, *table: tuple[int, int, int, int, int]) -> list[_Row]:
    return [_Row(*row, squeeze, i < edges) for i, row in enumerate(table)]


# Table 1 of the paper, and its EdgeTPU form: blocks, kernel, channels, stride, expansion.
_TABLES = {
    "b": _rows(
        4, 0, (1, 3, 16, 1, 1), (2, 3, 24, 2, 6), (2, 5, 40, 2, 6), (3, 3, 80, 2, 6), (3, 5, 112, 1, 6),
        (4, 5, 192, 2, 6), (1, 3, 320, 1, 6),
    ),
    "e": _rows(
        0, 3, (1, 3, 24, 1, 3), (2, 3, 32, 2, 8), (4, 3, 48, 2, 8), (5, 5, 96, 2, 8), (4, 5, 144, 1, 8),
        (2, 5, 192, 2, 8),
    ),
}  # fmt: skip


@register(scope="mmdet")
class EfficientNet(Staged):
    """(B, 3, H, W) -> maps of ``layers`` 0 to 6: the stem (stride 2), stages at strides 2, 4, 8, 16, 32, and the last
    1x1 convolution (1280 channels times the width).

    Args:
        arch: ``b0`` to ``b8``; ``es``, ``em``, ``el``.
        drop_path_rate: stochastic depth of the last block; it grows from 0 evenly.
        out_indices: what is returned.
        frozen_stages: the first n of the layers keep weights and statistics.
        conv_cfg, norm_cfg, act_cfg: see :class:`ConvModule`.
        norm_eval: batch norms keep the statistics they were loaded with, in training too.
        with_cp: save memory in training, at the price of a second forward.

    Raises:
        ValueError: another ``arch``, or stages that do not exist.
    """

    # Factors of width and depth.
    arch_settings = {
        "b0": (1.0, 1.0), "b1": (1.0, 1.1), "b2": (1.1, 1.2), "b3": (1.2, 1.4), "b4": (1.4, 1.8), "b5": (1.6, 2.2),
        "b6": (1.8, 2.6), "b7": (2.0, 3.1), "b8": (2.2, 3.6), "es": (1.0, 1.0), "em": (1.0, 1.1), "el": (1.2, 1.4),
    }  # fmt: skip

    def __init__(
        self,
        arch: str = "b0",
        drop_path_rate: float = 0.0,
        out_indices: Sequence[int] = (6,),
        frozen_stages: int = 0,
        conv_cfg: Spec | None = _SAME_CONV,
        norm_cfg: Spec | None = _BN,
        act_cfg: Spec | None = SWISH,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: Spec | list[Any] | None = KAIMING,  # type: ignore[assignment]
    ) -> None:
        super().__init__()
        if arch not in self.arch_settings:
            raise ValueError(f"arch={arch!r}; EfficientNet has {', '.join(self.arch_settings)}")
        wide, deep = self.arch_settings[arch]
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg}
        stem, used = make_divisible(32 * wide), max(out_indices, default=0)
        self.layers = nn.ModuleList([ConvModule(3, stem, 3, stride=2, padding=1, **parts)])
        stages, channels = [("layers.0", stem, 2)], stem
        rows = [r._replace(channels=make_divisible(r.channels * wide)) for r in _TABLES[arch[0]]]
        counts = [math.ceil(r.blocks * deep) for r in rows]
        rates = iter(torch.linspace(0, drop_path_rate, sum(counts)).tolist())
        blocks: list[nn.Module] = []
        for i, (row, count) in enumerate(zip(rows, counts, strict=True)):
            for j in range(count if len(stages) <= used else 0):  # checkpoints have only the layers that are used
                blocks.append(self._block(channels, row, j, next(rates), act_cfg, {**parts, "with_cp": with_cp}))
                channels = row.channels
            if i + 1 == len(rows) or rows[i + 1].stride == 2:  # a stage ends where the next one halves the map
                if blocks:
                    self.layers.append(nn.Sequential(*blocks))
                blocks = []
                stages.append((f"layers.{len(stages)}", row.channels, 2 ** len(stages)))
        last = make_divisible(1280 * wide)
        if len(stages) <= used:
            self.layers.append(ConvModule(channels, last, 1, **parts))
        stages.append((f"layers.{len(stages)}", last, stages[-1][2]))
        self._staged(stages, out_indices, frozen_stages, norm_eval)
        initialize(self, init_cfg)

    @staticmethod
    def _block(
        channels: int, row: _Row, number: int, rate: float, act_cfg: Spec | None, parts: dict[str, Any]
    ) -> nn.Module:
        middle = channels * row.expansion
        if row.squeeze:
            gates = (act_cfg, {"type": "Sigmoid"})
            parts["se_cfg"] = {"channels": middle, "ratio": row.expansion * row.squeeze, "act_cfg": gates}
        parts.update(kernel_size=row.kernel, stride=row.stride if number == 0 else 1, drop_path_rate=rate)
        if not row.edge:
            expand = middle != channels
            return InvertedResidual(channels, row.channels, middle, with_expand_conv=expand, **parts)
        # The first stage's later blocks (of deeper models) expand by 4 and add nothing.
        repeated = number > 0 and row.expansion == 3
        return EdgeResidual(
            channels, row.channels, channels * 4 if repeated else middle, with_residual=not repeated, **parts
        )
