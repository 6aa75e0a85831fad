"""What every policy of 2.x is: a function of the progress, and a warm-up before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a training stands, and how long it is."""

    iteration: int
    iterations: int
    epochs: int
    epoch_length: int


@dataclass(frozen=True, kw_only=True)
class Policy(ABC):
    """A value of the progress.

    Attributes:
        by_epoch: the progress is counted in epochs, otherwise in iterations.
        warmup: "constant", "linear", "exp" or None.
        warmup_iters: length of the warm-up.
        warmup_ratio: share of the value at its beginning; of a momentum the inverse.
        warmup_by_epoch: its length is in epochs.
    """

    by_epoch: bool = True
    warmup: str | None = None
    warmup_iters: int = 0
    warmup_ratio: float = 0.1
    warmup_by_epoch: bool = False

    def __post_init__(self) -> None:
        if self.warmup not in (None, "constant", "linear", "exp"):
            raise ValueError(f"warmup is 'constant', 'linear', 'exp' or None, got {self.warmup!r}")
        if self.warmup is not None and (self.warmup_iters < 1 or not 0 < self.warmup_ratio <= 1):
            raise ValueError(
                "a warm-up has warmup_iters of at least 1 and a warmup_ratio above 0 and at most 1, "
                f"got {self.warmup_iters} and {self.warmup_ratio}"
            )

    @abstractmethod
    def regular(self, base: float, place: Place) -> float:
        """The value without a warm-up; ``base`` is the optimizer's."""

    def progress(self, place: Place) -> tuple[int, int]:
        """How much is done, of how much."""
        if self.by_epoch:
            return place.iteration // place.epoch_length, place.epochs
        return place.iteration, place.iterations

    def warmup_length(self, place: Place) -> int:
        """Iterations of the warm-up."""
        if self.warmup is None:
            return 0
        return self.warmup_iters * (place.epoch_length if self.warmup_by_epoch else 1)

    def warm(self, place: Place) -> float:
        """What the warm-up multiplies by, below 1."""
        left = 1 - place.iteration / self.warmup_length(place)
        if self.warmup == "constant":
            return self.warmup_ratio
        if self.warmup == "linear":
            return 1 - left * (1 - self.warmup_ratio)
        return float(self.warmup_ratio**left)

    def rate(self, base: float, place: Place) -> float:
        """The learning rate used in an iteration."""
        if place.iteration < self.warmup_length(place):
            return self.warmed(base, place)
        return self.regular(base, place)

    def warmed(self, base: float, place: Place) -> float:
        """The learning rate in the warm-up."""
        return self.regular(base, place) * self.warm(place)

    def momentum(self, base: float, place: Place) -> float:
        """The momentum used in an iteration: in a warm-up it is higher."""
        value = self.regular(base, place)
        return value / self.warm(place) if place.iteration < self.warmup_length(place) else value
