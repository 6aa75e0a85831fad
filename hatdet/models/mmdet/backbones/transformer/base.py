"""What backbones of transformers share: first weights, and files of the networks' authors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hatdet.models.feature_info import FeatureInfo
from hatdet.models.mmdet.backbones.staged import first_weights
from hatdet.models.mmdet.layers.init import initialize

_FIRST = (
    {"type": "TruncNormal", "layer": "Linear", "std": 0.02},
    {"type": "Constant", "layer": "LayerNorm", "val": 1.0},
)


class Transformer(nn.Module, ABC):
    """(B, C, H, W) -> tuple of the maps after the stages of ``out_indices``, finest first."""

    one_operator = True  # a quantizer refuses it by its name: none of its layers could be another
    authors: ClassVar[str]
    """What names of blocks in the authors' files begin with, and none here."""
    convert_weights: bool
    feature_info: FeatureInfo

    def _returned(self, out_indices: Sequence[int], channels: Sequence[int], strides: Sequence[int]) -> None:
        """Say what is returned, of the channels and strides (each of the map before) of the stages.

        Raises:
            ValueError: stages that do not exist.
        """
        kind, count = type(self).__name__, len(channels)
        wrong = [index for index in out_indices if not 0 <= index < count]
        if wrong or not out_indices:
            raise ValueError(f"out_indices={list(out_indices)}, but {kind} has the stages 0 to {count - 1}")
        self.out_indices = tuple(sorted(set(out_indices)))
        steps = [1]
        for stride in strides:
            steps.append(steps[-1] * stride)
        found = [(channels[i], steps[i + 1]) for i in self.out_indices]
        self.feature_info = FeatureInfo(tuple(c for c, _ in found), tuple(s for _, s in found))

    def _begin(self, pretrained: str | None, init_cfg: Any) -> None:
        """First weights: those of the papers, then what a config asks for.

        Raises:
            ValueError: both ``pretrained`` and ``init_cfg``.
        """
        initialize(self, _FIRST)
        start = first_weights(pretrained, init_cfg, None)
        if isinstance(start, Mapping) and "checkpoint" in start:
            start = {"type": "Pretrained", **start}  # configs of PVT leave the type out
        initialize(self, start)

    def adapted(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a file of this network alone under its names here, in its shapes.

        Names before which ``module.`` or ``backbone.`` stands lose it. With ``convert_weights`` names of the network's
        authors are mapped; without it, they stay.
        """
        found = dict(weights)
        for start in ("module.", "backbone."):
            if any(name.startswith(start) for name in found):
                found = {name.removeprefix(start): v for name, v in found.items() if name.startswith(start)}
        if self.convert_weights and any(name.startswith(self.authors) for name in found):
            found = self._from_original(found)
        return self._resized(found)

    @abstractmethod
    def _from_original(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights under the names that the network's authors gave them, under those here."""

    def _resized(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return weights


def drop_path_rates(last: float, blocks: int) -> list[float]:
    """Stochastic depth that grows evenly from 0 to ``last``."""
    rates: list[float] = torch.linspace(0, last, blocks, device="cpu").tolist()
    return rates
