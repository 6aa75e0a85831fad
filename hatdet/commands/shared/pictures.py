"""Pictures of an evaluation: every validation image with what was there and what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatdet.data.datasets.drawing import whole_picture
from hatdet.metrics.curves import detection_curves
from hatdet.utils.errors import UserError
from hatdet.visualization.draw import compare_with_truth
from hatdet.visualization.pictures import write_image

MIN_SCORE = 0.3
SMALLEST = 480
"""Longer side in pixels below which a picture is enlarged, so that labels have room."""


def check_metric(metric: Any) -> None:
    """Refuse a metric that does not keep the boxes.

    Raises:
        UserError: it has no ``ground_truth_boxes`` and ``detection_boxes``.
    """
    if not all(callable(getattr(metric, name, None)) for name in ("ground_truth_boxes", "detection_boxes")):
        raise UserError(f"--show-dir: {type(metric).__name__} keeps no boxes to draw; use COCODetectionMetric")


def best_threshold(metric: Any) -> float:
    """The confidence with the highest F1 in a metric's last evaluation; :data:`MIN_SCORE` where nothing tells it."""
    if callable(own := getattr(metric, "best_threshold", None)):
        return float(own())
    curves = detection_curves(metric.ground_truth_boxes(), metric.detection_boxes(), len(metric.classes))
    threshold, f1 = curves.best_threshold()
    return threshold if f1 > 0 else MIN_SCORE


def save_pictures(folder: str | Path, dataset: Any, metric: Any, min_score: float | None = None) -> int:
    """Write ``<file stem>_<image id>.jpg`` for each image: ground truth left, detections right.

    Args:
        dataset: supplies the images as they are in the files.
        metric: after an evaluation on that data set.
        min_score: detections below it are left out; None: below the threshold with the best F1.

    Returns:
        how many were written.
    """
    truth, found = metric.ground_truth_boxes(), metric.detection_boxes()
    threshold = best_threshold(metric) if min_score is None else min_score
    for index in range(len(dataset)):
        sample = dataset.raw(index)
        image = whole_picture(sample)
        there, seen = truth.of_image(sample.img_id), found.of_image(sample.img_id)
        there = there.select(~there.crowd)
        scale = max(1.0, SMALLEST / max(image.shape[:2]))
        boxes = (seen.boxes, seen.labels, seen.scores)
        picture = compare_with_truth(image, (there.boxes, there.labels), boxes, dataset.classes, threshold, scale)
        write_image(Path(folder) / f"{Path(sample.file_name).stem}_{sample.img_id}.jpg", picture)
    return len(dataset)
