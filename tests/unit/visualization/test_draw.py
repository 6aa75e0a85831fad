from __future__ import annotations

import numpy as np
import pytest

from hatdet.visualization.colors import bgr_color, hex_color
from hatdet.visualization.draw import caption, compare_with_truth, draw_boxes, grid, side_by_side

GREY = np.full((61, 83, 3), 128, np.uint8)
NAMES = ("cup", "key")


def test_colors_are_distinct_and_consistent() -> None:
    assert len({hex_color(i) for i in range(80)}) == 80
    assert hex_color(0) == "#2463b8" and bgr_color(0) == (0xB8, 0x63, 0x24)
    assert all(len(hex_color(i)) == 7 for i in range(80))


def test_box_outline_is_where_it_belongs_and_the_input_is_untouched() -> None:
    before = GREY.copy()
    drawn = draw_boxes(GREY, np.array([[10.2, 30.4, 40, 50]]), np.array([1]), NAMES)
    np.testing.assert_array_equal(GREY, before)
    for x, y in ((10, 40), (40, 45), (25, 50)):  # left, right, lower edge
        assert tuple(drawn[y, x]) == bgr_color(1)
    assert tuple(drawn[40, 25]) == (128, 128, 128)  # inside
    assert tuple(drawn[55, 60]) == (128, 128, 128)  # outside


def test_low_scores_are_left_out_and_the_surest_is_on_top() -> None:
    boxes = np.array([[10, 30, 40, 50], [10, 30, 40, 50], [50, 30, 70, 50]], float)
    drawn = draw_boxes(GREY, boxes, np.array([1, 0, 0]), NAMES, np.array([0.9, 0.5, 0.1]), min_score=0.3)
    assert tuple(drawn[45, 10]) == bgr_color(1)
    assert tuple(drawn[45, 50]) == (128, 128, 128)


def test_odd_input_is_harmless() -> None:
    none = draw_boxes(GREY, np.zeros((0, 4)), np.zeros(0, int), NAMES)
    np.testing.assert_array_equal(none, GREY)
    wild = np.array([[-500, -500, 900, 900], [np.nan, 0, 5, 5], [5, 5, 5, 5]])
    assert draw_boxes(GREY, wild, np.array([0, 0, 7]), NAMES).shape == GREY.shape
    assert draw_boxes(GREY, wild[:1], np.array([0]), NAMES, scale=2).shape == (122, 166, 3)
    with pytest.raises(ValueError, match=r"got float64 \(61, 83\)"):
        draw_boxes(np.zeros((61, 83)), wild, np.array([0]), NAMES)


def test_layouts() -> None:
    small = np.zeros((20, 30, 3), np.uint8)
    assert side_by_side([GREY, small], gap=4).shape == (61, 83 + 4 + 30, 3)
    assert tuple(side_by_side([GREY, small])[60, 100]) == (255, 255, 255)
    assert grid([GREY, small, small], columns=2, gap=5).shape == (61 * 2 + 5, 83 * 2 + 5, 3)
    assert grid([small], columns=4).shape == (20, 30, 3)
    assert caption(small, "x").shape == (38, 30, 3)
    with pytest.raises(ValueError, match="no images"):
        side_by_side([])
    with pytest.raises(ValueError, match="0 images"):
        grid([], 2)


def test_truth_left_detections_right() -> None:
    box = np.array([[10, 20, 40, 50]], float)
    picture = compare_with_truth(GREY, (box, np.array([0])), (box[:0], np.zeros(0, int), np.zeros(0)), NAMES)
    assert picture.shape == (61 + 18, 83 * 2 + 4, 3)
    assert tuple(picture[18 + 45, 10]) == bgr_color(0)
    assert tuple(picture[18 + 45, 83 + 4 + 10]) == (128, 128, 128)


def test_points_stand_in_the_middles_of_thin_boxes() -> None:
    drawn = draw_boxes(GREY, np.array([[10, 30, 40, 50]]), np.array([1]), NAMES, points=True)
    assert tuple(drawn[40, 25]) == bgr_color(1) and tuple(drawn[40, 10]) == bgr_color(1)
    assert tuple(drawn[40, 31]) == (128, 128, 128)  # inside, beside the disc
