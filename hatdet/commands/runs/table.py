"""Trainings as rows: for the terminal, for csv and for the page."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from hatdet.commands.runs.reading import Training, differing, falls

SHOWN = 4
"""Names of configs that the terminal's table has room for."""


def header(column: str, names: Sequence[str]) -> list[str]:
    """Titles of the columns of :func:`row`."""
    key = column.rpartition("/")[2]
    return ["run", "stage", "epochs", f"best {key}", "at", f"last {key}", "loss", "images/s", "time", "ended", *names]


def row(training: Training, column: str, names: Sequence[str]) -> list[str]:
    """A training's cells; a dash where it has no such number."""
    best = training.best(column)
    speeds = [value for _, value in training.points("train/images_per_second")]
    return [
        training.name,
        training.stage,
        training.epochs,
        number(best[1] if best else None),
        f"{best[0]:g}" if best else "-",
        number(training.last(column)),
        number(training.last("train/loss")),
        f"{sum(speeds) / len(speeds):.1f}" if speeds else "-",
        str(datetime.timedelta(seconds=round(training.seconds))) if training.seconds else "-",
        datetime.datetime.fromtimestamp(training.when).strftime("%Y-%m-%d %H:%M"),
        *(_value(training.constants.get(name, "-")) for name in names),
    ]


def rows(trainings: Sequence[Training], column: str, shown: int | None = None) -> tuple[list[str], list[list[str]]]:
    """Header and rows, the best first; the names in which the configs differ, at most ``shown``, are columns too."""
    names = differing(trainings)[:shown]
    return header(column, names), [row(training, column, names) for training in ranked(trainings, column)]


def ranked(trainings: Sequence[Training], column: str) -> list[Training]:
    """The best first, those without a value last; of a loss the least is the best."""

    def rank(training: Training) -> float:
        best = training.best(column)
        return float("inf") if best is None else best[1] if falls(column) else -best[1]

    return sorted(trainings, key=rank)


def aligned(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A plain table: the first two columns and those of the configs to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in (titles, *cells)) for i in range(len(titles))]

    def line(words: Sequence[str]) -> str:
        numbers = range(2, 10)
        return "  ".join(
            w.rjust(n) if i in numbers else w.ljust(n) for i, (w, n) in enumerate(zip(words, widths))
        ).rstrip()

    return "\n".join(line(words) for words in (titles, *cells))


def number(value: float | None) -> str:
    """``0.3121``; a learning rate, say, ``1.02e-04``."""
    if value is None:
        return "-"
    return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"


def _value(value: object) -> str:
    return str(value) if isinstance(value, (str, int, float)) else repr(value)
