"""Scoring the model while it trains."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.monitor import NOT_MEASURED, is_measured
from hatdet.engine.callbacks.watching.text import bar
from hatdet.engine.evaluation import bind_metric, evaluate
from hatdet.engine.processes.leaving import stop_evaluation
from hatdet.registry import register
from hatdet.utils.errors import UserError
from hatdet.utils.logging import CONSOLE_ONLY, NO_CONSOLE, live_line

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")


@register
class Validation(Callback):
    """Scores what would ship: the averaged weights, and of a quantized model its integer model.

    The values go to ``loop.values`` and, as ``val/...``, to whoever writes scalars. The last epoch is always
    validated. On the console each is a line, and the metric's whole text comes at the end; the log file has it each
    time.

    Attributes that others read:
        timed, seconds: how many validations there were in this process, and how long they took together.

    Args:
        data_loader: None: the trainer's ``val_data_loader``.
        val_metrics: None: the trainer's ``val_metrics``.
        batch_processor: how the model is called; None: as the trainer's, without gradients.
        val_interval: epochs (or steps) between two validations.
        interval_by: ``epoch`` or ``step``.
        num_last_epochs: so many epochs at the end are validated each.
        val_begin: none before that many epochs (or steps) are done.
        dynamic_intervals: (done, interval): another ``val_interval`` once so many epochs (or steps) are done;
            ascending.
        val_on_train_begin: validate before the first step too.
    """

    def __init__(
        self,
        *,
        data_loader: Any = None,
        val_metrics: Any = None,
        batch_processor: BasicBatchProcessor | None = None,
        val_interval: int = 1,
        interval_by: str = "epoch",
        num_last_epochs: int = 0,
        val_on_train_begin: bool = False,
        val_begin: int = 1,
        dynamic_intervals: Sequence[Sequence[int]] = (),
    ) -> None:
        if interval_by not in ("epoch", "step"):
            raise UserError(f"interval_by is {interval_by!r}; use 'epoch' or 'step'")
        for interval in (val_interval, *(pair[1] for pair in dynamic_intervals)):
            if interval < 1:
                raise UserError(f"val_interval is {interval}; it must be at least 1")
        self.data_loader, self.val_metrics, self.batch_processor = data_loader, val_metrics, batch_processor
        self.val_interval, self.interval_by, self.num_last_epochs = val_interval, interval_by, num_last_epochs
        self.val_on_train_begin = val_on_train_begin
        self.val_begin, self.dynamic_intervals = val_begin, [tuple(pair) for pair in dynamic_intervals]
        self.timed, self.seconds = 0, 0.0
        self._text = ""

    def on_loop_begin(self, loop: Loop) -> None:
        for name, own in (("data_loader", self.data_loader), ("val_metrics", self.val_metrics)):
            default = "val_data_loader" if name == "data_loader" else name
            if own is None and getattr(loop, default) is None:
                raise UserError(f"Validation has no {name}: give it one, or give the trainer {default}")
        loader = self.data_loader if self.data_loader is not None else loop.val_data_loader
        bind_metric(self.val_metrics if self.val_metrics is not None else loop.val_metrics, loader)
        ready = getattr(loop.model, "can_evaluate", True)  # a quantized model may have no ranges yet
        if self.val_on_train_begin and loop.progress.step == 0 and ready:
            self.validate(loop)

    def on_step_end(self, loop: Loop) -> None:
        if self.interval_by == "step" and self._due(loop.progress.step):
            self.validate(loop)

    def on_epoch_end(self, loop: Loop) -> None:
        wanted = self._after_epoch(loop, loop.progress.epoch + 1) or loop.finished
        if wanted and loop.validated_at != loop.progress.step:
            self.validate(loop)

    def on_loop_end(self, loop: Loop) -> None:
        if self._text:
            logger.info("%s", self._text, extra=CONSOLE_ONLY)

    def validations_left(self, loop: Loop) -> int:
        """How many are still to come, if nothing ends the training early."""
        epoch, last = loop.progress.epoch + 1, loop.num_epochs
        if loop.progress.step >= loop.total_steps:
            return int(loop.validated_at != loop.progress.step)
        if self.interval_by == "step":
            step = loop.progress.step
            return (loop.total_steps - 1) // self._interval(step) - step // self._interval(step) + 1
        return sum(e == last or self._after_epoch(loop, e) for e in range(epoch, last + 1))

    def _after_epoch(self, loop: Loop, done: int) -> bool:
        """Whether it is time after so many epochs."""
        due = self.interval_by == "epoch" and self._due(done)
        return due or done > loop.num_epochs - self.num_last_epochs

    def _due(self, done: int) -> bool:
        """Whether it is time after so many epochs (or steps)."""
        return done >= self.val_begin and done % self._interval(done) == 0

    def _interval(self, done: int) -> int:
        interval = self.val_interval
        for first, other in self.dynamic_intervals:
            interval = other if done >= first else interval
        return interval

    def validate(self, loop: Loop) -> dict[str, float]:
        """Score now; the model's mode and weights and all random generators stay as they were."""
        loader = self.data_loader if self.data_loader is not None else loop.val_data_loader
        metric = self.val_metrics if self.val_metrics is not None else loop.val_metrics
        begin = time.perf_counter()
        with loop.evaluation_weights(), live_line() as show:

            def on_batch(number: int) -> None:
                stop_evaluation(loop)
                if show is not None:
                    show(f"validating  {bar(number, len(loader))}")

            values = evaluate(
                model=loop.model,
                data_loader=loader,
                metric=metric,
                batch_processor=self.batch_processor or loop.batch_processor,
                device=loop.device,
                on_batch=on_batch,
            )
        loop.values, loop.validated_at = values, loop.progress.step
        seconds = time.perf_counter() - begin
        self.timed, self.seconds = self.timed + 1, self.seconds + seconds
        self._text = metric.format(values)
        logger.info("%s: %s (%.1f s)", self._title(loop), _main_values(values), seconds)
        logger.info("%s", self._text, extra=NO_CONSOLE)
        loop.publish({f"val/{name}": float(value) for name, value in values.items() if value != NOT_MEASURED})
        return values

    def _title(self, loop: Loop) -> str:
        if not loop.progress.step:
            return "validation before the first step"
        done = f"step {loop.progress.step}" if self.interval_by == "step" else f"epoch {loop.progress.epoch + 1}"
        return f"validation after {done}"


def _main_values(values: Mapping[str, float], shown: int = 3) -> str:
    """The first numbers of a metric that measured anything: ``AP 0.3121  AP50 0.5510  AP75 0.3000``."""
    found = [f"{name} {value:.4f}" for name, value in values.items() if is_measured(value) and "/" not in name]
    return "  ".join(found[:shown]) or "nothing measured"
