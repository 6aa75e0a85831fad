"""What a run says of itself, once, where its numbers tell that something is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hatdet.engine.callbacks.watching.times import WARMING
from hatdet.engine.optimizer import learning_rate
from hatdet.utils.environment import usable_processors

if TYPE_CHECKING:
    from torch import Tensor

    from hatdet.engine.loop import Loop

BOUND = 0.3
"""Share of the time spent waiting from which on data is the bottleneck."""
WATCHED = 50
"""Steps over which that is measured, and the least over which a loss is averaged."""
MOVED = 0.02
"""Share by which a loss has to fall to count as moving."""
FOUND = 0.05
"""AP, or F1 of points, from which on a model has learnt something, whatever its loss does."""


class DataBound:
    """Says once that training waits for its data."""

    def __init__(self) -> None:
        self.steps, self.waited, self.spent, self.said = 0, 0.0, 0.0, False

    def add(self, loop: Loop, waited: float, seconds: float) -> str | None:
        """Count a step of so many seconds, of which so many were spent waiting for its batch."""
        self.steps += 1
        if self.said or loop.optimizer is None or self.steps <= WARMING:
            return None
        self.waited, self.spent = self.waited + waited, self.spent + seconds
        if self.steps < WARMING + WATCHED or self.waited < BOUND * self.spent:
            return None
        self.said = True
        return self._sentence(loop, self.waited / self.spent)

    def _sentence(self, loop: Loop, share: float) -> str:
        workers, processors = int(getattr(loop.data_loader, "num_workers", 0)), usable_processors()
        text = f"training waits for its data {share:.0%} of the time: "
        if workers < processors:
            return (
                f"{text}num_workers of the data loader is {workers}, and there are {processors} processors; raise it "
                f"(--cfg-options workers={processors} in hatdet's configs)"
            )
        return (
            f"{text}its {workers} workers keep all {processors} processors busy; store the pictures no larger than the "
            "input needs them, or leave out costly transforms (Mosaic and MixUp read several pictures for one)"
        )


class StillLoss:
    """Says once that the loss of a training from its beginning does not fall.

    A quantized network starts where the float one ended, and a resumed training in its middle: both are left alone.
    """

    def __init__(self, loop: Loop) -> None:
        quantized = hasattr(loop.model, "evaluation_model")
        self.watching = loop.optimizer is not None and loop.progress.step == 0 and not quantized
        self.length = max(WATCHED, loop.total_steps // 20)
        self.sum: Tensor | None = None
        self.first: float | None = None
        self.still = 0

    def add(self, loop: Loop) -> str | None:
        """Count the loss of a step."""
        if not self.watching or loop.loss is None:
            return None
        self.sum = loop.loss if self.sum is None else self.sum + loop.loss
        if loop.progress.step % self.length:
            return None
        mean, self.sum = float(self.sum) / self.length, None  # the only place that waits for the device
        if self.first is None:
            self.first = mean
            self.watching = math.isfinite(mean) and mean > 0
            return None
        if mean < (1 - MOVED) * self.first or any(loop.values.get(name, 0.0) > FOUND for name in ("AP", "F1")):
            self.watching = False
            return None
        self.still += 1
        if self.still < 3 or loop.progress.step < max(_warmups(loop), default=0) + self.length:
            return None
        self.watching = False
        return self._sentence(loop, mean)

    def _sentence(self, loop: Loop, mean: float) -> str:
        assert self.first is not None and loop.optimizer is not None
        seen = "train_batch0.jpg beside the log" if loop.work_dir else "a batch"
        return (
            f"the loss does not move: {self.first:.4g} in the first {self.length} steps, {mean:.4g} in the last after "
            f"{loop.progress.step}; try another learning rate ({learning_rate(loop.optimizer):.2g} now: ten times as "
            f"much, or a tenth), and look at {seen}: are the boxes on the objects?"
        )


def _warmups(loop: Loop) -> Iterator[int]:
    """Lengths of the warm-ups in steps, of the callbacks that have one."""
    for callback in loop.callbacks:
        if (steps := getattr(getattr(callback, "warmup", None), "steps", None)) is not None:
            yield int(steps)
