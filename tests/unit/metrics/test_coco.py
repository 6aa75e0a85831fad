from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.metrics.coco import COCODetectionMetric
from hatdet.metrics.coco_backends import evaluate_boxes
from hatdet.metrics.coco_summary import LINES
from hatdet.metrics.records import clean_truth
from hatdet.utils.errors import UserError
from tests.unit.metrics.conftest import box, coco

TWELVE = [line.key for line in LINES]


class Data:
    def __init__(self, annotations: dict[str, Any], category_ids: tuple[int, ...]) -> None:
        self.annotations, self.category_ids = annotations, category_ids

    def coco_annotations(self) -> dict[str, Any]:
        return self.annotations


def prediction(*rows: tuple[float, ...]) -> dict[str, torch.Tensor]:
    """Rows of x1, y1, x2, y2, score, label."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": table[:, 5].long()}


NOTHING = prediction()
PERFECT_11 = prediction((10, 10, 60, 60, 0.9, 0), (100, 100, 140, 160, 0.8, 1))
PERFECT_4 = prediction((20, 30, 220, 130, 0.7, 0))


def run(metric: COCODetectionMetric, *pairs: tuple[int, Any]) -> dict[str, float]:
    for image_id, result in pairs:
        metric.update([result], {"img_id": torch.tensor([image_id])})
    return metric.compute()


def test_perfect_predictions_give_one(two_images: Any) -> None:
    metric = COCODetectionMetric(dataset=two_images)
    metric.update([PERFECT_11, PERFECT_4], {"img_id": torch.tensor([11, 4])})
    values = metric.compute()
    expected = dict.fromkeys(TWELVE, 1.0) | {"APs": -1.0, "ARs": -1.0, "AP/cup": 1.0, "AP/key": 1.0}
    assert values == pytest.approx(expected, abs=1e-12)
    assert list(values) == [*TWELVE, "AP/key", "AP/cup"]  # classes by ascending category id


def test_hand_computed_ap(two_images: Any) -> None:
    """cup: best detection wrong, then one of two found: precision 1/2 up to recall 1/2, so AP50 = 51/101 *
    1/2.

    key: IoU of (100,100,140,160) with (100,100,140,145) is 0.75: right at the six thresholds up to 0.75.
    """
    metric = COCODetectionMetric(dataset=two_images)
    wrong_then_right = prediction((200, 10, 230, 60, 0.9, 0), (10, 10, 60, 60, 0.5, 0), (100, 100, 140, 145, 0.8, 1))
    values = run(metric, (11, wrong_then_right), (4, NOTHING))
    cup = 51 / 101 / 2
    assert values["AP/cup"] == pytest.approx(cup)
    assert values["AP/key"] == pytest.approx(0.6)
    assert values["AP50"] == pytest.approx((cup + 1) / 2)
    assert values["AP75"] == pytest.approx((cup + 1) / 2)
    assert values["AR100"] == pytest.approx((0.5 + 0.6) / 2)
    assert values["AR1"] == pytest.approx((0.0 + 0.6) / 2)  # the one allowed cup detection is the wrong one
    assert values["APl"] == 0.0


def test_no_predictions_give_zero(two_images: Any) -> None:
    for pairs in [(), ((11, NOTHING), (4, NOTHING))]:
        metric = COCODetectionMetric(dataset=two_images)
        values = run(metric, *pairs)
        assert values["AP"] == 0.0 and values["AR100"] == 0.0 and values["APs"] == -1.0
    assert "not one detection" in metric.format(values)


def test_no_ground_truth_gives_minus_one(two_images: Any) -> None:
    two_images.annotations["annotations"] = []
    for backend in ("pycocotools", "hotcoco"):
        metric = COCODetectionMetric(dataset=two_images, backend=backend)
        values = run(metric, (11, PERFECT_11))
        assert set(values.values()) == {-1.0}
        assert "no ground truth in the evaluated images" in metric.format(values)


@pytest.mark.parametrize("keep", [30, 1])
def test_backends_agree_to_the_last_bit(random_data: Any, keep: int) -> None:
    truth, predictions, images = random_data
    results = {}
    for backend in ("pycocotools", "hotcoco"):
        metric = COCODetectionMetric(dataset=Data(truth, (9, 1, 40)), backend=backend)
        for image, result in list(zip(images, predictions, strict=True))[:keep]:
            metric.update([result], {"img_id": [image]})
        results[backend] = (metric.compute(), metric.arrays)
    (reference, arrays), (fast, fast_arrays) = results["pycocotools"], results["hotcoco"]
    assert reference == fast
    assert 0 < reference["AP"] < 1
    np.testing.assert_array_equal(arrays.precision, fast_arrays.precision)
    np.testing.assert_array_equal(arrays.recall, fast_arrays.recall)


def test_numbers_and_lines_are_those_of_pycocotools(random_data: Any) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, predictions, images = random_data
    metric = COCODetectionMetric(dataset=Data(truth, (9, 1, 40)))
    metric.update(predictions, {"img_id": images})
    values = metric.compute()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        reference = COCO()
        reference.dataset = clean_truth(truth, (9, 1, 40))
        reference.createIndex()
        found = reference.loadRes(metric._table(reference.dataset))
        evaluation = COCOeval(reference, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert [values[key] for key in TWELVE] == evaluation.stats.tolist()
    lines = [line for line in printed.getvalue().splitlines() if "@[" in line]
    assert metric.format(values).splitlines()[:12] == lines


def test_backend_prints_nothing(two_images: Any, capfd: pytest.CaptureFixture[str]) -> None:
    for backend in ("pycocotools", "hotcoco"):
        run(COCODetectionMetric(dataset=two_images, backend=backend), (11, PERFECT_11))
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""


def test_order_of_images_does_not_matter(random_data: Any) -> None:
    truth, predictions, images = random_data
    values = []
    for order in (range(30), reversed(range(30))):
        metric = COCODetectionMetric(dataset=Data(truth, (9, 1, 40)))
        for i in order:
            metric.update([predictions[i]], {"img_id": [images[i]]})
        values.append(metric.compute())
    assert values[0] == values[1]


def test_merge_of_ranks_drops_padding(random_data: Any) -> None:
    """Two ranks of 15 and 16 images, one image twice: the same numbers as one process."""
    truth, predictions, images = random_data
    single, first, second = (COCODetectionMetric(dataset=Data(truth, (9, 1, 40))) for _ in range(3))
    single.update(predictions, {"img_id": images})
    first.update(predictions[0::2], {"img_id": images[0::2]})
    second.update([*predictions[1::2], predictions[0]], {"img_id": [*images[1::2], images[0]]})
    first.merge([first.state(), second.state()])
    assert first.compute() == single.compute()


def test_reset_forgets_predictions(two_images: Any) -> None:
    metric = COCODetectionMetric(dataset=two_images)
    assert run(metric, (11, PERFECT_11), (4, PERFECT_4))["AP"] == pytest.approx(1)
    metric.reset()
    assert metric.compute()["AP"] == 0


def test_format_says_what_minus_one_means(two_images: Any) -> None:
    metric = COCODetectionMetric(dataset=two_images)
    text = metric.format(run(metric, (11, PERFECT_11)))
    assert "APs and ARs = -1: no ground truth of that size (an area below 32x32 pixels)" in text
    assert "1 of 2 images had no prediction run" in text
    assert " cup     0.505       2" in text  # one of two found, precision 1: 51/101


def test_not_finite_detections_are_dropped_and_counted(two_images: Any) -> None:
    metric = COCODetectionMetric(dataset=two_images)
    broken = prediction((10, 10, 60, float("nan"), 0.9, 0), (10, 10, 60, 60, 0.8, 0))
    values = run(metric, (11, broken), (4, PERFECT_4))
    assert values["AP/cup"] == pytest.approx(1)
    assert "1 detections with NaN" in metric.format(values)


def test_ann_file_with_dummy_category(tmp_path: Path, two_images: Any) -> None:
    content = two_images.annotations
    children = [{**c, "supercategory": "root"} for c in content["categories"]]
    content["categories"] = [{"id": 0, "name": "root", "supercategory": "none"}, *children]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    metric = COCODetectionMetric(ann_file=path, results_file=tmp_path / "out" / "results.json")
    swapped = prediction((10, 10, 60, 60, 0.9, 1), (100, 100, 140, 160, 0.8, 0))  # ascending ids: key, cup
    values = run(metric, (11, swapped))
    assert metric.category_ids == (3, 7) and metric.classes == ("key", "cup")
    assert "AP/root" not in values and values["AP/key"] == pytest.approx(1)
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written[0] == {
        "image_id": 11, "category_id": 7, "bbox": [10, 10, 50, 50], "score": pytest.approx(0.9),
    }  # fmt: skip


def test_ann_file_follows_the_names_of_the_data_set(tmp_path: Path, two_images: Any) -> None:
    """The json lists key before cup; the data set, and so the labels, cup, fork, key, of which the json has two."""
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(two_images.annotations))
    metric = COCODetectionMetric(ann_file=path)
    two_images.classes = ("cup", "fork", "Key")
    metric.bind(two_images)
    found = prediction((10, 10, 60, 60, 0.9, 0), (100, 100, 140, 160, 0.8, 2))
    values = run(metric, (11, found), (4, PERFECT_4))
    assert metric.category_ids == (7, 8, 3)
    assert [values[f"AP/{name}"] for name in ("key", "cup", "fork")] == pytest.approx([1, 1, -1])
    two_images.classes = ("cup", "fork")
    with pytest.raises(UserError, match=r"the classes cup, key; the validation data has cup, fork: 'fork' w"):
        metric.bind(two_images)


def test_ignored_boxes_are_neither_missed_nor_found(two_images: Any) -> None:
    """The second cup is marked: a detector that leaves it out is as good as one that finds it."""
    two_images.annotations["annotations"][2]["ignore"] = 1
    for found in (prediction(), PERFECT_4):
        metric = COCODetectionMetric(dataset=two_images)
        assert run(metric, (11, PERFECT_11), (4, found))["AP"] == pytest.approx(1)
        assert metric.ground_truth_boxes().crowd.tolist() == [False, False, True]


def test_bound_data_set_is_used_unless_another_was_given(two_images: Any) -> None:
    metric = COCODetectionMetric()
    metric.bind(two_images)
    assert run(metric, (11, PERFECT_11), (4, PERFECT_4))["AP"] == pytest.approx(1)
    empty = Data({**two_images.annotations, "annotations": []}, (7, 3))
    metric.bind(empty)
    assert metric.compute()["AP"] == pytest.approx(1)


def test_subset_of_classes(two_images: Any) -> None:
    metric = COCODetectionMetric(dataset=two_images, category_ids=[3])
    values = run(metric, (11, prediction((100, 100, 140, 160, 0.8, 0))))
    assert values["AP"] == pytest.approx(1) and "AP/cup" not in values


def test_user_errors(tmp_path: Path, two_images: Any) -> None:
    with pytest.raises(UserError, match="got both ann_file and dataset"):
        COCODetectionMetric(ann_file="x.json", dataset=two_images)
    with pytest.raises(UserError, match="has no ground truth: give ann_file or dataset"):
        COCODetectionMetric().compute()
    with pytest.raises(UserError, match="backend: got 'coco'; allowed: auto, pycocotools, hotcoco"):
        COCODetectionMetric(dataset=two_images, backend="coco")
    with pytest.raises(UserError, match="max_dets"):
        COCODetectionMetric(dataset=two_images, max_dets=(100, 1, 10))
    with pytest.raises(UserError, match="annotation file not found"):
        COCODetectionMetric(ann_file=tmp_path / "no.json").compute()
    with pytest.raises(UserError, match="annotation file not found"):
        COCODetectionMetric(ann_file=tmp_path / "no.json").bind(two_images)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        COCODetectionMetric(ann_file=tmp_path / "bad.json").compute()
    with pytest.raises(UserError, match=r"ground truth lacks, e.g. image id 99"):
        run(COCODetectionMetric(dataset=two_images), (99, PERFECT_11))
    with pytest.raises(UserError, match="predicted label 2, but the data has 2 classes"):
        run(COCODetectionMetric(dataset=two_images), (11, prediction((0, 0, 9, 9, 0.5, 2))))
    with pytest.raises(UserError, match=r"category_ids \[5\] are not in the ground truth"):
        COCODetectionMetric(dataset=two_images, category_ids=[5]).compute()
    with pytest.raises(ValueError, match="call compute"):
        _ = COCODetectionMetric(dataset=two_images).arrays
    with pytest.raises(ValueError, match="predictions for 1 images and img_id for 2"):
        COCODetectionMetric(dataset=two_images).update([NOTHING], {"img_id": [1, 2]})


def test_empty_arrays_of_both_backends_have_the_same_shape(two_images: Any) -> None:
    truth = clean_truth(two_images.annotations, (7, 3))
    for backend in ("pycocotools", "hotcoco"):
        arrays = evaluate_boxes(truth, np.zeros((0, 7)), backend)
        assert arrays.precision.shape == (10, 101, 2, 4, 3) and arrays.recall.shape == (10, 2, 4, 3)
        assert arrays.precision[0, 0, 0, 0, 2] == 0


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
def test_negative_and_large_ids(two_images: Any, backend: str) -> None:
    """Files number images and categories as they like; libraries do not take every number."""
    ids = {11: -11, 4: 2**40, 7: -7, 3: 2**40}
    source = two_images.annotations
    for entry in [*source["images"], *source["categories"]]:
        entry["id"] = ids[entry["id"]]
    for entry in source["annotations"]:
        entry.update(image_id=ids[entry["image_id"]], category_id=ids[entry["category_id"]])
    metric = COCODetectionMetric(dataset=Data(source, (-7, 2**40)), backend=backend)
    values = run(metric, (-11, PERFECT_11), (2**40, NOTHING))
    assert values["AP/key"] == pytest.approx(1.0)
    assert values["AP/cup"] == pytest.approx(51 / 101)


@pytest.mark.parametrize(("written", "named"), [("annotations/a.json", "a.json"), ("a.json", "annotations/a.json")])
def test_ann_file_is_found_in_annotations_or_beside(tmp_path: Path, two_images: Any, written: str, named: str) -> None:
    (tmp_path / written).parent.mkdir(exist_ok=True)
    (tmp_path / written).write_text(json.dumps(two_images.annotations))
    metric = COCODetectionMetric(ann_file=tmp_path / named)
    assert metric.ann_file == tmp_path / written
    assert run(metric, (11, prediction((10, 10, 60, 60, 0.9, 0)))) == run(
        COCODetectionMetric(ann_file=tmp_path / written), (11, prediction((10, 10, 60, 60, 0.9, 0)))
    )
    (tmp_path / named).parent.mkdir(exist_ok=True)
    (tmp_path / named).write_text("{}")
    assert COCODetectionMetric(ann_file=tmp_path / named).ann_file == tmp_path / named, "the file that is named wins"


def dense(count: int) -> tuple[Any, dict[str, Any]]:
    """One picture with a grid of ``count`` cups, and a perfect detector's answer."""
    places = [(20.0 * (i % 40), 20.0 * (i // 40), 10.0, 10.0) for i in range(count)]
    truth = coco([box(11, 7, place) for place in places], images=(11,))
    rows = [(x, y, x + w, y + h, 1 - i / 1000, 0) for i, (x, y, w, h) in enumerate(places)]
    return Data(truth, (7, 3)), prediction(*rows)


def test_more_objects_than_coco_counts_detections() -> None:
    """A perfect detector on 300 objects: 100 detections reach a recall of 1/3, which is 34 of COCO's 101 points."""
    data, found = dense(300)
    metric = COCODetectionMetric(dataset=data)
    values = run(metric, (11, found))
    assert values["AP"] == pytest.approx(34 / 101) and values["AP@300"] == pytest.approx(1)
    text = metric.format(values)
    assert (
        "1 image has more than maxDets=100 objects of a class (up to 300): COCO's AP counts 100 detections of each, so "
        "67% of all objects are missed by any model: AP@300 = 1.000 counts up to 300."
    ) in text
    data, found = dense(100)
    metric = COCODetectionMetric(dataset=data)
    values = run(metric, (11, found))
    assert values["AP"] == pytest.approx(1) and "AP@100" not in values and "missed by any" not in metric.format(values)


def test_nothing_measured_is_printed_so(two_images: Any) -> None:
    data = Data({**two_images.annotations, "annotations": []}, (7, 3))
    metric = COCODetectionMetric(dataset=data)
    values = run(metric, (11, PERFECT_11))
    assert values["AP"] == -1
    lines = metric.format(values).splitlines()
    assert lines[0] == " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = not measured"
    assert "AP is not measured: there is no ground truth" in "".join(lines) and "-1.000" not in "".join(lines)


def test_a_json_in_other_pixels_than_the_pictures_is_scaled(
    tmp_path: Path, two_images: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The packer scales such boxes; ground truth that is read from the json apart from it must follow."""
    source = json.loads(json.dumps(two_images.annotations))
    for image in source["images"]:
        image["width"], image["height"] = 4 * image["width"], 4 * image["height"]
    for annotation in source["annotations"]:
        annotation.update(bbox=[4 * v for v in annotation["bbox"]], area=16 * annotation.get("area", 0))
    (tmp_path / "x.json").write_text(json.dumps(source))
    metric = COCODetectionMetric(ann_file=tmp_path / "x.json", category_ids=two_images.category_ids)
    metric.bind(two_images)
    expected = run(COCODetectionMetric(dataset=two_images), (11, PERFECT_11))
    assert run(metric, (11, PERFECT_11)) == expected and expected["AP"] > 0
    assert [m for m in caplog.messages if "2 images in another size than the data set has them: their boxes are" in m]
