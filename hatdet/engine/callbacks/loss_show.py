"""Means of the losses over an epoch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.stats_monitor import Means
from hatdet.registry import register

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")


@register
class LossShow(Callback):
    """Shows the mean of every loss term at the end of an epoch: in a trainer's callbacks, or as its ``train_metrics``
    (then `MetricUpdater` drives it)."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all steps."""
        self.means = Means()

    def update(self, losses: Mapping[str, Tensor]) -> None:
        """Count the loss terms of one step."""
        self.means.add(dict(losses), None)

    def compute(self) -> dict[str, float]:
        """Mean of each term."""
        return self.means.compute()

    def format(self, values: Mapping[str, float]) -> str:
        """``loss_cls 0.5123  loss_bbox 0.3456``"""
        return "  ".join(f"{name} {value:.4f}" for name, value in values.items())

    def on_epoch_begin(self, loop: Loop) -> None:
        self.reset()

    def on_step_end(self, loop: Loop) -> None:
        self.update(loop.losses)

    def on_epoch_end(self, loop: Loop) -> None:
        logger.info("epoch %d: %s", loop.progress.epoch + 1, self.format(self.compute()))
