"""What a detector got wrong, picture by picture, at one confidence threshold: missed, false, double, confused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hatdet.metrics.curves import index_by_image, pairwise_iou
from hatdet.metrics.records import Boxes

RIGHT, MISSED, FALSE, DOUBLE, CONFUSED, IGNORED = "right", "missed", "false", "double", "confused", "ignored"
WRONG = (MISSED, CONFUSED, FALSE, DOUBLE)


@dataclass(frozen=True)
class Outcome:
    """One picture.

    Attributes:
        image_id: of the picture.
        truth, found: its objects (without crowd regions), and the detections that are sure enough.
        of_truth: for each object ``right``, ``missed``, or ``confused``: found, but as another class.
        of_found: for each detection ``right``, ``false``, ``double`` (an object of its class that another one has
            found), ``confused`` (an object of another class), or ``ignored`` (in a crowd region).
    """

    image_id: int
    truth: Boxes
    found: Boxes
    of_truth: tuple[str, ...]
    of_found: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind; a confused object counts once."""
        return {
            RIGHT: self.of_truth.count(RIGHT),
            MISSED: self.of_truth.count(MISSED),
            CONFUSED: self.of_truth.count(CONFUSED),
            FALSE: self.of_found.count(FALSE),
            DOUBLE: self.of_found.count(DOUBLE),
        }

    @property
    def mistakes(self) -> int:
        return sum(self.counts[kind] for kind in WRONG)

    @property
    def badness(self) -> tuple[int, float]:
        """What pictures are ordered by: mistakes, then how sure the wrong detections are."""
        wrong = [s for s, state in zip(self.found.scores.tolist(), self.of_found, strict=True) if state in WRONG]
        return self.mistakes, float(sum(wrong))


def outcomes(
    truth: Boxes, found: Boxes, image_ids: NDArray[np.int64], threshold: float, iou_threshold: float = 0.5
) -> Iterator[Outcome]:
    """The outcome of each picture.

    Args:
        image_ids: of all pictures, those without an object too. threshold: detections below it do not count.
    """
    sure = found.select(found.scores >= threshold)
    rows_of_truth, rows_of_found = index_by_image(truth), index_by_image(sure)
    nothing = np.zeros(0, np.int64)
    for image_id in image_ids.tolist():
        objects = truth.select(rows_of_truth.get(image_id, nothing))
        yield _outcome(image_id, objects, sure.select(rows_of_found.get(image_id, nothing)), iou_threshold)


def _outcome(image_id: int, truth: Boxes, found: Boxes, iou_threshold: float) -> Outcome:
    """Greedy by descending score, within a class first, as AP counts; what is left over is looked at afterwards."""
    crowd, truth = truth.select(truth.crowd), truth.select(~truth.crowd)
    ious = pairwise_iou(found.boxes, truth.boxes)
    close = ious >= iou_threshold
    same = found.labels[:, None] == truth.labels[None, :]
    of_truth, of_found = [MISSED] * len(truth), [FALSE] * len(found)
    order = np.argsort(-found.scores, kind="stable").tolist()
    for d in order:
        free = [o for o in np.flatnonzero(close[d] & same[d]).tolist() if of_truth[o] == MISSED]
        if free:
            of_truth[max(free, key=lambda o: ious[d, o])] = RIGHT
            of_found[d] = RIGHT
        elif (close[d] & same[d]).any():
            of_found[d] = DOUBLE
    for d in order:
        free = [o for o in np.flatnonzero(close[d]).tolist() if of_truth[o] == MISSED]
        if of_found[d] == FALSE and free:
            of_truth[max(free, key=lambda o: ious[d, o])] = CONFUSED
            of_found[d] = CONFUSED
    if len(crowd):
        overlaps = pairwise_iou(found.boxes, crowd.boxes, crowd.crowd)
        inside = [bool(row.max() >= iou_threshold) for row in overlaps]
        of_found = [IGNORED if state == FALSE and hit else state for state, hit in zip(of_found, inside, strict=True)]
    return Outcome(image_id, truth, found, tuple(of_truth), tuple(of_found))
