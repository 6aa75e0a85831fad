"""Warm-up, flat, cosine: the schedule of RTMDet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hatdet.engine.callbacks.schedules.schedule import LrUpdater, Warmup, check_warmup, to_steps
from hatdet.registry import register
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop


@register("FlatCosineLrUpdater")
class CosLrUpdater(LrUpdater):
    """Linear warm-up to the full rate, the full rate, then half a cosine down to ``min_lr_ratio`` of it.

    All by step. With b the step at which the cosine begins and T the steps from there to the end::

        warm-up  f(i) = s + (1 - s) * i / (W - 1)                    i < W, full rate at i = W - 1
        cosine   f(i) = m + (1 - m) * (1 + cos(pi * (i - b) / T)) / 2

    Where the warm-up reaches into the cosine (short trainings), the two are chained step by step as MMEngine's
    schedulers are: f <- f * ratio of the warm-up, then f <- (f - m) * ratio of (1 + cos) + m. That is not the
    product of the two forms, but it is what published RTMDet trainings used.

    Args:
        warmup_len, warmup_by: length of the warm-up, in ``step``, ``epoch`` or ``fraction`` of the training.
        warmup_start_factor: s; RTMDet has 1e-5.
        flat_ratio: share of the training before the cosine begins; RTMDet has 0.5.
        min_lr_ratio: m; RTMDet has 0.05.
    """

    def __init__(
        self,
        *,
        warmup_len: float = 0,
        warmup_by: str = "step",
        warmup_start_factor: float = 1e-5,
        flat_ratio: float = 0.0,
        min_lr_ratio: float = 0.0,
        step_log_interval: int | None = None,
    ) -> None:
        super().__init__(step_log_interval=step_log_interval)
        check_warmup(warmup_len, warmup_by, warmup_start_factor)
        if warmup_start_factor == 0:
            raise UserError("warmup_start_factor is 0; it must be above 0: the chained form divides by it")
        if not 0 <= flat_ratio <= 1:
            raise UserError(f"flat_ratio is a share of the training, between 0 and 1; got {flat_ratio}")
        self.warmup_len, self.warmup_by, self.start = warmup_len, warmup_by, warmup_start_factor
        self.flat_ratio, self.minimum = flat_ratio, min_lr_ratio

    def prepare(self, loop: Loop) -> None:
        steps = to_steps(self.warmup_len, self.warmup_by, loop)
        self.configure(total_steps=loop.total_steps, warmup_steps=steps)

    def configure(self, *, total_steps: int, warmup_steps: int) -> None:
        """Set the lengths; :meth:`prepare` does it from a loop."""
        self.warmup = Warmup(warmup_steps, self.start, inclusive=True)
        self.begin = round(self.flat_ratio * total_steps)
        self.length = total_steps - self.begin
        self._chained = [self.warmup.factor(0)]

    def factor(self, step: int) -> float:
        step = min(step, self.begin + self.length - 1)
        if self.warmup.steps > self.begin + 1:
            return self._chain(step)
        return self.warmup.factor(step) if step <= self.begin else self._cosine(step)

    def _cosine(self, step: int) -> float:
        wave = (1.0 + math.cos(math.pi * (step - self.begin) / self.length)) / 2.0
        return self.minimum + (1.0 - self.minimum) * wave

    def _chain(self, step: int) -> float:
        """The recursion, kept as a table: a resumed run fills it from step 0 in no time."""
        while len(self._chained) <= step:
            i, value = len(self._chained), self._chained[-1]
            if i < self.warmup.steps:
                value *= self.warmup.factor(i) / self.warmup.factor(i - 1)
            if i > self.begin:
                now, before = (1.0 + math.cos(math.pi * (j - self.begin) / self.length) for j in (i, i - 1))
                value = (value - self.minimum) * now / before + self.minimum
            self._chained.append(value)
        return self._chained[step]
