"""A measured model as a row: what its file costs, and its scores on one data set; rows as json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from hatdet.utils.errors import UserError

FILE = Path(__file__).with_name("models.json")
NPUS = ("ethos-u55-128", "ethos-u65-256")
"""Whose time and memory Vela estimates for a row."""


@dataclass(frozen=True)
class Row:
    """One training of a model on one data set, taken to the int8 file.

    Attributes:
        model: short name. config: of the shipped config or its path. options: of the run, that change the network.
        size: (height, width) of the input. data: name of the data set. pictures: trained on. classes: how many.
        seed, epochs, qat_epochs: of the run. seconds: of the float training and of QAT, epochs alone, as far as known.
        parameters: of the float network. macs: of the file, for one picture. flash: bytes of the file.
        activations: the least RAM that any runtime needs, bytes. arena: what TensorFlow Lite Micro needs; None: it
            does not run the file, or is not installed.
        npu: by target: milliseconds, bytes of SRAM and of the compiled file, operators left to the CPU.
        metric: name of the scores: AP, or F1 of detectors of points.
        scores: by stage (float, calibration, qat). The file's score is that of ``qat``, to the last digit: rows of
            runs where it is not are not made.
        scores50: AP50 of the same; F1's rows have none.
    """

    model: str
    config: str
    options: dict[str, Any]
    size: tuple[int, int]
    data: str
    pictures: int
    classes: int
    seed: int
    epochs: int
    qat_epochs: int
    seconds: dict[str, float]
    parameters: int
    macs: int
    flash: int
    activations: int
    arena: int | None
    npu: dict[str, dict[str, float]]
    metric: str
    scores: dict[str, float]
    scores50: dict[str, float]

    @property
    def key(self) -> tuple[Any, ...]:
        """What no two rows of a table share."""
        return (*self.network, self.data, self.seed, self.epochs)

    @property
    def network(self) -> tuple[Any, ...]:
        """What rows of one network at one size share."""
        return self.model, tuple(sorted(map(str, self.options.items()))), self.size


def read(path: Path = FILE) -> list[Row]:
    """The rows of a file.

    Raises:
        UserError: it is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [Row(**{**row, "size": tuple(row["size"])}) for row in found]
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"{path} is no table of models ({error})"
        raise UserError(f"{reason}; name a json that `hatdet models --json` wrote") from None


@cache
def shipped() -> tuple[Row, ...]:
    """The models that were measured for hatdet's own table."""
    return tuple(read()) if FILE.is_file() else ()


def write(rows: Iterable[Row], path: Path) -> None:
    """Rows as json, a row a line, in a fixed order."""
    names = [field.name for field in fields(Row)]
    lines = [json.dumps({name: values[name] for name in names}) for values in map(asdict, ordered(rows))]
    path.write_text("[\n " + ",\n ".join(lines) + "\n]\n" if lines else "[]\n", encoding="utf-8")


def merged(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """All rows; of the same model, size, data, seed and epochs the new one."""
    return ordered({row.key: row for row in (*old, *new)}.values())


def ordered(rows: Iterable[Row]) -> list[Row]:
    """By parameters, then by size of the input and data."""

    def place(row: Row) -> tuple[object, ...]:
        return row.parameters // 1000, row.model, str(row.options), row.size, row.data, row.seed

    return sorted(rows, key=place)
