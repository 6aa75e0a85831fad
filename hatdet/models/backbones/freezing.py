"""Stages and statistics that training leaves alone, for backbones with published weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from torch import nn

_B = TypeVar("_B", bound="StagedBackbone")


def freeze(modules: Iterable[nn.Module]) -> None:
    """Take the parameters out of training."""
    for module in modules:
        for parameter in module.parameters():
            parameter.requires_grad_(False)


def keep_frozen(backbone: nn.Module, frozen: Iterable[nn.Module], norm_eval: bool) -> None:
    """After ``backbone.train()``: put frozen stages, and with ``norm_eval`` every batch norm, back into evaluation."""
    for module in frozen:
        module.eval()
    if norm_eval:
        for module in backbone.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
                module.eval()


class StagedBackbone(nn.Module):
    """A backbone that says its stages, and trains without the first of them where that is wished.

    Attributes:
        stages: names of the modules of each stage that was built, nearest to the picture first; the stem is the first.
        norm_eval: batch norms keep the statistics they were loaded with, in training too.
    """

    stages: tuple[tuple[str, ...], ...]
    norm_eval: bool

    def set_stages(self, stages: Iterable[Sequence[str]], frozen: int, norm_eval: bool) -> None:
        """Say what the stages are, when all are there; the first ``frozen`` keep weights and statistics."""
        self.stages, self.norm_eval = tuple(map(tuple, stages)), norm_eval
        self._kept = [name for stage in self.stages[:frozen] for name in stage]
        freeze(map(self.get_submodule, self._kept))

    def train(self: _B, mode: bool = True) -> _B:
        super().train(mode)
        keep_frozen(self, map(self.get_submodule, self._kept), self.norm_eval)
        return self
