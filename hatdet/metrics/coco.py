"""COCO average precision of boxes as a metric of the validation loop."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.metrics.coco_backends import CocoArrays, choose_backend, evaluate_boxes
from hatdet.metrics.coco_summary import explain, format_classes, format_lines, summarize
from hatdet.metrics.crowding import crowding
from hatdet.metrics.records import Boxes, clean_truth, drop_placeholders, from_coco, ids_by_name, read_coco
from hatdet.metrics.sizes import Sizes, in_pictures, picture_sizes
from hatdet.registry import register
from hatdet.utils.errors import UserError


@register
class COCODetectionMetric:
    """The 12 COCO numbers and AP per class.

    Ground truth comes from the data set itself (`coco_annotations()`) or from a COCO json; boxes of
    predictions are xyxy in pixels of the original image file. Labels are mapped to category ids by
    `category_ids`.

    Keys of the values: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl and `AP/<class>`; -1
    means: no ground truth, not measured. Where a picture has more objects of a class than `max_dets` lets count
    there is also `AP@<n>`, the AP at a sufficient limit (`hatdet.metrics.crowding`). Source: https://cocodataset.org/#detection-eval.

    Args:
        ann_file: COCO json with the ground truth; where it is not there, the file of that name in `annotations/` beside
            it is taken, or the other way round.
        dataset: has `coco_annotations()` and `category_ids`; without it and `ann_file`, the data set that the
            validation loop gives (`bind`).
        backend: "auto" (the fast one where installed), "pycocotools" or "hotcoco"; all give the same numbers.
        classwise: report AP per class too.
        category_ids: label -> category id; default: the data set's (found by name in an ann_file), or the json's
            categories in ascending id.
        max_dets: limits of detections per image and class for AR1, AR10 and everything else.
        results_file: `compute` writes the detections there in COCO's result format.
    """

    def __init__(
        self,
        ann_file: str | Path | None = None,
        dataset: Any = None,
        backend: str = "auto",
        classwise: bool = True,
        category_ids: Sequence[int] | None = None,
        max_dets: Sequence[int] = (1, 10, 100),
        results_file: str | Path | None = None,
    ) -> None:
        if ann_file is not None and dataset is not None:
            raise UserError("COCODetectionMetric: got both ann_file and dataset; give one of them")
        if len(max_dets) != 3 or list(max_dets) != sorted(max_dets):
            raise UserError(f"max_dets: got {tuple(max_dets)}; expected three ascending numbers, e.g. (1, 10, 100)")
        self.ann_file = None if ann_file is None else _existing(Path(ann_file))
        self.dataset = dataset
        self.backend = choose_backend(backend)
        self.classwise = classwise
        self.max_dets = (int(max_dets[0]), int(max_dets[1]), int(max_dets[2]))
        self.results_file = None if results_file is None else Path(results_file)
        self._given_ids = None if category_ids is None else tuple(int(i) for i in category_ids)
        self._category_ids = self._given_ids
        self._class_names: tuple[str, ...] | None = None  # of the bound data set, by label
        self._sized_by: Any = None  # the data set whose pixels detections count in, where ann_file is read apart
        self._sizes: Sizes = {}
        self._truth: dict[str, Any] | None = None
        self._arrays: CocoArrays | None = None
        self.reset()

    # ------------------------------------------------------------------ the metric's contract
    def bind(self, dataset: Any) -> None:
        """Take the ground truth from this data set, unless a source was given at construction.

        Raises:
            UserError: the source is a file that is missing or cannot be read; now, not after an epoch of training.
        """
        names = getattr(dataset, "classes", None)
        if names is not None and tuple(names) != self._class_names:
            self._class_names, self._truth, self._category_ids = tuple(names), None, self._given_ids
        if self.ann_file is not None:
            if dataset is not self._sized_by:
                self._sized_by, self._sizes, self._truth = dataset, picture_sizes(dataset), None
            self._load_truth()
        elif self.dataset is None:
            self.dataset = dataset

    def reset(self) -> None:
        """Forget all predictions (the ground truth stays)."""
        self._detections: dict[int, NDArray[np.float32]] = {}
        self._dropped = 0
        self._arrays = None

    def update(self, predictions: Sequence[Mapping[str, Any]], batch: Mapping[str, Any]) -> None:
        """Add the predictions of one batch.

        Args:
            predictions: per image a dict of `boxes` (n, 4) xyxy in file pixels, `scores` (n,), `labels` (n,).
            batch: `img_id` (B,).

        An image that was seen before (a sampler's padding) keeps its first predictions.
        """
        image_ids = [int(i) for i in batch["img_id"]]
        if len(image_ids) != len(predictions):
            raise ValueError(f"got predictions for {len(predictions)} images and img_id for {len(image_ids)}")
        for image_id, prediction in zip(image_ids, predictions, strict=True):
            if image_id in self._detections:
                continue
            boxes = _array(prediction["boxes"]).reshape(-1, 4)
            scores = _array(prediction["scores"]).reshape(-1, 1)
            labels = _array(prediction["labels"]).reshape(-1, 1)
            rows = np.concatenate([boxes, scores, labels], axis=1).astype(np.float32)
            finite = np.isfinite(rows).all(axis=1)
            self._dropped += int((~finite).sum())
            rows = rows[finite]
            self._detections[image_id] = rows[np.argsort(-rows[:, 4], kind="stable")]
        self._arrays = None

    def compute(self) -> dict[str, float]:
        """Evaluate what `update` and `merge` collected."""
        truth = self._load_truth()
        self._arrays = evaluate_boxes(truth, self._table(truth), self.backend, self.max_dets)
        if self.results_file is not None:
            self.save_results(self.results_file)
        values = summarize(self._arrays, self._sorted_names() if self.classwise else ())
        crowded = crowding(truth, self.max_dets[2])
        if crowded is not None:
            limits = (*self.max_dets[:2], crowded.sufficient)
            values[crowded.key] = summarize(evaluate_boxes(truth, self._table(truth), self.backend, limits))["AP"]
        return values

    def format(self, values: Mapping[str, float]) -> str:
        """The numbers in COCO's wording, AP per class, and sentences on what they mean."""
        lines = [line.replace("= -1.000", "= not measured") for line in format_lines(values, self.max_dets)]
        counts = self._box_counts() if self._truth is not None else None
        table = format_classes(values, counts)
        notes = explain(values, sum(len(d) for d in self._detections.values()) if self._detections else None)
        crowded = crowding(self._truth, self.max_dets[2]) if self._truth is not None else None
        if crowded is not None:
            notes.insert(0, crowded.text(values))
        if self._truth is not None and self._detections:
            missing = len(self._truth["images"]) - len(self._detections)
            if missing > 0:
                notes.append(
                    f"{missing} of {len(self._truth['images'])} images had no prediction run: "
                    "their objects count as missed."
                )
        if self._dropped:
            notes.append(f"{self._dropped} detections with NaN or infinite values were dropped.")
        blocks = [lines, table, notes]
        return "\n\n".join("\n".join(block) for block in blocks if block)

    def state(self) -> dict[str, Any]:
        """Predictions of this process, for `merge` on another one."""
        return {"detections": dict(self._detections), "dropped": self._dropped}

    def merge(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Replace the predictions by the union of several processes' states; each image counts once."""
        self.reset()
        for state in states:
            for image_id, rows in state["detections"].items():
                self._detections.setdefault(int(image_id), rows)
            self._dropped += int(state["dropped"])

    # ------------------------------------------------------------------ for plots and reports
    @property
    def arrays(self) -> CocoArrays:
        """Precision and recall arrays of the last `compute`."""
        if self._arrays is None:
            raise ValueError("call compute() first")
        return self._arrays

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by label."""
        names = {c["id"]: str(c["name"]) for c in self._load_truth()["categories"]}
        return tuple(names[i] for i in self.category_ids)

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Category id by label."""
        self._load_truth()
        assert self._category_ids is not None
        return self._category_ids

    def ground_truth_boxes(self) -> Boxes:
        """All ground truth, as arrays (labels, not category ids)."""
        return from_coco(self._load_truth(), self.category_ids)

    def detection_boxes(self) -> Boxes:
        """All detections, as arrays, by ascending image id, then descending score."""
        ids = sorted(self._detections)
        rows = np.concatenate([np.zeros((0, 6), np.float32), *(self._detections[i] for i in ids)])
        images = np.repeat(np.array(ids, np.int64), [len(self._detections[i]) for i in ids])
        return Boxes(
            image_ids=images, labels=rows[:, 5].astype(np.int64), boxes=rows[:, :4].astype(np.float64),
            scores=rows[:, 4].astype(np.float64), crowd=np.zeros(len(rows), bool),
        )  # fmt: skip

    def save_results(self, path: str | Path) -> None:
        """Write the detections in COCO's result format (a json list, boxes xywh in file pixels)."""
        table = self._table(self._load_truth())
        records = [
            {"image_id": int(r[0]), "category_id": int(r[6]), "bbox": r[1:5].tolist(), "score": float(r[5])}
            for r in table
        ]
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(records))

    # ------------------------------------------------------------------ inside
    def _load_truth(self) -> dict[str, Any]:
        if self._truth is None:
            if self.ann_file is not None:
                source = drop_placeholders(read_coco(self.ann_file))
                default = sorted(int(c["id"]) for c in source["categories"])
                if self._class_names is not None and self._given_ids is None:
                    source, default = ids_by_name(source, self._class_names, self.ann_file)
            else:
                if self.dataset is None:
                    raise UserError(
                        "COCODetectionMetric has no ground truth: give ann_file or dataset, or bind the data set"
                    )
                source = self.dataset.coco_annotations()
                default = [int(i) for i in self.dataset.category_ids]
            ids = tuple(default) if self._category_ids is None else self._category_ids
            known = {int(c["id"]) for c in source["categories"]}
            unknown = [i for i in ids if i not in known]
            if unknown:
                raise UserError(
                    f"category_ids {unknown} are not in the ground truth; it has {sorted(known)}; "
                    "correct them, or leave them out"
                )
            self._category_ids = ids
            self._truth = clean_truth(source, ids)
            if self.ann_file is not None:
                self._truth = in_pictures(self._truth, self._sizes, self.ann_file)
        return self._truth

    def _sorted_names(self) -> list[str]:
        return [str(c["name"]) for c in sorted(self._load_truth()["categories"], key=lambda c: c["id"])]

    def _box_counts(self) -> dict[str, int]:
        truth = self._load_truth()
        names = {c["id"]: str(c["name"]) for c in truth["categories"]}
        counts = dict.fromkeys(names.values(), 0)
        for annotation in truth["annotations"]:
            counts[names[annotation["category_id"]]] += not annotation["iscrowd"]
        return counts

    def _table(self, truth: Mapping[str, Any]) -> NDArray[np.float64]:
        """(n, 7): image id, x, y, w, h, score, category id; by ascending image id, then descending score."""
        known = {image["id"] for image in truth["images"]}
        unknown = sorted(set(self._detections) - known)
        if unknown:
            raise UserError(
                f"predictions for {len(unknown)} images that the ground truth lacks, "
                f"e.g. image id {unknown[0]}: the metric's data set is not the loader's: "
                "give both the same, or leave ann_file and dataset out of the metric"
            )
        found = self.detection_boxes()
        ids = np.array(self.category_ids, np.float64)
        if found.labels.size and (found.labels.min() < 0 or found.labels.max() >= len(ids)):
            raise UserError(
                f"predicted label {int(found.labels.max())}, but the data has {len(ids)} classes: "
                "num_classes of the model does not fit the data set: "
                "set num_classes, or take the checkpoint of this data set"
            )
        table = np.empty((len(found.labels), 7))
        table[:, 0] = found.image_ids
        table[:, 1:3] = found.boxes[:, :2]
        table[:, 3:5] = found.boxes[:, 2:] - found.boxes[:, :2]
        table[:, 5] = found.scores
        table[:, 6] = ids[found.labels]
        return table


def _array(values: Any) -> NDArray[Any]:
    """A numpy array of a tensor (on any device), an array or a list."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values)


def _existing(path: Path) -> Path:
    """The file, or the one of its name in ``annotations/`` or beside that folder; where there is none, the file."""
    inside, outside = path.parent / "annotations" / path.name, path.parent.parent / path.name
    others = [inside, outside] if path.parent.name == "annotations" else [inside]
    return next((p for p in (path, *others) if p.is_file()), path)
