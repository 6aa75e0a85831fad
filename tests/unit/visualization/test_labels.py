"""Labels beside boxes: outside of all of them, in a corner of a large one, or nowhere."""

from __future__ import annotations

import numpy as np

from hatdet.visualization.draw import draw_boxes
from hatdet.visualization.labels import place_labels

CANVAS = (100.0, 100.0)


def overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_above_then_below_then_beside() -> None:
    above = place_labels(np.array([[20, 40, 60, 60]]), [(30, 10)], CANVAS)
    assert above == [(20, 28)]
    below = place_labels(np.array([[20, 5, 60, 60]]), [(30, 10)], CANVAS)
    assert below == [(20, 62)]
    beside = place_labels(np.array([[20, 5, 60, 95]]), [(30, 10)], CANVAS)
    assert beside == [(62, 5)]


def test_a_large_box_has_it_in_a_corner_and_a_small_one_goes_without() -> None:
    assert place_labels(np.array([[0, 0, 100, 100]]), [(30, 10)], CANVAS) == [(0, 0)]
    assert place_labels(np.array([[0, 0, 20, 20]]), [(30, 10)], (20, 20)) == [None]


def test_an_object_in_the_corner_is_not_hidden() -> None:
    boxes = np.array([[0, 0, 100, 100], [0, 0, 12, 12]])
    first, second = place_labels(boxes, [(30, 10), (0, 0)], CANVAS)
    assert first == (70, 0) and second is None


def test_no_label_lies_on_a_small_box_or_another_label() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 380, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 20, (40, 2))], axis=1)
    sizes = [(40.0, 12.0)] * 40
    places = place_labels(boxes, sizes, (400, 400))
    labels = [(x, y, x + 40, y + 12) for x, y in (place for place in places if place is not None)]
    assert len(labels) > 30
    for number, label in enumerate(labels):
        assert not any(overlap(label, tuple(box)) for box in boxes.tolist())
        assert not any(overlap(label, other) for other in labels[:number])


def test_what_is_drawn_covers_no_other_object() -> None:
    """Two objects on top of each other: the label of the lower one used to lie on the upper one."""
    image = np.full((200, 200, 3), 128, np.uint8)
    boxes = np.array([[60.0, 60, 140, 90], [60, 92, 140, 130]])
    drawn = draw_boxes(image, boxes, np.array([0, 1]), ("upper", "lower"))
    for x1, y1, x2, y2 in boxes.astype(int).tolist():
        assert (drawn[y1 + 1 : y2, x1 + 1 : x2] == 128).all()
    assert (drawn != 128).any(axis=2).sum() > 2 * (80 + 30) * 2
