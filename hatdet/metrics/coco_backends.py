"""COCO box evaluation behind one function, by the reference library or by a fast one.

Both give the raw precision and recall arrays; every number is then computed from these arrays by hatdet
itself (`coco_summary`), so two backends that agree on the arrays agree on every figure to the last bit.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.utils.errors import UserError

BACKENDS = ("auto", "pycocotools", "hotcoco")

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class CocoArrays:
    """What a COCO evaluation gives, before averaging.

    precision: (T, R, K, A, M): IoU thresholds 0.50:0.05:0.95, recall points 0:0.01:1, categories by ascending
        id, areas (all, small, medium, large), detections per image (`max_dets`). -1 where there is no ground
        truth.
    recall: (T, K, A, M), the highest recall reached; -1 where there is no ground truth.
    """

    precision: FloatArray
    recall: FloatArray


def choose_backend(name: str) -> str:
    """The backend to use: "auto" is hotcoco where it can be imported, pycocotools otherwise.

    Raises:
        UserError: unknown name, or the library is not installed.
    """
    if name not in BACKENDS:
        raise UserError(f"backend: got {name!r}; allowed: {', '.join(BACKENDS)}")
    if name == "auto":
        return "hotcoco" if importlib.util.find_spec("hotcoco") else "pycocotools"
    if importlib.util.find_spec(name) is None:
        raise UserError(f"backend {name!r} is not installed: `pip install {name}`, or use backend='auto'")
    return name


def evaluate_boxes(
    ground_truth: dict[str, Any],
    detections: FloatArray,
    backend: str = "auto",
    max_dets: tuple[int, int, int] = (1, 10, 100),
) -> CocoArrays:
    """Match detections with ground truth as COCO does.

    Args:
        ground_truth: COCO dict (`images`, `annotations`, `categories`); annotation ids must be positive,
            because pycocotools takes the id 0 for "unmatched".
        detections: (n, 7) float64: image id, x, y, w, h, score, category id.
        backend: see `choose_backend`.
        max_dets: ascending limits on detections per image and category.
    """
    chosen = choose_backend(backend)
    ground_truth, detections = _renumbered(ground_truth, detections)
    if chosen == "hotcoco":
        return _run_hotcoco(ground_truth, detections, max_dets)
    return _run_pycocotools(ground_truth, detections, max_dets)


def _renumbered(ground_truth: dict[str, Any], detections: FloatArray) -> tuple[dict[str, Any], FloatArray]:
    """Image and category ids as 1, 2, ... in the same order: files have negative and very large ids, which not
    every library takes."""
    images = {i: n for n, i in enumerate(sorted(image["id"] for image in ground_truth["images"]), start=1)}
    classes = {i: n for n, i in enumerate(sorted(c["id"] for c in ground_truth["categories"]), start=1)}
    detections = detections.copy()
    for column, numbers in ((0, images), (6, classes)):
        known = np.array(sorted(numbers), np.float64)  # as the table holds them
        places = np.searchsorted(known, detections[:, column], side="right")
        strange = detections[:, column] != known[places - 1]
        if strange.any():
            raise KeyError(float(detections[strange, column][0]))
        detections[:, column] = places
    truth = {
        **ground_truth,
        "images": [{**image, "id": images[image["id"]]} for image in ground_truth["images"]],
        "categories": [{**c, "id": classes[c["id"]]} for c in ground_truth["categories"]],
        "annotations": [
            {**a, "image_id": images[a["image_id"]], "category_id": classes[a["category_id"]]}
            for a in ground_truth["annotations"]
        ],
    }
    return truth, detections


def _run_pycocotools(
    ground_truth: dict[str, Any], detections: FloatArray, max_dets: tuple[int, int, int]
) -> CocoArrays:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # the library prints its progress
        truth = COCO()
        truth.dataset = ground_truth
        truth.createIndex()
        if len(detections):
            found = truth.loadRes(detections)
        else:  # loadRes fails on an empty array
            found = COCO()
            found.dataset = {**ground_truth, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.maxDets = list(max_dets)
        evaluation.evaluate()
        evaluation.accumulate()
    return CocoArrays(np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"]))


def _run_hotcoco(ground_truth: dict[str, Any], detections: FloatArray, max_dets: tuple[int, int, int]) -> CocoArrays:
    from hotcoco import COCO, COCOeval

    truth = COCO(ground_truth)
    found = truth.loadRes(detections) if len(detections) else COCO({**ground_truth, "annotations": []})
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.params.maxDets = list(max_dets)
    evaluation.evaluate()
    evaluation.accumulate()
    result = evaluation.eval
    if result is None:
        raise RuntimeError("hotcoco returned no result: use backend='pycocotools'")
    return CocoArrays(np.asarray(result["precision"]), np.asarray(result["recall"]))
