"""A callback of one's own: a file that says how far a training is, for a watchdog or a display."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatdet.engine.callbacks.base import Callback
from hatdet.registry import register
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hatdet.engine.loop import Loop


@register
class Heartbeat(Callback):
    """Writes a small json every so many steps: epoch, step, loss, and the largest loss so far.

    Args:
        path: the file; it is replaced each time.
        every: steps between two writes.
    """

    def __init__(self, *, path: str, every: int = 50) -> None:
        if every < 1:
            raise UserError(f"Heartbeat: every is {every}; give 1 or more")
        self.path, self.every, self.largest = Path(path), every, 0.0

    def on_step_end(self, loop: Loop) -> None:
        assert loop.loss is not None  # the forward has set it
        loss = float(loop.loss)
        self.largest = max(self.largest, loss)
        if loop.progress.step % self.every == 0:
            beat = {"epoch": loop.progress.epoch, "step": loop.progress.step, "loss": loss, "largest": self.largest}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(beat), encoding="utf-8")
            loop.publish({"train/largest_loss": self.largest})  # to TensorBoard and results.csv

    def state_dict(self) -> dict[str, Any]:
        return {"largest": self.largest}  # an interrupted training goes on with it

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.largest = state["largest"]
