"""The twelve COCO numbers, their printed form, and what they suggest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hatdet.metrics.coco_backends import CocoArrays
from hatdet.utils.class_names import listed

AREA_LABELS = ("all", "small", "medium", "large")
SIZE_RANGES = {
    "small": "an area below 32x32 pixels",
    "medium": "an area between 32x32 and 96x96 pixels",
    "large": "an area above 96x96 pixels",
}
CLASS_PREFIX = "AP/"
NAMED = 3
"""Classes without ground truth that are named; of 80 classes 77 may have none."""


@dataclass(frozen=True)
class Line:
    """One of the twelve numbers: `key` in the values, and the slice of the arrays that it averages."""

    key: str
    precision: bool
    area: int
    detections: int
    iou: int | None = None  # index into 0.50:0.05:0.95; None averages all ten


LINES = (
    Line("AP", True, 0, 2),
    Line("AP50", True, 0, 2, iou=0),
    Line("AP75", True, 0, 2, iou=5),
    Line("APs", True, 1, 2),
    Line("APm", True, 2, 2),
    Line("APl", True, 3, 2),
    Line("AR1", False, 0, 0),
    Line("AR10", False, 0, 1),
    Line("AR100", False, 0, 2),
    Line("ARs", False, 1, 2),
    Line("ARm", False, 2, 2),
    Line("ARl", False, 3, 2),
)


def mean_valid(values: NDArray[np.float64]) -> float:
    """Mean of the entries above -1; -1 where there are none (no ground truth)."""
    valid = values[values > -1]
    return float(np.mean(valid)) if valid.size else -1.0


def summarize(arrays: CocoArrays, class_names: Sequence[str] = ()) -> dict[str, float]:
    """The twelve numbers by key (`LINES`), then `AP/<class>` for each name.

    Args:
        arrays: result of `evaluate_boxes`.
        class_names: one name per category in the arrays' order (ascending id), or none at all.
    """
    values: dict[str, float] = {}
    for line in LINES:
        if line.precision:
            part = arrays.precision[:, :, :, line.area, line.detections]
        else:
            part = arrays.recall[:, :, line.area, line.detections]
        values[line.key] = mean_valid(part if line.iou is None else part[line.iou : line.iou + 1])
    for index, name in enumerate(class_names):
        values[CLASS_PREFIX + name] = mean_valid(arrays.precision[:, :, index, 0, 2])
    return values


def format_lines(values: Mapping[str, float], max_dets: Sequence[int] = (1, 10, 100)) -> list[str]:
    """The twelve lines in COCO's wording; a number that `values` lacks is left out."""
    lines = []
    for line in LINES:
        if line.key not in values:
            continue
        title, kind = ("Average Precision", "(AP)") if line.precision else ("Average Recall", "(AR)")
        iou = "0.50:0.95" if line.iou is None else f"{0.5 + 0.05 * line.iou:.2f}"
        lines.append(
            f" {title:<18} {kind} @[ IoU={iou:<9} | area={AREA_LABELS[line.area]:>6s} "
            f"| maxDets={max_dets[line.detections]:>3d} ] = {values[line.key]:0.3f}"
        )
    return lines


def format_classes(values: Mapping[str, float], counts: Mapping[str, int] | None = None) -> list[str]:
    """AP per class as an aligned table; `counts` adds the number of ground truth boxes.

    Classes that were not measured are left out: :func:`explain` has them in one line.
    """
    found = [(key[len(CLASS_PREFIX) :], value) for key, value in values.items() if key.startswith(CLASS_PREFIX)]
    rows = [(name, value) for name, value in found if value >= 0]
    if not rows:
        return []
    width = max(len("class"), *(len(name) for name, _ in rows))
    head = f" {'class':<{width}}  {'AP':>6}"
    lines = [head + ("   boxes" if counts else "")]
    for name, value in rows:
        count = f"  {counts.get(name, 0):6d}" if counts else ""
        lines.append(f" {name:<{width}}  {value:6.3f}{count}")
    return lines


def explain(values: Mapping[str, float], num_detections: int | None = None) -> list[str]:
    """Sentences on numbers that are -1, and on what a low number suggests.

    The thresholds are rules of thumb: they point at a place to look, they prove nothing.
    """
    if values.get("AP", -1.0) < 0:
        return ["AP is not measured: there is no ground truth in the evaluated images (COCO's number for that is -1)."]
    notes = _missing_ground_truth(values)
    if num_detections == 0:
        return [
            *notes,
            "There is not one detection: the model has learnt nothing yet, or score_thr is too high.",
        ]
    return notes + _suggestions(values)


def _missing_ground_truth(values: Mapping[str, float]) -> list[str]:
    notes = []
    for key, size in (("s", "small"), ("m", "medium"), ("l", "large")):
        missing = [name + key for name in ("AP", "AR") if values.get(name + key, 0.0) < 0]
        if missing:
            notes.append(
                f"{' and '.join(missing)} = -1: no ground truth of that size ({SIZE_RANGES[size]}); "
                "this is not an error."
            )
    absent = [key[len(CLASS_PREFIX) :] for key, v in values.items() if key.startswith(CLASS_PREFIX) and v < 0]
    if len(absent) == 1:
        notes.append(
            f"Class {absent[0]!r} has no ground truth in the evaluated images: "
            "it has no AP and does not count in the mean."
        )
    elif absent:
        classes = sum(key.startswith(CLASS_PREFIX) for key in values)
        notes.append(
            f"{len(absent)} of {classes} classes have no ground truth in the evaluated "
            f"images and do not count in the mean: {listed(absent, NAMED)}"
        )
    return notes


def _suggestions(values: Mapping[str, float]) -> list[str]:
    notes = []
    ap, ap50, ap75 = values["AP"], values.get("AP50", -1.0), values.get("AP75", -1.0)
    if 0 <= ap50 < 0.05:
        return ["AP50 is below 0.05: hardly an object is found. Train longer; check learning rate and classes."]
    if ap50 >= 0.2 and 0 <= ap75 < 0.5 * ap50:
        notes.append(
            f"AP75 {ap75:.3f} is low against AP50 {ap50:.3f}: objects are found but their boxes are loose "
            "(localisation). A longer training, a larger input or tighter annotations help."
        )
    small, large = values.get("APs", -1.0), max(values.get("APm", -1.0), values.get("APl", -1.0))
    if 0 <= small < 0.5 * large:
        notes.append(
            f"AP of small objects {small:.3f} against {large:.3f} of larger ones: small objects are missed. "
            "A larger input size helps most."
        )
    if ap50 >= 0.05 and values.get("AR100", -1.0) > ap + 0.3:
        notes.append(
            f"AR {values['AR100']:.3f} is far above AP {ap:.3f}: the objects are among the detections, "
            "but false ones score as high. More training or more varied background images help."
        )
    classes = {key[len(CLASS_PREFIX) :]: v for key, v in values.items() if key.startswith(CLASS_PREFIX) and v >= 0}
    if len(classes) > 1:
        worst = min(classes, key=lambda name: classes[name])
        if classes[worst] < ap / 3:
            notes.append(
                f"Class {worst!r} is far behind (AP {classes[worst]:.3f}, mean {ap:.3f}): "
                "look at the number and the quality of its annotations."
            )
    return notes
