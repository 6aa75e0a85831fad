"""What a user watches while it trains."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.watching.hints import DataBound, StillLoss
from hatdet.engine.callbacks.watching.text import bar, duration, fitted, terms
from hatdet.engine.callbacks.watching.times import Times, validation_seconds
from hatdet.engine.optimizer import learning_rate
from hatdet.registry import register
from hatdet.utils import distributed
from hatdet.utils.environment import memory_in_use
from hatdet.utils.errors import UserError
from hatdet.utils.logging import FILE_ONLY, NO_CONSOLE, live_line

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")
LIVE_SECONDS = 0.5
QUIET_SECONDS = 60.0
"""Where there is no live line, lines within an epoch are so far apart at least; the log file has all of them."""


class Means:
    """Running means of loss terms. They stay on the device; nothing waits for it until :meth:`compute`."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, losses: dict[str, Tensor], total: Tensor | None) -> None:
        """Count one step."""
        for name, value in (losses if total is None else {"loss": total, **losses}).items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1

    def compute(self) -> dict[str, float]:
        """The means; empty before the first step."""
        return {name: float(value.float().mean()) / self.count for name, value in self.sums.items()}


@register
class StatsMonitor(Callback):
    """Remaining time, images per second, losses, learning rate, share of time spent waiting for data, memory.

    A line of at most 80 columns at the end of each epoch. Below it, in a terminal, a live bar; elsewhere a line a
    minute within long epochs. The log file has a line every ``log_freq`` steps too. After the first steps it says how
    long the whole will take; where training waits for its data, or the loss does not move, it says that, once. The
    numbers also go out as scalars ``train/...``.

    Args:
        log_freq: steps between two lines; the losses shown are means over them.
    """

    def __init__(self, *, log_freq: int = 50) -> None:
        if log_freq < 1:
            raise UserError(f"log_freq is {log_freq}; it must be at least 1")
        self.log_freq = log_freq
        self._open = contextlib.ExitStack()
        self._show: Callable[[str], None] | None = None

    def on_loop_begin(self, loop: Loop) -> None:
        self._show = self._open.enter_context(live_line())
        self._times, self._bound, self._still = Times(loop), DataBound(), StillLoss(loop)
        self._shown, self._told = 0.0, time.perf_counter()

    def on_epoch_begin(self, loop: Loop) -> None:
        self._epoch, self._epoch_samples, self._epoch_seconds = Means(), loop.progress.samples, 0.0
        self._restart(loop)
        self._previous, self._validated = time.perf_counter(), validation_seconds(loop)

    def _restart(self, loop: Loop) -> None:
        self._window, self._samples = Means(), loop.progress.samples
        self._waited = self._spent = 0.0

    def on_step_begin(self, loop: Loop) -> None:
        self._begin = time.perf_counter()
        validated = validation_seconds(loop)  # a validation after a step is not waiting for data
        self._wait = max(0.0, self._begin - self._previous - (validated - self._validated))
        self._validated = validated

    def on_step_end(self, loop: Loop) -> None:
        self._window.add(loop.losses, loop.loss)
        self._epoch.add(loop.losses, loop.loss)
        now = time.perf_counter()
        seconds = self._wait + now - self._begin
        self._waited, self._spent = self._waited + self._wait, self._spent + seconds
        self._epoch_seconds += seconds
        if text := self._times.add(seconds):
            logger.info("%s", text)
        for hint in (self._bound.add(loop, self._wait, seconds), self._still.add(loop)):
            if hint:
                logger.warning("%s", hint)
        if self._show is not None and now - self._shown > LIVE_SECONDS:
            self._shown = now
            self._show(self._live(loop))
        if loop.progress.step_in_epoch % self.log_freq == 0:
            self._log(loop, now)
        self._previous = time.perf_counter()

    def _log(self, loop: Loop, now: float) -> None:
        due = now - self._told > QUIET_SECONDS
        self._told = now if due else self._told
        logger.info(self._line(loop), extra=FILE_ONLY if due else NO_CONSOLE)
        if loop.progress.step_in_epoch < loop.steps_in_this_epoch:  # else the end of the epoch does it
            self._publish(loop, self._window)
        self._restart(loop)

    def on_epoch_end(self, loop: Loop) -> None:
        seconds = self._epoch_seconds
        images = (loop.progress.samples - self._epoch_samples) * distributed.get_world_size()
        speed = images / max(seconds, 1e-9)
        parts = [
            f"epoch {loop.progress.epoch + 1}/{loop.num_epochs}",
            *self._pace(speed),
            *terms(self._epoch.compute(), digits=3),
        ]
        if loop.optimizer is not None:
            parts.append(f"lr {learning_rate(loop.optimizer):.1e}")
        logger.info("%s", fitted(parts))
        self._told = time.perf_counter()
        self._publish(loop, self._epoch, {"train/images_per_second": speed, "time/epoch": seconds})

    def close(self, loop: Loop) -> None:
        self._open.close()
        self._show = None

    def _publish(self, loop: Loop, means: Means, more: dict[str, float] | None = None) -> None:
        scalars = {f"train/{name}": value for name, value in means.compute().items()}
        if loop.optimizer is not None:
            scalars["train/lr"] = learning_rate(loop.optimizer)
        loop.publish(scalars | (more or {}))

    def _pace(self, speed: float) -> list[str]:
        left = self._times.left()
        return ([] if left is None else [f"eta {duration(left)}"]) + [f"{speed:.1f} images/s"]

    def _speed(self, loop: Loop) -> float:
        """Of the steps since the last line."""
        return (loop.progress.samples - self._samples) * distributed.get_world_size() / max(self._spent, 1e-9)

    def _live(self, loop: Loop) -> str:
        progress = loop.progress
        means = self._window.compute()
        parts = [
            f"epoch {progress.epoch + 1}/{loop.num_epochs}  {bar(progress.step_in_epoch, loop.steps_in_this_epoch)}",
            *self._pace(self._speed(loop)),
            *terms({name: value for name, value in means.items() if name == "loss"}, digits=3),
        ]
        return "  ".join(parts)

    def _line(self, loop: Loop) -> str:
        """All there is to say, for the log file."""
        progress = loop.progress
        parts = [
            f"epoch {progress.epoch + 1}/{loop.num_epochs} [{progress.step_in_epoch}/{loop.steps_in_this_epoch}]",
            *self._pace(self._speed(loop)),
            *(f"{name} {value:.4f}" for name, value in self._window.compute().items()),
            f"lr {learning_rate(loop.optimizer):.3e}" if loop.optimizer else "",
            f"waiting for data {self._waited / max(self._spent, 1e-9):.0%}",
            f"memory {memory_in_use(loop.device) / 2**20:.0f} MiB",
        ]
        return "  ".join(part for part in parts if part)
