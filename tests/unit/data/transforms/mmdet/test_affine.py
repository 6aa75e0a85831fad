"""RandomAffine and the geometry of AutoAugment against matrices written out, boxes corner by corner."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest

from hatdet.data.transforms.mmdet import affine
from hatdet.data.transforms.render import render
from tests.helpers.samples import context, noise, random_boxes, sample_of, smooth

BOXES = random_boxes(40, 60, 5)


def plain_boxes(boxes: list[list[float]], matrix: Any) -> list[list[float]]:
    found = []
    for x1, y1, x2, y2 in boxes:
        corners = [np.asarray(matrix, float) @ [x, y, 1] for x in (x1, x2) for y in (y1, y2)]
        xs, ys = [c[0] for c in corners], [c[1] for c in corners]
        found.append([min(xs), min(ys), max(xs), max(ys)])
    return found


@pytest.mark.parametrize("border", [(0, 0), (-10, -5), (4, 6)])
@pytest.mark.parametrize("seed", range(5))
def test_random_affine(seed: int, border: tuple[int, int]) -> None:
    image = smooth(40, 60)
    sample = affine.RandomAffine(border=border, border_val=(1, 2, 3))(sample_of(image, BOXES), context(seed))
    rng = np.random.default_rng(seed)
    width, height = 60 + 2 * border[0], 40 + 2 * border[1]
    angle, scale = math.radians(rng.uniform(-10, 10)), rng.uniform(0.5, 1.5)
    shear = [math.tan(math.radians(rng.uniform(-2, 2))) for _ in range(2)]
    shift = rng.uniform(-0.1, 0.1) * width, rng.uniform(-0.1, 0.1) * height
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    matrix = (
        np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]])
        @ np.array([[1, shear[0], 0], [shear[1], 1, 0], [0, 0, 1]])
        @ turn
        @ np.diag([scale, scale, 1])
    )
    expected = cv2.warpPerspective(image, matrix, (width, height), borderValue=(1, 2, 3))
    assert sample.canvas == sample.img_size == (height, width)
    # An affine map through OpenCV's affine and its perspective function: positions rounded to 1/32 px differ.
    assert np.abs(render(sample).astype(int) - expected).mean() < 0.5
    moved = np.clip(plain_boxes(BOXES, matrix), 0, [width, height, width, height])
    keep = (moved[:, 0] < width) & (moved[:, 1] < height) & (moved[:, 2] > 0) & (moved[:, 3] > 0)
    assert np.allclose(sample.boxes, moved[keep], atol=1e-3)
    assert sample.labels.tolist() == np.flatnonzero(keep).tolist()


def test_nothing_left_is_said() -> None:
    with pytest.raises(ValueError, match=r"border=\(-30, -30\) \(width, height\) leaves nothing"):
        affine.RandomAffine(border=(-30, -30))(sample_of(smooth(40, 60)), context())


def test_without_boxes() -> None:
    assert affine.RandomAffine()(sample_of(smooth(40, 60)), context()).boxes.shape == (0, 4)
    assert affine.Rotate()(sample_of(smooth(40, 60)), context()).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("name", "mag", "matrix"),
    [
        ("ShearX", 30.0, [[1, math.tan(math.pi / 6), 0], [0, 1, 0]]),
        ("ShearY", 10.0, [[1, 0, 0], [math.tan(math.pi / 18), 1, 0]]),
        ("TranslateX", 0.1, [[1, 0, 6], [0, 1, 0]]),
        ("TranslateY", 0.1, [[1, 0, 0], [0, 1, 4]]),
        # around (29.5, 19.5): (x, y) -> (-(y - 19.5) + 29.5, (x - 29.5) + 19.5)
        ("Rotate", 90.0, [[0, -1, 49], [1, 0, -10]]),
    ],
)
@pytest.mark.parametrize("reversal", [1.0, 0.0])
def test_geometry(name: str, mag: float, matrix: Any, reversal: float) -> None:
    image = smooth(40, 60)
    step = getattr(affine, name)(min_mag=mag, max_mag=mag, reversal_prob=reversal, img_border_value=7)
    sample = step(sample_of(image, BOXES), context())
    if not reversal:
        matrix = cv2.invertAffineTransform(np.array(matrix, float)) if name == "Rotate" else matrix
        if name != "Rotate":
            off = np.array(matrix, float) - np.eye(3)[:2]
            matrix = np.eye(3)[:2] - off
    expected = cv2.warpAffine(image, np.array(matrix, float), (60, 40), borderValue=(7, 7, 7))
    assert np.abs(render(sample).astype(int) - expected).max() <= 1
    full = [*np.asarray(matrix).tolist(), [0, 0, 1]]
    assert np.allclose(sample.boxes, np.clip(plain_boxes(BOXES, full), 0, [60, 40, 60, 40]), atol=1e-3)
    assert len(sample.boxes) == len(BOXES)  # none is dropped


def test_rotate_draws_with_a_map_in_double_precision() -> None:
    # In float32 some places fall on the other side of a half: sqrt(3) / 2 and the middle are no short numbers.
    image = noise(41, 87)
    step = affine.Rotate(min_mag=30.0, max_mag=30.0, reversal_prob=1.0, interpolation="nearest", img_border_value=0)
    matrix = cv2.getRotationMatrix2D((43.0, 20.0), -30.0, 1.0)
    expected = cv2.warpAffine(image, matrix, (87, 41), flags=cv2.INTER_NEAREST)
    assert np.array_equal(render(step(sample_of(image), context())), expected)


def test_probability_and_ranges() -> None:
    image = smooth(40, 60)
    same = affine.Rotate(prob=0.0)(sample_of(image, BOXES), context())
    assert np.array_equal(render(same), image)
    with pytest.raises(ValueError, match=r"0\.\.1, the smaller first"):
        affine.TranslateX(max_mag=1.5)
