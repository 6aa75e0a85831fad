"""What a report shows of an evaluation, kept beside its numbers: ``evaluation.json``, and the worst pictures in
``worst/``. A report needs neither data nor model then."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hatdet.data.datasets.drawing import whole_picture
from hatdet.export.delivery import write_json
from hatdet.metrics.coco_backends import CocoArrays
from hatdet.metrics.judgement import judgement
from hatdet.metrics.mistakes import RIGHT, Outcome
from hatdet.metrics.records import is_crowd
from hatdet.visualization.pictures import write_image

FILE, FOLDER = "evaluation.json", "worst"
VERSION = 1
"""Of the file's form; a report of another one refuses it."""
PICTURES = 24
MOST_WRONG = 40
"""Wrong detections that are kept of a picture, those of high score; of an untrained model there are hundreds."""
LONGEST = 640
"""Pixels of the longer side of a picture that is kept; a smaller one stays as it is."""
logger = logging.getLogger("hatdet")


def save_scored(predictor: Any, path: Path) -> None:
    """After ``hatdet predict``: of its metric and data set, beside ``path``."""
    save_judgement(path.parent, predictor.val_metrics, predictor.data_loader.dataset, f"{path.name} of hatdet predict")


def save_judgement(folder: Path, metric: Any, dataset: Any, source: str) -> Path | None:
    """Write both; None where the metric keeps no boxes, or does not judge them by overlaps. What cannot be written is a
    warning: the scores are there.

    Args:
        metric: after an evaluation. dataset: that it was of. source: which evaluation that was, for the report.
    """
    kept = all(callable(getattr(metric, name, None)) for name in ("ground_truth_boxes", "detection_boxes"))
    if not kept or not getattr(metric, "by_overlap", True):
        return None
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)  # OpenCV's thread pool does not survive the fork of a loader's workers
    try:
        return _save(folder, metric, dataset, source)
    except Exception as error:  # of whatever kind: the evaluation is worth more than a page on it
        logger.warning("%s could not be written: %s: %s", folder / FILE, type(error).__name__, error)
        return None
    finally:
        cv2.setNumThreads(threads)


def _save(folder: Path, metric: Any, dataset: Any, source: str) -> Path:
    truth, found = metric.ground_truth_boxes(), metric.detection_boxes()
    positions = _positions(dataset)
    seen = set(found.image_ids.tolist()) | set(truth.image_ids.tolist()) | set(positions)
    ids = np.array(sorted(seen), np.int64)
    values, pictures = judgement(truth, found, metric.classes, ids, _arrays(metric), _areas(dataset))
    rows = _keep(folder / FOLDER, dataset, positions, pictures[:PICTURES])
    return write_json(folder / FILE, {"version": VERSION, "source": source, **values, "worst": rows})


def _positions(dataset: Any) -> dict[int, int]:
    """Where each picture is in the data set, by its id; nothing where it gives no access to pictures."""
    if not callable(getattr(dataset, "raw", None)):
        return {}
    return {int(dataset.raw(index).img_id): index for index in range(len(dataset))}


def _areas(dataset: Any) -> np.ndarray | None:
    """Areas of the objects as the data set's annotations have them, which AP by size goes by."""
    annotations = getattr(dataset, "coco_annotations", None)
    if not callable(annotations):
        return None
    return np.array([float(a["area"]) for a in annotations()["annotations"] if a.get("area") and not is_crowd(a)])


def _arrays(metric: Any) -> CocoArrays | None:
    """COCO's arrays with the categories in the order of labels; they come in that of ascending ids."""
    try:
        arrays = getattr(metric, "arrays", None)
    except ValueError:  # nothing was computed
        return None
    if not isinstance(arrays, CocoArrays) or arrays.precision.shape[2] != len(metric.category_ids):
        return None
    order = [sorted(metric.category_ids).index(i) for i in metric.category_ids]
    return CocoArrays(arrays.precision[:, :, order], arrays.recall[:, order])


def _keep(folder: Path, dataset: Any, positions: dict[int, int], pictures: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Copy the pictures into a folder, with their boxes in the copies' pixels."""
    import cv2

    if folder.is_dir():  # of an earlier evaluation
        shutil.rmtree(folder)
    rows = []
    for number, outcome in enumerate(pictures):
        index = positions.get(outcome.image_id)
        if index is None:
            continue
        sample = dataset.raw(index)
        image = whole_picture(sample)
        scale = min(1.0, LONGEST / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        copy = image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        path = write_image(folder / f"{number:02d}.jpg", copy)
        truth = _boxes(outcome.truth.boxes, scale, outcome.truth.labels, None, outcome.of_truth)
        order = np.argsort(-outcome.found.scores, kind="stable").tolist()
        wrong = [place for place in order if outcome.of_found[place] != RIGHT]
        kept = sorted({*wrong[:MOST_WRONG], *(place for place in order if outcome.of_found[place] == RIGHT)})
        sure, states = outcome.found.select(np.array(kept, np.int64)), [outcome.of_found[place] for place in kept]
        found = _boxes(sure.boxes, scale, sure.labels, sure.scores, states)
        rows.append(
            {"file_name": str(sample.file_name), "picture": path.name, "width": size[0], "height": size[1],
             "counts": outcome.counts, "truth": truth, "found": found, "left_out": len(order) - len(kept)}
        )  # fmt: skip
    return rows


def _boxes(boxes: Any, scale: float, labels: Any, scores: Any, states: Sequence[str]) -> list[dict[str, Any]]:
    rows = [
        {"box": [round(v * scale, 2) for v in box], "label": label, "state": state}
        for box, label, state in zip(boxes.tolist(), labels.tolist(), states, strict=True)
    ]
    if scores is not None:
        for row, score in zip(rows, scores.tolist(), strict=True):
            row["score"] = round(score, 4)
    return rows
