"""Trainings as their folders tell them: ``results.csv`` and ``config.py``, read as text; nothing is run."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatdet.config.literal import Unread, read_values
from hatdet.integer.arithmetic import PROFILE
from hatdet.metrics.history import read_history
from hatdet.utils.class_names import listed
from hatdet.utils.errors import UserError, did_you_mean

STAGES = ("float", "calibration", "qat")
LENGTHS = {"float": "epochs", "qat": "qat_epochs"}
"""Names of a config that say how long a stage is."""
NO_DIFFERENCE = ("work_dir", "ckpt_dir", "device", "workers")
"""Names that say where a run was and not what it was."""
BEFORE: dict[str, object] = {"arithmetic": PROFILE}
"""Names that came later, with what runs did before."""
logger = logging.getLogger("hatdet")


def falls(column: str) -> bool:
    """Whether less of it is better."""
    return "loss" in column


@dataclass(frozen=True)
class Training:
    """One stage of one run.

    Attributes:
        name: of the run, its folder below the one that was looked into.
        columns: of results.csv; None where a cell is empty.
        constants: names of the config with their plain values.
        when: of the last line, seconds since 1970.
    """

    name: str
    stage: str
    folder: Path
    columns: dict[str, list[float | None]]
    constants: dict[str, object]
    when: float

    @property
    def title(self) -> str:
        """``mask/float``"""
        return f"{self.name}/{self.stage}"

    def points(self, column: str) -> list[tuple[float, float]]:
        """(epoch, value) where there is one."""
        epochs, values = self.columns.get("epoch", []), self.columns.get(column, [])
        return [(x, y) for x, y in zip(epochs, values) if x is not None and y is not None]

    def last(self, column: str) -> float | None:
        """The last value of a column."""
        points = self.points(column)
        return points[-1][1] if points else None

    def best(self, column: str) -> tuple[float, float] | None:
        """(epoch, value) of the largest; of a loss the least. What is not finite, as a loss that ran away, is none."""
        choose = min if falls(column) else max
        finite = (point for point in self.points(column) if math.isfinite(point[1]))
        return choose(finite, key=lambda point: point[1], default=None)

    @property
    def epochs(self) -> str:
        """``12/60``: done, of those that the config asks for."""
        done = int(max((x for x in self.columns.get("epoch", []) if x is not None), default=0))
        wanted = self.constants.get(LENGTHS.get(self.stage, ""))
        return f"{done}/{wanted}" if isinstance(wanted, int) else str(done)

    @property
    def seconds(self) -> float:
        """Of its epochs, without validations."""
        return sum(value for _, value in self.points("time/epoch"))


def find(places: Iterable[str | Path]) -> list[Training]:
    """All trainings below the places, the oldest first; one whose table is damaged is a warning.

    Raises:
        UserError: a place is not there, or there is no training in any.
    """
    found: dict[Path, Training] = {}
    damaged: list[UserError] = []
    paths = [Path(place) for place in places]
    for place in paths:
        if not place.is_dir():
            raise UserError(f"no folder {place}: name a folder of runs (work_dirs), or that of one run")
        for folder, below, files in os.walk(place):
            below.sort()
            path = Path(folder)
            if "results.csv" in files and path.resolve() not in found:
                try:
                    found[path.resolve()] = read(path, place)
                except UserError as error:
                    damaged.append(error)
    if damaged and not found:
        raise damaged[0]
    for reason in damaged:
        logger.warning("left out: %s", reason)
    if not found:
        text = ", ".join(map(str, paths))
        raise UserError(f"no training in {text}: none has a results.csv; train first, or name another folder")
    counts = Counter(training.title for training in found.values())
    named = [
        training if counts[training.title] == 1 else dataclasses.replace(training, name=str(training.folder.parent))
        for training in found.values()
    ]
    return sorted(named, key=lambda training: training.when)


def read(folder: Path, place: Path) -> Training:
    """The training whose results.csv lies in ``folder``, named as seen from ``place``."""
    run = folder.parent if folder.name in STAGES else folder
    inside = run.resolve().relative_to(place.resolve()) if run.resolve().is_relative_to(place.resolve()) else Path()
    name = str(inside) if str(inside) != "." else run.resolve().name
    file = folder / "results.csv"
    stage = folder.name if folder.name in STAGES else "train"
    return Training(name, stage, folder, read_history(file), constants(folder / "config.py"), file.stat().st_mtime)


def constants(path: Path) -> dict[str, object]:
    """Names of a resolved config with their values; none where there is no such file, or it is not Python."""
    try:
        values = read_values(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}
    found = {name: value for name, value in values.items() if not isinstance(value, Unread)}
    return {**found, **{name: value for name, value in BEFORE.items() if found and name not in found}}


def differing(trainings: Sequence[Training]) -> list[str]:
    """Names of plain values that are not the same in all configs, in the order of the first config."""
    known: list[Mapping[str, object]] = [training.constants for training in trainings if training.constants]
    names = dict.fromkeys(name for each in known for name in each)
    plain = (bool, int, float, str, tuple, list, type(None))
    return [
        name
        for name in names
        if not name.startswith("_")
        and name not in NO_DIFFERENCE
        and all(isinstance(each.get(name), plain) for each in known)
        and len({repr(each.get(name)) for each in known}) > 1
    ]


def main_column(trainings: Sequence[Training], key: str | None) -> str:
    """The column that trainings are compared by: ``val/KEY``, by default AP, else the first that validations have.

    Raises:
        UserError: none has it.
    """
    columns = dict.fromkeys(column for training in trainings for column in training.columns)
    if key is None:
        validated = [column for column in columns if column.startswith("val/")]
        return "val/AP" if "val/AP" in validated else next(iter(validated), "train/loss")
    for name in (f"val/{key}", f"train/{key}", key):
        if name in columns:
            return name
    known = list(dict.fromkeys(column.partition("/")[2] or column for column in columns))
    raise UserError(f"no training has {key!r}{did_you_mean(key, known)}; there are {listed(known)}: name one of them")
