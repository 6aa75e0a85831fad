"""Following one number of the validations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hatdet.utils.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop


NOT_MEASURED = -1.0
"""COCO's number for an average over no ground truth."""


def is_measured(value: float) -> bool:
    """Whether a metric's value says anything: it is neither NaN nor COCO's -1."""
    return not math.isnan(value) and value != NOT_MEASURED


class Monitor:
    """The best value so far of one metric, each validation looked at once.

    Args:
        key: name among the validation's values.
        mode: ``max`` or ``min``.
        min_delta: what an improvement must exceed.
    """

    def __init__(self, key: str, mode: str = "max", min_delta: float = 0.0) -> None:
        if mode not in ("max", "min"):
            raise UserError(f"mode is {mode!r}; use 'max' (more is better) or 'min'")
        self.key, self.sign, self.min_delta = key, 1.0 if mode == "max" else -1.0, min_delta
        self.best: float | None = None
        self.seen_at = -1

    def new_value(self, loop: Loop) -> float | None:
        """The value of a validation that was not looked at yet, else None.

        Raises:
            UserError: the validation has no such value.
        """
        if loop.validated_at == self.seen_at or loop.validated_at < 0:
            return None
        self.seen_at = loop.validated_at
        if self.key not in loop.values:
            raise UserError(
                f"monitor_metric_key={self.key!r} is not among what the validation gives: "
                f"{', '.join(loop.values)}{did_you_mean(self.key, loop.values)}"
            )
        return float(loop.values[self.key])

    def measured(self, value: float) -> bool:
        """Whether a validation measured anything: NaN never did, nor did -1 where more is better."""
        return not math.isnan(value) and (self.sign < 0 or is_measured(value))

    def improves(self, value: float) -> bool:
        """Whether ``value`` is the best so far (a tie is not); remembers it then. What was not measured never is."""
        if not self.measured(value):
            return False
        if self.best is None or (value - self.best) * self.sign > self.min_delta:
            self.best = value
            return True
        return False

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "seen_at": self.seen_at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        best = state["best"]  # of an earlier version, which took -1 for a value
        self.best, self.seen_at = best if best is None or self.measured(best) else None, int(state["seen_at"])
