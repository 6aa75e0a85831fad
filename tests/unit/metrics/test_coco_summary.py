from __future__ import annotations

from hatdet.metrics.coco_summary import explain, format_classes, format_lines

GOOD = {
    "AP": 0.5, "AP50": 0.7, "AP75": 0.55, "APs": 0.4, "APm": 0.5, "APl": 0.6,
    "AR1": 0.4, "AR10": 0.6, "AR100": 0.6, "ARs": 0.4, "ARm": 0.6, "ARl": 0.6,
}  # fmt: skip


def test_line_in_the_wording_of_coco() -> None:
    line = " Average Precision  (AP) @[ IoU=0.75      | area=   all | maxDets=100 ] = 0.550"
    assert format_lines(GOOD)[2] == line
    assert format_lines(GOOD)[6] == " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  1 ] = 0.400"
    assert format_lines({"AP": -1.0})[0].endswith("= -1.000")


def test_class_table_is_aligned() -> None:
    values = {"AP/cat": 0.25, "AP/long name": -1.0}
    assert format_classes(values, {"cat": 12}) == [
        " class      AP   boxes",
        " cat     0.250      12",
    ]
    assert format_classes({"AP": 0.3}) == []


def test_classes_without_ground_truth_are_one_line() -> None:
    values = GOOD | {"AP/cat": 0.4, "AP/dog": 0.5} | {f"AP/{i}": -1.0 for i in range(78)}
    assert explain(values) == [
        "78 of 80 classes have no ground truth in the evaluated images and do not count in the mean: "
        "0, 1, 2, ... (75 more)"
    ]
    assert [line.split()[0] for line in format_classes(values)] == ["class", "cat", "dog"]


def test_healthy_numbers_need_no_words() -> None:
    assert explain(GOOD) == []


def test_each_hint_has_its_trigger() -> None:
    assert "loose" in explain(GOOD | {"AP75": 0.2})[0]
    assert "small objects are missed" in explain(GOOD | {"APs": 0.2})[0]
    assert "false ones score as high" in explain(GOOD | {"AR100": 0.9})[0]
    assert "hardly an object" in explain(GOOD | {"AP50": 0.01})[0]
    assert "Class 'cat' is far behind" in explain(GOOD | {"AP/cat": 0.1, "AP/dog": 0.9})[0]
    assert "Class 'cat' has no ground truth" in explain(GOOD | {"AP/cat": -1.0, "AP/dog": 0.5})[0]
    assert explain(GOOD | {"APl": -1.0}) == [
        "APl = -1: no ground truth of that size (an area above 96x96 pixels); this is not an error."
    ]
    assert "learnt nothing yet" in explain(GOOD, num_detections=0)[0]
