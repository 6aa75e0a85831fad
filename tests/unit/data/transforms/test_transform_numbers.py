"""Defaults, limits and random draws of the transforms: each number as its docstring says."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

from hatdet.data.transforms.apply import apply
from hatdet.data.transforms.color import HSVRandomAug
from hatdet.data.transforms.crop import CenterCrop, RandomResizedCrop
from hatdet.data.transforms.geometry import (
    FilterBoxes,
    Pad,
    RandomCrop,
    RandomFlip,
    RandomResize,
    Resize,
    check_probability,
    check_range,
    check_size,
)
from hatdet.data.transforms.mixup import MixUp
from hatdet.data.transforms.mosaic import Mosaic
from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import (
    Context,
    Image,
    Sample,
    clip_boxes,
    fit_size,
    flip,
    image_sample,
    partner_age,
    resize,
    window,
)
from hatdet.data.transforms.tensor import Normalize, ToTensor, input_format
from hatdet.utils.errors import UserError


def sample_of(
    height: int, width: int, boxes: list[list[float]] | None = None, level: int = 7, index: int = 0
) -> Sample:
    array = np.array(boxes or [], np.float32).reshape(-1, 4)
    sample = Sample(index, index, f"{index}.png", (height, width), [], (height, width), array,
                    np.full(len(array), index, np.int64), (height, width))  # fmt: skip
    return image_sample(sample, np.full((height, width, 3), level, np.uint8))


class Draws:
    """A random generator whose numbers are written down."""

    def __init__(self, *rows: Any) -> None:
        self.rows = list(rows)

    def random(self, count: int | None = None) -> Any:
        row = self.rows.pop(0)
        assert count is None or len(row) == count
        return row if count is None else np.array(row)

    def integers(self, low: int, high: int | None = None, size: int | None = None) -> Any:
        row = self.rows.pop(0)
        assert np.all(np.asarray(row) < (low if high is None else high))
        return row if size is None else np.array(row)

    def uniform(self, low: float, high: float, size: int | None = None) -> Any:
        share = self.rows.pop(0)
        return low + (high - low) * np.asarray(share) if size else low + (high - low) * share

    def beta(self, a: float, b: float) -> float:
        self.ab = a, b
        return float(self.rows.pop(0))


class Partners:
    def __init__(self, *samples: Sample) -> None:
        self.samples = samples
        self.indices = tuple(range(10, 10 + len(samples)))
        self.loaded: list[int] = []

    def load(self, index: int) -> Sample:
        self.loaded.append(index)
        sample = self.samples[index - 10]
        return image_sample(sample_of(*sample.canvas, sample.boxes.tolist(), index=index), render(sample))


def context(*rows: Any, partners: Any = None, must_keep: bool = False) -> Context:
    return Context(Draws(*rows), partners or Partners(), must_keep)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Mosaic, {"img_scale": (640, 640), "max_cached": 20, "prob": 1.0, "center_ratio_range": (0.5, 1.5),
                  "pad_val": 114, "random_pop": False}),
        (MixUp, {"prob": 0.5, "max_cached": 10, "beta": 32.0, "ratio_range": (0.5, 2.0), "flip_ratio": 0.5,
                 "pad_val": 114, "random_pop": False}),
        (Resize, {"keep_ratio": True, "interpolation": "linear", "either_way": False}),
        (RandomResize, {"ratio_range": (0.5, 2.0), "keep_ratio": True}),
        (RandomCrop, {"allow_empty": False}),
        (RandomFlip, {"px": 0.5, "py": 0.0}),
        (Pad, {"fill": 114}),
        (FilterBoxes, {"min_size": 1.0, "min_area": 0.0, "drop_empty": False}),
        (RandomResizedCrop, {"area_range": (0.08, 1.0), "ratio_range": (0.75, 4 / 3)}),
        (CenterCrop, {"resize": 256}),
        (HSVRandomAug, {"hue_delta": 5, "saturation_delta": 30, "value_delta": 30}),
        (ToTensor, {"to_yuv": False, "to_rgb": False, "color": None}),
    ],
)  # fmt: skip
def test_defaults_are_those_of_published_configs(kind: Any, expected: dict[str, Any]) -> None:
    """A config that leaves an argument out trains with these: they never change."""
    parameters = inspect.signature(kind).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == expected


# ------------------------------------------------------------------------------------------ arguments
def test_limits_of_arguments() -> None:
    assert check_size("a", (1, 2)) == (1, 2) and check_size("a", (3.0, 4)) == (3, 4)  # type: ignore[arg-type]
    for size in ((0, 5), (5, 0), (2.5, 2), (2, 2, 2), (2,)):
        with pytest.raises(UserError, match="whole pixels of at least 1"):
            check_size("a", size)  # type: ignore[arg-type]
    assert check_range("a", (0.1, 0.1)) == (0.1, 0.1)
    for values in ((0, 1), (2, 1), (1, 2, 3), (1,)):
        with pytest.raises(UserError, match="0 < low <= high"):
            check_range("a", values)  # type: ignore[arg-type]
    assert check_probability("a", 0) == 0.0 and check_probability("a", 1) == 1.0
    for value in (-0.01, 1.01, float("nan")):
        with pytest.raises(UserError, match="a probability in 0..1"):
            check_probability("a", value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mosaic(center_ratio_range=(0.5, 2.0)), "must stay below 2"),
        (lambda: MixUp(beta=0.0), "positive or None"),
        (lambda: MixUp(max_cached=0), "at least 1"),
        (lambda: Pad(size=(5, 5), fill=256), r"0\.\.255"),
        (lambda: Pad(size=(5, 5), fill=-1), r"0\.\.255"),
        (lambda: FilterBoxes(min_size=-0.5), "at least 0"),
        (lambda: FilterBoxes(min_area=-0.5), "at least 0"),
        (lambda: HSVRandomAug(value_delta=256), r"0\.\.255"),
        (lambda: ToTensor(to_yuv=True, color="bgr"), "exclude each other"),
        (lambda: ToTensor(color="cmyk"), "must be one of bgr, rgb, yuv444, gray"),  # type: ignore[arg-type]
        (lambda: Normalize(mean=[1.0, 2.0], std=1.0), "a number or three"),
        (lambda: Normalize(mean=0.0, std=[1.0, 1.0, 0.0]), "must be positive"),
    ],
)
def test_just_beyond_the_limit(make: Any, message: str) -> None:
    with pytest.raises((UserError, ValueError), match=message):
        make()


def test_just_inside_the_limit() -> None:
    assert Mosaic(max_cached=1).window == 1 and MixUp(max_cached=1).window == 1
    assert Mosaic(max_cached=1, random_pop=True).window == 5 and Mosaic().window == 20 and MixUp().window == 10
    assert Mosaic(center_ratio_range=(0.5, 1.99)).center_ratio_range == (0.5, 1.99)
    assert MixUp(beta=0.5).beta == 0.5 and MixUp(beta=None).beta is None
    assert Pad(size=(5, 5), fill=0).fill == 0 and Pad(size=(5, 5), fill=255).fill == 255
    assert FilterBoxes(min_size=0, min_area=0).min_size == 0
    assert HSVRandomAug(0, 255, 255).deltas == (0, 255, 255)
    assert CenterCrop((20, 30), resize=30).resize == 30
    with pytest.raises(ValueError, match=r"resize=29 is smaller than size=\(20, 30\)"):
        CenterCrop((20, 30), resize=29)


# ------------------------------------------------------------------------------------------- geometry
def test_fit_size_rounds_to_the_nearest_pixel() -> None:
    assert fit_size((3, 5), (2.4, 9.6), keep_ratio=False) == (2, 10)
    assert fit_size((3, 5), (0.2, 0.3), keep_ratio=False) == (1, 1)
    assert fit_size((3, 5), (2.6, 9.6)) == (3, 4)  # 5 * 2.6 / 3 = 4.33
    assert fit_size((5, 3), (9.6, 2.4)) == (4, 2)  # 5 * 2.4 / 3 = 4.0
    assert fit_size((100, 1), (10, 10)) == (10, 1) and fit_size((1, 100), (10, 10)) == (1, 10)
    assert fit_size((10, 10), (0.3, 7)) == (1, 1) and fit_size((10, 10), (7, 0.3)) == (1, 1)


def test_boxes_are_cut_at_the_canvas_and_those_without_area_dropped() -> None:
    outside: list[list[float]] = [[20, 1, 25, 5], [1, 10, 5, 15], [-5, 1, 0, 5], [1, -5, 5, 0]]
    sample = sample_of(10, 20, [[-3, -4, 30, 40], [5, 5, 6, 6], *outside, [19, 9, 25, 25]])
    sample.labels = np.arange(7)
    clip_boxes(sample)
    assert sample.boxes.tolist() == [[0, 0, 20, 10], [5, 5, 6, 6], [19, 9, 20, 10]]
    assert sample.labels.tolist() == [0, 1, 6]


def test_a_window_moves_boxes_and_tiles_and_leaves_tiles_out_that_it_does_not_show() -> None:
    sample = window(sample_of(10, 20, [[1, 2, 3, 4]]), 3, 2, (5, 6))
    assert sample.boxes.tolist() == [[-2, 0, 0, 2]] and sample.canvas == (5, 6)
    [tile] = sample.tiles
    assert (tile.tx, tile.ty, tile.clip) == (-3, -2, (0, 0, 6, 5))
    assert window(sample_of(10, 20), -4, -1, (30, 40)).tiles[0].clip == (4, 1, 24, 11)
    assert window(sample_of(10, 20), 15, 7, (30, 40)).tiles[0].clip == (0, 0, 5, 3)
    for x, y in ((20, 0), (0, 10), (-6, 0), (0, -5)):
        assert window(sample_of(10, 20), x, y, (5, 6)).tiles == []
    for x, y in ((19, 0), (0, 9), (-5, 0), (0, -4)):
        assert len(window(sample_of(10, 20), x, y, (5, 6)).tiles) == 1


def test_a_flip_mirrors_tiles_and_boxes() -> None:
    sample = flip(window(sample_of(10, 20, [[1, 2, 3, 5]]), -2, -3, (20, 30)), True, True)
    [tile] = sample.tiles
    assert (tile.sx, tile.sy, tile.tx, tile.ty, tile.clip) == (-1, -1, 28, 17, (8, 7, 28, 17))
    assert sample.boxes.tolist() == [[25, 12, 27, 15]]


def test_a_resize_scales_tiles_boxes_and_scale() -> None:
    sample = resize(window(sample_of(10, 20, [[1, 2, 3, 5]]), -2, -3, (20, 40)), (10, 80))
    [tile] = sample.tiles
    assert (tile.sx, tile.sy, tile.tx, tile.ty, tile.clip) == (2, 0.5, 4, 1.5, (4, 1.5, 44, 6.5))
    assert sample.boxes.tolist() == [[6, 2.5, 10, 4]] and sample.scale == (2, 0.5) and sample.canvas == (10, 80)
    assert resize(resize(sample_of(10, 20), (5, 10), area=True), (20, 40)).tiles[0].area
    assert resize(sample, (20, 80)).scale == (2, 1)
    assert resize(sample_of(10, 20), (10, 40)).scale == (2, 1) and resize(sample_of(10, 20), (20, 20)).scale == (1, 2)
    assert not Context(np.random.default_rng(0), Partners()).must_keep


def test_random_resize_cuts_the_scaled_limit_to_whole_pixels() -> None:
    scale = RandomResize(scale=(101, 203), ratio_range=(0.5, 1.0), keep_ratio=False)
    assert scale(sample_of(10, 20), context(0.0)).canvas == (50, 101)
    assert scale(sample_of(10, 20), context(0.9)).canvas == (95, 192)  # 95.95 and 192.85
    assert RandomResize(scale=(1, 1), ratio_range=(0.5, 0.5))(sample_of(10, 20), context(0.0)).canvas == (1, 1)


def test_a_picture_is_turned_towards_the_scale_only_where_they_differ() -> None:
    for size, expected in (((30, 60), (50, 100)), ((60, 30), (100, 50)), ((40, 40), (60, 60))):
        assert Resize(img_scale=(60, 100), either_way=True)(sample_of(*size), context()).canvas == expected
        assert Resize(img_scale=(100, 60), either_way=True)(sample_of(*size), context()).canvas == expected
    assert Resize(img_scale=(60, 100))(sample_of(60, 30), context()).canvas == (60, 30)


def test_a_crop_begins_anywhere_from_the_first_to_the_last_place() -> None:
    crop = RandomCrop(crop_size=(4, 6), allow_empty=True)
    for y, x in ((0, 0), (6, 14)):
        sample = crop(sample_of(10, 20, [[0, 0, 20, 10]]), context(y, x))
        assert sample is not None and sample.tiles[0].tx == -x and sample.tiles[0].ty == -y
        assert sample.boxes.tolist() == [[0, 0, 6, 4]] and sample.img_size == (4, 6)
    draws, highs = Draws(), []
    draws.integers = lambda high: (highs.append(high), 0)[1]  # type: ignore[assignment, misc, method-assign]
    crop(sample_of(10, 20), Context(draws, Partners()))  # type: ignore[arg-type]
    assert highs == [7, 15]


def test_flips_by_their_probabilities() -> None:
    for draws, expected in (((0.49, 0.19), (True, True)), ((0.5, 0.19), (False, True)), ((0.49, 0.2), (True, False)),
                            ((0.5, 0.2), (False, False))):  # fmt: skip
        [tile] = RandomFlip(px=0.5, py=0.2)(sample_of(10, 20), context(draws)).tiles
        assert (tile.sx < 0, tile.sy < 0) == expected
    [tile] = RandomFlip(px=0.0, py=0.0)(sample_of(10, 20), context((0.0, 0.0))).tiles
    assert (tile.sx, tile.sy) == (1, 1)


def test_padding_keeps_a_picture_of_that_size_and_refuses_a_larger_one() -> None:
    sample = sample_of(10, 20)
    sample.img_size = (8, 8)
    assert Pad(size=(10, 20), fill=3)(sample, context()) is sample and sample.img_size == (8, 8) and sample.fill == 114
    padded = Pad(size=(10, 21), fill=3)(sample, context())
    assert padded.img_size == (10, 20) and padded.fill == 3 and padded.canvas == (10, 21)
    assert (render(padded)[:, 20] == 3).all() and (render(padded)[:, :20] == 7).all()
    for size in ((9, 30), (30, 19)):
        with pytest.raises(UserError, match="does not fit"):
            Pad(size=size)(sample_of(10, 20), context())


def test_boxes_of_exactly_the_least_size_stay() -> None:
    boxes: list[list[float]] = [[0, 0, 2, 2], [0, 0, 1.9, 9], [0, 0, 9, 1.9], [0, 0, 2, 3]]
    assert len(FilterBoxes(min_size=2)(sample_of(9, 9, boxes), context()).boxes) == 2  # type: ignore[union-attr]
    sample = FilterBoxes(min_size=0, min_area=6)(sample_of(9, 9, boxes), context())
    assert sample is not None and sample.boxes.tolist() == np.array(boxes[1:], np.float32).tolist()
    drop = FilterBoxes(min_size=5, drop_empty=True)
    assert drop(sample_of(9, 9, boxes), context()) is None
    assert drop(sample_of(9, 9, boxes), context(must_keep=True)) is not None
    assert drop(sample_of(9, 9), context()) is not None  # it had none
    assert FilterBoxes(min_size=5)(sample_of(9, 9, boxes), context()) is not None


# ---------------------------------------------------------------------------------- classification crops
def test_a_random_resized_crop_by_hand() -> None:
    """Area 0.25 of 40 x 80 = 800, ratio 2: 40 wide, 20 high; then at (y, x), scaled to the size."""
    crop = RandomResizedCrop((10, 40), area_range=(0.25, 0.5), ratio_range=(0.5, 2.0))
    sample = crop(sample_of(40, 80, [[0, 0, 80, 40]]), context(0.0, 1.0, 20, 40))
    [tile] = sample.tiles
    assert (tile.sx, tile.sy, tile.tx, tile.ty) == (1, 0.5, -40, -10) and sample.canvas == (10, 40)
    assert sample.boxes.tolist() == [[0, 0, 40, 10]]  # the class is that of the picture
    # The proportions are drawn evenly in their logarithm: half way lies 1. sqrt(1600) = 40 = the whole height.
    assert crop._window((40, 80), context(1.0, 0.5)) == (40, 40)
    assert crop._window((40, 80), context(0.5, 0.5)) == (35, 35)  # sqrt(1200) = 34.64
    assert crop._window((40, 80), context(0.0, 0.25)) == (34, 24)  # ratio 0.7071: sqrt(1131.4), sqrt(565.7)


def test_a_window_that_does_not_fit_is_drawn_again_ten_times() -> None:
    """Ratio 2 of an area of 0.98: too wide for 40 x 40; of a sliver: less than half a pixel."""
    crop = RandomResizedCrop((10, 10), area_range=(0.01, 0.98), ratio_range=(0.5, 2.0))
    assert crop._window((40, 40), context(*[1.0, 1.0] * 9, 1.0, 0.5)) == (40, 40)
    assert crop._window((41, 40), context(*[1.0, 1.0] * 10)) == (41, 40)
    assert crop._window((40, 40), context(1.0, 1.0, 1.0, 0.0, 0.0, 0.5)) == (4, 4)
    thin = RandomResizedCrop((10, 10), area_range=(0.1, 0.1), ratio_range=(0.01, 100.0))
    # 1 x 9 pixels of 9.0, ratio 9: fits; its area is cut off at no more than the draw.
    assert thin._window((9, 10), context(0.0, (math.log(9) / math.log(100) + 1) / 2)) == (1, 9)
    assert thin._window((10, 9), context(0.0, (1 - math.log(9) / math.log(100)) / 2)) == (9, 1)
    assert thin._window((9, 10), context(0.0, 0.99, 0.0, 0.01, 0.0, 0.5)) == (3, 3)
    full = RandomResizedCrop((10, 10), area_range=(1.0, 1.0), ratio_range=(2.0, 2.0))
    assert full._window((40, 80), context(0.0, 0.0)) == (40, 80)


def test_a_random_resized_crop_lies_anywhere_inside() -> None:
    draws, highs = Draws(0.0, 0.0), []
    draws.integers = lambda high: (highs.append(high), 0)[1]  # type: ignore[assignment, misc, method-assign]
    crop = RandomResizedCrop((10, 10), area_range=(0.25, 0.25), ratio_range=(1.0, 1.0))
    crop(sample_of(40, 60), Context(draws, Partners()))  # type: ignore[arg-type]
    assert highs == [40 - 24 + 1, 60 - 24 + 1]  # sqrt(600) = 24.49


@pytest.mark.parametrize(
    ("size", "canvas", "at"),
    [
        ((50, 100), (30, 60), (10, 20)),
        ((100, 50), (60, 30), (25, 5)),
        ((70, 70), (30, 30), (10, 5)),
        ((45, 71), (30, 47), (10, 13)),
    ],
)
def test_a_centre_crop_by_hand(size: tuple[int, int], canvas: tuple[int, int], at: tuple[int, int]) -> None:
    """The shorter side becomes 30, then the middle 10 x 20 is cut out: 20 of 47 begins at 13."""
    y, x = (canvas[0] - 10) // 2, (canvas[1] - 20) // 2
    sample = CenterCrop((10, 20), resize=30)(sample_of(*size, [[0, 0, 1, 1]]), context())
    [tile] = sample.tiles
    assert (y, x) == at and (tile.ty, tile.tx) == (-y, -x)
    assert (tile.sy, tile.sx) == (canvas[0] / size[0], canvas[1] / size[1])
    assert sample.canvas == sample.img_size == (10, 20) and sample.boxes.tolist() == [[0, 0, 20, 10]]


# --------------------------------------------------------------------------------------- Mosaic and MixUp
def test_a_mosaic_by_hand() -> None:
    """Canvas 80 x 120; centre at 0.5 + 0.25 and 0.5 + 0.5 of 40 x 60: (30, 60). Every picture fits 40 x 60."""
    partners = Partners(*(sample_of(20, 30, [[0, 0, 30, 20]], level) for level in (10, 20, 30, 40)))
    ctx = context((0.0, 0.25, 0.5, 0.0, 0.5, 0.99), partners=partners)
    sample = Mosaic(img_scale=(40, 60), max_cached=4)(sample_of(20, 30, [[3, 3, 6, 6]]), ctx)
    assert partners.loaded == [10, 12, 13] and sample.canvas == sample.img_size == (80, 120) and sample.scale == (1, 1)
    # Each is drawn twice as large: 40 x 60, with a corner at the centre.
    assert sample.boxes.tolist() == [[6, 0, 12, 2], [60, 0, 120, 30], [0, 30, 60, 70], [60, 30, 120, 70]]
    assert sample.labels.tolist() == [0, 10, 12, 13]
    image = render(sample)[..., 0]
    assert image[29, 59] == 7 and image[29, 60] == 10 and image[30, 59] == 30 and image[30, 60] == 40
    assert (image[70:] == 114).all() and (image == 7).sum() == 30 * 60 and (image == 30).sum() == 40 * 60


@pytest.mark.parametrize(("draw", "done"), [(0.29, True), (0.3, False), (0.9, False)])
def test_a_mosaic_by_its_probability(draw: float, done: bool) -> None:
    ctx = context((draw, 0, 0, 0, 0, 0), partners=Partners(sample_of(8, 8)))
    assert (Mosaic(img_scale=(8, 8), prob=0.3)(sample_of(8, 8), ctx).canvas == (16, 16)) == done
    assert Mosaic(img_scale=(8, 8))(sample_of(8, 8), context((0, 0, 0, 0, 0, 0))).canvas == (8, 8)  # no partner


def test_only_the_last_images_are_drawn_from() -> None:
    partners = Partners(*(sample_of(8, 8, [[0, 0, 8, 8]]) for _ in range(9)))
    Mosaic(img_scale=(8, 8), max_cached=1)(sample_of(8, 8), context((0, 0, 0, 0.99, 0.99, 0), partners=partners))
    assert partners.loaded == [10, 10, 10]
    partners.loaded.clear()
    Mosaic(img_scale=(8, 8), max_cached=3, pad_val=5)(
        sample_of(8, 8), context((0, 0, 0, 0.34, 0.99, 0), partners=partners)
    )
    assert partners.loaded == [11, 12, 10]


@pytest.mark.parametrize(
    ("draw", "count", "cached", "pop", "expected"),
    [
        (0.0, 4, 4, False, 0), (0.25, 4, 4, False, 1), (0.999, 4, 4, False, 3), (0.99, 1, 4, False, 0),
        # 1 of max_cached: every step halves; of 3 images they have 4/7, 2/7, 1/7.
        (0.0, 3, 1, True, 0), (0.571, 3, 1, True, 0), (0.572, 3, 1, True, 1), (0.857, 3, 1, True, 1),
        (0.858, 3, 1, True, 2), (1 - 1e-17, 3, 1, True, 2), (0.9, 1, 1, True, 0),
    ],
)  # fmt: skip
def test_which_earlier_image_a_draw_stands_for(draw: float, count: int, cached: int, pop: bool, expected: int) -> None:
    assert partner_age(draw, count, cached, pop) == expected


def mixed(ratio: float, mirror: float, at_y: float, at_x: float, **options: Any) -> Sample:
    """The partner is 20 x 40 of level 200 with a box on its left 10 x 20; the picture is 40 x 40."""
    partners = Partners(sample_of(20, 40, [[0, 0, 10, 20]], 200))
    ctx = context(0.0, 0, (ratio, mirror, at_y, at_x), partners=partners)
    settings = {"prob": 1.0, "beta": None, "ratio_range": (0.5, 1.5), "flip_ratio": 0.5, **options}
    return MixUp(**settings)(sample_of(40, 40, [[1, 1, 5, 5]], 100), ctx)


def test_a_mixup_by_hand() -> None:
    # Half way the factor is 1: 20 x 40, 0 to 20 rows below the top, no room to the side.
    sample = mixed(0.5, 0.5, 0.0, 0.0)
    assert sample.boxes.tolist() == [[1, 1, 5, 5], [0, 0, 10, 20]] and sample.labels.tolist() == [0, 10]
    assert (render(sample)[:20] == 150).all() and (render(sample)[20:] == 107).all()  # (100 + 200) / 2, (100 + 114) / 2
    assert mixed(0.5, 0.49, 0.999, 0.999).boxes[1].tolist() == [30, 20, 40, 40]  # mirrored, at the bottom
    assert mixed(0.5, 0.5, 0.5, 0.0).boxes[1].tolist() == [0, 10, 10, 30]  # 10.5 of 21 places
    # The factor 1.5: 30 x 60; 21 places to the side, 11 above.
    assert mixed(1.0, 0.5, 0.0, 0.25).boxes[1].tolist() == [0, 0, 10, 30]  # begins at 5: 15 - 5
    assert mixed(1.0, 0.5, 0.999, 0.0).boxes[1].tolist() == [0, 10, 15, 40]
    # 0.5: 10 x 20.
    assert mixed(0.0, 0.5, 0.999, 0.999).boxes[1].tolist() == [20, 30, 25, 40]
    assert (render(mixed(0.0, 0.5, 0.0, 0.0, pad_val=0)) == 50).sum() == 3 * (1600 - 200)


def test_a_mixup_by_its_probability_and_beta() -> None:
    partners = Partners(sample_of(40, 40, [[0, 0, 10, 20]], 200))
    mix = MixUp(prob=0.3, ratio_range=(1.0, 1.0), flip_ratio=0.0)
    assert len(mix(sample_of(40, 40), context(0.3, partners=partners)).boxes) == 0
    assert len(mix(sample_of(40, 40), context(0.0)).boxes) == 0  # nobody to mix with
    ctx = context(0.29, 0, (0, 0, 0, 0), 0.25, partners=partners)
    sample = mix(sample_of(40, 40, level=100), ctx)
    assert (render(sample) == 175).all() and len(sample.boxes) == 1  # 0.25 * 100 + 0.75 * 200
    assert ctx.rng.ab == (32.0, 32.0)  # type: ignore[attr-defined]


def test_a_mixup_takes_another_partner_where_no_box_is_in_view() -> None:
    """Fifteen draws; a partner without a box is not even placed."""
    empty, far, near = sample_of(40, 40), sample_of(80, 80, [[0, 0, 2, 2]]), sample_of(40, 40, [[0, 0, 9, 9]])
    partners = Partners(empty, far, near)
    mix = MixUp(prob=1.0, beta=None, ratio_range=(2.0, 2.0), flip_ratio=0.0)
    sample = mix(sample_of(40, 40), context(0.0, 0, 1, (0, 0, 0.9, 0.9), 2, (0, 0, 0, 0), partners=partners))
    assert partners.loaded == [10, 11, 12] and len(sample.boxes) == 1
    sample = mix(sample_of(40, 40), context(0.0, *[0] * 14, 2, (0, 0, 0, 0), partners=partners))
    assert len(sample.boxes) == 1
    assert len(mix(sample_of(40, 40), context(0.0, *[0] * 15, partners=partners)).boxes) == 0


def test_the_shown_size_of_a_mixup_is_the_larger_of_both() -> None:
    """Both are put on the picture's canvas: a padded picture of 20 x 30 on 40 x 50 shows 40 x 50."""
    partners = Partners(sample_of(40, 50, [[0, 0, 10, 20]]))
    sample = sample_of(40, 50)
    sample.img_size = (20, 30)
    mix = MixUp(prob=1.0, beta=None, ratio_range=(1.0, 1.0), flip_ratio=0.0)
    assert mix(sample, context(0.0, 0, (0, 0, 0, 0), partners=partners)).img_size == (40, 50)
    for shown, expected in (((60, 30), (60, 50)), ((20, 70), (40, 70))):
        sample = sample_of(40, 50)
        sample.img_size = shown
        assert mix(sample, context(0.0, 0, (0, 0, 0, 0), partners=partners)).img_size == expected


# ------------------------------------------------------------------------------- colour, tensors, errors
def test_shifts_of_colour_are_switched_one_by_one() -> None:
    def shifted(image: Image, uniform: list[float], on: list[int]) -> list[int]:
        sample = image_sample(sample_of(1, 1), image)
        return render(HSVRandomAug(10, 50, 100)(sample, context(uniform, on)))[0, 0].tolist()

    gray = np.full((1, 1, 3), 100, np.uint8)
    assert shifted(gray, [0.75, 0.75, 0.75], [0, 0, 1]) == [150, 150, 150]  # -1 + 2 * 0.75 of 100
    assert shifted(gray, [0.75, 0.75, 0.25], [0, 0, 1]) == [50, 50, 50]
    assert shifted(gray, [0.75, 0.75, 0.75], [1, 0, 0]) == [100, 100, 100]
    red = np.array([[[0, 0, 200]]], np.uint8)
    assert shifted(red, [0.75, 0.5, 0.5], [1, 0, 0]) == [0, 33, 200]  # hue 5 of 180: a sixth of the way to yellow
    assert shifted(red, [0.5, 0.0, 0.5], [0, 1, 0]) == [39, 39, 200]  # saturation 255 - 50: 200 * 50 / 255
    one = np.full((1, 1, 1), 100, np.uint8)
    assert shifted(one, [0.75, 0.75, 0.75], [0, 0, 1]) == [150]
    assert shifted(one, [0.75, 0.75, 0.75], [1, 1, 0]) == [100]


def test_a_gray_tensor_needs_a_gray_picture() -> None:
    assert (
        ToTensor().color == "bgr" and ToTensor(to_yuv=True).color == "yuv444" and ToTensor(to_rgb=True).color == "rgb"
    )
    with pytest.raises(UserError, match=r"0.png came as a picture of 3 channel\(s\), not of 1"):
        ToTensor(color="gray")(sample_of(2, 2), context())
    gray = image_sample(sample_of(2, 2), np.full((2, 2, 1), 9, np.uint8))
    tensor = ToTensor(color="gray")(gray, context()).tensor
    assert tensor is not None and tensor.tolist() == [[[9, 9], [9, 9]]]
    with pytest.raises(UserError, match="gray pictures have one channel: write one"):
        input_format([ToTensor(color="gray"), Normalize(mean=0.0, std=[1.0, 2.0, 3.0])])
    with pytest.raises(UserError, match="gray pictures have one channel: write one"):
        input_format([ToTensor(color="gray"), Normalize(mean=[0.0, 0.0, 0.0], std=1.0)])
    assert input_format([ToTensor(), ToTensor(color="gray")]).color == "gray"  # the last one counts


def test_a_transform_that_fails_is_named_with_image_and_line() -> None:
    class Broken:
        def __call__(self, sample: Sample, ctx: Context) -> Sample:
            return self.deep()

        def deep(self) -> Sample:
            raise KeyError("x")

    line = inspect.getsourcelines(Broken.deep)[1] + 1
    message = f"the transform Broken failed on image 0.png \\(id 0\\): KeyError: 'x' \\(.*:{line}\\); mend"
    with pytest.raises(UserError, match=message):
        apply([Broken()], sample_of(2, 2), context())
    with pytest.raises(UserError, match="the transform Odd returned a int for image 0.png"):
        apply([type("Odd", (), {"__call__": lambda self, sample, ctx: 5})()], sample_of(2, 2), context())
    with pytest.raises(UserError, match="the transform cut failed"):

        def cut(sample: Sample, ctx: Context) -> Sample:
            raise ValueError

        apply([cut], sample_of(2, 2), context())
    assert apply([lambda sample, ctx: None, Broken()], sample_of(2, 2), context()) is None  # type: ignore[list-item]
    sample = sample_of(2, 2)
    assert apply([], sample, context()) is sample


def test_what_the_machine_lacks_is_no_fault_of_a_transform() -> None:
    def hungry(sample: Sample, ctx: Context) -> Sample:
        raise MemoryError("8 GB")

    with pytest.raises(MemoryError, match="8 GB"):
        apply([hungry], sample_of(2, 2), context())
