"""Reads `results.csv`, the table that a training run writes (one row per epoch or validation)."""

from __future__ import annotations

import csv
from pathlib import Path

from hatdet.utils.errors import UserError

Series = list[tuple[float, float]]


def read_history(path: str | Path) -> dict[str, list[float | None]]:
    """Columns of a results.csv by name; an empty or non-numeric cell is None.

    Raises:
        UserError: the file is not there, has no header, or is no table.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except FileNotFoundError:
        raise UserError(
            f"no results file at {path}: a training run writes it to its work_dir; train first, or name another folder"
        ) from None
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{path} is no table of text: remove the file, the next training writes it anew") from None
    if not rows or not any(cell.strip() for cell in rows[0]):
        raise UserError(f"{path} has no header line: remove the file, the next training writes it anew")
    names = [name.strip() for name in rows[0]]
    columns: dict[str, list[float | None]] = {name: [] for name in names}
    for row in rows[1:]:
        if not row:
            continue
        for index, name in enumerate(names):  # an interrupted run may leave a short last line
            columns[name].append(_number(row[index]) if index < len(row) else None)
    return columns


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def series(columns: dict[str, list[float | None]], x: str, y: str) -> Series:
    """The points (x, y) of the rows that have both."""
    for name in (x, y):
        if name not in columns:
            raise UserError(f"no column {name!r}; there are {', '.join(columns)}; name one of them")
    pairs = zip(columns[x], columns[y], strict=True)
    return [(a, b) for a, b in pairs if a is not None and b is not None]
