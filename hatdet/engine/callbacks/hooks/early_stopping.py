"""Stopping when nothing improves, as MMEngine's configs say it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from hatdet.engine.callbacks.base import Callback
from hatdet.registry import register
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")

_GREATER = ("acc", "top", "ar", "auc", "precision", "ap", "dice", "iou")


@register
class EarlyStoppingHook(Callback):
    """Ends training when a validation's metric gets no better, is good enough, or is no number.

    Stands after `Validation`.

    Args:
        monitor: name among the validation's values.
        rule: "greater" is better, or "less"; None: "less" for a loss, "greater" for precision, accuracy and the like.
        min_delta: how much better counts as better.
        strict: a validation without the metric is an error; otherwise it does not count.
        check_finite: a metric that is not finite ends training; otherwise it does not count.
        patience: so many validations in a row that are no better end training.
        stopping_threshold: a better metric than this ends training.
    """

    def __init__(
        self,
        *,
        monitor: str,
        rule: Literal["greater", "less"] | None = None,
        min_delta: float = 0.1,
        strict: bool = False,
        check_finite: bool = True,
        patience: int = 5,
        stopping_threshold: float | None = None,
    ) -> None:
        if patience < 1:
            raise UserError(f"patience is {patience}; it must be at least 1")
        self.monitor, self.sign = monitor, 1 if (rule or _rule(monitor)) == "greater" else -1
        self.min_delta, self.strict, self.check_finite = min_delta, strict, check_finite
        self.patience, self.stopping_threshold = patience, stopping_threshold
        self.waited, self.best, self.seen_at = 0, -self.sign * math.inf, -1

    def on_step_end(self, loop: Loop) -> None:
        self._look(loop)

    def on_epoch_end(self, loop: Loop) -> None:
        self._look(loop)

    def on_resume(self, loop: Loop, checkpoint: Mapping[str, Any]) -> None:
        if self.waited >= self.patience:
            self._stop(loop)

    def on_steps_renumbered(self, loop: Loop) -> None:
        self.seen_at = -1

    def _look(self, loop: Loop) -> None:
        if loop.validated_at in (-1, self.seen_at):
            return
        self.seen_at = loop.validated_at
        if self.monitor in loop.values:
            self._judge(loop, float(loop.values[self.monitor]))
        elif self.strict:
            given = ", ".join(loop.values)
            raise UserError(
                f"monitor={self.monitor!r} is not among what the validation gives: {given}; correct monitor"
            )
        else:
            logger.warning("early stopping: the validation gives no %s", self.monitor)

    def _judge(self, loop: Loop, value: float) -> None:
        if not math.isfinite(value):
            if self.check_finite:
                loop.stop(f"{self.monitor} is {value}; the best was {self.best:.4f}")
        elif self.stopping_threshold is not None and self.sign * (value - self.stopping_threshold) > 0:
            self.best = value
            loop.stop(f"{self.monitor} {value:.4f} is better than {self.stopping_threshold}")
        elif self.sign * (value - self.best) >= self.min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
            if self.waited >= self.patience:
                self._stop(loop)

    def _stop(self, loop: Loop) -> None:
        loop.stop(f"no improvement on {self.monitor} {self.best:.4f} in the last {self.waited} validations")

    def state_dict(self) -> dict[str, Any]:
        return {"waited": self.waited, "best": self.best, "seen_at": self.seen_at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.waited, self.best, self.seen_at = int(state["waited"]), float(state["best"]), int(state["seen_at"])


def _rule(monitor: str) -> str:
    name = monitor.lower()
    if "loss" not in name and any(part in name for part in _GREATER):
        return "greater"
    if "loss" in name:
        return "less"
    raise UserError(f"EarlyStoppingHook cannot tell whether more {monitor!r} is better; give rule='greater' or 'less'")
