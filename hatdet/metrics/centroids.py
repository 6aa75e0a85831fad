"""Precision, recall and F1 of points: were the objects found and counted, whatever the boxes are like?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.metrics.coco import COCODetectionMetric
from hatdet.metrics.records import Boxes
from hatdet.registry import register

RIGHT, WRONG, IGNORED = 1, 0, -1
NOT_MEASURED = -1.0
OVERLAPPING = 0.05
"""AP50 below which boxes say nothing."""


@register
class CentroidMetric(COCODetectionMetric):
    """Precision, recall and F1 of the middles of detections, beside COCO's average precision of their boxes.

    A detection is right where it takes an object of its class: the middle of its box lies in the object's box (the edge
    belongs to it), or at most ``distance`` cells from the middle of it, in pixels of the network's input. Detections
    take objects in the order of their scores, each the free one whose middle is nearest; one that finds none free is
    wrong, unless it lies in a region that does not count (a crowd). What is found at a threshold is thus right or
    wrong by itself, whatever a lower threshold finds.

    Keys of the values, before those of :class:`~hatdet.metrics.coco.COCODetectionMetric`: ``F1``, ``precision``,
    ``recall`` (means over the classes that have objects) and ``count_error`` at ``threshold``, the score threshold with
    the best F1 (halfway between the last score that counts there and the next lower one); ``F1@0.50``,
    ``precision@0.50``, ``recall@0.50`` at ``score_thr``; ``F1/<class>`` at ``threshold``. ``count_error`` is the mean
    over the pictures of the objects that are counted too many or too few, summed over classes. -1: there are no
    objects.

    Args:
        distance: cells.
        cell: side of one, in pixels of the network's input.
        score_thr: of the second row of numbers.
        ann_file, dataset, backend, classwise, results_file: see COCODetectionMetric.

    Raises:
        ValueError: numbers out of range.
    """

    by_overlap = False
    """Curves and pictures that judge boxes by their overlaps say nothing of points."""

    def __init__(
        self,
        distance: float = 1.0,
        cell: int = 8,
        score_thr: float = 0.5,
        ann_file: str | Path | None = None,
        dataset: Any = None,
        backend: str = "auto",
        classwise: bool = True,
        results_file: str | Path | None = None,
    ) -> None:
        super().__init__(ann_file, dataset, backend, classwise, None, results_file=results_file)
        if distance < 0 or cell < 1 or not 0 <= score_thr < 1:
            raise ValueError(
                f"distance is at least 0, cell at least 1 and score_thr at least 0 and below 1, got {distance}, {cell} "
                f"and {score_thr}"
            )
        self.distance, self.cell, self.score_thr = distance, cell, score_thr

    def reset(self) -> None:
        super().reset()
        self._scales: dict[int, tuple[float, float]] = {}
        self._judged: Judged | None = None

    def update(self, predictions: Sequence[Mapping[str, Any]], batch: Mapping[str, Any]) -> None:
        """Add the predictions of one batch, which has ``scale_factor`` (B, 2) beside ``img_id``."""
        super().update(predictions, batch)
        ids = [int(i) for i in batch["img_id"]]
        factors = batch.get("scale_factor")
        pairs = [(1.0, 1.0)] * len(ids) if factors is None else [(float(x), float(y)) for x, y in factors]
        for image_id, pair in zip(ids, pairs, strict=True):
            self._scales.setdefault(image_id, pair)

    def compute(self) -> dict[str, float]:
        """Evaluate what `update` and `merge` collected."""
        others = super().compute()
        reach, pictures = self.distance * self.cell, len(self._load_truth()["images"])
        judged = judge(self.ground_truth_boxes(), self.detection_boxes(), self._scales, reach, pictures)
        self._judged = judged
        threshold = judged.best_threshold()
        values = {**judged.at(threshold), "threshold": threshold}
        values["count_error"] = judged.count_error(threshold)
        values |= {f"{name}@{self.score_thr:.2f}": value for name, value in judged.at(self.score_thr).items()}
        if self.classwise:
            rows = (judged.of_class(label).at(threshold) for label in range(len(self.classes)))
            values |= {f"F1/{name}": row["F1"] for name, row in zip(self.classes, rows, strict=True)}
        return {**values, **others}

    def best_threshold(self) -> float:
        """The score threshold of the last evaluation with the best F1."""
        if self._judged is None:
            raise ValueError("call compute() first")
        return self._judged.best_threshold()

    def format(self, values: Mapping[str, float]) -> str:
        """The numbers of points in words, then COCO's; these in a line where boxes hardly overlap the objects."""
        if values.get("F1", NOT_MEASURED) == NOT_MEASURED:
            return f"F1 of points: not measured, there are no objects\n\n{super().format(values)}"
        second = f"{self.score_thr:.2f}"
        lines = [
            f"Points: a middle in the object's box or within {self.distance:g} cells of its middle is right.",
            f"F1 {values['F1']:.3f} (precision {values['precision']:.3f}, recall {values['recall']:.3f}) at the best "
            f"threshold, {values['threshold']:.3f}; {values['count_error']:.2f} objects too many or too few a picture",
            f"F1 {values[f'F1@{second}']:.3f} (precision {values[f'precision@{second}']:.3f}, recall "
            f"{values[f'recall@{second}']:.3f}) at {second}",
        ]
        classes = [f"{key.split('/', 1)[1]} {value:.3f}" for key, value in values.items() if key.startswith("F1/")]
        if classes:
            lines.append("F1 by class at the best threshold: " + ", ".join(c.replace("-1.000", "-") for c in classes))
        if 0 <= values.get("AP50", 0.0) < OVERLAPPING:
            found = f"AP {values['AP']:.4f}, AP50 {values['AP50']:.4f} of the boxes"
            return "\n".join([*lines, f"{found} (COCO): near 0 where they are single cells, whose middles count."])
        return "\n".join(lines) + "\n\n" + super().format(values)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "scales": dict(self._scales)}

    def merge(self, states: Sequence[Mapping[str, Any]]) -> None:
        super().merge(states)
        for state in states:
            for image_id, pair in state["scales"].items():
                self._scales.setdefault(int(image_id), pair)


@dataclass(frozen=True)
class Judged:
    """Detections of many pictures, each right, wrong or ignored, by descending score.

    Attributes:
        scores, labels, image_ids, verdicts: (n,).
        objects: (m, 2): image id and label of every object that counts.
        pictures: how many there are.
    """

    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    verdicts: NDArray[np.int64]
    objects: NDArray[np.int64]
    pictures: int

    def of_class(self, label: int) -> Judged:
        """The part of one class."""
        own = self.labels == label
        parts = (self.scores[own], self.labels[own], self.image_ids[own], self.verdicts[own])
        return Judged(*parts, self.objects[self.objects[:, 1] == label], self.pictures)

    @property
    def classes(self) -> list[int]:
        """Labels that have objects."""
        return [int(label) for label in np.unique(self.objects[:, 1])]

    def at(self, threshold: float) -> dict[str, float]:
        """F1, precision and recall of the detections with a score above the threshold: means over the classes that
        have objects."""
        above = self.verdicts[self.scores > threshold], self.labels[self.scores > threshold]
        rows = []
        for label in self.classes:
            verdicts, objects = above[0][above[1] == label], int((self.objects[:, 1] == label).sum())
            right, wrong = int((verdicts == RIGHT).sum()), int((verdicts == WRONG).sum())
            precision = right / (right + wrong) if right + wrong else 0.0
            rows.append((2 * right / (right + wrong + objects), precision, right / objects))
        means = np.mean(rows, axis=0).tolist() if rows else [NOT_MEASURED] * 3
        return dict(zip(("F1", "precision", "recall"), means, strict=True))

    def best_threshold(self) -> float:
        """With the best F1, of equal ones the highest; 0.5 where nothing is right."""
        f1 = np.zeros(len(self.scores))
        for label in self.classes:
            own = self.labels == label
            right, wrong = (np.cumsum(own & (self.verdicts == verdict)) for verdict in (RIGHT, WRONG))
            f1 += 2 * right / (right + wrong + int((self.objects[:, 1] == label).sum()))
        if not f1.any():
            return 0.5
        last = np.append(self.scores[1:] < self.scores[:-1], True)  # of a run of equal scores
        best = int(np.where(last, f1, -1.0).argmax())
        below = self.scores[best + 1] if best + 1 < len(self.scores) else 0.0
        return float((self.scores[best] + below) / 2)

    def count_error(self, threshold: float) -> float:
        """Mean over the pictures of the sum over classes of |detections above the threshold - objects|."""
        if not len(self.objects):
            return NOT_MEASURED
        counted = (self.scores > threshold) & (self.verdicts != IGNORED)
        differences = Counter(zip(self.image_ids[counted].tolist(), self.labels[counted].tolist(), strict=True))
        differences.subtract(map(tuple, self.objects.tolist()))
        return sum(map(abs, differences.values())) / max(self.pictures, 1)


def judge(
    truth: Boxes, found: Boxes, scales: Mapping[int, tuple[float, float]], reach: float, pictures: int
) -> Judged:
    """Say of every detection whether it is right.

    Args:
        truth: objects; ``crowd`` marks regions that do not count.
        found: detections.
        scales: of a picture by its id: network pixels per file pixel, x and y.
        reach: network pixels between middles.
        pictures: how many there are.
    """
    verdicts = np.full(len(found), WRONG, np.int64)
    objects = truth.select(~truth.crowd)
    groups: dict[tuple[int, int], list[int]] = {}
    for index, key in enumerate(zip(found.image_ids.tolist(), found.labels.tolist(), strict=True)):
        groups.setdefault(key, []).append(index)
    for (image_id, label), indices in groups.items():
        places = np.array(indices)[np.argsort(-found.scores[indices], kind="stable")]
        own = truth.select((truth.image_ids == image_id) & (truth.labels == label))
        scale = np.array(scales.get(image_id, (1.0, 1.0)))
        verdicts[places] = _verdicts(found.boxes[places], own, scale, reach)
    order = np.argsort(-found.scores, kind="stable")
    keys = np.stack([objects.image_ids, objects.labels], axis=1)
    parts = (found.scores[order], found.labels[order], found.image_ids[order], verdicts[order])
    return Judged(*parts, keys, pictures)


def _verdicts(boxes: NDArray[np.float64], own: Boxes, scale: NDArray[np.float64], reach: float) -> NDArray[np.int64]:
    """Of detections (n, 4) of one class in one picture, best first."""
    points, middles = _middles(boxes), _middles(own.boxes)
    at = points[:, None]
    inside = ((at >= own.boxes[:, :2]) & (at <= own.boxes[:, 2:])).all(axis=2)  # (n, m)
    distances = np.sqrt((((at - middles) * scale) ** 2).sum(axis=2))
    reached = np.where((inside | (distances <= reach)) & ~own.crowd, distances, np.inf)
    crowded = (inside & own.crowd).any(axis=1)
    verdicts = np.where(crowded, IGNORED, WRONG)
    for row in range(len(points) if reached.shape[1] else 0):
        nearest = int(reached[row].argmin())
        if np.isfinite(reached[row, nearest]):
            verdicts[row] = RIGHT
            reached[:, nearest] = np.inf
    return verdicts


def _middles(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2
