"""COCO's numbers, hints and errors, each at its limit."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.metrics import coco_backends
from hatdet.metrics.coco import COCODetectionMetric
from hatdet.metrics.coco_backends import CocoArrays, choose_backend, evaluate_boxes
from hatdet.metrics.coco_summary import LINES, explain, format_classes, format_lines, mean_valid, summarize
from hatdet.utils.errors import UserError
from tests.unit.metrics.conftest import box, coco


def prediction(*rows: tuple[float, ...]) -> dict[str, torch.Tensor]:
    """Rows of x1, y1, x2, y2, score, label."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": table[:, 5].long()}


# ----------------------------------------------------------------------------------------- the twelve
def test_which_part_of_the_arrays_each_number_averages() -> None:
    """Every entry of the arrays is its own place: a number tells where it came from."""
    precision, recall = np.zeros((10, 101, 2, 4, 3)), np.zeros((10, 2, 4, 3))
    for t in range(10):
        for a in range(4):
            for m in range(3):
                precision[t, :, :, a, m] = recall[t, :, a, m] = 100 * t + 10 * a + m
    values = summarize(CocoArrays(precision, -recall * 0 + recall))
    assert values == {
        "AP": 452.0, "AP50": 2.0, "AP75": 502.0, "APs": 462.0, "APm": 472.0, "APl": 482.0,
        "AR1": 450.0, "AR10": 451.0, "AR100": 452.0, "ARs": 462.0, "ARm": 472.0, "ARl": 482.0,
    }  # fmt: skip
    precision[..., 1, :, :] += 1
    named = summarize(CocoArrays(precision, recall), ("cat", "dog"))
    assert named["AP/cat"] == 452.0 and named["AP/dog"] == 453.0 and named["AP"] == 452.5
    assert [line.key for line in LINES] == list(values)


def test_a_mean_leaves_out_what_was_not_measured() -> None:
    assert mean_valid(np.array([-1.0, 0.0, 0.5, -1.0])) == 0.25 and mean_valid(np.array([-1.0, -1.0])) == -1.0
    assert mean_valid(np.zeros(0)) == -1.0 and mean_valid(np.array([0.0])) == 0.0


def test_all_lines_in_the_wording_of_coco() -> None:
    values = {line.key: (i + 1) / 16 for i, line in enumerate(LINES)}
    rows = [
        ("Precision  (AP)", "0.50:0.95", "   all", "100"), ("Precision  (AP)", "0.50     ", "   all", "100"),
        ("Precision  (AP)", "0.75     ", "   all", "100"), ("Precision  (AP)", "0.50:0.95", " small", "100"),
        ("Precision  (AP)", "0.50:0.95", "medium", "100"), ("Precision  (AP)", "0.50:0.95", " large", "100"),
        ("Recall     (AR)", "0.50:0.95", "   all", "  1"), ("Recall     (AR)", "0.50:0.95", "   all", " 10"),
        ("Recall     (AR)", "0.50:0.95", "   all", "100"), ("Recall     (AR)", "0.50:0.95", " small", "100"),
        ("Recall     (AR)", "0.50:0.95", "medium", "100"), ("Recall     (AR)", "0.50:0.95", " large", "100"),
    ]  # fmt: skip
    assert format_lines(values) == [
        f" Average {title} @[ IoU={iou} | area={area} | maxDets={most} ] = {(i + 1) / 16:0.3f}"
        for i, (title, iou, area, most) in enumerate(rows)
    ]
    assert (
        "maxDets= 20 ]" in format_lines(values, (5, 20, 50))[7]
        and "maxDets= 50 ]" in format_lines(values, (5, 20, 50))[0]
    )
    assert len(format_lines({"AP": 0.5, "ARl": 0.5})) == 2


def test_a_table_without_counts_and_a_class_that_was_missed() -> None:
    assert format_classes({"AP/a": 0.0, "AP/b": 1.0}) == [" class      AP", " a       0.000", " b       1.000"]
    assert format_classes({"AP/a": 0.5}, {"b": 3}) == [" class      AP   boxes", " a       0.500       0"]


# ------------------------------------------------------------------------------------------------ hints
GOOD = {
    "AP": 0.5, "AP50": 0.75, "AP75": 0.5, "APs": 0.375, "APm": 0.5, "APl": 0.75,
    "AR1": 0.5, "AR10": 0.625, "AR100": 0.625, "ARs": 0.5, "ARm": 0.625, "ARl": 0.625,
}  # fmt: skip


def hints(**values: float) -> list[str]:
    return explain(GOOD | {key.replace("_", "/"): value for key, value in values.items()})


def test_hints_begin_just_beyond_their_limits() -> None:
    assert hints() == []
    assert "hardly an object" in hints(AP50=0.0499)[0] and "hardly an object" in hints(AP50=0.0)[0]
    assert hints(AP50=0.05, AP75=0.01) == [] and hints(AP50=-1.0, AP75=0.1) == []
    assert hints(AP50=0.5, AP75=0.25) == [] and "boxes are loose" in hints(AP50=0.5, AP75=0.2499)[0]
    assert "loose" in hints(AP50=0.2, AP75=0.0)[0] and hints(AP50=0.19, AP75=0.0) == [] and hints(AP75=-1.0) == []
    assert hints(APs=0.375) == [] and "small objects are missed" in hints(APs=0.37)[0]
    assert "small objects" in hints(APs=0.0)[0] and "small objects" in hints(APs=0.3, APl=0.1, APm=0.75)[0]
    assert not any("missed" in line for line in hints(APs=-1.0))
    assert hints(AP=0.5, AR100=0.8) == [] and "false ones score as high" in hints(AP=0.5, AR100=0.8001)[0]
    assert hints(AP=0.01, AP50=0.06, AP75=0.05, AR100=0.5, APs=0.4)[0].startswith("AR 0.500 is far above AP 0.010")
    assert "false ones" in hints(AP50=0.05, AP75=0.04, AR100=0.9)[0]
    assert hints(AP_a=0.17, AP_b=0.9) == [] and "Class 'a' is far behind" in hints(AP_a=0.16, AP_b=0.9)[0]
    assert "Class 'b' is far behind (AP 0.000" in hints(AP_a=0.16, AP_b=0.0)[0]
    assert hints(AP_a=0.01) == []  # the only class


def test_what_is_not_measured_is_explained() -> None:
    assert explain({}) == explain({"AP": -1.0}) and explain({"AP": -1.0})[0].startswith("AP is not measured")
    assert explain({"AP": 0.0, "AP50": 0.0})[0].startswith("AP50 is below 0.05")
    assert explain(GOOD | {"APs": -1.0, "ARs": -1.0})[0].startswith(
        "APs and ARs = -1: no ground truth of that size (an area below"
    )
    assert explain(GOOD | {"ARm": -1.0})[0].startswith(
        "ARm = -1: no ground truth of that size (an area between 32x32 and"
    )
    assert explain({"AP": 0.5, "AP50": 0.75}) == []  # what a metric does not have is not missing
    assert len(explain(GOOD | {"APs": -1.0}, 0)) == 2 and explain(GOOD, 1) == [] and explain(GOOD, None) == []
    assert explain(GOOD | {"AP/a": 0.0, "AP/b": -1.0})[0].startswith("Class 'b' has no ground truth")


# --------------------------------------------------------------------------------------------- backends
def test_backends_are_chosen_by_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"hotcoco", "pycocotools"}
    monkeypatch.setattr(coco_backends.importlib.util, "find_spec", lambda name: True if name in installed else None)
    assert choose_backend("auto") == "hotcoco" and choose_backend("pycocotools") == "pycocotools"
    installed.remove("hotcoco")
    assert choose_backend("auto") == "pycocotools"
    with pytest.raises(UserError, match="'hotcoco' is not installed: `pip install hotcoco`"):
        choose_backend("hotcoco")
    ran: list[str] = []
    empty = CocoArrays(np.zeros(0), np.zeros(0))
    for name in ("hotcoco", "pycocotools"):
        monkeypatch.setattr(coco_backends, f"_run_{name}", lambda *more, name=name: ran.append(name) or empty)
    truth = {"images": [], "annotations": [], "categories": []}
    installed.add("hotcoco")
    for name in ("hotcoco", "pycocotools", "auto"):
        evaluate_boxes(truth, np.zeros((0, 7)), name)
    assert ran == ["hotcoco", "pycocotools", "hotcoco"]


def test_ids_are_numbered_from_one_in_their_order() -> None:
    truth = coco([box(11, 7, (0, 0, 1, 1)), box(4, 3, (0, 0, 1, 1))])
    table = np.array([[11.0, 1, 2, 3, 4, 0.5, 3], [4, 1, 2, 3, 4, 0.5, 7]])
    numbered, rows = coco_backends._renumbered(truth, table)
    assert [image["id"] for image in numbered["images"]] == [2, 1] and rows[:, 0].tolist() == [2, 1]
    assert [c["id"] for c in numbered["categories"]] == [2, 1] and rows[:, 6].tolist() == [1, 2]
    assert [(a["image_id"], a["category_id"]) for a in numbered["annotations"]] == [(2, 2), (1, 1)]
    assert table[0, 0] == 11 and truth["images"][0]["id"] == 11  # what was given is left alone
    assert inspect.signature(evaluate_boxes).parameters["max_dets"].default == (1, 10, 100)


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
def test_limits_of_detections_are_passed_on(two_images: Any, backend: str) -> None:
    """The right cup is the second detection: with one allowed it is missed, with two it is found."""
    found = prediction((200, 10, 230, 60, 0.9, 0), (10, 10, 60, 60, 0.5, 0))
    for limits, ar in (((1, 1, 1), [0.0, 0.0, 0.0]), ((1, 2, 3), [0.0, 0.25, 0.25])):
        metric = COCODetectionMetric(dataset=two_images, backend=backend, max_dets=limits)
        metric.update([found], {"img_id": [11]})
        values = metric.compute()
        assert [values[key] for key in ("AR1", "AR10", "AR100")] == ar
    text = metric.format(values)
    assert "maxDets=  2 ] = 0.250" in text and "maxDets=  3 ] = 0.250" in text


# ------------------------------------------------------------------------------------------- the metric
def test_defaults() -> None:
    parameters = inspect.signature(COCODetectionMetric).parameters.values()
    assert {p.name: p.default for p in parameters} == {
        "ann_file": None, "dataset": None, "backend": "auto", "classwise": True, "category_ids": None,
        "max_dets": (1, 10, 100), "results_file": None,
    }  # fmt: skip


def test_limits_of_max_dets(two_images: Any) -> None:
    for wrong in ((1, 10), (1, 10, 100, 1000), (1, 100, 10)):
        with pytest.raises(UserError, match="three ascending numbers"):
            COCODetectionMetric(dataset=two_images, max_dets=wrong)
    assert COCODetectionMetric(dataset=two_images, max_dets=[2, 2, 7]).max_dets == (2, 2, 7)


def test_detections_of_one_image_by_falling_score_ties_in_order(two_images: Any) -> None:
    metric = COCODetectionMetric(dataset=two_images)
    rows = prediction((1, 2, 4, 8, 0.5, 0), (2, 2, 4, 8, 0.75, 1), (3, 2, 4, 8, 0.5, 1), (4, 2, 4, 8, 0.75, 0))
    metric.update([rows, prediction((5, 2, 9, 8, 0.25, 1))], {"img_id": torch.tensor([11, 4])})
    metric.update([prediction((9, 9, 10, 10, 1.0, 0))], {"img_id": [11]})  # seen before
    found = metric.detection_boxes()
    assert found.image_ids.tolist() == [4, 11, 11, 11, 11] and found.boxes[:, 0].tolist() == [5, 2, 4, 1, 3]
    assert found.scores.tolist() == [0.25, 0.75, 0.75, 0.5, 0.5] and found.labels.tolist() == [1, 1, 0, 0, 1]
    table = metric._table(metric._load_truth())
    assert table[0].tolist() == [4, 5, 2, 4, 6, 0.25, 3] and table[1].tolist() == [11, 2, 2, 2, 6, 0.75, 3]
    assert not found.crowd.any() and COCODetectionMetric(dataset=two_images).detection_boxes().boxes.shape == (0, 4)


def test_lists_and_single_rows_are_taken(two_images: Any) -> None:
    metric = COCODetectionMetric(dataset=two_images)
    metric.update([{"boxes": [[1, 2, 3, 4]], "scores": [0.5], "labels": [1]}], {"img_id": [11]})
    metric.update([{"boxes": [], "scores": [], "labels": []}], {"img_id": [4]})
    assert metric.detection_boxes().boxes.tolist() == [[1, 2, 3, 4]]


def test_a_label_out_of_range_is_refused_at_both_ends(two_images: Any) -> None:
    for label in (-1, 2):
        metric = COCODetectionMetric(dataset=two_images)
        metric.update([prediction((0, 0, 9, 9, 0.5, label))], {"img_id": [11]})
        with pytest.raises(UserError, match=f"predicted label {label}, but the data has 2 classes"):
            metric.compute()


def test_dropped_detections_and_images_without_prediction_are_counted(two_images: Any) -> None:
    nan = float("nan")
    metric = COCODetectionMetric(dataset=two_images)
    metric.update([prediction((nan, 0, 1, 1, 0.5, 0), (0, 0, 1, 1, nan, 0), (0, 0, 1, 1, 0.5, 0))], {"img_id": [11]})
    other = COCODetectionMetric(dataset=two_images)
    other.update([prediction((0, 0, float("inf"), 1, 0.5, 0))], {"img_id": [4]})
    metric.merge([metric.state(), other.state()])
    text = metric.format(metric.compute())
    assert "3 detections with NaN or infinite values were dropped." in text and "had no prediction run" not in text
    metric.reset()
    assert "dropped" not in metric.format(metric.compute())
    metric.update([prediction((0, 0, 1, 1, 0.5, 0))], {"img_id": [4]})
    assert "1 of 2 images had no prediction run" in metric.format(metric.compute())


def test_arrays_are_those_of_the_last_compute(two_images: Any) -> None:
    metric = COCODetectionMetric(dataset=two_images, classwise=False)
    assert "AP/cup" not in metric.compute() and metric.arrays.precision.shape == (10, 101, 2, 4, 3)
    metric.update([prediction((0, 0, 1, 1, 0.5, 0))], {"img_id": [4]})
    with pytest.raises(ValueError, match="call compute"):
        _ = metric.arrays


def test_crowds_are_not_counted_as_boxes(two_images: Any) -> None:
    two_images.annotations["annotations"].append(box(4, 3, (0, 0, 100, 100), crowd=1))
    metric = COCODetectionMetric(dataset=two_images)
    assert metric.format(metric.compute()).count("\n key     0.000       1") == 1
    assert metric.ground_truth_boxes().crowd.tolist() == [False, False, False, True]


def test_a_results_file_holds_every_detection(tmp_path: Path, two_images: Any) -> None:
    metric = COCODetectionMetric(dataset=two_images, results_file=tmp_path / "deep" / "er" / "out.json")
    metric.update([prediction((1, 2, 4, 8, 0.5, 1)), prediction((5, 2, 9, 8, 0.25, 0))], {"img_id": [11, 4]})
    metric.compute()
    assert json.loads((tmp_path / "deep" / "er" / "out.json").read_text()) == [
        {"image_id": 4, "category_id": 7, "bbox": [5, 2, 4, 6], "score": 0.25},
        {"image_id": 11, "category_id": 3, "bbox": [1, 2, 3, 6], "score": 0.5},
    ]


def test_another_data_set_is_bound_anew(tmp_path: Path, two_images: Any) -> None:
    """Where the classes are the same nothing is read again; given ids stay whatever is bound."""
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(two_images.annotations))
    metric = COCODetectionMetric(ann_file=path)
    two_images.classes = ("cup", "key")
    metric.bind(two_images)
    truth = metric._truth
    metric.bind(two_images)
    assert metric._truth is truth and metric.category_ids == (7, 3)
    two_images.classes = ("key", "cup")
    metric.bind(two_images)
    assert metric.category_ids == (3, 7)
    given = COCODetectionMetric(ann_file=path, category_ids=[7, 3])
    given.bind(two_images)
    assert given.category_ids == (7, 3) and given.classes == ("cup", "key")
