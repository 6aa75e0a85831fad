"""Rows about what follows the training: calibration, from raw maps to detections, COCO's numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.parts import Parts
from benchmarks.steps import network_input, settle
from benchmarks.timing import Row, interleave
from hatdet.metrics.coco import COCODetectionMetric
from hatdet.models.task_modules.post_process import DetectionPostProcess
from hatdet.ops import rounded
from hatdet.quantization.converters import Float2Calibration

LEVELS = {320: (1600, 400, 100), 640: (6400, 1600, 400)}
"""Priors of each level by image size."""


@torch.no_grad()
def calibration(parts: Parts, repeat: int) -> list[Row]:
    """A batch of the calibration, by observer, against the float network's forward."""
    model = parts.model()
    settle(model, parts)
    images = network_input(parts)
    network = copy.deepcopy(model).network().eval()  # type: ignore[operator]
    calls: dict[str, Callable[[], object]] = {"float": lambda: network(images)}
    for observer in ("min_max", "percentile", "mse", "kl", "mix"):
        calibrated: Any = Float2Calibration(observer=observer)(copy.deepcopy(model).eval()).eval()
        calibrated.set_observing(True)
        calibrated.set_quantizing(False)
        calls[observer] = lambda calibrated=calibrated: calibrated.run_network(images)  # type: ignore[misc]
    times = interleave(calls, repeat)
    name = "float forward, eval mode"
    return [
        Row(f"calibration {observer}", times[observer], times["float"], name, 1.3 if observer == "mse" else None)
        for observer in calls
        if observer != "float"
    ]


def post_processing(parts: Parts, repeat: int) -> list[Row]:
    """Detections of an image's raw scores and boxes: 100 000 candidates of 80 classes, 6000 of 3."""
    return [
        detections(f"post_processing, {name}", size, classes, candidates, repeat)
        for name, size, classes, candidates in (("80 classes", 640, 80, 100_000), ("3 classes", 320, 3, 6_000))
    ]


def detections(name: str, size: int, classes: int, candidates: int, repeat: int) -> Row:
    """One row of :func:`post_processing`."""
    logits, boxes = raw_detections(size, classes, candidates)
    process = DetectionPostProcess()
    calls: dict[str, Callable[[], object]] = {
        "hatdet": lambda: process(logits, boxes, LEVELS[size]),
        "plain": lambda: plain_detections(logits[0], boxes[0], process),
    }
    times = interleave(calls, repeat)
    return Row(name, times["hatdet"], times["plain"], "threshold, stable sort, one NMS of OpenCV")


def raw_detections(size: int, classes: int, candidates: int) -> tuple[Tensor, Tensor]:
    """Logits (1, P, classes), of which about so many are above the threshold of 0.001, and boxes (1, P, 4)."""
    draw = torch.Generator().manual_seed(0)
    priors = sum(LEVELS[size])
    logits = torch.full((priors * classes,), -9.0)
    some = torch.randperm(priors * classes, generator=draw)[:candidates]
    logits[some] = torch.randn(candidates, generator=draw) - 4.5
    center = torch.rand(1, priors, 2, generator=draw) * size
    half = torch.rand(1, priors, 2, generator=draw) * 30 + 3
    return logits.view(1, priors, classes), torch.cat((center - half, center + half), dim=2)


def plain_detections(logits: Tensor, boxes: Tensor, process: DetectionPostProcess) -> Tensor:
    """The same steps as libraries write them: the classes apart by shifted boxes, every candidate sorted."""
    import cv2

    scores = rounded.sigmoid(logits)
    prior, label = (scores > process.score_thr).nonzero().unbind(1)
    best = torch.sort(scores[prior, label], descending=True, stable=True).indices[: process.nms_pre]
    found = boxes[prior[best]].double()
    shifted = found + (label[best] * (found.max() - found.min() + 1))[:, None]
    rects = torch.cat((shifted[:, :2], shifted[:, 2:] - shifted[:, :2]), dim=1)[:1024]  # often enough for 300
    ranks = np.arange(len(rects), 0, -1, dtype=np.float32)
    kept = cv2.dnn.NMSBoxes(rects.numpy(), ranks, 0.0, process.iou_threshold)
    return found[torch.as_tensor(np.asarray(kept))[: process.max_per_img]]


def evaluation(parts: Parts, repeat: int) -> list[Row]:
    """COCO's numbers and AP by class of 5000 images with 100 detections each, 80 classes, against bare hotcoco."""
    from hotcoco import COCO, COCOeval

    truth, predictions = scored_images(5000, 80, 100)
    metric = COCODetectionMetric(dataset=truth, backend="hotcoco")
    metric.update(predictions, {"img_id": range(1, 5001)})
    annotations = truth.coco_annotations()
    table = metric._table(metric._load_truth())

    def bare() -> None:
        found = COCO(annotations)
        evaluation = COCOeval(found, found.loadRes(table), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()

    times = interleave({"hatdet": metric.compute, "bare": bare}, repeat, warmup=1)
    return [Row("evaluation, 5000 images", times["hatdet"], times["bare"], "bare hotcoco", 1.25)]


class Truth:
    """A data set of ground truth alone."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self.category_ids = [c["id"] for c in content["categories"]]

    def coco_annotations(self) -> dict[str, Any]:
        return self.content


def scored_images(images: int, classes: int, detections: int) -> tuple[Truth, list[dict[str, Any]]]:
    """7 objects an image, and detections of which some lie on them."""
    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    predictions = []
    for image in range(1, images + 1):
        corner, side = rng.uniform(0, 500, (7, 2)), rng.uniform(8, 140, (7, 2))
        labels = rng.integers(0, classes, 7)
        for xy, wh, label in zip(corner.tolist(), side.tolist(), labels.tolist(), strict=True):
            number, area = len(annotations) + 1, wh[0] * wh[1]
            box = {"bbox": [*xy, *wh], "area": area, "iscrowd": 0}
            annotations.append({"id": number, "image_id": image, "category_id": label + 1, **box})
        of = rng.integers(0, 7, detections)
        start, size = corner[of] + rng.normal(0, 9, (detections, 2)), side[of] * rng.uniform(0.7, 1.3, (detections, 2))
        label = np.where(rng.random(detections) < 0.3, labels[of], rng.integers(0, classes, detections))
        boxes = np.concatenate((start, start + size), axis=1).astype(np.float32)
        predictions.append({"boxes": boxes, "scores": rng.random(detections, np.float32), "labels": label})
    pictures = [{"id": i, "width": 640, "height": 640, "file_name": f"{i}.jpg"} for i in range(1, images + 1)]
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, classes + 1)]
    return Truth({"info": {}, "images": pictures, "annotations": annotations, "categories": categories}), predictions
