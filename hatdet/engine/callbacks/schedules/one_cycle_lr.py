"""One cycle of the learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hatdet.engine.callbacks.schedules.schedule import LrUpdater
from hatdet.registry import register
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop


@register
class OneCycleUpdater(LrUpdater):
    """Cosine up from ``lr / div_factor`` to ``lr``, cosine down to ``lr / div_factor / final_div_factor``.

    Smith and Topin, "Super-Convergence" (2018), in the two-phase form of ``torch.optim.lr_scheduler.OneCycleLR``
    (whose numbers it gives); the optimizer's learning rate is the peak. Momentum is left alone.

    Args:
        pct_start: share of the training in which the rate rises.
    """

    def __init__(
        self,
        *,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        step_log_interval: int | None = None,
    ) -> None:
        super().__init__(step_log_interval=step_log_interval)
        if not 0 <= pct_start <= 1:
            raise UserError(f"pct_start is a share of the training, between 0 and 1; got {pct_start}")
        self.pct_start, self.start = pct_start, 1.0 / div_factor
        self.end = self.start / final_div_factor

    def prepare(self, loop: Loop) -> None:
        self.total = loop.total_steps

    def factor(self, step: int) -> float:
        peak = self.pct_start * self.total - 1.0
        if step <= peak:
            return _cosine(self.start, 1.0, step / peak if peak > 0 else 1.0)
        return _cosine(1.0, self.end, min(1.0, (step - peak) / (self.total - 1.0 - peak)))


def _cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) / 2.0 * (1.0 + math.cos(math.pi * share))
