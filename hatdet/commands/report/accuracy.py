"""How good the detections are: by threshold, class and size, and what is taken for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.commands.report.reading import RunFacts
from hatdet.commands.report.training import CHART, NONE, number
from hatdet.visualization.charts import line_chart
from hatdet.visualization.evaluation import MANY_CLASSES
from hatdet.visualization.page.blocks import bar_table, chart, charts, listing, matrix, missing, paragraph, table
from hatdet.visualization.page.page import Page

WORST_LINES = 4
LOW_F1 = 0.2
"""Below it, thresholds and mistakes say little."""
MATRIX_CLASSES = 20
PAIRS = 8
Series = list[tuple[float, float]]


def accuracy_sections(page: Page, run: RunFacts) -> None:
    """Curves and thresholds, classes, sizes."""
    if run.judged is None and all("AP" not in (stage.scores or {"AP": 0}) for stage in run.stages.values()):
        page.section("Precision and recall", missing("The metric of this run is not one of boxes."))
        return
    if run.judged is None and any("F1" in (stage.scores or {}) for stage in run.stages.values()):
        text = "This run finds points: precision, recall and the best threshold stand among the values of predict.json."
        page.section("Precision and recall", missing(text))
        return
    if run.judged is None:
        last = list(run.stages)[-1] if run.stages else "int_infer"
        command = run.lacks("curves by class, confusions, pictures", run.command("predict", "--stage", last))
        text = "No stage has an evaluation.json, so there are no curves by class, no confusions and no pictures."
        page.section("Precision and recall", missing(text, command))
        return
    stage, values, _ = run.judged
    found = run.stages.get(stage)
    _curves(page, stage, values)
    _classes(page, values, dict(found.scores or {}) if found else {})
    _sizes(page, run, values)


def _curves(page: Page, stage: str, values: Mapping[str, Any]) -> None:
    curves, threshold = values["curves"], values["threshold"]
    if values["f1"] is None:
        page.section("Precision and recall", missing("The evaluated pictures have no objects: nothing can be scored."))
        return
    intro = (
        f"Of stage {stage} ({values['source']}): {values['images']} pictures, {sum(values['objects']):,} objects, "
        f"at IoU {curves['iou']:g}."
    )
    best = f"Best threshold for all classes together: {threshold:.2f} (mean F1 {values['f1']:.3f})."
    good = values["f1"] >= LOW_F1
    if not good:
        best += " That is hardly more than nothing: what follows tells little before the model is trained longer."
    shown = [
        ("Precision over recall", "recall", "recall_points", "precision_at_recall", None),
        ("F1 over the confidence threshold", "confidence", "confidence", "f1", threshold),
        ("Precision over the confidence threshold", "confidence", "confidence", "precision", threshold),
        ("Recall over the confidence threshold", "confidence", "confidence", "recall", threshold),
    ]
    blocks = []
    for title, label, x, y, mark in shown:
        lines = _lines(values, curves[x], curves[y])
        axis = (0.0, 1.0)
        svg = line_chart(lines, title, label, "", axis, axis, mark=mark, **CHART)  # type: ignore[arg-type]
        blocks.append(chart(svg, title, list(lines)))
    verdict = paragraph(best, "good" if good else "warn")
    page.section("Precision and recall", paragraph(intro), verdict, charts(*blocks), wide=True)


def _lines(values: Mapping[str, Any], x: Sequence[float], rows: Sequence[Sequence[float | None]]) -> dict[str, Series]:
    """A line for each class with objects; of many, their mean and the worst classes."""
    classes, by_class = values["classes"], values["by_class"]
    present = [label for label, row in enumerate(by_class) if row is not None]
    if len(present) <= MANY_CLASSES:
        return {classes[label]: _points(x, rows[label]) for label in present}
    mean = np.array([rows[label] for label in present], np.float64).mean(axis=0).tolist()
    worst = sorted(present, key=lambda label: by_class[label]["AP50"])[:WORST_LINES]
    lines = {f"mean of {len(present)} classes": _points(x, mean)}
    return lines | {f"{classes[label]} (one of the worst)": _points(x, rows[label]) for label in worst}


def _points(x: Sequence[float], y: Sequence[float | None]) -> Series:
    return [(a, float("nan") if b is None else b) for a, b in zip(x, y, strict=True)]


def _classes(page: Page, values: Mapping[str, Any], scores: Mapping[str, float]) -> None:
    """Classes with objects, the worst first; those without are one line."""
    rows, absent = [], []
    for label, name in enumerate(values["classes"]):
        row = values["by_class"][label]
        if row is None:
            absent.append(name)
            continue
        cells = [f"{row[key]:.3f}" for key in ("f1", "precision", "recall")]
        head = [name, str(values["objects"][label]), number(scores, f"AP/{name}"), f"{row['AP50']:.3f}"]
        rows.append((row["f1"], [*head, f"{row['threshold']:.2f}", *cells]))
    titles = ["class", "objects", "AP", "AP50", "best threshold", "F1", "precision", "recall"]
    note = "Each class at its own best threshold; the class with the lowest F1 is first."
    blocks = [table(titles, [cells for _, cells in sorted(rows)]), paragraph(note, "soft")]
    if absent:
        more = "" if len(absent) <= 10 else f" and {len(absent) - 10} more"
        have = "class has" if len(absent) == 1 else "classes have"
        text = f"{len(absent)} {have} no objects in these pictures: {', '.join(absent[:10])}{more}."
        blocks.append(paragraph(text, "soft"))
    page.section("Classes", *blocks, double=True)


def _sizes(page: Page, run: RunFacts, values: Mapping[str, Any]) -> None:
    sizes = values.get("sizes")
    if not sizes:
        run.lacks("AP by size: the metric of this run does not give it")
        page.section("Sizes of objects", missing("The metric of this run does not give AP by size."))
        return
    sizes = {name: sizes[name] for name in ("small", "medium", "large")}
    ranges = {"small": "small, under 32x32", "medium": "medium, to 96x96", "large": "large, above"}
    rows = [
        (ranges[name], part["AP"] or 0.0, _score(part["AP"]), f"{part['objects']:,}") for name, part in sizes.items()
    ]
    blocks = [bar_table(["pixels of the file", "", "AP", "objects"], rows)]
    present = [label for label, row in enumerate(values["by_class"]) if row is not None]
    if 1 < len(present) <= MANY_CLASSES:
        by_class = [
            [values["classes"][label], *(_score(part["by_class"][label]) for part in sizes.values())]
            for label in present
        ]
        blocks.append(table(["AP of", *sizes], by_class))
    page.section("Sizes of objects", *blocks)


def _score(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def confusion_section(page: Page, run: RunFacts) -> None:
    """What is taken for what; nothing where there was no evaluation, which is said before."""
    if run.judged is None:
        return
    values = run.judged[1]
    counts = np.array(values["confusion"], np.int64)
    names = [*values["classes"], "nothing"]
    text = (
        f"Rows are what is there, columns what was found, at a confidence of {values['threshold']:.2f} and above. "
        "The last column was missed, in the last row nothing is there."
    )
    blocks = [paragraph(text, "soft")]
    if len(values["classes"]) > MATRIX_CLASSES:
        counts, names = _gathered(counts, names)
        text = f"The {MATRIX_CLASSES} classes with the most mistakes; the others are gathered in one."
        blocks.append(paragraph(text, "soft"))
    blocks.append(matrix(counts, names))
    pairs = _pairs(counts, names)
    if pairs:
        blocks.append(listing(pairs))
    page.section("Confusions", *blocks, wide=len(names) > 8)


def _gathered(counts: NDArray[np.int64], names: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    last = len(names) - 1
    kept = sorted(np.argsort(-wrong[:last], kind="stable")[:MATRIX_CLASSES].tolist())
    group = np.full(len(names), len(kept))
    group[kept] = np.arange(len(kept))
    group[last] = len(kept) + 1
    result = np.zeros((len(kept) + 2, len(kept) + 2), np.int64)
    np.add.at(result, (group[:, None], group[None, :]), counts)
    return result, [*(names[i] for i in kept), f"{last - len(kept)} others", "nothing"]


def _pairs(counts: NDArray[np.int64], names: Sequence[str]) -> list[str]:
    """The most frequent confusions of two classes, in words."""
    last = len(names) - 1
    found = [
        (int(counts[a, b]), a, b) for a in range(last) for b in range(last) if a != b and counts[a, b]
    ]
    top = sorted(found, key=lambda one: (-one[0], one[1:]))[:PAIRS]
    return [f"{names[a]} taken for {names[b]}: {n} of {int(counts[a].sum())}" for n, a, b in top]
