"""An evaluation as plain values, for a report that is read without the data: curves, thresholds, confusions, sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.metrics.coco_backends import CocoArrays
from hatdet.metrics.coco_summary import AREA_LABELS, mean_valid
from hatdet.metrics.curves import DetectionCurves, confusion_matrix, detection_curves
from hatdet.metrics.mistakes import RIGHT, WRONG, Outcome, outcomes
from hatdet.metrics.records import Boxes

STEP = 5
"""Of the 501 thresholds of the curves every fifth is kept: steps of 0.01."""
LIMITS = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, float("inf"))}


def judgement(
    truth: Boxes,
    found: Boxes,
    classes: Sequence[str],
    image_ids: NDArray[np.int64],
    arrays: CocoArrays | None = None,
    areas: NDArray[np.float64] | None = None,
) -> tuple[dict[str, Any], list[Outcome]]:
    """The values, and the pictures with the worst ones first, at the threshold with the best F1.

    Args:
        truth, found: all objects and detections. classes: names by label. image_ids: of all pictures.
        arrays: of COCO's evaluation with categories in the order of labels, for AP by size; None: without it.
        areas: of the objects as COCO counts them, where that is not their box's.
    """
    curves = detection_curves(truth, found, len(classes))
    threshold, f1 = curves.best_threshold()
    pictures = sorted(outcomes(truth, found, image_ids, threshold), key=lambda one: one.badness, reverse=True)
    counts = {kind: sum(one.counts[kind] for one in pictures) for kind in (RIGHT, *WRONG)}
    values = {
        "classes": list(classes),
        "images": len(image_ids),
        "objects": curves.num_objects.tolist(),
        "detections": len(found),
        "threshold": threshold,
        "f1": f1 if np.isfinite(f1) else None,
        "by_class": _by_class(curves),
        "curves": _curves(curves),
        "confusion": confusion_matrix(truth, found, len(classes), score_threshold=threshold).tolist(),
        "counts": counts,
        "pictures_with_mistakes": sum(1 for one in pictures if one.mistakes),
    }
    if arrays is not None:
        values["sizes"] = _sizes(arrays, truth, len(classes), areas)
    return values, pictures


def _by_class(curves: DetectionCurves) -> list[dict[str, float] | None]:
    """For each class its AP50, and its own best threshold with what it gives there; None: no objects."""
    rows: list[dict[str, float] | None] = []
    for label, number in enumerate(curves.num_objects.tolist()):
        if not number:
            rows.append(None)
            continue
        best = int(curves.f1[label].argmax())
        values = {name: float(getattr(curves, name)[label, best]) for name in ("f1", "precision", "recall")}
        rows.append(
            {"AP50": float(curves.average_precision[label]), "threshold": float(curves.confidence[best]), **values}
        )
    return rows


def _curves(curves: DetectionCurves) -> dict[str, Any]:
    result: dict[str, Any] = {"iou": curves.iou_threshold, "confidence": _rounded(curves.confidence[::STEP])}
    for name in ("precision", "recall", "f1"):
        result[name] = [_rounded(row[::STEP]) for row in getattr(curves, name)]
    result["recall_points"] = _rounded(curves.recall_points)
    result["precision_at_recall"] = [_rounded(row) for row in curves.precision_at_recall]
    return result


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    return [round(v, 4) if np.isfinite(v) else None for v in values.tolist()]


def _sizes(
    arrays: CocoArrays, truth: Boxes, num_classes: int, areas: NDArray[np.float64] | None
) -> dict[str, Any]:
    """AP of the sizes of objects over all classes and of each, None where there are none; and how many there are."""
    boxes = truth.select(~truth.crowd)
    if areas is None:
        areas = (boxes.boxes[:, 2:] - boxes.boxes[:, :2]).prod(axis=1)
    result: dict[str, Any] = {}
    for index, name in enumerate(AREA_LABELS[1:], start=1):
        low, high = LIMITS[name]
        part = arrays.precision[:, :, :, index, 2]
        result[name] = {
            "AP": _measured(part),
            "by_class": [_measured(part[:, :, label]) for label in range(num_classes)],
            "objects": int(((areas >= low) & (areas < high)).sum()),
        }
    return result


def _measured(part: NDArray[np.float64]) -> float | None:
    value = mean_valid(part)
    return value if value >= 0 else None
