"""What a user watches while it trains."""

from __future__ import annotations

import contextlib
import datetime
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from hatdet.engine.callbacks.base import Callback
from hatdet.engine.optimizer import learning_rate
from hatdet.registry import register
from hatdet.utils import distributed
from hatdet.utils.environment import memory_in_use
from hatdet.utils.errors import UserError
from hatdet.utils.logging import FILE_ONLY, live_line

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")
LIVE_SECONDS = 0.5


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
    """Epoch, step, losses, learning rate, remaining time, images per second, share of time spent waiting, memory.

    In a terminal one live line; everywhere a plain line every ``log_freq`` steps (in a terminal: only in the log
    file) and one at the end of each epoch. The numbers also go out as scalars ``train/...``.

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
        self._begin, self._first_step = time.perf_counter(), loop.progress.step
        self._shown = 0.0

    def on_epoch_begin(self, loop: Loop) -> None:
        self._epoch, self._epoch_begin, self._epoch_samples = Means(), time.perf_counter(), loop.progress.samples
        self._restart(loop)

    def _restart(self, loop: Loop) -> None:
        self._window, self._samples = Means(), loop.progress.samples
        self._mark = self._previous = time.perf_counter()
        self._waited = 0.0

    def on_step_begin(self, loop: Loop) -> None:
        self._waited += time.perf_counter() - self._previous

    def on_step_end(self, loop: Loop) -> None:
        self._window.add(loop.losses, loop.loss)
        self._epoch.add(loop.losses, loop.loss)
        now = time.perf_counter()
        if self._show is not None and now - self._shown > LIVE_SECONDS:
            self._shown = now
            self._show(self._line(loop))
        if loop.progress.step_in_epoch % self.log_freq == 0:
            logger.info(self._line(loop), extra=FILE_ONLY)
            if loop.progress.step_in_epoch < loop.steps_in_this_epoch:  # else the end of the epoch does it
                self._publish(loop, self._window)
            self._restart(loop)
        self._previous = time.perf_counter()

    def on_epoch_end(self, loop: Loop) -> None:
        seconds = time.perf_counter() - self._epoch_begin
        images = (loop.progress.samples - self._epoch_samples) * distributed.get_world_size()
        speed = images / max(seconds, 1e-9)
        shown = _losses(self._epoch.compute())
        rate = f"  lr {learning_rate(loop.optimizer):.3e}" if loop.optimizer else ""
        epoch = f"epoch {loop.progress.epoch + 1}/{loop.num_epochs}"
        logger.info("%s done in %s%s%s  %.1f images/s", epoch, _duration(seconds), shown, rate, speed)
        self._publish(loop, self._epoch, {"train/images_per_second": speed, "time/epoch": seconds})

    def close(self, loop: Loop) -> None:
        self._open.close()
        self._show = None

    def _publish(self, loop: Loop, means: Means, more: dict[str, float] | None = None) -> None:
        scalars = {f"train/{name}": value for name, value in means.compute().items()}
        if loop.optimizer is not None:
            scalars["train/lr"] = learning_rate(loop.optimizer)
        loop.publish(scalars | (more or {}))

    def _line(self, loop: Loop) -> str:
        progress, now = loop.progress, time.perf_counter()
        spent = max(now - self._mark, 1e-9)
        images = (progress.samples - self._samples) * distributed.get_world_size()
        left = (now - self._begin) / (progress.step - self._first_step) * (loop.total_steps - progress.step)
        parts = [
            f"epoch {progress.epoch + 1}/{loop.num_epochs} [{progress.step_in_epoch}/{loop.steps_in_this_epoch}]"
            + _losses(self._window.compute()),
            f"lr {learning_rate(loop.optimizer):.3e}" if loop.optimizer else "",
            f"eta {_duration(left)}",
            f"{images / spent:.1f} images/s",
            f"waiting for data {self._waited / spent:.0%}",
            f"memory {memory_in_use(loop.device) / 2**20:.0f} MiB",
        ]
        return "  ".join(part for part in parts if part)


def _losses(means: dict[str, float]) -> str:
    return "".join(f"  {name} {value:.4f}" for name, value in means.items())


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
