"""What an ARM core computed against what was expected: counted, and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tests.arm.cases import Case, Codes

COLUMNS = ("file", "files", "cpu", "kernels", "threads", "values", "differing", "by at most")


@dataclass
class Row:
    """A line of the table: one model, or all files of a family, on one core with one kind of kernels.

    Attributes:
        values: compared. differing: how many are not the expected ones. largest: the largest difference, in codes.
        errors: files that did not run, and outputs of another shape or type; a row with any is not equal.
        seconds: of a picture (of one file, the slowest).
    """

    file: str
    cpu: str
    kernels: str
    threads: int
    files: int = 0
    values: int = 0
    differing: int = 0
    largest: int = 0
    delegated: int = 0
    seconds: float = 0.0
    errors: list[str] | None = None
    is_network: bool = False

    @property
    def ok(self) -> bool:
        """Something was compared and nothing differs."""
        return self.values > 0 and self.differing == 0 and not self.errors

    def add(self, case: Case, found: Sequence[Codes], said: Mapping[str, Any]) -> None:
        """Count what a file gave; ``said``: the emulated machine's line on it."""
        self.files += 1
        if "error" in said:
            self._failed(f"{case.name}: {said['error']}")
            return
        self.seconds = max(self.seconds, float(said["seconds"]))
        self.delegated += int(said["delegates"]) > 0
        for position, expected in case.expected.items():
            values = found[position] if position < len(found) else None
            if values is None or values.shape != expected.shape or values.dtype != expected.dtype:
                got = None if values is None else (values.dtype.name, values.shape)
                self._failed(f"{case.name}: output {position} is {got}, not {expected.dtype.name, expected.shape}")
                continue
            steps = np.abs(values.astype(np.int64) - expected.astype(np.int64))
            self.values += steps.size
            self.differing += int(np.count_nonzero(steps))
            self.largest = max(self.largest, int(steps.max(initial=0)))

    def cells(self) -> tuple[str, ...]:
        differing = str(self.differing) if not self.errors else f"{self.differing}, {len(self.errors)} failed"
        return (
            self.file, str(self.files), self.cpu, self.kernels, str(self.threads), _spaced(self.values),
            differing, str(self.largest),
        )  # fmt: skip

    def record(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {**asdict(self), "ok": self.ok}

    def _failed(self, text: str) -> None:
        self.errors = [*(self.errors or []), text]


def count(
    cpu: str, cases: Mapping[str, Case], results: Iterable[tuple[Mapping[str, Any], Mapping[str, Any], Sequence[Codes]]]
) -> list[Row]:
    """The rows of one core: ``results`` are the jobs, what the machine said of each, and its outputs."""
    rows: dict[tuple[str, str, int], Row] = {}
    for job, said, found in results:
        case = cases[job["name"]]
        key = case.row, job["kernels"], job["threads"]
        row = rows.setdefault(key, Row(case.row, cpu, job["kernels"], job["threads"]))
        row.is_network = case.is_network
        row.add(case, found, said)
    return list(rows.values())


def table(rows: Sequence[Row]) -> str:
    """Aligned text."""
    lines = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    text = []
    for line in lines:
        cells = [c.ljust(w) if COLUMNS[i] in ("file", "cpu", "kernels") else c.rjust(w)
                 for i, (c, w) in enumerate(zip(line, widths, strict=True))]  # fmt: skip
        text.append("  ".join(cells).rstrip())
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def markdown(rows: Sequence[Row]) -> str:
    """A table for a page: a line for each network, one for all operator files of an arithmetic, a column a core."""
    cores = list(dict.fromkeys(row.cpu for row in rows))
    lines: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        file = row.file if row.is_network else f"{row.file.split(':')[0]}: operators"
        kernels = row.kernels if row.threads == 1 else f"{row.kernels}, {row.threads} threads"
        lines.setdefault((file, kernels), {}).setdefault(row.cpu, []).append(row)
    text = ["| file | kernels | " + " | ".join(cores) + " |", "|" + "---|" * (2 + len(cores))]
    for (file, kernels), by_core in lines.items():
        cells = [_of(by_core.get(core, [])) for core in cores]
        text.append(f"| {file} | {kernels} | " + " | ".join(cells) + " |")
    return "\n".join(text)


def _of(rows: Sequence[Row]) -> str:
    """``0 of 1 234``: differing values."""
    failed = sum(len(row.errors or ()) for row in rows)
    text = f"{sum(row.differing for row in rows)} of {_spaced(sum(row.values for row in rows))}"
    return (text + (f", {failed} failed" if failed else "")) if rows else "-"


def summary(rows: Sequence[Row]) -> str:
    """In one line."""
    values, differing = sum(row.values for row in rows), sum(row.differing for row in rows)
    failed = sum(len(row.errors or ()) for row in rows)
    more = f", {failed} failures" if failed else ""
    return f"arm: {_spaced(values)} values compared, {differing} differing{more}"


def _spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")
