"""Precision, recall and F1 over the confidence threshold, and the confusion matrix.

These answer another question than AP: which threshold to set on the device, and what is taken for what.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hatdet.metrics.records import Boxes

FloatArray = NDArray[np.float64]


def pairwise_iou(boxes: FloatArray, others: FloatArray, crowd: NDArray[np.bool_] | None = None) -> FloatArray:
    """IoU of every box with every other, (n, m), boxes xyxy.

    Against a crowd region the denominator is the area of `boxes` alone (COCO's rule: the part that lies
    inside).
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=2)
    area = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)[:, None]
    other_area = np.clip(others[:, 2:] - others[:, :2], 0, None).prod(axis=1)[None, :]
    union = area + other_area - inter
    if crowd is not None:
        union = np.where(crowd[None, :], area, union)
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def match_image(truth: Boxes, found: Boxes, iou_threshold: float = 0.5) -> NDArray[np.int8]:
    """For the detections of one image: 1 right, 0 wrong, -1 neither (inside a crowd region).

    Greedy by descending score, within a class; a detection takes the free object of highest IoU.
    """
    result = np.zeros(len(found), np.int8)
    ious = pairwise_iou(found.boxes, truth.boxes, truth.crowd)
    ious[found.labels[:, None] != truth.labels[None, :]] = 0
    free = ~truth.crowd
    for d in np.argsort(-found.scores, kind="stable"):
        best = _last_argmax(np.where(free, ious[d], 0))
        if best >= 0 and free[best] and ious[d, best] >= iou_threshold:
            free[best] = False
            result[d] = 1
        elif truth.crowd.any() and ious[d][truth.crowd].max() >= iou_threshold:
            result[d] = -1
    return result


def _last_argmax(values: FloatArray) -> int:
    """Index of the largest value, the last of equals as in COCO's matching; -1 for no values."""
    return len(values) - 1 - int(values[::-1].argmax()) if len(values) else -1


@dataclass(frozen=True)
class DetectionCurves:
    """Curves of one evaluation; K classes.

    confidence: (C,) thresholds, ascending; precision, recall, f1: (K, C) when detections at or above the
    threshold count; where no detection is left, precision is 1. recall_points: (101,), precision_at_recall:
    (K, 101), the interpolated curve whose mean is COCO's AP at this IoU. num_objects: (K,). Classes without
    objects have NaN.
    """

    iou_threshold: float
    confidence: FloatArray
    precision: FloatArray
    recall: FloatArray
    f1: FloatArray
    recall_points: FloatArray
    precision_at_recall: FloatArray
    num_objects: NDArray[np.int64]

    @property
    def average_precision(self) -> FloatArray:
        """(K,) area under the interpolated precision/recall curve, NaN for a class without objects."""
        return self.precision_at_recall.mean(axis=1)

    def best_threshold(self) -> tuple[float, float]:
        """The confidence with the highest F1 (mean over the classes with objects), and that F1."""
        present = self.num_objects > 0
        if not present.any():
            return 0.0, float("nan")
        mean = self.f1[present].mean(axis=0)
        index = int(mean.argmax())
        return float(self.confidence[index]), float(mean[index])


def detection_curves(
    truth: Boxes, found: Boxes, num_classes: int, iou_threshold: float = 0.5, num_points: int = 501
) -> DetectionCurves:
    """Curves over confidence and recall at one IoU threshold, for each class."""
    outcome = np.zeros(len(found), np.int8)
    truth_by_image, found_by_image = index_by_image(truth), index_by_image(found)
    nothing = np.zeros(0, np.int64)
    for image_id, rows in found_by_image.items():
        objects = truth.select(truth_by_image.get(image_id, nothing))
        outcome[rows] = match_image(objects, found.select(rows), iou_threshold)
    confidence = np.arange(num_points) / (num_points - 1)  # 3 / 10 is 0.3, which linspace misses
    points = np.linspace(0, 1, 101)
    shape = (num_classes, num_points)
    precision, recall, f1 = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    at_recall = np.full((num_classes, 101), np.nan)
    counts = np.bincount(truth.labels[~truth.crowd], minlength=num_classes)[:num_classes]
    for label in range(num_classes):
        if counts[label] == 0:
            continue
        mine = (found.labels == label) & (outcome >= 0)
        order = np.argsort(-found.scores[mine], kind="stable")
        scores, right = found.scores[mine][order], outcome[mine][order] == 1
        true_positives = np.concatenate([[0], np.cumsum(right)])
        kept = np.searchsorted(-scores, -confidence, side="right")  # detections with score >= threshold
        hits = true_positives[kept]
        precision[label] = np.where(kept > 0, hits / np.maximum(kept, 1), 1.0)
        recall[label] = hits / counts[label]
        f1[label] = 2 * hits / (kept + counts[label])
        at_recall[label] = _interpolate(true_positives[1:], counts[label], points)
    return DetectionCurves(iou_threshold, confidence, precision, recall, f1, points, at_recall, counts.astype(np.int64))


def _interpolate(true_positives: NDArray[np.int64], num_objects: int, points: FloatArray) -> FloatArray:
    """The highest precision at or beyond each recall point; 0 beyond the last recall reached."""
    precision = true_positives / np.arange(1, len(true_positives) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    where = np.searchsorted(true_positives / num_objects, points, side="left")
    return np.concatenate([envelope, [0.0]])[np.minimum(where, len(envelope))]


def confusion_matrix(
    truth: Boxes, found: Boxes, num_classes: int, score_threshold: float = 0.25, iou_threshold: float = 0.5
) -> NDArray[np.int64]:
    """(K + 1, K + 1) counts: row = what it is, column = what was detected; the last one is background.

    Objects and detections are paired regardless of class, highest IoU first. Unpaired objects are in the last
    column (missed), unpaired detections in the last row (nothing there), except inside a crowd region.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    sure = found.select(found.scores >= score_threshold)
    truth_by_image, found_by_image = index_by_image(truth), index_by_image(sure)
    nothing = np.zeros(0, np.int64)
    for image_id in sorted(truth_by_image.keys() | found_by_image.keys()):
        objects = truth.select(truth_by_image.get(image_id, nothing))
        detections = sure.select(found_by_image.get(image_id, nothing))
        ious = pairwise_iou(detections.boxes, objects.boxes, objects.crowd)
        detection_free, object_free = np.ones(len(detections), bool), ~objects.crowd
        for flat in np.argsort(-ious, axis=None, kind="stable"):
            d, o = divmod(int(flat), len(objects))
            if ious[d, o] < iou_threshold:
                break
            if detection_free[d] and object_free[o]:
                detection_free[d] = object_free[o] = False
                matrix[objects.labels[o], detections.labels[d]] += 1
        for label in objects.labels[object_free]:
            matrix[label, num_classes] += 1
        inside_crowd = (ious[:, objects.crowd] >= iou_threshold).any(axis=1)
        for label in detections.labels[detection_free & ~inside_crowd]:
            matrix[num_classes, label] += 1
    return matrix


def index_by_image(boxes: Boxes) -> dict[int, NDArray[np.int64]]:
    """Rows of each image, in order."""
    order = np.argsort(boxes.image_ids, kind="stable")
    ids, starts = np.unique(boxes.image_ids[order], return_index=True)
    return {int(i): rows for i, rows in zip(ids, np.split(order, starts[1:]), strict=True)} if len(ids) else {}
