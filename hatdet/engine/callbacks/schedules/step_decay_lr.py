"""Learning rate in steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hatdet.engine.callbacks.schedules.schedule import LrUpdater, Warmup, check_warmup, to_steps
from hatdet.registry import register

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop


@register("WarmupStepLrUpdater")
class StepDecayLrUpdater(LrUpdater):
    """Linear warm-up, then a division at given epochs.

    Args:
        warmup_by: unit of ``warmup_len``: ``epoch`` (0.3 is 0.3 of an epoch), ``step`` or ``fraction``.
        warmup_len: length of the rise from ``warmup_start_factor``.
        lr_decay_id: epochs (counted from 0) at whose beginning the rate is multiplied.
        lr_decay_factor: by how much.
        warmup_start_factor: share of the rate in step 0.
    """

    def __init__(
        self,
        *,
        warmup_by: str = "epoch",
        warmup_len: float = 0,
        lr_decay_id: Sequence[int] = (),
        lr_decay_factor: float = 0.1,
        warmup_start_factor: float = 0.0,
        step_log_interval: int | None = None,
    ) -> None:
        super().__init__(step_log_interval=step_log_interval)
        check_warmup(warmup_len, warmup_by, warmup_start_factor)
        self.warmup_by, self.warmup_len, self.start = warmup_by, warmup_len, warmup_start_factor
        self.lr_decay_id, self.lr_decay_factor = sorted(lr_decay_id), lr_decay_factor

    def prepare(self, loop: Loop) -> None:
        self.warmup = Warmup(to_steps(self.warmup_len, self.warmup_by, loop), self.start)
        self.decays = [epoch * loop.steps_per_epoch for epoch in self.lr_decay_id]

    def factor(self, step: int) -> float:
        passed = sum(step >= decay for decay in self.decays)
        return self.warmup.factor(step) * float(self.lr_decay_factor**passed)
