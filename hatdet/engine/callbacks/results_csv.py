"""One line of numbers for each epoch."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatdet.engine.callbacks.base import Callback
from hatdet.registry import register
from hatdet.utils import distributed

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop


@register
class ResultsCsv(Callback):
    """Writes ``results.csv``: columns ``epoch`` (from 1), ``step``, then every published scalar; a row an epoch.

    A value that an epoch does not have is an empty cell. A resumed run goes on with the rows before its epoch.

    Args:
        path: None: ``results.csv`` in the run's work directory.
    """

    runs_last = True

    def __init__(self, *, path: str | Path | None = None) -> None:
        self.path = path
        self._row: dict[str, str] = {}
        self._rows: list[dict[str, str]] = []

    def on_loop_begin(self, loop: Loop) -> None:
        path = self.path or (loop.work_dir and loop.work_dir / "results.csv")
        self._file = Path(path) if path and distributed.is_main_process() else None
        self._rows = []
        if self._file is not None and loop.progress.step and self._file.is_file():
            with self._file.open(newline="", encoding="utf-8") as file:
                self._rows = [r for r in csv.DictReader(file) if int(r.get("epoch") or 0) <= loop.progress.epoch]
        if self._row and not loop.progress.step:  # a validation before the first step
            self._rows.append({"epoch": "0", "step": "0"} | self._row)
            self._row = {}

    def on_scalars(self, loop: Loop, scalars: Mapping[str, float]) -> None:
        self._row |= {name: repr(float(value)) for name, value in scalars.items()}  # to the last digit

    def on_epoch_end(self, loop: Loop) -> None:
        numbers: dict[str, Any] = {"epoch": loop.progress.epoch + 1, "step": loop.progress.step}
        self._rows.append(numbers | self._row)
        self._row = {}
        if self._file is not None:
            self._write(self._file)

    def _write(self, path: Path) -> None:
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="")
        writer.writeheader()
        writer.writerows(self._rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(text.getvalue(), encoding="utf-8")
        os.replace(temporary, path)
