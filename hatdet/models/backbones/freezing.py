"""Stages and statistics that training leaves alone, for backbones with published weights."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


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
