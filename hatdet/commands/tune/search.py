"""What is searched: ``lr=1e-4..1e-2:log``, ``warmup_steps=100..500``, ``activation=ReLU6,Hardswish``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatdet.config.options import parse_value
from hatdet.utils.errors import UserError, did_you_mean

SPAN = 5.0
"""The default range of a rate: a fifth of what the config says to five times that."""
OWN = ("work_dir", "ckpt_dir", "epochs", "float_trainer.num_epochs", "run_pictures")
"""Names that a trial has values of its own for."""
LARGEST = 1e18
"""Ends of ranges lie below it: no option needs more, and the sampler's sums stay numbers."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, whole ones where both are; ``log``: as many between 1 and 10 as between 10 and
    100."""

    low: float
    high: float
    log: bool = False

    @property
    def _whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def suggest(self, trial: Any, name: str) -> Any:
        """A value from an optuna trial."""
        if self._whole:
            return self.read(trial.suggest_int(name, self.low, self.high, log=self.log))
        return self.read(trial.suggest_float(name, float(self.low), float(self.high), log=self.log))

    def read(self, stored: Any) -> Any:
        """The option of what optuna keeps: four digits of a number that is not whole, which nobody writes out."""
        return stored if isinstance(stored, int) else float(f"{stored:.4g}")

    def __str__(self) -> str:
        low, high = (text if parse_value(text := f"{end:g}") == end else repr(end) for end in (self.low, self.high))
        if all(isinstance(parse_value(text), int) for text in (low, high)) and not self._whole:
            high = repr(float(self.high))
        return f"{low}..{high}{':log' if self.log else ''}"


@dataclass(frozen=True)
class Choices:
    """One of several values, each as it is written on a command line."""

    texts: tuple[str, ...]

    def suggest(self, trial: Any, name: str) -> Any:
        """A value from an optuna trial, which remembers it as text."""
        return self.read(trial.suggest_categorical(name, self.texts))

    def read(self, stored: Any) -> Any:
        """The option of what optuna keeps."""
        return parse_value(stored)

    def __str__(self) -> str:
        return ",".join(self.texts)


Space = dict[str, Range | Choices]


def parse(specs: Sequence[str]) -> Space:
    """The search space of ``NAME=LOW..HIGH``, ``NAME=LOW..HIGH:log`` and ``NAME=A,B,C``.

    Raises:
        UserError: one is none of these.
    """
    space: Space = {}
    for spec in specs:
        name, equals, text = spec.partition("=")
        if not equals or not name or not text:
            raise UserError(f"--search {spec}: give NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=A,B,C")
        space[name] = _range(spec, text) if ".." in text else _choices(spec, text)
    return space


def _range(spec: str, text: str) -> Range:
    text, _, kind = text.partition(":")
    read = [parse_value(end) for end in text.split("..")]
    ends = [end for end in read if isinstance(end, (int, float)) and not isinstance(end, bool)]
    if len(ends) != 2 or len(read) != 2 or kind not in ("", "log"):
        raise UserError(f"--search {spec}: a range is LOW..HIGH with two numbers, and :log behind it or nothing")
    low, high = ends
    if max(abs(low), abs(high)) >= LARGEST:
        raise UserError(f"--search {spec}: the numbers of a range lie below {LARGEST:g}; give smaller ones")
    if not low < high or (kind and low <= 0):
        raise UserError(
            f"--search {spec}: the first number is below the second{', and above 0 with :log' if kind else ''}"
        )
    return Range(low, high, kind == "log")


def _choices(spec: str, text: str) -> Choices:
    parts, depth, start = [], 0, 0
    for index, letter in enumerate(text + ","):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    if len(parts) < 2 or not all(parts) or len(set(parts)) < len(parts):
        raise UserError(f"--search {spec}: give two different values or more, NAME=A,B,C, or a range, NAME=LOW..HIGH")
    return Choices(tuple(parts))


def default_space(config: Mapping[str, Any]) -> Space:
    """What is searched where nothing is named: learning rate, weight decay and MixUp, as far as the config has them.

    Raises:
        UserError: it has none of them.
    """
    space: Space = {}
    for name in ("lr", "weight_decay"):
        value = config.get(name)
        if isinstance(value, float) and value > 0:
            space[name] = Range(float(f"{value / SPAN:.3g}"), float(f"{value * SPAN:.3g}"), log=True)
    if isinstance(config.get("mixup_prob"), float):
        space["mixup_prob"] = Range(0.0, 0.5)
    if not space:
        raise UserError("the config has no lr, weight_decay or mixup_prob to search: name options with --search")
    return space


def check_names(space: Space, config: Mapping[str, Any]) -> None:
    """Refuse names that the config does not have, or that tuning sets itself.

    Raises:
        UserError: with the nearest name.
    """
    for name in space:
        if name in OWN:
            raise UserError(
                f"--search {name}: tuning sets it for each trial (--work-dir, --epochs); name other options"
            )
        if name.split(".")[0] not in config:
            near = did_you_mean(name, config)
            raise UserError(f"--search {name}: the config has no such name{near}; name one of its options")


def texts(space: Space) -> dict[str, str]:
    """As :func:`parse` takes it, by name."""
    return {name: str(part) for name, part in space.items()}
