"""Pictures of an evaluation: every validation image with what was there and what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hatdet.utils.errors import UserError
from hatdet.visualization.draw import compare_with_truth
from hatdet.visualization.pictures import write_image

MIN_SCORE = 0.3


def check_metric(metric: Any) -> None:
    """Refuse a metric that does not keep the boxes.

    Raises:
        UserError: it has no ``ground_truth_boxes`` and ``detection_boxes``.
    """
    if not all(callable(getattr(metric, name, None)) for name in ("ground_truth_boxes", "detection_boxes")):
        raise UserError(f"--show-dir: {type(metric).__name__} keeps no boxes to draw; use COCODetectionMetric")


def save_pictures(folder: str | Path, dataset: Any, metric: Any, min_score: float = MIN_SCORE) -> int:
    """Write ``<file stem>_<image id>.jpg`` for each image: ground truth left, detections right.

    Args:
        dataset: supplies the images as they are in the files.
        metric: after an evaluation on that data set.
        min_score: detections below it are left out.

    Returns:
        how many were written.
    """
    truth, found = metric.ground_truth_boxes(), metric.detection_boxes()
    for index in range(len(dataset)):
        sample = dataset.raw(index)
        image = np.ascontiguousarray(sample.tiles[0].source.pixels())
        there, seen = truth.of_image(sample.img_id), found.of_image(sample.img_id)
        there = there.select(~there.crowd)
        picture = compare_with_truth(
            image, (there.boxes, there.labels), (seen.boxes, seen.labels, seen.scores), dataset.classes, min_score
        )
        write_image(Path(folder) / f"{Path(sample.file_name).stem}_{sample.img_id}.jpg", picture)
    return len(dataset)
