"""Polynomial decay of the learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hatdet.engine.callbacks.schedules.schedule import LrUpdater, Warmup, check_warmup, to_steps
from hatdet.registry import register

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop


@register
class PolyLrUpdater(LrUpdater):
    """Linear warm-up over W steps, then ``m + (1 - m) * (1 - (i - W) / (T - W)) ** power``; T: all steps.

    Args:
        power: 1 is a straight line.
        min_lr_ratio: m.
        warmup_len, warmup_by, warmup_start_factor: as in `StepDecayLrUpdater`.
    """

    def __init__(
        self,
        *,
        power: float = 0.9,
        min_lr_ratio: float = 0.0,
        warmup_len: float = 0,
        warmup_by: str = "epoch",
        warmup_start_factor: float = 0.0,
        step_log_interval: int | None = None,
    ) -> None:
        super().__init__(step_log_interval=step_log_interval)
        check_warmup(warmup_len, warmup_by, warmup_start_factor)
        self.power, self.minimum = power, min_lr_ratio
        self.warmup_len, self.warmup_by, self.start = warmup_len, warmup_by, warmup_start_factor

    def prepare(self, loop: Loop) -> None:
        self.warmup = Warmup(to_steps(self.warmup_len, self.warmup_by, loop), self.start)
        self.total = loop.total_steps

    def factor(self, step: int) -> float:
        if step < self.warmup.steps:
            return self.warmup.factor(step)
        left = max(0.0, 1.0 - (step - self.warmup.steps) / max(1, self.total - self.warmup.steps))
        return self.minimum + (1.0 - self.minimum) * float(left**self.power)
