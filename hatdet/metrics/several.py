"""Several metrics of one validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hatdet.registry import register


@register
class Metrics:
    """Each metric sees all predictions; where two measure a value of one name, the first one's counts.

    What else is asked of a metric (curves, classes, results in COCO's format) the first one answers.

    Args:
        metrics: at least one.
    """

    def __init__(self, *, metrics: Sequence[Any]) -> None:
        if not metrics:
            raise ValueError("metrics is empty; name at least one")
        self.metrics = list(metrics)
        self._values: list[dict[str, float]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "metrics":  # while it is copied
            raise AttributeError(name)
        return getattr(self.metrics[0], name)

    def bind(self, dataset: Any) -> None:
        """Offer the data set to all."""
        for metric in self.metrics:
            if hasattr(metric, "bind"):
                metric.bind(dataset)

    def reset(self) -> None:
        """Forget all predictions."""
        for metric in self.metrics:
            metric.reset()

    def update(self, predictions: Sequence[Mapping[str, Any]], batch: Mapping[str, Any]) -> None:
        """Add the predictions of one batch."""
        for metric in self.metrics:
            metric.update(predictions, batch)

    def compute(self) -> dict[str, float]:
        """The values of all."""
        self._values = [metric.compute() for metric in self.metrics]
        found: dict[str, float] = {}
        for values in self._values:
            found.update({name: value for name, value in values.items() if name not in found})
        return found

    def format(self, values: Mapping[str, float]) -> str:
        """What each of them writes: the first of ``values``, the others of what they measured last."""
        first, *others = self.metrics
        return "\n\n".join(
            [first.format(values), *(m.format(own) for m, own in zip(others, self._values[1:], strict=False))]
        )

    def state(self) -> list[Any]:
        """Predictions of this process, for `merge` on another one."""
        return [metric.state() for metric in self.metrics]

    def merge(self, states: Sequence[Sequence[Any]]) -> None:
        """Replace the predictions by the union of several processes' states."""
        for metric, found in zip(self.metrics, zip(*states, strict=True), strict=True):
            metric.merge(found)
