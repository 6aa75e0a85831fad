"""What counts as missed, false, double and confused, by hand; and what a report keeps of an evaluation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hatdet.metrics.coco_backends import CocoArrays
from hatdet.metrics.judgement import judgement
from hatdet.metrics.mistakes import Outcome, outcomes
from hatdet.metrics.records import Boxes

A, B, C = [0.0, 0, 10, 10], [20.0, 0, 30, 10], [40.0, 40, 50, 50]


def boxes(*rows: tuple[int, list[float], int, float], crowd: int = 0) -> Boxes:
    """(image, box, label, score) each; the last ``crowd`` of them are crowd regions."""
    return Boxes(
        image_ids=np.array([row[0] for row in rows], np.int64),
        labels=np.array([row[2] for row in rows], np.int64),
        boxes=np.array([row[1] for row in rows], np.float64).reshape(-1, 4),
        scores=np.array([row[3] for row in rows], np.float64),
        crowd=np.arange(len(rows)) >= len(rows) - crowd,
    )


def one(truth: Boxes, found: Boxes, threshold: float = 0.5) -> Outcome:
    (outcome,) = outcomes(truth, found, np.array([1]), threshold)
    return outcome


def test_right_missed_false_and_double() -> None:
    truth = boxes((1, A, 0, 1.0), (1, B, 0, 1.0))
    found = boxes((1, A, 0, 0.8), (1, [1.0, 0, 10, 10], 0, 0.7), (1, C, 0, 0.9), (1, B, 0, 0.4))
    outcome = one(truth, found)
    assert outcome.of_truth == ("right", "missed"), "B was found at 0.4, below the threshold"
    assert outcome.of_found == ("right", "double", "false")
    assert outcome.counts == {"right": 1, "missed": 1, "confused": 0, "false": 1, "double": 1}
    assert outcome.badness[0] == 3 and outcome.badness[1] == pytest.approx(1.6)


def test_a_confused_object_counts_once() -> None:
    outcome = one(boxes((1, A, 0, 1.0)), boxes((1, A, 1, 0.9)))
    assert outcome.of_truth == outcome.of_found == ("confused",)
    assert outcome.mistakes == 1


def test_the_right_class_is_looked_for_first() -> None:
    """A surer detection of another class does not take the object from the right one; it is false."""
    outcome = one(boxes((1, A, 0, 1.0)), boxes((1, A, 1, 0.9), (1, A, 0, 0.6)))
    assert outcome.of_truth == ("right",) and outcome.of_found == ("false", "right")


def test_crowd_regions_make_nothing_wrong() -> None:
    outcome = one(boxes((1, [0.0, 0, 100, 100], 0, 1.0), crowd=1), boxes((1, C, 0, 0.9)))
    assert len(outcome.truth) == 0 and outcome.of_found == ("ignored",) and outcome.mistakes == 0


def test_judgement_by_hand() -> None:
    """Two classes with an object each and one without; class 0 is found at 0.9, class 1 at 0.6, and there is one false
    detection at 0.3: the best F1 is 1 from 0.31 to 0.6, of which the lowest is taken."""
    truth = boxes((1, A, 0, 1.0), (2, B, 1, 1.0))
    found = boxes((1, A, 0, 0.9), (2, B, 1, 0.6), (3, C, 1, 0.3))
    precision = np.full((10, 101, 3, 4, 3), -1.0)
    precision[:, :, 0, 1, 2] = 0.25
    arrays = CocoArrays(precision, np.zeros((10, 3, 4, 3)))
    values, pictures = judgement(truth, found, ("a", "b", "c"), np.array([1, 2, 3]), arrays)
    assert values["f1"] == 1.0 and 0.3 < values["threshold"] <= 0.31
    assert values["objects"] == [1, 1, 0] and values["by_class"][2] is None
    assert values["by_class"][0]["AP50"] == 1.0 and values["by_class"][1]["recall"] == 1.0
    assert values["counts"] == {"right": 2, "missed": 0, "confused": 0, "false": 0, "double": 0}
    assert values["pictures_with_mistakes"] == 0 and len(pictures) == 3
    assert values["confusion"] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert values["sizes"]["small"] == {"AP": 0.25, "by_class": [0.25, None, None], "objects": 2}
    assert values["sizes"]["large"]["AP"] is None
    assert values["curves"]["f1"][2] == [None] * 101 and len(values["curves"]["confidence"]) == 101
    json.dumps(values, allow_nan=False)


def test_worst_pictures_come_first() -> None:
    truth = boxes((1, A, 0, 1.0), (2, A, 0, 1.0), (3, A, 0, 1.0), (3, B, 0, 1.0))
    found = boxes((1, A, 0, 0.9), (2, A, 0, 0.9), (2, C, 0, 0.9))
    _, pictures = judgement(truth, found, ("a",), np.array([1, 2, 3]))
    assert [picture.image_id for picture in pictures] == [3, 2, 1]


def test_nothing_at_all() -> None:
    values, pictures = judgement(boxes(), boxes(), ("a",), np.array([7]))
    assert values["f1"] is None and values["threshold"] == 0.0 and pictures[0].mistakes == 0
