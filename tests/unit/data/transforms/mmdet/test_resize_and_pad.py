"""Resize in all forms, Pad, Expand, RandomFlip and RandomShift against OpenCV and numbers worked out by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import cv2
import numpy as np
import pytest

from hatdet.data.transforms.mmdet.move import RandomFlip, RandomShift
from hatdet.data.transforms.mmdet.pad import Expand, Pad
from hatdet.data.transforms.mmdet.resize import (
    FixScaleResize,
    FixShapeResize,
    RandomChoiceResize,
    RandomResize,
    Resize,
    ResizeShortestEdge,
)
from hatdet.data.transforms.render import render
from tests.helpers.samples import context, noise, sample_of


@pytest.mark.parametrize(
    ("size", "scale", "keep", "expected"),
    [
        ((480, 640), (1333, 800), True, (800, 1067)),  # the shorter side decides: 800 / 480
        ((640, 480), (1333, 800), True, (1067, 800)),  # upright pictures get the same scale turned
        ((300, 1200), (1333, 800), True, (333, 1333)),  # the longer side decides: 1333 / 1200
        ((37, 53), (64, 64), True, (45, 64)),  # 37 * 64 / 53 = 44.68
        ((37, 53), (40, 30), False, (30, 40)),  # (width, height), exactly
        ((1, 500), (64, 64), True, (1, 64)),  # never nothing
    ],
)
def test_the_size_after_resize(size: Any, scale: Any, keep: bool, expected: Any) -> None:
    sample = Resize(scale=scale, keep_ratio=keep)(sample_of(noise(*size), [[0, 0, size[1], size[0]]]), context())
    assert sample.canvas == sample.img_size == expected
    assert sample.boxes[0].tolist() == pytest.approx([0, 0, expected[1], expected[0]])
    assert sample.scale == pytest.approx((expected[1] / size[1], expected[0] / size[0]))


def test_resize_is_opencvs_and_pillow_means_averaging() -> None:
    image = noise(37, 53)
    drawn = render(Resize(scale=(20, 20))(sample_of(image), context()))
    assert np.array_equal(drawn, cv2.resize(image, (20, 20), interpolation=cv2.INTER_LINEAR))
    drawn = render(Resize(scale=(20, 20), backend="pillow")(sample_of(image), context()))
    assert np.array_equal(drawn, cv2.resize(image, (20, 20), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("scale", [(20, 20), (90, 90)])
@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("nearest", cv2.INTER_NEAREST),
        ("bicubic", cv2.INTER_CUBIC),
        ("lanczos", cv2.INTER_LANCZOS4),
        ("area", cv2.INTER_AREA),
    ],
)
def test_other_interpolations_are_opencvs(name: Any, flag: int, scale: tuple[int, int]) -> None:
    image = noise(37, 53)
    sample = Resize(scale=scale, interpolation=name)(sample_of(image, [[0, 0, 53, 37]]), context())
    assert sample.boxes.tolist() == [[0, 0, *scale]] and sample.scale == pytest.approx((scale[0] / 53, scale[1] / 37))
    assert np.array_equal(render(sample), cv2.resize(image, scale, interpolation=flag))
    with pytest.raises(ValueError, match="allowed are bilinear, area"):
        Resize(scale=scale, interpolation="linear")  # type: ignore[arg-type]


def test_fix_scale_resize_rounds_down() -> None:
    # 37 * 64 / 53 = 44.68; without proportions to keep there is nothing to round.
    assert FixScaleResize(scale=(64, 64), keep_ratio=True)(sample_of(noise(37, 53)), context()).canvas == (44, 64)
    assert FixScaleResize(scale=(64, 60))(sample_of(noise(37, 53)), context()).canvas == (60, 64)
    options: dict[str, Any] = dict(resize_type="FixScaleResize", keep_ratio=True)
    for step in (
        RandomResize(scale=(64, 64), ratio_range=(1.0, 1.0), **options),
        RandomChoiceResize(scales=[(64, 64)], **options),
    ):
        assert step(sample_of(noise(37, 53)), context()).canvas == (44, 64)
    with pytest.raises(ValueError, match="allowed are 'Resize' and 'FixScaleResize'"):
        RandomChoiceResize(scales=[(64, 64)], resize_type="Rescale")  # type: ignore[arg-type]


def test_resize_by_a_factor() -> None:
    sample = Resize(scale_factor=0.5)(sample_of(noise(37, 53)), context())
    assert sample.canvas == (19, 27)  # 18.5 and 26.5, rounded up
    assert Resize(scale_factor=(2.0, 1.0))(sample_of(noise(37, 53)), context()).canvas == (37, 106)
    with pytest.raises(ValueError, match="give one of them"):
        Resize()


def test_boxes_are_cut_unless_they_shall_not() -> None:
    box = [[-4.0, 2, 60, 30]]
    assert Resize(scale=(53, 37))(sample_of(noise(37, 53), box), context()).boxes.tolist() == [[0, 2, 53, 30]]
    kept = Resize(scale=(53, 37), clip_object_border=False)(sample_of(noise(37, 53), box), context())
    assert kept.boxes.tolist() == box


def test_random_resize_by_ratio() -> None:
    step = RandomResize(scale=(100, 80), ratio_range=(0.5, 2.0))
    sizes = [step(sample_of(noise(37, 53)), context(seed)).canvas for seed in range(200)]
    assert min(s[1] for s in sizes) >= 50 and max(s[1] for s in sizes) <= 200
    assert min(s[1] for s in sizes) < 60 and max(s[1] for s in sizes) > 190
    ratio = np.random.default_rng(3).random() * 1.5 + 0.5
    assert sizes[3] == (int(80 * ratio), int(100 * ratio))


def test_random_resize_between_two_scales() -> None:
    step = RandomResize(scale=[(1333, 640), (1333, 800)], keep_ratio=True)
    heights = {step(sample_of(noise(480, 640)), context(seed)).canvas[0] for seed in range(300)}
    assert 640 <= min(heights) < 645 and 795 < max(heights) <= 800 and len(heights) > 100
    with pytest.raises(ValueError, match="two without"):
        RandomResize(scale=(1333, 800))


def test_random_choice_resize_takes_each_scale() -> None:
    step = RandomChoiceResize(scales=[(40, 30), (60, 50)])
    counts = Counter(step(sample_of(noise(37, 53)), context(seed)).canvas for seed in range(400))
    assert set(counts) == {(30, 40), (50, 60)} and 160 < counts[30, 40] < 240


def test_fix_shape_resize_pads_where_it_keeps_the_ratio() -> None:
    step = FixShapeResize(width=64, height=48, keep_ratio=True, pad_val=dict(img=(1, 2, 3)))
    sample = step(sample_of(noise(40, 40), [[0, 0, 40, 40]]), context())
    assert sample.canvas == (48, 64) and sample.boxes.tolist() == [[0, 0, 48, 48]]
    drawn = render(sample)
    assert (drawn[:, 48:] == (1, 2, 3)).all() and np.array_equal(drawn[:, :48], cv2.resize(noise(40, 40), (48, 48)))
    assert FixShapeResize(64, 48)(sample_of(noise(40, 40)), context()).canvas == (48, 64)
    # The picture gets 45 rows, of 44.68 that the factor 64 / 53 asks for; boxes grow by the factor.
    sample = FixShapeResize(64, 64, keep_ratio=True)(sample_of(noise(37, 53), [[0, 0, 53, 37]]), context())
    assert sample.boxes[0].tolist() == pytest.approx([0, 0, 64, 37 * 64 / 53])
    assert sample.scale == (64 / 53, 64 / 53) and render(sample)[44].any() and not render(sample)[45:].any()


def test_shortest_edge() -> None:
    step = ResizeShortestEdge(scale=80, max_size=133)
    assert step(sample_of(noise(40, 50)), context()).canvas == (80, 100)
    assert step(sample_of(noise(40, 100)), context()).canvas == (53, 133)
    smaller = {ResizeShortestEdge(scale=(90, 60))(sample_of(noise(40, 50)), context(seed)).canvas for seed in range(9)}
    assert smaller == {(60, 75)}


# ------------------------------------------------------------------------------------------------- padding
def test_pad_in_its_three_forms() -> None:
    image = noise(37, 53)
    for step, expected in (
        (Pad(size=(64, 48)), (48, 64)),
        (Pad(size_divisor=32), (64, 64)),
        (Pad(pad_to_square=True), (53, 53)),
        (Pad(size=(40, 40)), (40, 53)),  # a side that is longer stays
    ):
        sample = step(sample_of(image, [[1, 2, 3, 4]]), context())
        drawn = render(sample)
        assert sample.img_size == sample.canvas == drawn.shape[:2] == expected
        assert np.array_equal(drawn[:37, :53], image) and sample.boxes.tolist() == [[1, 2, 3, 4]]
        assert not drawn[37:].any() and not drawn[:37, 53:].any()
    with pytest.raises(ValueError, match="give one of size"):
        Pad(size=(4, 4), size_divisor=32)


@pytest.mark.parametrize(
    ("mode", "columns"),
    [("edge", [0, 1, 2, 2, 2]), ("reflect", [0, 1, 2, 1, 0]), ("symmetric", [0, 1, 2, 2, 1])],
)
def test_pad_with_the_picture_itself(mode: str, columns: list[int]) -> None:
    image = noise(2, 3)
    sample = Pad(size=(5, 2), padding_mode=mode)(sample_of(image, [[0, 0, 3, 2]]), context())
    assert np.array_equal(render(sample), image[:, columns]) and sample.boxes.tolist() == [[0, 0, 3, 2]]
    with pytest.raises(ValueError, match="allowed are constant, edge"):
        Pad(size=(5, 2), padding_mode="wrap")


def test_two_paddings_keep_their_colours() -> None:
    sample = Pad(size=(6, 4), pad_val=7)(sample_of(noise(4, 4)), context())
    drawn = render(Pad(size=(8, 4), pad_val=dict(img=(1, 2, 3)))(sample, context()))
    assert (drawn[:, 4:6] == 7).all() and (drawn[:, 6:] == (1, 2, 3)).all()


def test_gray_pictures_get_one_level() -> None:
    drawn = render(Pad(size=(6, 4), pad_val=[10, 20, 30])(sample_of(noise(4, 4, channels=1)), context()))
    assert drawn.shape == (4, 6, 1) and (drawn[:, 4:] == 20).all()


def test_expand_against_the_method_written_out() -> None:
    image, boxes = noise(20, 30), [[1, 2, 3, 4]]
    step = Expand(mean=[123.675, 116.28, 103.53], to_rgb=True, ratio_range=(1, 3), prob=0.5)
    expanded = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        sample = step(sample_of(image, boxes), context(seed))
        if rng.random() > 0.5:
            assert sample.canvas == (20, 30)
            continue
        ratio = rng.uniform(1, 3)
        left, top = int(rng.uniform(0, 30 * ratio - 30)), int(rng.uniform(0, 20 * ratio - 20))
        expected = np.full((int(20 * ratio), int(30 * ratio), 3), (103, 116, 123), np.uint8)
        expected[top : top + 20, left : left + 30] = image
        assert np.array_equal(render(sample), expected)
        assert sample.boxes.tolist() == [[1 + left, 2 + top, 3 + left, 4 + top]]
        expanded += 1
    assert expanded > 5


# -------------------------------------------------------------------------------------------------- moving
@pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal"])
def test_flip(direction: str) -> None:
    image = noise(5, 7)
    sample = RandomFlip(prob=1.0, direction=direction)(sample_of(image, [[1, 2, 3, 5]]), context())
    code = {"horizontal": 1, "vertical": 0, "diagonal": -1}[direction]
    assert np.array_equal(render(sample), cv2.flip(image, code))
    x = [1, 3] if direction == "vertical" else [4, 6]
    y = [2, 5] if direction == "horizontal" else [0, 3]
    assert sample.boxes.tolist() == [[x[0], y[0], x[1], y[1]]]


def test_flip_shares() -> None:
    image = noise(2, 3)
    step = RandomFlip(prob=[0.3, 0.2], direction=["horizontal", "vertical"])
    counts = Counter(render(step(sample_of(image), context(seed))).tobytes() for seed in range(2000))
    assert abs(counts[cv2.flip(image, 1).tobytes()] - 600) < 80
    assert abs(counts[cv2.flip(image, 0).tobytes()] - 400) < 80
    assert render(RandomFlip()(sample_of(image), context())).tobytes() == image.tobytes()
    single = RandomFlip(prob=0.6, direction=["horizontal", "vertical", "diagonal"])  # 0.2 each
    assert single.limits.tolist() == pytest.approx([0.2, 0.4, 0.6])
    with pytest.raises(ValueError, match="sum to at most 1"):
        RandomFlip(prob=[0.6, 0.6], direction=["horizontal", "vertical"])


def test_shift_against_the_method_written_out() -> None:
    image, boxes = noise(20, 30), [[1, 2, 8, 9], [25, 15, 30, 20]]
    step = RandomShift(prob=1.0, max_shift_px=10, filter_thr_px=1)
    counts = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rng.random()
        x, y = rng.integers(-10, 10, 2).tolist()
        expected = np.zeros_like(image)
        for row in range(20):
            for column in range(30):
                if 0 <= row - y < 20 and 0 <= column - x < 30:
                    expected[row, column] = image[row - y, column - x]
        sample = step(sample_of(image, boxes), context(seed))
        kept = []
        for x1, y1, x2, y2 in boxes:
            box = [min(max(v + d, 0), side) for v, d, side in zip((x1, y1, x2, y2), (x, y) * 2, (30, 20) * 2)]
            if box[2] - box[0] > 1 and box[3] - box[1] > 1:
                kept.append(box)
        counts.add(len(kept))
        assert sample.boxes.tolist() == (kept or boxes)  # no box would be left: nothing is done
        assert np.array_equal(render(sample), expected if kept else image)
    assert counts == {0, 1, 2}
    unmoved = step(sample_of(image), context(1))  # no box: nothing is done
    assert np.array_equal(render(unmoved), image)
