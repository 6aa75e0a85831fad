"""Pictures and charts of a training run, beside its log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hatdet.commands.shared.judged import save_judgement
from hatdet.commands.shared.pictures import best_threshold
from hatdet.data.datasets.drawing import whole_picture
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.validation import Validation
from hatdet.engine.progress import set_position
from hatdet.registry import register
from hatdet.utils import distributed
from hatdet.utils.errors import UserError
from hatdet.utils.seed import preserved_rng_state

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

SIDE = 320
"""Longer side of an image in a picture of many, pixels."""
IN_A_PICTURE = 16
logger = logging.getLogger("hatdet")


@register
class RunPictures(Callback):
    """Draws what a run was fed and what it found, into the run's work directory.

    At the beginning ``labels.jpg`` (objects by class, place and size) and ``train_batch0.jpg``, ... (the first
    batches as the network gets them). At the end, of the last validation: ``val_batch0_labels.jpg`` and
    ``val_batch0_pred.jpg``, ..., ``PR_curve.svg``, ``P_curve.svg``, ``R_curve.svg``, ``F1_curve.svg``,
    ``confusion_matrix.svg``; and of results.csv ``results_loss.svg``, ``results_AP.svg``, ``results_lr.svg``.

    What `hatdet report` shows of that validation goes to ``evaluation.json`` and ``worst/``.

    A picture that cannot be drawn is a warning; training goes on. What data or metric do not offer is left out, curves
    and ``evaluation.json`` where a metric does not judge boxes by their overlaps.

    Args:
        train_batches: how many training batches. val_batches: how many pictures of 16 validation images.
        min_score: detections below it are not drawn; None: below the threshold with the best F1.
    """

    runs_last = True

    def __init__(self, *, train_batches: int = 3, val_batches: int = 2, min_score: float | None = None) -> None:
        for name, value in (("train_batches", train_batches), ("val_batches", val_batches)):
            if value < 0:
                raise UserError(f"{name} is {value}; 0 draws none; give 0 or more")
        self.train_batches, self.val_batches, self.min_score = train_batches, val_batches, min_score

    def on_loop_begin(self, loop: Loop) -> None:
        if loop.work_dir is None or loop.progress.step or not distributed.is_main_process():
            return
        folder, loader = loop.work_dir, loop.data_loader
        _attempt("labels.jpg", lambda: draw_labels(loader.dataset, folder / "labels.jpg"))
        _attempt("train_batch*.jpg", lambda: draw_batches(loader, folder, self.train_batches))

    def on_loop_end(self, loop: Loop) -> None:
        if loop.work_dir is None or not distributed.is_main_process():
            return
        folder = loop.work_dir
        _attempt("results_*.svg", lambda: draw_history(folder))
        if loop.validated_at < 0:
            return
        own = next((callback for callback in loop.callbacks if isinstance(callback, Validation)), None)
        metric = own.val_metrics if own is not None and own.val_metrics is not None else loop.val_metrics
        dataset = getattr(loop.validation_loader, "dataset", None)
        if all(callable(getattr(metric, name, None)) for name in ("ground_truth_boxes", "detection_boxes")):
            if getattr(metric, "by_overlap", True):
                _attempt("the curves", lambda: draw_curves(metric, folder))
            _attempt("val_batch*.jpg", lambda: self._draw_found(dataset, metric, folder))
            save_judgement(folder, metric, dataset, "the last validation of the training")

    def _draw_found(self, dataset: Any, metric: Any, folder: Path) -> None:
        threshold = best_threshold(metric) if self.min_score is None else self.min_score
        for number in range(self.val_batches):
            first = number * IN_A_PICTURE
            indices = range(first, min(first + IN_A_PICTURE, len(dataset)))
            if indices and callable(getattr(dataset, "raw", None)):
                draw_found(dataset, metric, indices, folder / f"val_batch{number}", threshold)


def _attempt(what: str, draw: Callable[[], None]) -> None:
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)  # OpenCV's thread pool does not survive the fork of the loader's workers
    try:
        draw()
    except Exception as error:  # of whatever kind: hours of training are worth more than a picture
        logger.warning("%s could not be drawn: %s: %s", what, type(error).__name__, error)
    finally:
        cv2.setNumThreads(threads)


def draw_labels(dataset: Any, path: Path) -> None:
    """Objects by class, place and size, of a data set with COCO annotations; nothing for others."""
    from hatdet.metrics.records import from_coco
    from hatdet.visualization.pictures import labels_picture, write_image

    if not callable(getattr(dataset, "coco_annotations", None)):
        return
    content = dataset.coco_annotations()
    boxes = from_coco(content, dataset.category_ids)
    boxes = boxes.select(~boxes.crowd)
    sizes = {int(image["id"]): (image["height"], image["width"]) for image in content["images"]}
    size_of_each = np.array([sizes[int(i)] for i in boxes.image_ids], np.int64).reshape(-1, 2)
    write_image(path, labels_picture(boxes.boxes, boxes.labels, size_of_each, dataset.classes))


def draw_batches(loader: Any, folder: Path, count: int) -> None:
    """The first batches of a loader's first epoch as ``train_batch0.jpg``, ...; drawn in this process, so that no
    worker starts for it; items are functions of the sampler's order, so these are the batches of the training."""
    from hatdet.data.transforms.batch.finish import FinishOnDevice
    from hatdet.visualization.pictures import save_train_batch

    dataset, order = getattr(loader, "dataset", None), getattr(loader, "batch_sampler", None)
    if order is None or dataset is None or not count:
        return
    with preserved_rng_state():
        set_position(loader, epoch=0, start=0)
        for number, refs in zip(range(count), order, strict=False):
            batch = loader.collate_fn([dataset[ref] for ref in refs[:IN_A_PICTURE]])
            if not {"img", "gt_boxes", "gt_labels"} <= set(batch):
                return
            batch = FinishOnDevice()(batch)
            save_train_batch(folder / f"train_batch{number}.jpg", batch, dataset.classes)


def draw_found(dataset: Any, metric: Any, indices: Sequence[int], stem: Path, min_score: float) -> None:
    """Some validation images twice: with ground truth (``<stem>_labels.jpg``) and detections (``<stem>_pred.jpg``)."""
    from hatdet.visualization.draw import caption, draw_boxes, found_text, grid
    from hatdet.visualization.pictures import write_image

    truth, found = metric.ground_truth_boxes(), metric.detection_boxes()
    pictures: dict[str, list[Any]] = {"labels": [], "pred": []}
    for index in indices:
        sample = dataset.raw(index)
        image = whole_picture(sample)
        scale = SIDE / max(image.shape[:2])
        there, seen = truth.of_image(sample.img_id), found.of_image(sample.img_id)
        there = there.select(~there.crowd)
        labelled = draw_boxes(image, there.boxes, there.labels, dataset.classes, scale=scale)
        pictures["labels"].append(caption(labelled, f"{len(there)} objects: {Path(sample.file_name).name}"))
        drawn = draw_boxes(image, seen.boxes, seen.labels, dataset.classes, seen.scores, min_score, scale)
        pictures["pred"].append(caption(drawn, f"{found_text(seen.scores, min_score)}: {Path(sample.file_name).name}"))
    for kind, tiles in pictures.items():
        write_image(stem.with_name(f"{stem.name}_{kind}.jpg"), grid(tiles, columns=int(np.ceil(np.sqrt(len(tiles))))))


def draw_curves(metric: Any, folder: Path) -> None:
    """Precision, recall, F1 and the confusion matrix of a metric's last evaluation."""
    from hatdet.visualization.evaluation import evaluation_charts, write_charts

    write_charts(evaluation_charts(metric.ground_truth_boxes(), metric.detection_boxes(), metric.classes), folder)


def draw_history(folder: Path) -> None:
    """The columns of results.csv over the epochs."""
    from hatdet.visualization.evaluation import history_charts, write_charts

    if (folder / "results.csv").is_file():
        charts = history_charts(folder / "results.csv")
        write_charts({f"results_{name}": svg for name, svg in charts.items()}, folder)
