"""What backbones share whose stages run one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from hatdet.models.backbones.freezing import StagedBackbone
from hatdet.models.feature_info import FeatureInfo


def make_divisible(value: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to ``value``, at least 90 % of it."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def first_weights(pretrained: str | None, init_cfg: Any, default: Any) -> Any:
    """The ``init_cfg`` that three arguments mean.

    Raises:
        ValueError: both ``pretrained`` and ``init_cfg``.
    """
    if pretrained is None:
        return default if init_cfg is None else init_cfg
    if init_cfg is not None:
        raise ValueError("pretrained and init_cfg are both given; write init_cfg alone")
    return {"type": "Pretrained", "checkpoint": pretrained}


class Staged(StagedBackbone):
    """(B, 3, H, W) -> tuple of the maps after the stages of ``out_indices``, finest first."""

    def _staged(
        self,
        stages: Sequence[tuple[str, int, int]],
        out_indices: Sequence[int],
        frozen: int,
        norm_eval: bool,
        stem: Sequence[str] = (),
    ) -> None:
        """Say what the stages are, when all are there.

        Args:
            stages: name of the submodule, channels and stride of its map.
            out_indices: numbers of stages that are returned.
            frozen: how many modules, of the stem and then of the stages, keep their weights and statistics.
            norm_eval: batch norms keep the statistics they were loaded with, in training too.
            stem: names of submodules that run before the first stage.

        Raises:
            ValueError: stages that do not exist.
        """
        kind, count = type(self).__name__, len(stages)
        wrong = [index for index in out_indices if not 0 <= index < count]
        if wrong or not out_indices:
            raise ValueError(f"out_indices={list(out_indices)}, but {kind} has the stages 0 to {count - 1}")
        if not 0 <= frozen <= len(stem) + count:
            raise ValueError(f"frozen_stages: {kind} has {len(stem) + count} parts to freeze, not {frozen}")
        self.out_indices = tuple(out_indices)
        used = sorted(set(out_indices))
        self._run = [*stem, *(name for name, _, _ in stages[: used[-1] + 1])]
        self._returned = [i + len(stem) for i in used]
        built = {name for name, _ in self.named_modules()}  # stages behind the last one used need not be
        self.feature_info = FeatureInfo(tuple(stages[i][1] for i in used), tuple(stages[i][2] for i in used))
        parts = [(name,) for name in (*stem, *(name for name, _, _ in stages)) if name in built]
        self.set_stages(parts, frozen, norm_eval)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for name in self._run:
            x = self.get_submodule(name)(x)
            maps.append(x)
        return tuple(maps[i] for i in self._returned)
