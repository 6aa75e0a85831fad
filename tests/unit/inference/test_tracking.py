"""Objects that are followed: the same number from frame to frame."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from hatdet.inference.results import Result
from hatdet.inference.tracking import Tracker
from hatdet.utils.errors import UserError

NAMES = ("cat", "dog")


def frame(number: int, scores: tuple[float, ...] = (0.9, 0.8)) -> Result:
    """A cat that walks to the right, a dog to the left, 5 pixels a frame."""
    step = 5.0 * number
    boxes = np.array([[10 + step, 10, 60 + step, 60], [300 - step, 10, 350 - step, 60]], np.float32)
    return Result(boxes, np.array(scores, np.float32), np.array([0, 1]), NAMES, (100, 400), number=number, time=0.0)


@pytest.fixture
def supervision() -> None:
    found = pytest.importorskip("supervision", reason="supervision is not installed")
    if not hasattr(found, "ByteTrack"):
        pytest.skip(f"supervision {found.__version__} has no ByteTrack")


@pytest.mark.usefixtures("supervision")
def test_objects_keep_their_numbers() -> None:
    tracker = Tracker(25, 0.3)
    first = tracker.update(frame(0))
    assert first.ids is not None and len(set(first.ids.tolist())) == 2
    for number in range(1, 30):
        found = tracker.update(frame(number))
        assert found.ids is not None and found.ids.tolist() == first.ids.tolist()
        assert np.array_equal(found.boxes, frame(number).boxes) and found.labels.tolist() == [0, 1]


@pytest.mark.usefixtures("supervision")
def test_a_track_goes_on_with_a_low_score_but_does_not_begin_with_one() -> None:
    tracker = Tracker(25, 0.5)
    begun = [tracker.update(frame(number, (0.9, 0.2))) for number in range(3)]
    assert [found.labels.tolist() for found in begun] == [[0]] * 3
    unsure = tracker.update(frame(3, (0.2, 0.05)))
    assert unsure.ids is not None and begun[0].ids is not None
    assert unsure.ids.tolist() == begun[0].ids.tolist() and unsure.labels.tolist() == [0]


@pytest.mark.usefixtures("supervision")
def test_nothing_found_is_no_track_and_ends_none() -> None:
    tracker = Tracker(25, 0.3, classes=["cat"])
    first = tracker.update(frame(0))
    empty = tracker.update(frame(1).keep(1.0))
    assert len(empty) == 0 and empty.ids is not None and empty.ids.shape == (0,)
    again = tracker.update(frame(2))
    assert first.labels.tolist() == again.labels.tolist() == [0], "only cats are followed"
    assert first.ids is not None and again.ids is not None and first.ids.tolist() == again.ids.tolist()


def test_numbers_stand_in_every_form() -> None:
    found = frame(0).rows(np.array([0, 1]), np.array([7, 9]))
    assert [row["track_id"] for row in found.to_coco()] == [7, 9]
    assert [line.split()[-1] for line in found.to_yolo().splitlines()] == ["7", "9"]
    kept = found.keep(0.85)
    assert kept.ids is not None and kept.ids.tolist() == [7]
    blank = np.zeros((100, 400, 3), np.uint8)
    assert not np.array_equal(found.draw(blank), frame(0).draw(blank))
    assert "track_id" not in frame(0).to_coco()[0] and len(frame(0).to_yolo().splitlines()[0].split()) == 6


def test_without_supervision_one_line_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match=r"^tracking needs supervision 0\.30, .*pip install 'hatdet\[track\]'$"):
        Tracker(25, 0.3)
