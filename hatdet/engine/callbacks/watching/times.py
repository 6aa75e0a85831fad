"""How long a training will take, of the steps that it has taken."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from hatdet.utils.pace import roughly

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

WARMING = 3
"""Steps that the estimate leaves out: workers start, kernels are chosen."""
TIMED = 10
RECENT = 200


def validations(loop: Loop) -> tuple[int, float]:
    """How many validations are still to come, and the seconds of one (0: none was yet)."""
    found: list[Any] = [callback for callback in loop.callbacks if hasattr(callback, "validations_left")]
    timed = sum(callback.timed for callback in found)
    return sum(callback.validations_left(loop) for callback in found), validation_seconds(loop) / max(timed, 1)


def validation_seconds(loop: Loop) -> float:
    """Seconds that went into validations so far."""
    return sum(getattr(callback, "seconds", 0.0) for callback in loop.callbacks if hasattr(callback, "timed"))


class Times:
    """Durations of steps, each with the wait for its batch; nothing in here touches the training.

    Args:
        clock: seconds; in tests a scripted one.
    """

    def __init__(self, loop: Loop, clock: Callable[[], float] = time.perf_counter) -> None:
        self.loop, self.clock = loop, clock
        self.recent: deque[float] = deque(maxlen=RECENT)
        self.steps = 0
        self._timing = 0.0

    def add(self, seconds: float) -> str | None:
        """Count a step.

        Returns:
            once, after ten timed steps: a sentence on the whole.
        """
        self.steps += 1
        if self.steps == WARMING + 1:
            self.recent.clear()  # the first ones say something only as long as there are no others
        self.recent.append(seconds)
        if self.steps == WARMING:
            self._timing = self._synchronized()
        if self.steps != WARMING + TIMED or self.loop.total_steps < 4 * TIMED:
            return None
        # The mean of ten, and, where the kernels of a GPU run behind, the time in which these were really done.
        whole = self._synchronized() - self._timing
        within_epoch = self.loop.progress.step_in_epoch >= TIMED
        return self.sentence(whole / TIMED if within_epoch else sum(self.recent) / len(self.recent))

    def _synchronized(self) -> float:
        if self.loop.device.type == "cuda":
            torch.cuda.synchronize(self.loop.device)
        return self.clock()

    def sentence(self, step: float) -> str:
        """``about 25 min from here: 60 epochs of 84 steps, 0.298 s each; 12 validations come on top``"""
        loop = self.loop
        steps = loop.total_steps - loop.progress.step
        to_come, each = validations(loop)
        epochs = loop.num_epochs - loop.progress.epoch
        what = f"{epochs} epochs of {loop.steps_per_epoch} steps" if epochs > 1 else f"{steps} steps"
        text = f"about {roughly(steps * step + to_come * each)} from here: {what}, {step:.3g} s each"
        if to_come:
            plural = "validations" if to_come > 1 else "validation"
            text += f", {to_come} {plural} of {roughly(each)}" if each else f"; {to_come} {plural} on top"
        return f"{text} (measured in {TIMED} steps)"

    def left(self) -> float | None:
        """Seconds to the end, at the pace of the last steps, with the validations that are still to come; None: not one
        step was timed."""
        to_come, each = validations(self.loop)
        steps = self.loop.total_steps - self.loop.progress.step
        if steps and not self.recent:
            return None
        return steps * sum(self.recent) / max(len(self.recent), 1) + to_come * each
