"""One page that shows trainings over each other: no script, no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hatdet.commands.runs.reading import STAGES, Training, differing
from hatdet.commands.runs.table import header, ranked, row, rows
from hatdet.visualization.charts import line_chart
from hatdet.visualization.page import blocks
from hatdet.visualization.page.page import Page

CURVES = ("train/loss", "train/lr", "train/images_per_second")
"""Drawn below the values that validations compare by."""
MOST = 12
"""Runs in a chart; more of them are no curves any more."""


def write(trainings: Sequence[Training], column: str, path: Path) -> Path:
    """Write the page: for each stage a table, what the configs differ in, and the curves."""
    page = Page("Runs", f"compared by {column.rpartition('/')[2]}")
    for stage in (*STAGES, "train"):
        if own := [training for training in trainings if training.stage == stage]:
            _sections(page, stage, own, column)
    return page.write(path)


def _sections(page: Page, stage: str, trainings: Sequence[Training], column: str) -> None:
    titles, cells = rows(trainings, column, shown=0)
    best = ranked(trainings, column)
    table = blocks.table(_without_stage(titles), [_without_stage(line) for line in cells])
    page.section(f"Stage {stage}: {len(best)} run{'s' if len(best) > 1 else ''}", table, wide=True)
    names = differing(trainings)
    if len(best) > 1 and names:
        known = len(header("", []))
        values = [row(training, "", names)[known:] for training in best]
        lines = [[name, *(line[i] for line in values)] for i, name in enumerate(names)]
        page.section(f"{stage}: what differs", blocks.table(["", *(each.name for each in best)], lines), wide=True)
    note = f"the best {MOST} of {len(best)} runs" if len(best) > MOST else ""
    page.section(f"{stage}: curves", blocks.charts(*_charts(best[:MOST], column, note)), wide=True)


def _charts(trainings: Sequence[Training], column: str, note: str) -> list[str]:
    others = [name for name in ("val/AP", "val/AP50", "val/AP75") if name != column]
    made = []
    for name in (column, *others, *CURVES):
        lines = {training.name: training.points(name) for training in trainings}
        if any(lines.values()):
            title = name.rpartition("/")[2].replace("_", " ")
            svg = line_chart(lines, title, "epoch", width=360, height=260, bare=True)
            made.append(blocks.chart(svg, title, list(lines), note))
    return made


def _without_stage(line: Sequence[str]) -> list[str]:
    return [cell for index, cell in enumerate(line) if index != 1]
