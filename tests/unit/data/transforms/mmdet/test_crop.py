"""RandomCrop, CenterCrop, MinIoURandomCrop and RandomCenterCropPad against the methods written out on arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hatdet.data.transforms.mmdet.center_crop import RandomCenterCropPad, margin
from hatdet.data.transforms.mmdet.crop import CenterCrop, MinIoURandomCrop, RandomCrop
from hatdet.data.transforms.render import render
from tests.helpers.samples import context, noise, random_boxes, sample_of

BOXES = random_boxes(40, 60, 4)


@pytest.mark.parametrize(
    ("options", "size_of"),
    [
        (dict(crop_size=(30, 20)), lambda rng: (20, 30)),
        (dict(crop_size=(100, 20)), lambda rng: (20, 60)),  # a shorter side stays
        (dict(crop_size=(0.5, 0.7), crop_type="relative"), lambda rng: (28, 30)),
        (
            dict(crop_size=(10, 50), crop_type="absolute_range"),
            lambda rng: (int(rng.integers(10, 41)), int(rng.integers(10, 51))),
        ),
        (
            dict(crop_size=(0.3, 0.5), crop_type="relative_range"),
            lambda rng: tuple(
                int(side * (low + r * (1 - low)) + 0.5) for side, low, r in zip((40, 60), (0.3, 0.5), rng.random(2))
            ),
        ),
    ],
)
@pytest.mark.parametrize("clip", [True, False])
def test_crop(options: dict[str, Any], size_of: Any, clip: bool) -> None:
    image, seen = noise(40, 60), set()
    for seed in range(20):
        sample = RandomCrop(**options, bbox_clip_border=clip)(sample_of(image, BOXES), context(seed))
        rng = np.random.default_rng(seed)
        height, width = size_of(rng)
        y, x = int(rng.integers(40 - height + 1)), int(rng.integers(60 - width + 1))
        boxes, labels = [], []
        for label, (x1, y1, x2, y2) in enumerate(BOXES):
            box = [x1 - x, y1 - y, x2 - x, y2 - y]
            if box[0] < width and box[1] < height and box[2] > 0 and box[3] > 0:
                boxes.append([min(max(v, 0), s) for v, s in zip(box, (width, height) * 2)] if clip else box)
                labels.append(label)
        seen.add(len(boxes))
        if not boxes:
            assert sample is None
            continue
        assert sample is not None and sample.img_size == (height, width)
        assert np.array_equal(render(sample), image[y : y + height, x : x + width])
        assert np.allclose(sample.boxes, boxes, atol=1e-5) and sample.labels.tolist() == labels
    assert len(seen) > 1 or options["crop_size"] == (100, 20)


def test_windows_without_a_box() -> None:
    step = RandomCrop(crop_size=(4, 4))
    assert step(sample_of(noise(40, 60), [[0, 0, 1, 1]]), context(5)) is None
    assert step(sample_of(noise(40, 60)), context(5)) is None
    assert step(sample_of(noise(40, 60)), context(5, must_keep=True)) is not None
    kept = RandomCrop(crop_size=(4, 4), allow_negative_crop=True)(sample_of(noise(40, 60), [[0, 0, 1, 1]]), context(5))
    assert kept is not None and kept.boxes.shape == (0, 4)


def test_the_middle() -> None:
    image = noise(10, 9)
    sample = CenterCrop(crop_size=(4, 6))(sample_of(image, [[0, 0, 4, 4], [8, 9, 9, 10]]), context())
    # Columns from round(2.5) = 2, rows from 2; a box outside stays, without area.
    assert np.array_equal(render(sample), image[2:8, 2:6]) and sample.img_size == (6, 4)
    assert sample.boxes.tolist() == [[0, 0, 2, 2], [4, 6, 4, 6]]
    sample = CenterCrop(crop_size=8, clip_object_border=False)(sample_of(noise(4, 12), [[0, 0, 4, 4]]), context())
    assert sample.canvas == (4, 8) and sample.boxes.tolist() == [[-2, 0, 2, 4]]
    padded = CenterCrop(crop_size=8, auto_pad=True, pad_cfg=dict(type="Pad", pad_val=7))
    drawn = render(padded(sample_of(noise(4, 12)), context()))
    assert np.array_equal(drawn[:4], noise(4, 12)[:, 2:10]) and (drawn[4:] == 7).all() and drawn.shape == (8, 8, 3)


def test_crop_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        RandomCrop(crop_size=(0.5, 0.5))
    with pytest.raises(ValueError, match="shares"):
        RandomCrop(crop_size=(3, 3), crop_type="relative")
    with pytest.raises(ValueError, match="smallest, largest"):
        RandomCrop(crop_size=(30, 20), crop_type="absolute_range")


# --------------------------------------------------------------------------------------------- minimum IoU
def plain_min_iou_crop(seed: int, boxes: list[list[float]]) -> tuple[int, int, int, int] | None:
    """The patch on a picture of 40 x 60; None: no crop."""
    rng = np.random.default_rng(seed)
    modes = (1, 0.1, 0.3, 0.5, 0.7, 0.9, 0)
    while True:
        bound = modes[int(rng.integers(7))]
        if bound == 1:
            return None
        for _ in range(50):
            w, h = rng.uniform(0.3 * 60, 60), rng.uniform(0.3 * 40, 40)
            if h / w < 0.5 or h / w > 2:
                continue
            left, top = rng.uniform(0, 60 - w), rng.uniform(0, 40 - h)
            p = int(left), int(top), int(left + w), int(top + h)
            if p[2] == p[0] or p[3] == p[1]:
                continue
            ious, inside = [], False
            for x1, y1, x2, y2 in boxes:
                shared = max(0, min(x2, p[2]) - max(x1, p[0])) * max(0, min(y2, p[3]) - max(y1, p[1]))
                ious.append(shared / ((x2 - x1) * (y2 - y1) + (p[2] - p[0]) * (p[3] - p[1]) - shared))
                inside = inside or (p[0] < (x1 + x2) / 2 < p[2] and p[1] < (y1 + y2) / 2 < p[3])
            if boxes and (min(ious) < bound or not inside):
                continue
            return p


@pytest.mark.parametrize("boxes", [BOXES, BOXES[:1], []])
def test_min_iou_crop(boxes: list[list[float]]) -> None:
    image, cropped = noise(40, 60), 0
    for seed in range(30):
        sample = MinIoURandomCrop()(sample_of(image, boxes), context(seed))
        patch = plain_min_iou_crop(seed, boxes)
        if patch is None:
            assert sample.canvas == (40, 60) and len(sample.boxes) == len(boxes)
            continue
        cropped += 1
        x, y, right, bottom = patch
        assert np.array_equal(render(sample), image[y:bottom, x:right])
        kept = [
            [max(x1 - x, 0), max(y1 - y, 0), min(x2, right) - x, min(y2, bottom) - y]
            for x1, y1, x2, y2 in boxes
            if x < (x1 + x2) / 2 < right and y < (y1 + y2) / 2 < bottom
        ]
        assert np.allclose(sample.boxes, np.reshape(kept, (-1, 4)), atol=1e-5)
    assert cropped > 10


# ------------------------------------------------------------------------------------------------ CenterNet
@pytest.mark.parametrize(
    ("side", "expected"),
    [(1000, 128), (257, 128), (256, 64), (255, 64), (129, 64), (128, 32), (60, 16)],
)
def test_the_margin_is_halved_until_it_fits(side: int, expected: int) -> None:
    assert margin(128, side) == expected and side - 2 * expected > 0


def test_center_crop_in_training() -> None:
    image, mean = noise(40, 60), [30.0, 20.0, 10.0]
    options: dict[str, Any] = dict(mean=mean, std=[1] * 3, to_rgb=True, test_pad_mode=None)
    step = RandomCenterCropPad(crop_size=(41, 32), ratios=(0.9, 1.0, 1.3), border=8, **options)
    sizes = set()
    for seed in range(20):
        sample = step(sample_of(image, BOXES), context(seed))
        rng = np.random.default_rng(seed)
        scale = (0.9, 1.0, 1.3)[int(rng.integers(3))]
        h, w = int(32 * scale), int(41 * scale)
        while True:
            cy, cx = int(rng.integers(8, 32)), int(rng.integers(8, 52))
            x0, x1, y0, y1 = max(0, cx - w // 2), min(cx + w // 2, 60), max(0, cy - h // 2), min(cy + h // 2, 40)
            seen = [x0 < (b[0] + b[2]) / 2 < x1 and y0 < (b[1] + b[3]) / 2 < y1 for b in BOXES]
            if any(seen):
                break
        expected = np.full((h, w, 3), (10, 20, 30), np.uint8)  # B, G, R
        dy, dx = h // 2 - cy, w // 2 - cx
        expected[y0 + dy : y1 + dy, x0 + dx : x1 + dx] = image[y0:y1, x0:x1]
        assert sample.canvas == (h, w) and np.array_equal(render(sample), expected)
        moved = [[b[0] + dx, b[1] + dy, b[2] + dx, b[3] + dy] for b, s in zip(BOXES, seen) if s]
        cut = [[min(max(v, 0), s) for v, s in zip(box, (w, h) * 2)] for box in moved]
        assert np.allclose(sample.boxes, cut, atol=1e-5)
        sizes.add((h, w))
    assert len(sizes) == 3


def test_center_crop_of_a_picture_without_boxes() -> None:
    step = RandomCenterCropPad(crop_size=(32, 32), border=8, mean=[0] * 3, std=[1] * 3, to_rgb=True, test_pad_mode=None)
    sample = step(sample_of(noise(40, 60)), context())
    assert sample.boxes.shape == (0, 4) and sample.canvas[0] in (28, 32, 35)


@pytest.mark.parametrize(
    ("mode", "add", "size", "canvas"),
    [
        (("logical_or", 127), 0, (40, 60), (127, 127)),
        (("logical_or", 127), 0, (427, 640), (511, 767)),
        (("logical_or", 31), 1, (40, 61), (64, 64)),
        (("size_divisor", 32), 0, (40, 61), (64, 64)),
    ],
)
def test_center_pad_in_test_mode(mode: Any, add: int, size: tuple[int, int], canvas: tuple[int, int]) -> None:
    image = noise(*size)
    step = RandomCenterCropPad(ratios=None, border=None, mean=[1, 2, 3], std=[1] * 3, to_rgb=False, test_mode=True,
                               test_pad_mode=mode, test_pad_add_pix=add)  # fmt: skip
    sample = step(sample_of(image), context())
    top, left = canvas[0] // 2 - size[0] // 2, canvas[1] // 2 - size[1] // 2
    expected = np.full((*canvas, 3), (1, 2, 3), np.uint8)
    expected[top : top + size[0], left : left + size[1]] = image
    assert sample.img_size == canvas and np.array_equal(render(sample), expected)
    assert sample.border == (top, top + size[0], left, left + size[1])
    assert math.isclose(sample.scale[0], 1)
