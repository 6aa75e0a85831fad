"""How long a training is, and when it is scored: ``train_cfg`` of version 3; ``runner`` and ``evaluation`` of 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hatdet.config.mmdetection.reader import Reader
from hatdet.utils.errors import ConfigError


@dataclass(frozen=True)
class Length:
    """The length of a training.

    Attributes:
        epochs, steps: one of them.
        interval: epochs, or steps, between two validations.
        begin: the first one is not before that many.
        dynamic: (number of epochs or steps done from which on it holds, another interval), ascending.
    """

    epochs: int | None
    steps: int | None
    interval: int
    begin: int = 1
    dynamic: tuple[tuple[int, int], ...] = ()

    @property
    def by_epoch(self) -> bool:
        """Whether it counts epochs."""
        return self.epochs is not None

    def trainer(self) -> dict[str, Any]:
        """Arguments of the trainer."""
        return {"num_epochs": self.epochs} if self.by_epoch else {"num_steps": self.steps}

    def validation(self) -> dict[str, Any]:
        """The callback that scores."""
        result: dict[str, Any] = {"type": "Validation", "val_interval": self.interval}
        if not self.by_epoch:
            result["interval_by"] = "step"
        if self.begin > 1:
            result["val_begin"] = self.begin
        if self.dynamic:
            result["dynamic_intervals"] = [list(pair) for pair in self.dynamic]
        return result


def length_of_version3(config: Mapping[str, Any]) -> Length:
    """``train_cfg``.

    Raises:
        ConfigError: another loop, or a key that no loop has.
    """
    reader = Reader(dict(config), "train_cfg")
    by_epoch = reader.take("by_epoch", bool, None)
    implied = "IterBasedTrainLoop" if by_epoch is False or "max_iters" in reader.values else "EpochBasedTrainLoop"
    kind = reader.one_of("type", ("EpochBasedTrainLoop", "IterBasedTrainLoop"), implied)
    epochs = reader.take("max_epochs", int) if kind == "EpochBasedTrainLoop" else None
    steps = reader.take("max_iters", int) if kind == "IterBasedTrainLoop" else None
    interval = reader.take("val_interval", int, 1 if epochs is not None else 1000)
    begin = reader.take("val_begin", int, 1)
    dynamic = _intervals(reader.take("dynamic_intervals", (list, tuple), None), "train_cfg.dynamic_intervals")
    dynamic = tuple((first - 1, interval) for first, interval in dynamic)  # MMEngine looks one ahead
    reader.finish()
    return _checked(Length(epochs, steps, interval, begin, dynamic), "train_cfg")


def length_of_version2(values: Mapping[str, Any]) -> tuple[Length, str | None]:
    """``runner`` (older files: ``total_epochs``) and ``evaluation``; and which value decides about the best file.

    Raises:
        ConfigError: another runner, or a key that is not known.
    """
    if values.get("runner") is not None:
        reader = Reader(dict(values["runner"]), "runner")
    elif "total_epochs" in values:
        reader = Reader({"type": "EpochBasedRunner", "max_epochs": values["total_epochs"]}, "total_epochs")
    else:
        raise ConfigError("runner is missing; add runner = dict(type='EpochBasedRunner', max_epochs=12)")
    kind = reader.one_of("type", ("EpochBasedRunner", "IterBasedRunner"))
    epochs = reader.take("max_epochs", int) if kind == "EpochBasedRunner" else None
    steps = reader.take("max_iters", int) if kind == "IterBasedRunner" else None
    reader.finish()
    evaluation = Reader(dict(values.get("evaluation") or {}), "evaluation")
    interval = evaluation.take("interval", int, 1)
    if evaluation.take("by_epoch", bool, epochs is not None) != (epochs is not None):
        raise ConfigError(f"evaluation.by_epoch: it must be {epochs is not None}, as the {kind} counts; leave it out")
    begin = max(1, evaluation.take("start", int, None) or 1)
    dynamic = _intervals(evaluation.take("dynamic_intervals", (list, tuple), None), "evaluation.dynamic_intervals")
    save_best = evaluation.take("save_best", str, None)
    evaluation.ignore_all()  # what is left is the metric's
    return _checked(Length(epochs, steps, interval, begin, dynamic), "runner"), save_best


def _intervals(value: Any, path: str) -> tuple[tuple[int, int], ...]:
    pairs = [tuple(pair) if isinstance(pair, (list, tuple)) else (pair,) for pair in value or ()]
    if not all(len(pair) == 2 and all(isinstance(number, int) for number in pair) for pair in pairs):
        raise ConfigError(f"{path}: expected [(from, interval), ...], got {value!r}; write [(285, 1)]")
    return tuple(sorted((int(first), int(interval)) for first, interval in pairs))


def _checked(length: Length, path: str) -> Length:
    for name, number in (("the length", length.epochs or length.steps), ("val_interval", length.interval)):
        if not number or number < 1:
            raise ConfigError(f"{path}: {name} must be at least 1, got {number}")
    return length
