"""Rows as a table: for the terminal, and as the page docs/models.md."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

from hatdet.commands.models.rows import NPUS, Row, ordered

TITLES = ("model", "px", "parameters, M", "MACs, M", "flash, KiB", "activations, KiB", "arena, KiB",
          *(f"{name[6:].upper()}, ms" for name in NPUS), "flash after Vela, KiB")  # fmt: skip
STAGES = ("float", "calibration", "qat")

PAGE = """\
# Models: what they cost and how good they are

{intro}

{table}

{notes}

## The runs

{runs}
"""
INTRO = """\
Made by `hatdet models --markdown docs/models.md` from the files of the runs below; `hatdet models` prints the table,
and `hatdet models work_dirs/*` makes one of your own runs. `hatdet init --board` and `hatdet check-model --board` go by
it.

Scores are points (AP is COCO's) of float / calibration / QAT. **QAT's is the file's**: the exported int8 `.tflite` was
evaluated over the whole validation set in a runtime of its arithmetic and gave the same score to the last digit; a run
where it did not makes no row."""
NOTES = """\
*Parameters*: of the float network, with the classes of the data set. *MACs*: of the file, for one picture. *Flash*: the
file. *Activations*: the least RAM that any runtime needs. *Arena*: what TensorFlow Lite Micro needed here (64-bit
structures, reference kernels). *U55-128, U65-256*: Vela's estimates for one picture on its default systems, not
measurements. *Flash after Vela*: the file compiled for the U55-128, its weights compressed."""


def markdown(rows: Sequence[Row]) -> str:
    """The whole page."""
    cells = [list(cell) for cell in table_cells(rows)]
    return PAGE.format(intro=INTRO, table=_pipes(cells[0], cells[1:]), notes=NOTES, runs=_pipes(*_runs(rows)))


def terminal(rows: Sequence[Row]) -> str:
    """An aligned table."""
    cells = table_cells(rows)
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip()
        for line in cells
    )


def table_cells(rows: Sequence[Row]) -> list[list[str]]:
    """Titles, then a line for each network and size; columns of a data set's scores stand at the end."""
    data = sorted({row.data for row in rows})
    metrics = {name: sorted({row.metric for row in rows if row.data == name}) for name in data}
    scores = [(name, metric) for name in data for metric in metrics[name]]
    lines = [[*TITLES, *(f"{name}: {metric}, float / cal. / QAT = file" for name, metric in scores)]]
    for same in _by_network(rows):
        found = {(row.data, row.metric): row for row in sorted(same, key=lambda row: (-row.epochs, row.seed))[::-1]}
        lines.append([*_costs(same[0]), *(_score(found.get(column)) for column in scores)])
    return lines


def _by_network(rows: Iterable[Row]) -> list[list[Row]]:
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in ordered(rows):
        groups.setdefault(row.network, []).append(row)
    return list(groups.values())


def named(row: Row) -> str:
    """A model with the options in which it differs from its config."""
    extra = ", ".join(f"{name}={value}" for name, value in sorted(row.options.items()))
    return row.model + (f" ({extra})" if extra else "")


def _costs(row: Row) -> list[str]:
    return [
        named(row),
        _size(row),
        f"{row.parameters / 1e6:.3f}",
        f"{row.macs / 1e6:.1f}",
        _kib(row.flash),
        _kib(row.activations),
        _kib(row.arena),
        *(_milliseconds(row, name) for name in NPUS),
        _kib(row.npu[NPUS[0]]["flash"]) if NPUS[0] in row.npu else "-",
    ]


def _milliseconds(row: Row, name: str) -> str:
    found = row.npu.get(name)
    if found is None:
        return "-"
    left = f" + {found['cpu_operators']:.0f} operators on the CPU" if found["cpu_operators"] else ""
    return f"{found['ms']:.2f}{left}"


def _score(row: Row | None) -> str:
    return "-" if row is None else " / ".join(f"{100 * row.scores[name]:.1f}" for name in STAGES)


def _runs(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    titles = ["model", "px", "data", "pictures", "classes", "seed", "epochs", "QAT epochs", "float, time", "QAT, time",
              "float AP50", "file AP50", "config"]  # fmt: skip
    lines = []
    for row in ordered(rows):
        times = [_time(row.seconds.get(name)) for name in ("float", "qat")]
        fifty = [f"{100 * row.scores50[name]:.1f}" if name in row.scores50 else "-" for name in ("float", "qat")]
        counts = map(str, (row.pictures, row.classes, row.seed, row.epochs, row.qat_epochs))
        lines.append([named(row), _size(row), row.data, *counts, *times, *fifty, f"`{row.config}`"])
    return titles, lines


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else str(datetime.timedelta(seconds=round(seconds)))


def _size(row: Row) -> str:
    height, width = row.size
    return str(width) if height == width else f"{height} x {width}"


def _kib(count: float | None) -> str:
    return "-" if count is None else f"{count / 1024:.0f}"


def _pipes(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = "|".join("---" for _ in titles)
    return "\n".join([f"| {' | '.join(titles)} |", f"|{rule}|", *(f"| {' | '.join(line)} |" for line in lines)])
