"""Mosaic, MixUp and CopyPaste against the methods written out on arrays."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from hatdet.data.transforms.mmdet.mix.copy_paste import CopyPaste
from hatdet.data.transforms.mmdet.mix.mixup import CachedMixUp, MixUp
from hatdet.data.transforms.mmdet.mix.mosaic import CachedMosaic, Mosaic
from hatdet.data.transforms.mmdet.move import RandomFlip
from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Sample
from tests.helpers.samples import Others, context, noise, random_boxes, sample_of, smooth

SIZES = [(40, 30), (21, 50), (33, 33), (64, 20)]
PICTURES = [(smooth(h, w, i), random_boxes(h, w, 3, i)) for i, (h, w) in enumerate(SIZES)]


def plain_mosaic(
    parts: list[tuple[np.ndarray, list[list[float]]]], center: tuple[int, int], scale: tuple[int, int]
) -> tuple[np.ndarray, list[list[float]]]:
    """The four on a canvas of twice ``scale`` (w, h) around ``center`` (x, y)."""
    width, height = scale
    canvas = np.full((2 * height, 2 * width, 3), 114, np.uint8)
    found = []
    for position, (image, boxes) in enumerate(parts):
        ratio = min(height / image.shape[0], width / image.shape[1])
        small = cv2.resize(image, (int(image.shape[1] * ratio), int(image.shape[0] * ratio)))
        x = center[0] - (0 if position in (1, 3) else small.shape[1])
        y = center[1] - (0 if position in (2, 3) else small.shape[0])
        for row in range(small.shape[0]):
            for column in range(small.shape[1]):
                if 0 <= y + row < 2 * height and 0 <= x + column < 2 * width:
                    canvas[y + row, x + column] = small[row, column]
        for box in boxes:
            moved = [v * ratio + d for v, d in zip(box, (x, y) * 2)]
            cut = [min(max(v, 0), s) for v, s in zip(moved, (2 * width, 2 * height) * 2)]
            if cut[0] < 2 * width and cut[1] < 2 * height and cut[2] > 0 and cut[3] > 0:
                found.append(cut)
    return canvas, found


def most_different(a: np.ndarray, b: np.ndarray) -> int:
    """In levels. What a canvas shows a part of is resampled by another function of OpenCV than a whole picture."""
    return int(np.abs(a.astype(int) - b).max())


def test_the_colour_of_a_mosaic_is_rounded_down() -> None:
    image = noise(8, 8)
    options: dict[str, Any] = dict(img_scale=(8, 8), center_ratio_range=(0.5, 0.5))
    for pad_val, colour in ((113.7, [113] * 3), ([1.9, 2.5, 3.0], [1, 2, 3])):
        drawn = render(Mosaic(pad_val=pad_val, **options)(sample_of(image), context(0, Others((image, [])))))
        assert (drawn[12:, 12:] == colour).all() and np.array_equal(drawn[4:12, 4:12], image)


@pytest.mark.parametrize("seed", range(6))
def test_mosaic(seed: int) -> None:
    others = Others(*PICTURES[1:])
    sample = Mosaic(img_scale=(48, 36))(sample_of(*PICTURES[0]), context(seed, others))
    rng = np.random.default_rng(seed)
    rng.random()
    center = int(rng.uniform(0.5, 1.5) * 48), int(rng.uniform(0.5, 1.5) * 36)
    chosen = [int(rng.integers(3)) for _ in range(3)]
    assert others.loaded == [i + 1 for i in chosen]
    canvas, boxes = plain_mosaic([PICTURES[0], *(PICTURES[i + 1] for i in chosen)], center, (48, 36))
    assert sample.canvas == sample.img_size == (72, 96)
    assert most_different(render(sample), canvas) <= 1
    assert np.allclose(sample.boxes, boxes, atol=1e-3)


def test_mosaic_of_a_picture_that_is_alone_and_of_none() -> None:
    class Alone(Others):
        indices: tuple[int, ...] = ()

        def load(self, index: int) -> Sample:
            return sample_of(*PICTURES[0])

    alone = Alone()
    alone.indices = ()
    sample = Mosaic(img_scale=(48, 36))(sample_of(*PICTURES[0]), context(0, alone))
    assert sample.canvas == (72, 96)  # four times the same
    sample = CachedMosaic(img_scale=(48, 36))(sample_of(*PICTURES[0]), context(0, alone))
    assert sample.canvas == SIZES[0]  # as it is
    assert Mosaic(img_scale=(48, 36), prob=0.0)(sample_of(*PICTURES[0]), context(0, alone)).canvas == SIZES[0]


def test_a_cache_reaches_back_as_far_as_it_is_large() -> None:
    many = Others(*(PICTURES * 5))
    for seed in range(20):
        CachedMosaic(img_scale=(8, 8), max_cached_images=6, random_pop=False)(
            sample_of(*PICTURES[0]), context(seed, many)
        )
    assert set(many.loaded) == set(range(1, 7))
    assert CachedMosaic(img_scale=(8, 8), max_cached_images=6, random_pop=True).window == 30
    with pytest.raises(ValueError, match="at least 4"):
        CachedMosaic(max_cached_images=3)


def test_partners_go_through_what_stands_before() -> None:
    loaded = Others(PICTURES[1])
    plain = Mosaic(img_scale=(48, 36))(sample_of(*PICTURES[0]), context(2, loaded))
    step = Mosaic(img_scale=(48, 36), before=[RandomFlip(prob=1.0)])
    flipped = step(sample_of(*PICTURES[0]), context(2, loaded))
    rng = np.random.default_rng(2)
    rng.random()
    center = int(rng.uniform(0.5, 1.5) * 48), int(rng.uniform(0.5, 1.5) * 36)
    mirrored = (PICTURES[1][0][:, ::-1], [[50 - b[2], b[1], 50 - b[0], b[3]] for b in PICTURES[1][1]])
    canvas, boxes = plain_mosaic([PICTURES[0], mirrored, mirrored, mirrored], center, (48, 36))
    assert most_different(render(flipped), canvas) <= 1 and np.allclose(flipped.boxes, boxes, atol=1e-3)
    assert most_different(render(plain), canvas) > 50
    nested = CachedMixUp(before=[CachedMosaic(max_cached_images=40, random_pop=False)], max_cached_images=2)
    assert nested.window == 40  # enough for the partner's own partners


# ---------------------------------------------------------------------------------------------------- MixUp
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_mixup(seed: int, cached: bool) -> None:
    image, boxes = PICTURES[0]
    other, other_boxes = PICTURES[1]  # 21 x 50
    partners: Any = Others(PICTURES[1])
    options: dict[str, Any] = dict(img_scale=(48, 36), ratio_range=(0.6, 1.4), flip_ratio=0.5)
    step = CachedMixUp(**options) if cached else MixUp(**options)
    sample = step(sample_of(image, boxes), context(seed, partners))
    rng = np.random.default_rng(seed)
    if cached:
        rng.random(), rng.random()
    else:
        rng.integers(1)
    factor, mirrored = rng.uniform(0.6, 1.4), rng.random() > 0.5
    ratio = min(36 / 21, 48 / 50)
    canvas = np.full((36, 48, 3), 114, np.uint8)
    small = cv2.resize(other, (int(50 * ratio), int(21 * ratio)))
    canvas[: small.shape[0], : small.shape[1]] = small
    canvas = cv2.resize(canvas, (int(48 * factor), int(36 * factor)))
    height, width = canvas.shape[:2]
    moved = np.clip(np.array(other_boxes) * ratio * factor, 0, [width, height, width, height])
    if mirrored:
        canvas = canvas[:, ::-1]
        moved[:, [0, 2]] = width - moved[:, [2, 0]]
    padded = np.full((max(height, 40), max(width, 30), 3), 114, np.uint8)
    padded[:height, :width] = canvas
    y = int(rng.integers(height - 40)) if height > 40 else 0
    x = int(rng.integers(width - 30)) if width > 30 else 0
    moved = np.clip(moved - [x, y, x, y], 0, [30, 40, 30, 40])
    keep = (moved[:, 0] < 30) & (moved[:, 1] < 40) & (moved[:, 2] > 0) & (moved[:, 3] > 0)
    mean = (image.astype(int) + padded[y : y + 40, x : x + 30].astype(int)) // 2
    # It is resampled once here, twice there: the same but for a few levels away from the other's edge.
    assert np.abs(render(sample).astype(int) - mean)[1:-1, 1:-1].mean() < 1.5
    assert np.allclose(sample.boxes, np.concatenate([boxes, moved[keep]]), atol=1e-3)
    assert sample.labels.tolist() == [0, 1, 2] + [10] * int(keep.sum())


def test_mixup_needs_a_partner_with_a_box() -> None:
    image, boxes = PICTURES[0]
    sample = MixUp(img_scale=(48, 36))(sample_of(image, boxes), context(0, Others((noise(9, 9), []))))
    assert np.array_equal(render(sample), image) and len(sample.boxes) == 3
    sample = MixUp(img_scale=(48, 36))(sample_of(image), context(0, Others(PICTURES[1])))
    assert len(sample.boxes) > 0  # a picture without boxes gets the other's


# ------------------------------------------------------------------------------------------------ CopyPaste
def test_copy_paste_against_masks() -> None:
    rng = np.random.default_rng(0)
    checked = 0
    for seed in range(20):
        image, other = noise(30, 40, seed), noise(30, 40, seed + 100)
        boxes, pasted = (np.sort(rng.integers(0, 30, (4, 2, 2)), axis=1).reshape(4, 4) for _ in range(2))
        boxes[:, 2:] += 1
        pasted[:, 2:] += 1
        step = CopyPaste(selected=False, paste_by_box=True, bbox_occluded_thr=2, mask_occluded_thr=20)
        sample = step(sample_of(image, boxes.tolist()), context(seed, Others((other, pasted.tolist()))))
        cover = np.zeros((30, 40), bool)
        for x1, y1, x2, y2 in pasted:
            cover[y1:y2, x1:x2] = True
        expected, labels = [], []
        for label, (x1, y1, x2, y2) in enumerate(boxes):
            mask = np.zeros((30, 40), bool)
            mask[y1:y2, x1:x2] = True
            mask &= ~cover
            rows, columns = np.nonzero(mask)
            left = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if mask.any() else [0] * 4
            near = all(abs(a - b) <= 2 for a, b in zip(left, (x1, y1, x2, y2)))
            if near or mask.sum() > 20:
                expected.append(left)
                labels.append(label)
        assert np.array_equal(sample.boxes, np.array([*expected, *pasted.tolist()], np.float32))
        assert sample.labels.tolist() == [*labels, 10, 10, 10, 10]
        assert np.array_equal(render(sample), np.where(cover[:, :, None], other, image))
        checked += len(labels)
    assert 10 < checked < 75


def test_copy_paste_rounds_edges_down() -> None:
    image, other = noise(8, 9), noise(8, 9, 1)
    step = CopyPaste(selected=False, paste_by_box=True)
    sample = step(sample_of(image, [[0.9, 0.2, 2.9, 3.7]]), context(0, Others((other, [[3.6, 4.5, 6.9, 7.4]]))))
    expected = image.copy()
    expected[4:7, 3:6] = other[4:7, 3:6]
    assert np.array_equal(render(sample), expected)
    assert np.allclose(sample.boxes, np.array([[0, 0, 2, 3], [3.6, 4.5, 6.9, 7.4]]))


def test_copy_paste_selects_and_passes() -> None:
    image, boxes = PICTURES[0]
    counts = {
        len(CopyPaste(paste_by_box=True)(sample_of(image), context(seed, Others(PICTURES[0]))).boxes)
        for seed in range(40)
    }
    assert counts == {0, 1, 2, 3}
    empty = CopyPaste(paste_by_box=True)(sample_of(image, boxes), context(0, Others((noise(9, 9), []))))
    assert len(empty.boxes) == 3
    with pytest.raises(ValueError, match="paste_by_box=True"):
        CopyPaste()
