"""The pictures with the most mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatdet.commands.report.reading import RunFacts
from hatdet.commands.shared.judged import FOLDER
from hatdet.visualization.page.blocks import jpeg_url, missing, paragraph
from hatdet.visualization.page.page import Page
from hatdet.visualization.page.shots import Mark, legend, said, shot, shots

TITLE = "The worst pictures"


def worst_section(page: Page, run: RunFacts) -> None:
    """Worst first, at the threshold with the best F1; nothing where there was no evaluation, which is said before."""
    if run.judged is None:
        return
    stage, values, folder = run.judged
    figures, lost = [], 0
    for row in values["worst"]:
        path = folder / FOLDER / Path(str(row["picture"])).name
        if path.is_file():
            figures.append(_figure(row, path, values["classes"]))
        else:
            lost += 1
    counts, threshold = values["counts"], values["threshold"]
    intro = (
        f"At a confidence of {threshold:.2f} and above, where F1 is best, stage {stage} has in {values['images']} "
        f"pictures: {said(counts)}. {values['pictures_with_mistakes']} pictures have a mistake; these have the most."
    )
    blocks = [paragraph(intro), legend()]
    if lost:
        run.lacks(f"pictures: of the worst ones, {lost} are no longer in {folder / FOLDER}")
        blocks.append(missing(f"Of the worst pictures, {lost} are no longer in {folder / FOLDER}."))
    if not values["worst"]:
        run.lacks("pictures: the data set of this run gives no access to them")
        blocks.append(missing("The data set of this run gives no access to its pictures, so none were kept."))
    blocks.append(shots(figures))
    page.section(TITLE, *blocks, wide=True)


def _figure(row: dict[str, Any], path: Path, classes: list[str]) -> str:
    marks = [
        Mark(tuple(one["box"]), one["state"], _name(classes, one["label"]), True)
        for one in row["truth"]
        if one["state"] != "right"
    ]
    marks += [
        Mark(tuple(one["box"]), one["state"], _name(classes, one["label"]), False, one["score"])
        for one in row["found"]
    ]
    url = jpeg_url(path.read_bytes())
    note = said(row["counts"])
    if not row["truth"] and not row["found"]:
        note += " (no object, and nothing found)"
    if row.get("left_out"):
        note += f" ({row['left_out']} detections of low score are not drawn)"
    return shot(url, (row["width"], row["height"]), marks, Path(row["file_name"]).name, note)


def _name(classes: list[str], label: int) -> str:
    return classes[label] if 0 <= label < len(classes) else str(label)
