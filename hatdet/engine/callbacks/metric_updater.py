"""Feeding the training metric."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hatdet.engine.callbacks.base import Callback
from hatdet.registry import register
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")


@register
class MetricUpdater(Callback):
    """Updates the trainer's ``train_metrics`` after each step, shows it, and resets it for each epoch.

    Args:
        metric_update_func: ``function(metric, loop)``; None: ``metric.update(loop.losses)``.
        step_log_freq: show it every so many steps; None: only at the end of an epoch.
        epoch_log_freq: show it at the end of every so many epochs.
        log_prefix: first words of the line.
    """

    def __init__(
        self,
        *,
        metric_update_func: Callable[[Any, Any], None] | None = None,
        step_log_freq: int | None = None,
        epoch_log_freq: int = 1,
        log_prefix: str = "train",
    ) -> None:
        self.metric_update_func = metric_update_func
        self.step_log_freq, self.epoch_log_freq, self.log_prefix = step_log_freq, epoch_log_freq, log_prefix

    def on_loop_begin(self, loop: Loop) -> None:
        self.metric = getattr(loop, "train_metrics", None)
        if self.metric is None:
            raise UserError(
                "MetricUpdater needs the trainer's train_metrics, e.g. dict(type='LossShow'); "
                "add it, or leave MetricUpdater out"
            )

    def on_epoch_begin(self, loop: Loop) -> None:
        self.metric.reset()  # type: ignore[union-attr]

    def on_step_end(self, loop: Loop) -> None:
        if self.metric_update_func is not None:
            self.metric_update_func(self.metric, loop)
        else:
            self.metric.update(loop.losses)  # type: ignore[union-attr]
        if self.step_log_freq and loop.progress.step_in_epoch % self.step_log_freq == 0:
            self._show(loop)

    def on_epoch_end(self, loop: Loop) -> None:
        if (loop.progress.epoch + 1) % self.epoch_log_freq == 0:
            self._show(loop)

    def _show(self, loop: Loop) -> None:
        values = self.metric.compute()  # type: ignore[union-attr]
        where = f"epoch {loop.progress.epoch + 1} [{loop.progress.step_in_epoch}/{loop.steps_in_this_epoch}]"
        logger.info("%s %s %s", self.log_prefix, where, self.metric.format(values))  # type: ignore[union-attr]
