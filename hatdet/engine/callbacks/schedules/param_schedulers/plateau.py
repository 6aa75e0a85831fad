"""A schedule that follows the validations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hatdet.engine.callbacks.schedules.param_schedulers.scheduler import Scheduler


@dataclass(frozen=True, kw_only=True)
class ReduceOnPlateau(Scheduler):
    """Times ``factor`` where a metric has not improved for more than ``patience`` validations.

    Attributes:
        monitor: name among the validation's values.
        rule: "less" is better, or "greater".
        factor: below 1.
        patience: see above.
        threshold: how much better counts as better: a share of the best value ("rel"), or itself ("abs").
        threshold_rule: see above.
        cooldown: validations after a reduction that do not count.
        min_value: the least value; a list: of each parameter group.
        eps: a smaller change is not made.
    """

    monitor: str = "loss"
    rule: str = "less"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_rule: str = "rel"
    cooldown: int = 0
    min_value: float | Sequence[float] = field(default=0.0, metadata={"each": True})
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.by_epoch:
            raise ValueError("it follows validations, not iterations; set by_epoch=True")
        if not self.factor < 1:
            raise ValueError(f"factor is below 1, got {self.factor}")
        if self.rule not in ("less", "greater") or self.threshold_rule not in ("rel", "abs") or self.threshold < 0:
            raise ValueError(
                "rule is 'less' or 'greater', threshold_rule 'rel' or 'abs', threshold at least 0; "
                f"got {self.rule!r}, {self.threshold_rule!r}, {self.threshold}"
            )
        if isinstance(self.min_value, list):
            object.__setattr__(self, "min_value", tuple(self.min_value))

    def next(self, value: float, base: float, step: int) -> float:
        return value  # only a validation changes it

    def reduced(self, value: float) -> float:
        """The value where nothing has improved."""
        assert not isinstance(self.min_value, Sequence)
        lower = max(value * self.factor, self.min_value)
        return lower if value - lower > self.eps else value

    def better(self, metric: float, best: float | None) -> bool:
        """Whether a metric is better than the best before it."""
        if best is None:
            return True
        sign = -1 if self.rule == "less" else 1
        if self.threshold_rule == "rel":
            return sign * metric > sign * best * (1 + sign * self.threshold)
        return sign * metric > sign * best + self.threshold


class Patience:
    """What a :class:`ReduceOnPlateau` remembers of validations."""

    def __init__(self, rule: ReduceOnPlateau) -> None:
        self.rule, self.bad, self.cooling = rule, 0, 0
        self.best: float | None = None

    def lost(self, metric: float) -> bool:
        """Take a validation; whether the value is to be reduced."""
        if self.rule.better(metric, self.best):
            self.best, self.bad = metric, 0
        else:
            self.bad += 1
        if self.cooling > 0:
            self.cooling, self.bad = self.cooling - 1, 0
        if self.bad <= self.rule.patience:
            return False
        self.cooling, self.bad = self.rule.cooldown, 0
        return True
