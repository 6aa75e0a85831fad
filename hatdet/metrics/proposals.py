"""Recall of proposals: boxes without a class, many of them (an RPN as a detector of its own)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hatdet.metrics.coco import COCODetectionMetric
from hatdet.metrics.coco_summary import mean_valid
from hatdet.registry import register


@register
class COCOProposalMetric(COCODetectionMetric):
    """Average recall over COCO's ten IoU thresholds of the best n boxes of each picture, all classes as one.

    Keys of the values, besides those of :class:`COCODetectionMetric`: ``AR@n`` for each limit, ``ARs@n``, ``ARm@n`` and
    ``ARl@n`` for the last one.

    Args:
        proposal_nums: three ascending limits n.
        ann_file, dataset, backend, results_file: as there.
    """

    def __init__(
        self,
        proposal_nums: Sequence[int] = (100, 300, 1000),
        ann_file: str | Path | None = None,
        dataset: Any = None,
        backend: str = "auto",
        results_file: str | Path | None = None,
    ) -> None:
        super().__init__(ann_file, dataset, backend, False, None, proposal_nums, results_file)

    def update(self, predictions: Sequence[Mapping[str, Any]], batch: Mapping[str, Any]) -> None:
        """Add the predictions of one batch; their labels do not count."""
        super().update([{**found, "labels": np.zeros(len(found["labels"]))} for found in predictions], batch)

    def compute(self) -> dict[str, float]:
        """Evaluate what `update` and `merge` collected."""
        values = super().compute()
        recall = self.arrays.recall
        values |= {f"AR@{limit}": mean_valid(recall[:, :, 0, i]) for i, limit in enumerate(self.max_dets)}
        sizes = (("s", 1), ("m", 2), ("l", 3))
        return values | {f"AR{size}@{self.max_dets[2]}": mean_valid(recall[:, :, i, 2]) for size, i in sizes}

    def _load_truth(self) -> dict[str, Any]:
        if self._truth is None:
            truth = super()._load_truth()
            boxes = [{**box, "category_id": 1} for box in truth["annotations"]]
            one = [{"id": 1, "name": "object", "supercategory": ""}]
            self._truth, self._category_ids = {**truth, "annotations": boxes, "categories": one}, (1,)
        return self._truth
