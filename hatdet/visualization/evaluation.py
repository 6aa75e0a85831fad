"""Charts of an evaluation and of a training run, ready for a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hatdet.metrics.curves import DetectionCurves, confusion_matrix, detection_curves
from hatdet.metrics.history import Series, read_history, series
from hatdet.metrics.records import Boxes
from hatdet.visualization.charts import line_chart, matrix_chart

MANY_CLASSES = 12
"""Beyond so many, one line for their mean is readable and a line for each is not."""


def _lines(
    curves: DetectionCurves, class_names: Sequence[str], x: NDArray[np.float64], values: NDArray[np.float64]
) -> dict[str, list[tuple[float, float]]]:
    """Lines over ``x`` by class, of those with objects; of many classes their mean."""
    present = [label for label in range(len(class_names)) if curves.num_objects[label] > 0]
    if len(present) > MANY_CLASSES:
        return {f"mean of {len(present)} classes": list(zip(x, values[present].mean(axis=0), strict=True))}
    return {class_names[label]: list(zip(x, values[label], strict=True)) for label in present}


def precision_recall_chart(curves: DetectionCurves, class_names: Sequence[str]) -> str:
    """Precision over recall, a line per class with objects; the legend gives AP at this IoU."""
    names = [f"{name}: {ap:.3f}" for name, ap in zip(class_names, curves.average_precision, strict=True)]
    lines = _lines(curves, names, curves.recall_points, curves.precision_at_recall)
    title = f"Precision over recall at IoU {curves.iou_threshold:.2f}"
    return line_chart(lines, title, "recall", "precision", (0, 1), (0, 1))


def confidence_chart(
    curves: DetectionCurves, class_names: Sequence[str], values: NDArray[np.float64], what: str
) -> str:
    """Precision, recall or another value over the confidence threshold, a line per class with objects."""
    lines = _lines(curves, class_names, curves.confidence, values)
    return line_chart(lines, f"{what} over confidence", "confidence threshold", what, (0, 1), (0, 1))


def f1_chart(curves: DetectionCurves, class_names: Sequence[str]) -> str:
    """F1 over the confidence threshold, a line per class with objects; the title names the best threshold."""
    lines = _lines(curves, class_names, curves.confidence, curves.f1)
    threshold, best = curves.best_threshold()
    title = f"F1 over confidence (best mean {best:.3f} at {threshold:.2f})" if lines else "F1 over confidence"
    return line_chart(lines, title, "confidence threshold", "F1", (0, 1), (0, 1))


def evaluation_charts(truth: Boxes, found: Boxes, class_names: Sequence[str]) -> dict[str, str]:
    """SVG texts by file stem: `PR_curve`, `P_curve`, `R_curve`, `F1_curve`, `confusion_matrix` (best threshold)."""
    curves = detection_curves(truth, found, len(class_names))
    threshold, _ = curves.best_threshold()
    matrix = confusion_matrix(truth, found, len(class_names), score_threshold=threshold)
    title = f"Rows: truth, columns: detected (confidence >= {threshold:.2f}, IoU >= 0.5)"
    return {
        "PR_curve": precision_recall_chart(curves, class_names),
        "P_curve": confidence_chart(curves, class_names, curves.precision, "precision"),
        "R_curve": confidence_chart(curves, class_names, curves.recall, "recall"),
        "F1_curve": f1_chart(curves, class_names),
        "confusion_matrix": matrix_chart(matrix, [*class_names, "(none)"], title),
    }


def history_lines(path: str | Path, x: str = "epoch") -> tuple[str, dict[str, dict[str, Series]]]:
    """The name of the x axis, and lines of a results.csv by name in groups: `loss` (every column with "loss" in its
    name), `AP` (AP, AP50, AP75, F1 of points) and `lr`.

    Columns that have no numbers are left out, and so are groups without columns.
    """
    columns = read_history(path)
    if x not in columns:
        x = next(iter(columns))
    groups = {
        "loss": [name for name in columns if "loss" in name.lower()],
        "AP": [name for name in columns if name.split("/")[-1] in ("AP", "AP50", "AP75", "F1")],
        "lr": [name for name in columns if name.lower().split("/")[-1] in ("lr", "learning_rate")],
    }
    lines = {
        title: {name: points for name in names if name != x and (points := series(columns, x, name))}
        for title, names in groups.items()
    }
    return x, {title: found for title, found in lines.items() if found}


def values_range(lines: dict[str, Series]) -> tuple[float, float]:
    """The y axis of some lines: from 0, or from below it where a value is."""
    values = [v for points in lines.values() for _, v in points if np.isfinite(v)]
    low, high = min([0.0, *values]), max(values, default=1.0)
    return low, high if high > low else low + 1.0


def history_charts(path: str | Path, x: str = "epoch") -> dict[str, str]:
    """Charts of the groups of `history_lines`, by their names."""
    x, groups = history_lines(path, x)
    return {title: line_chart(lines, title, x, "", y_range=values_range(lines)) for title, lines in groups.items()}


def write_charts(charts: dict[str, str], folder: str | Path) -> list[Path]:
    """Write each chart as `<folder>/<name>.svg`."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, svg in charts.items():
        path = target / f"{name}.svg"
        path.write_text(svg, encoding="utf-8")
        paths.append(path)
    return paths
