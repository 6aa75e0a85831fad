"""Mean average precision by the rules of Pascal VOC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hatdet.metrics.coco import COCODetectionMetric
from hatdet.metrics.records import Boxes
from hatdet.registry import register

EvalMode = Literal["area", "11points"]
_EPS = 1e-6


@register(scope="mmdet")
class VOCMetric(COCODetectionMetric):
    """Average precision of a class at one IoU, averaged over the classes that have objects.

    As the devkit of the challenge has it (http://host.robots.ox.ac.uk/pascal/VOC): a box is as wide as
    right - left + 1; each detection, the best first, takes the object that it overlaps most, and is wrong where
    another one has it already; one that falls on a difficult object does not count.

    Keys of the values, besides those of :class:`~hatdet.metrics.coco.COCODetectionMetric`: ``mAP@<n>`` at an IoU of n
    percent, and ``mAP``, their mean.

    Args:
        iou_thrs: one IoU or several.
        scale_ranges: must be None.
        metric: must be "mAP".
        proposal_nums: of recalls, which are not measured here.
        eval_mode: "11points": the mean of the best precision from recalls of 0, 0.1, ..., 1 on (VOC2007); "area":
            below the whole curve (VOC2010 and later).
        ann_file, dataset, backend, results_file: see COCODetectionMetric.
    """

    def __init__(
        self,
        iou_thrs: float | Sequence[float] = 0.5,
        scale_ranges: Sequence[Any] | None = None,
        metric: str | Sequence[str] = "mAP",
        proposal_nums: Sequence[int] = (100, 300, 1000),
        eval_mode: EvalMode = "11points",
        ann_file: str | Path | None = None,
        dataset: Any = None,
        backend: str = "auto",
        results_file: str | Path | None = None,
    ) -> None:
        super().__init__(ann_file, dataset, backend, False, None, results_file=results_file)
        self.iou_thrs = [float(value) for value in (iou_thrs if isinstance(iou_thrs, Sequence) else [iou_thrs])]
        if not self.iou_thrs or not all(0 < value <= 1 for value in self.iou_thrs):
            raise ValueError(f"iou_thrs is {iou_thrs!r}; give one number above 0, at most 1, or several")
        if scale_ranges is not None:
            raise ValueError(f"scale_ranges is {scale_ranges!r}; there is no mean of several ranges: leave it out")
        if metric not in ("mAP", ["mAP"], ("mAP",)):
            raise ValueError(f"metric is {metric!r}; only 'mAP' is measured; for recall use CocoMetric, 'proposal'")
        if eval_mode not in get_args(EvalMode):
            raise ValueError(f"eval_mode is {eval_mode!r}; allowed are {', '.join(get_args(EvalMode))}")
        self.eval_mode = eval_mode
        self._by_class: dict[str, list[tuple[str, float]]] = {}

    def compute(self) -> dict[str, float]:
        """Evaluate what `update` and `merge` collected."""
        values, names = super().compute(), self.classes
        truth, found = self.ground_truth_boxes(), self.detection_boxes()
        self._by_class, means = {}, []
        for iou_thr in self.iou_thrs:
            each = class_precisions(truth, found, len(names), iou_thr, self.eval_mode)
            measured = [(name, value) for name, value in zip(names, each, strict=True) if value is not None]
            means.append(sum(value for _, value in measured) / max(len(measured), 1))
            key = f"mAP@{round(iou_thr * 100):02d}"
            self._by_class[key], values[key] = measured, means[-1]
        values["mAP"] = sum(means) / len(means)
        return values

    def format(self, values: Mapping[str, float]) -> str:
        """COCO's numbers, and below them a line for each IoU."""
        lines = [
            f"Pascal VOC {key} ({self.eval_mode}) = {values[key]:.3f}: "
            + ", ".join(f"{name} {value:.3f}" for name, value in measured)
            for key, measured in self._by_class.items()
            if key in values
        ]
        return "\n\n".join(block for block in (super().format(values), "\n".join(lines)) if block)


def class_precisions(
    truth: Boxes, found: Boxes, classes: int, iou_thr: float, eval_mode: EvalMode
) -> list[float | None]:
    """Average precision of each label, None where it has no object that counts.

    Args:
        truth: objects; ``crowd`` marks difficult ones.
        found: detections.
    """
    result: list[float | None] = []
    for label in range(classes):
        objects, detections = truth.select(truth.labels == label), found.select(found.labels == label)
        count = int((~objects.crowd).sum())
        if not count:
            result.append(None)
            continue
        right, wrong = _judged(objects, detections, iou_thr)
        order = np.argsort(-detections.scores, kind="stable")
        hits, misses = np.cumsum(right[order]), np.cumsum(wrong[order])
        result.append(average_precision(hits / count, hits / np.maximum(hits + misses, _EPS), eval_mode))
    return result


def average_precision(recall: NDArray[np.float64], precision: NDArray[np.float64], eval_mode: EvalMode) -> float:
    """Of a curve: recall (n,) rising, and the precision there (n,)."""
    if eval_mode == "11points":
        best = [precision[recall >= least].max(initial=0.0) for least in np.arange(0, 1 + 1e-3, 0.1)]
        return float(sum(best) / 11)
    edges = np.concatenate([[0.0], recall, [1.0]])
    height = np.maximum.accumulate(np.concatenate([precision, [0.0]])[::-1])[::-1]  # the best from there on
    return float((np.diff(edges) * height).sum())


def _judged(objects: Boxes, detections: Boxes, iou_thr: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which detections of a class are right, and which are wrong: bool (n,) each; neither: a difficult object's."""
    right, wrong = np.zeros(len(detections), bool), np.ones(len(detections), bool)
    for image_id in np.intersect1d(objects.image_ids, detections.image_ids):
        own = objects.of_image(int(image_id))
        places = np.flatnonzero(detections.image_ids == image_id)
        places = places[np.argsort(-detections.scores[places], kind="stable")]
        overlaps = _overlaps(detections.boxes[places], own.boxes)
        taken = np.zeros(len(own), bool)
        for place, target, overlap in zip(places, overlaps.argmax(axis=1), overlaps.max(axis=1), strict=True):
            if overlap < iou_thr:
                continue
            right[place] = not own.crowd[target] and not taken[target]
            wrong[place] = not own.crowd[target] and taken[target]
            taken[target] = True
    return right, wrong


def _overlaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float32]:
    """IoU (n, m) of boxes (n, 4) and (m, 4) whose right and bottom edges are their last pixels."""
    one, two = first.astype(np.float32)[:, None], second.astype(np.float32)
    sides = np.minimum(one[..., 2:], two[:, 2:]) - np.maximum(one[..., :2], two[:, :2]) + 1
    shared = np.maximum(sides, 0).prod(axis=2)
    areas = [(boxes[..., 2:] - boxes[..., :2] + 1).prod(axis=-1) for boxes in (one, two)]
    return shared / np.maximum(areas[0] + areas[1] - shared, np.float32(_EPS))
