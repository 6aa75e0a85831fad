"""Stopping when nothing improves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.monitor import Monitor
from hatdet.registry import register
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop


@register
class EarlyStop(Callback):
    """Ends training when a validation metric has not improved for a while. Stands after `Validation`.

    A validation that measured nothing (AP -1: no object in the validation data; NaN) does not count.

    Args:
        monitor_metric_key: name among the validation's values, e.g. ``AP``.
        patience: validations without improvement after which training ends.
        mode: ``max``: more is better; ``min``: less is.
        min_delta: improvements up to this count as none.
    """

    def __init__(
        self, *, monitor_metric_key: str = "AP", patience: int = 10, mode: str = "max", min_delta: float = 0.0
    ) -> None:
        if patience < 1:
            raise UserError(f"patience is {patience}; it must be at least 1")
        self.monitor = Monitor(monitor_metric_key, mode, min_delta)
        self.patience, self.waited = patience, 0

    def on_step_end(self, loop: Loop) -> None:
        self._look(loop)

    def on_epoch_end(self, loop: Loop) -> None:
        self._look(loop)

    def on_resume(self, loop: Loop, checkpoint: Mapping[str, Any]) -> None:
        self._judge(loop)

    def _look(self, loop: Loop) -> None:
        value = self.monitor.new_value(loop)
        if value is not None and self.monitor.measured(value):
            self.waited = 0 if self.monitor.improves(value) else self.waited + 1
            self._judge(loop)

    def _judge(self, loop: Loop) -> None:
        if self.waited >= self.patience:
            best = f"{self.monitor.key} {self.monitor.best:.4f}"
            loop.stop(f"no improvement on {best} in the last {self.waited} validations")

    def on_steps_renumbered(self, loop: Loop) -> None:
        self.monitor.seen_at = -1

    def state_dict(self) -> dict[str, Any]:
        return {"waited": self.waited, "monitor": self.monitor.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.waited = int(state["waited"])
        self.monitor.load_state_dict(state["monitor"])
