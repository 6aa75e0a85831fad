"""AP of every variant of an ablation, on the images that were looked at."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from hatdet.utils.errors import UserError


class Subset:
    """The ground truth of some images of a data set, as a metric reads it."""

    def __init__(self, dataset: Any, img_ids: Sequence[int]) -> None:
        self.dataset, self.img_ids = dataset, set(img_ids)
        self.classes, self.category_ids = dataset.classes, dataset.category_ids

    def coco_annotations(self) -> dict[str, Any]:
        """The data set's own, without the other images."""
        full = self.dataset.coco_annotations()
        images = [image for image in full["images"] if image["id"] in self.img_ids]
        boxes = [box for box in full["annotations"] if box["image_id"] in self.img_ids]
        return {**full, "images": images, "annotations": boxes}


class VariantMetrics:
    """A metric for each variant.

    Args:
        metric: as the config has it; never changed. dataset: where the images come from.

    Raises:
        UserError: the metric takes its ground truth from elsewhere, so that it cannot be limited to some images, or
            it gives no AP.
    """

    def __init__(self, metric: Any, dataset: Any) -> None:
        if not callable(getattr(dataset, "coco_annotations", None)) or not callable(getattr(metric, "bind", None)):
            raise UserError(
                f"--sensitivity ap needs COCODetectionMetric and a COCO data set, got {type(metric).__name__} and "
                f"{type(dataset).__name__}; use --sensitivity sqnr"
            )
        if getattr(metric, "ann_file", None) is not None or getattr(metric, "dataset", None) is not None:
            raise UserError(
                "--sensitivity ap: the metric has ground truth of its own (ann_file or dataset), which cannot be "
                "limited to the images that are looked at; leave it out of the config, or use --sensitivity sqnr"
            )
        self.metric, self.dataset = metric, dataset
        self._metrics: dict[Hashable, Any] = {}
        self._img_ids: dict[int, None] = {}

    def update(self, variant: Hashable, predictions: Sequence[Mapping[str, Any]], batch: Mapping[str, Any]) -> None:
        """Add the detections of one variant for some images."""
        if variant not in self._metrics:
            self._metrics[variant] = copy.deepcopy(self.metric)
            self._metrics[variant].reset()
        self._img_ids.update(dict.fromkeys(int(i) for i in batch["img_id"]))
        self._metrics[variant].update(predictions, batch)

    def compute(self, variant: Hashable) -> dict[str, float]:
        """The metric's values of one variant."""
        metric = self._metrics[variant]
        metric.bind(Subset(self.dataset, list(self._img_ids)))
        values = dict(metric.compute())
        if "AP" not in values:
            raise UserError(f"--sensitivity ap: {type(self.metric).__name__} gives no AP; use --sensitivity sqnr")
        return values
