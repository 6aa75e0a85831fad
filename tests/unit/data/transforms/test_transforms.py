"""Geometry and pixels of the transforms, against numbers worked out by hand and OpenCV's own functions."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from hatdet.data.transforms.color import HSVRandomAug
from hatdet.data.transforms.geometry import FilterBoxes, Pad, RandomCrop, RandomFlip, RandomResize, Resize
from hatdet.data.transforms.mixup import MixUp
from hatdet.data.transforms.mosaic import Mosaic
from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Context, Image, Sample, Source, Tile, fit_size, flip, resize, window
from hatdet.data.transforms.tensor import Normalize, ToTensor, input_format
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import InputFormat


def picture(height: int, width: int, seed: int = 0) -> Image:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def smooth(height: int, width: int) -> Image:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 2, y * 2, x + y], axis=2).astype(np.uint8)


def sample_of(image: Image, boxes: list[list[float]] | None = None, index: int = 0) -> Sample:
    height, width = image.shape[:2]
    image.flags.writeable = False
    array = np.array([[1, 2, 5, 6]] if boxes is None else boxes, np.float32).reshape(-1, 4)
    tile = Tile(Source((height, width), lambda: image), 1, 1, 0, 0, (0, 0, width, height))
    labels = np.full(len(array), index, np.int64)
    return Sample(index, index, str(index), (height, width), [tile], (height, width), array, labels, (height, width))


class FixedPartners:
    def __init__(self, *images: Image, boxes: list[list[float]] | None = None) -> None:
        self.images, self.boxes = images, boxes
        self.indices = tuple(range(1, len(images) + 1))
        self.loaded: list[int] = []

    def load(self, index: int) -> Sample:
        self.loaded.append(index)
        return sample_of(self.images[index - 1], self.boxes, index)


def context(seed: int = 0, partners: Any = None, must_keep: bool = False) -> Context:
    return Context(np.random.default_rng(seed), partners or FixedPartners(), must_keep)


# --------------------------------------------------------------------------------------------- geometry
@pytest.mark.parametrize(
    ("size", "limit", "keep", "expected"),
    [
        ((384, 512), (320, 320), True, (240, 320)),
        ((512, 384), (320, 320), True, (320, 240)),
        ((20, 4000), (96, 96), True, (1, 96)),  # 0.48 rows: at least one
        ((33, 47), (64, 128), True, (64, 91)),  # 47 * 64 / 33 = 91.15
        ((33, 47), (64, 128), False, (64, 128)),
        ((50, 100), (113, 113), True, (57, 113)),  # 56.5 exactly: rounds up
    ],
)
def test_fit_size(size: Any, limit: Any, keep: bool, expected: Any) -> None:
    assert fit_size(size, limit, keep) == expected


@pytest.mark.parametrize("shape", [(37, 53), (64, 48), (480, 641), (1, 1), (20, 400)])
@pytest.mark.parametrize("size", [(32, 32), (96, 64), (321, 123)])
def test_resize_of_one_image_is_exactly_opencvs(shape: tuple[int, int], size: tuple[int, int]) -> None:
    image = picture(*shape)
    sample = Resize(img_scale=size, keep_ratio=True)(sample_of(image), context())
    height, width = fit_size(shape, size)
    expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    padded = Pad(size=size)(sample, context())
    result = render(padded)
    assert np.array_equal(result[:height, :width], expected)
    assert (result[height:] == 114).all() and (result[:, width:] == 114).all()
    assert padded.img_size == (height, width) and padded.canvas == size
    assert padded.scale == (width / shape[1], height / shape[0])


def test_resize_by_area_is_exactly_opencvs_when_shrinking_and_linear_when_growing() -> None:
    image = picture(60, 80)
    small = render(Resize(img_scale=(15, 20), interpolation="area")(sample_of(image), context()))
    assert np.array_equal(small, cv2.resize(image, (20, 15), interpolation=cv2.INTER_AREA))
    large = render(Resize(img_scale=(120, 160), interpolation="area")(sample_of(image), context()))
    assert np.array_equal(large, cv2.resize(image, (160, 120), interpolation=cv2.INTER_LINEAR))


@pytest.mark.parametrize(
    ("size", "expected"), [((500, 1000), (667, 1333)), ((1000, 500), (1333, 667)), ((60, 60), (800, 800))]
)
def test_resize_fits_a_turned_picture_into_a_turned_scale(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """MMDetection's (1333, 800): at most 1333 on the longer side, 800 on the shorter."""
    assert Resize(img_scale=(800, 1333), either_way=True)(sample_of(picture(*size)), context()).canvas == expected


def test_boxes_and_scale_follow_a_resize() -> None:
    sample = Resize(img_scale=(30, 100), keep_ratio=False)(sample_of(picture(10, 20), [[1, 2, 5, 6]]), context())
    assert sample.boxes.tolist() == [[5, 6, 25, 18]]
    assert sample.scale == (5.0, 3.0)


def test_random_resize_stays_in_its_range() -> None:
    sizes = set()
    for seed in range(50):
        sample = RandomResize(scale=(100, 100), ratio_range=(0.5, 2.0))(sample_of(picture(50, 100)), context(seed))
        sizes.add(sample.canvas)
        assert 50 <= sample.canvas[1] < 200
        assert sample.canvas[0] == int(sample.canvas[1] / 2 + 0.5)
    assert len(sizes) > 30


def test_crop_shows_the_pixels_and_moves_the_boxes() -> None:
    image = picture(30, 40)
    for seed in range(5):
        sample = RandomCrop(crop_size=(16, 12), allow_empty=True)(
            sample_of(image, [[0, 0, 40, 30], [0, 0, 1, 1]]), context(seed)
        )
        [full] = sample.boxes[:1].tolist()
        assert full == [0, 0, 12, 16]
        rng = np.random.default_rng(seed)
        y, x = int(rng.integers(15)), int(rng.integers(29))
        assert np.array_equal(render(sample), image[y : y + 16, x : x + 12])


def test_crop_is_smaller_where_the_image_is() -> None:
    sample = RandomCrop(crop_size=(16, 100))(sample_of(picture(30, 40), [[0, 0, 40, 30]]), context())
    assert sample is not None and sample.canvas == (16, 40) == sample.img_size


def test_a_crop_without_boxes_drops_the_sample_unless_it_had_none() -> None:
    crop = RandomCrop(crop_size=(8, 8))
    far = [[100, 100, 101, 101]]
    dropped = [crop(sample_of(picture(102, 102), far), context(seed)) for seed in range(5)]
    assert dropped == [None] * 5
    assert crop(sample_of(picture(102, 102), far), context(must_keep=True)) is not None
    assert RandomCrop(crop_size=(8, 8), allow_empty=True)(sample_of(picture(102, 102), far), context()) is not None
    assert crop(sample_of(picture(102, 102), []), context()) is not None


@pytest.mark.parametrize("shape", [(9, 7), (32, 64)])
def test_flips(shape: tuple[int, int]) -> None:
    image = picture(*shape)
    height, width = shape
    sample = RandomFlip(px=1.0, py=0.0)(sample_of(image, [[1, 2, 5, 6]]), context())
    assert sample.boxes.tolist() == [[width - 5, 2, width - 1, 6]]
    assert np.array_equal(render(sample), image[:, ::-1])
    sample = RandomFlip(px=0.0, py=1.0)(sample_of(image, [[1, 2, 5, 6]]), context())
    assert sample.boxes.tolist() == [[1, height - 6, 5, height - 2]]
    assert np.array_equal(render(sample), image[::-1])
    sample = flip(flip(sample_of(image), True, True), True, True)
    assert sample.boxes.tolist() == [[1, 2, 5, 6]]
    assert np.array_equal(render(sample), image)


def test_resize_then_flip_is_the_flip_of_opencvs_resize() -> None:
    image = picture(37, 53)
    sample = flip(resize(sample_of(image), (24, 32)), True, False)
    assert np.array_equal(render(sample), cv2.flip(cv2.resize(image, (32, 24)), 1))


@pytest.mark.parametrize("mirror", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("offset", [(0, 0), (7, 11), (-5, -9), (60, 70)])
def test_a_part_of_a_resized_image_is_the_part_of_the_whole(offset: tuple[int, int], mirror: tuple[bool, bool]) -> None:
    """Resampling only what is visible gives what resizing everything would, to rounding."""
    image = cv2.GaussianBlur(picture(70, 90), (5, 5), 0)
    whole = cv2.resize(image, (117, 91))
    if any(mirror):
        whole = cv2.flip(whole, -1 if all(mirror) else int(mirror[0]))
    sample = window(flip(resize(sample_of(image), (91, 117)), *mirror), offset[0], offset[1], (40, 50))
    expected = np.full((200, 250, 3), 114, np.uint8)
    expected[50 : 50 + 91, 50 : 50 + 117] = whole
    y, x = 50 + offset[1], 50 + offset[0]
    difference = np.abs(render(sample).astype(int) - expected[y : y + 40, x : x + 50])
    assert difference.max() <= 2 and difference.mean() < 0.3


def test_padding_does_not_bring_back_what_was_cropped_away() -> None:
    image = np.full((20, 20, 3), 7, np.uint8)
    sample = Pad(size=(16, 16), fill=3)(window(sample_of(image), 5, 5, (8, 8)), context())
    result = render(sample)
    assert (result[:8, :8] == 7).all() and (result[8:] == 3).all() and (result[:, 8:] == 3).all()


def test_pad_refuses_a_larger_picture() -> None:
    with pytest.raises(UserError, match=r"picture has \(20, 30\).*size=\(16, 64\)"):
        Pad(size=(16, 64))(sample_of(picture(20, 30)), context())


def test_filter_boxes() -> None:
    boxes: list[list[float]] = [[0, 0, 4, 4], [0, 0, 1.5, 9], [2, 2, 9, 3.5]]
    sample = FilterBoxes(min_size=2)(sample_of(picture(9, 9), boxes), context())
    assert sample is not None and sample.boxes.tolist() == [[0, 0, 4, 4]] and len(sample.labels) == 1
    assert FilterBoxes(min_size=8, drop_empty=True)(sample_of(picture(9, 9), boxes), context()) is None


# -------------------------------------------------------------------------------------- Mosaic and MixUp
def plain(height: int, width: int, level: int) -> Image:
    return np.full((height, width, 3), level, np.uint8)


def test_mosaic_puts_the_current_image_top_left_once_and_partners_around() -> None:
    partners = FixedPartners(plain(20, 40, 50), plain(40, 40, 100), plain(40, 20, 150))
    mosaic = Mosaic(img_scale=(40, 40), max_cached=3, center_ratio_range=(1.0, 1.0))
    sample = mosaic(sample_of(plain(20, 40, 200), [[0, 0, 40, 20]]), context(3, partners))
    assert sample.canvas == (80, 80) and len(partners.loaded) == 3
    image = render(sample)
    # 20 x 40 fits into 40 x 40 unscaled; its lower right corner is the centre (40, 40).
    assert (image[20:40, :40] == 200).all() and (image[:20, :40] == 114).all()
    assert (image == 200).all(axis=2).sum() == 20 * 40
    assert sample.boxes[0].tolist() == [0, 20, 40, 40]
    level = {1: 50, 2: 100, 3: 150}
    for index, y, x in zip(partners.loaded, (39, 40, 40), (40, 39, 40), strict=True):
        assert (image[y, x] == level[index]).all()  # the pixel of each that touches the centre


def test_mosaic_cuts_at_the_canvas_and_drops_what_is_outside() -> None:
    partners = FixedPartners(*[plain(40, 40, 9)] * 3, boxes=[[38, 38, 40, 40], [0, 0, 40, 40]])
    mosaic = Mosaic(img_scale=(40, 40), center_ratio_range=(1.5, 1.5))
    sample = mosaic(sample_of(plain(40, 40, 9), [[0, 0, 40, 40]]), context(0, partners))
    # centre (60, 60): the partner at the lower right shows 20 x 20 of 40 x 40, its small box is outside.
    assert sample.boxes.tolist() == [
        [20, 20, 60, 60],
        [60, 20, 80, 60],
        [20, 60, 60, 80],
        [60, 60, 80, 80],
    ]


def test_mosaic_without_partners_or_luck_changes_nothing() -> None:
    sample = sample_of(picture(10, 10))
    assert Mosaic(img_scale=(40, 40))(sample, context()).canvas == (10, 10)
    partners = FixedPartners(plain(8, 8, 1))
    assert Mosaic(img_scale=(40, 40), prob=0.0)(sample, context(0, partners)).canvas == (10, 10)


def ages_drawn(transform: Mosaic | MixUp, count: int, rounds: int) -> np.ndarray:
    partners = FixedPartners(*[plain(8, 8, 1)] * count, boxes=[[0, 0, 8, 8]])
    for seed in range(rounds):
        transform(sample_of(plain(8, 8, 1)), context(seed, partners))
    return np.array(partners.loaded) - min(partners.loaded)


def test_first_in_first_out_draws_from_the_last_images_equally() -> None:
    ages = ages_drawn(Mosaic(img_scale=(8, 8), max_cached=4), 30, 1000)
    shares = np.bincount(ages) / len(ages)
    assert len(shares) == 4 and shares == pytest.approx([0.25] * 4, abs=0.03)


@pytest.mark.parametrize(
    "transform",
    [Mosaic(img_scale=(8, 8), max_cached=4, random_pop=True), MixUp(prob=1.0, max_cached=4, random_pop=True)],
)
def test_random_pop_reaches_farther_back_and_the_older_the_less(transform: Mosaic | MixUp) -> None:
    """A cache of n + 1 that forgets any one for a new one: an image survives a step with n / (n + 1)."""
    assert transform.window == 20
    ages = ages_drawn(transform, 30, 4000)
    shares = np.bincount(ages, minlength=20) / len(ages)
    expected = 0.8 ** np.arange(20)
    assert len(shares) == 20 and shares == pytest.approx(expected / expected.sum(), abs=0.02)


def test_tiles_that_are_cropped_away_are_never_decoded() -> None:
    decoded = []

    class Counting(FixedPartners):
        def load(self, index: int) -> Sample:
            sample = super().load(index)
            pixels = sample.tiles[0].source.pixels
            sample.tiles[0].source = Source((40, 40), lambda: (decoded.append(index), pixels())[1])
            return sample

    partners = Counting(*[plain(40, 40, 9)] * 3)
    sample = Mosaic(img_scale=(40, 40), center_ratio_range=(1.0, 1.0))(
        sample_of(plain(40, 40, 1)), context(0, partners)
    )
    render(window(sample, 2, 2, (30, 30)))  # inside the top left image
    assert decoded == []
    sample = Mosaic(img_scale=(40, 40), center_ratio_range=(1.0, 1.0))(
        sample_of(plain(40, 40, 1)), context(0, partners)
    )
    render(window(sample, 45, 2, (30, 30)))
    assert decoded == [partners.loaded[3]]


def test_mosaic_has_no_seams_after_odd_scaling() -> None:
    partners = FixedPartners(*[plain(40, 40, 200)] * 3)
    for size in range(31, 79, 3):
        sample = Mosaic(img_scale=(40, 40), center_ratio_range=(1.0, 1.0))(
            sample_of(plain(40, 40, 200)), context(0, partners)
        )
        assert (render(resize(sample, (size, size + 1))) == 200).all()


def test_mixup_blends_and_keeps_all_boxes() -> None:
    partners = FixedPartners(plain(40, 40, 200), boxes=[[4, 4, 20, 20]])
    mixup = MixUp(prob=1.0, beta=None, ratio_range=(1.0, 1.0), flip_ratio=0.0)
    sample = mixup(sample_of(plain(40, 40, 100), [[1, 2, 5, 6]]), context(0, partners))
    assert (render(sample) == 150).all()
    assert sample.boxes.tolist() == [[1, 2, 5, 6], [4, 4, 20, 20]]
    assert sample.labels.tolist() == [0, 1]


def test_mixup_scales_mirrors_and_pads_its_partner() -> None:
    partners = FixedPartners(plain(20, 40, 200), boxes=[[0, 0, 10, 10]])
    mixup = MixUp(prob=1.0, beta=None, ratio_range=(2.0, 2.0), flip_ratio=1.0)
    seen = set()
    for seed in range(20):
        sample = mixup(sample_of(plain(40, 40, 100), [[1, 2, 5, 6]]), context(seed, partners))
        assert sample.canvas == (40, 40)
        if len(sample.boxes) == 2:
            # twice as large and mirrored, the box is 20 wide at the right edge of 80; x of the window is 0..40
            x1, y1, x2, y2 = sample.boxes[1].tolist()
            seen.add(x1)
            assert (y1, y2) == (0, 20) and x2 == min(x1 + 20, 40)
    assert len(seen) > 5
    smaller = MixUp(prob=1.0, beta=None, ratio_range=(0.5, 0.5))
    image = render(smaller(sample_of(plain(40, 40, 100)), context(1, partners)))
    # 20 x 10 of the partner (level 200) on 114: (100 + 200) / 2 and (100 + 114) / 2
    assert (image == 150).all(axis=2).sum() == 200
    assert (image == 107).all(axis=2).sum() == 1400


def test_mixup_with_beta_is_near_a_half() -> None:
    partners = FixedPartners(plain(40, 40, 255), boxes=[[0, 0, 40, 40]])
    mixup = MixUp(prob=1.0, beta=32.0, ratio_range=(1.0, 1.0))
    levels = [
        int(render(mixup(sample_of(plain(40, 40, 0)), context(seed, partners)))[20, 20, 0]) for seed in range(100)
    ]
    assert abs(np.mean(levels) - 127.5) < 5
    assert 10 < np.std(levels) < 22  # Beta(32, 32) has a deviation of 0.062: 15.8 levels


def test_mixup_passes_where_no_partner_has_a_box() -> None:
    partners = FixedPartners(plain(40, 40, 200), boxes=[])
    sample = MixUp(prob=1.0)(sample_of(plain(40, 40, 100)), context(0, partners))
    assert (render(sample) == 100).all()


# ------------------------------------------------------------------------------------ colour and tensors
def test_hsv_is_the_published_formula() -> None:
    image = cv2.GaussianBlur(picture(40, 50), (9, 9), 0)
    changed = 0
    for seed in range(20):
        augment = HSVRandomAug(hue_delta=20, saturation_delta=90, value_delta=90)
        result = render(augment(sample_of(image), context(seed)))
        rng = np.random.default_rng(seed)
        gains = (rng.uniform(-1, 1, 3) * (20, 90, 90) * rng.integers(0, 2, 3)).astype(np.int16)
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.int16)
        hsv[..., 0] = (hsv[..., 0] + gains[0]) % 180
        hsv[..., 1:] = np.clip(hsv[..., 1:] + gains[1:], 0, 255)
        expected = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR) if gains.any() else image
        assert np.array_equal(result, expected)
        changed += bool(gains.any())
    assert changed > 12


def test_transforms_never_write_into_the_source() -> None:
    image = picture(40, 40)
    before = image.copy()
    sample = sample_of(image)
    for transform in (HSVRandomAug(), ToTensor()):
        sample = transform(sample, context(1))
    assert sample.tensor is not None
    sample.tensor.zero_()
    untouched = ToTensor()(sample_of(image), context())
    assert untouched.tensor is not None
    untouched.tensor.zero_()
    assert np.array_equal(image, before)


def test_to_tensor_orders() -> None:
    image = plain(2, 3, 0)
    image[:] = (10, 20, 30)
    for to_rgb, expected in [(False, [10, 20, 30]), (True, [30, 20, 10])]:
        sample = ToTensor(to_rgb=to_rgb)(sample_of(image.copy()), context())
        assert sample.tensor is not None and sample.tensor.dtype == torch.uint8
        assert sample.tensor.shape == (3, 2, 3) and sample.tensor[:, 0, 0].tolist() == expected


def test_yuv_is_the_integer_formula_for_every_colour() -> None:
    """53 levels of each channel, in all combinations, against the formula of the docstring."""
    levels = np.array([*range(0, 256, 5), 254], np.int64)
    b, g, r = (v.ravel() for v in np.meshgrid(levels, levels, levels, indexing="ij"))
    sample = ToTensor(to_yuv=True)(sample_of(np.stack((b, g, r), -1).astype(np.uint8)[None]), context())
    assert sample.tensor is not None
    y = (1868 * b + 9617 * g + 4899 * r + 8192) >> 14
    u = (128 + ((9241 * (b - y) + 8192) >> 14)).clip(0, 255)
    v = (128 + ((11682 * (r - y) + 8192) >> 14)).clip(0, 255)
    assert np.array_equal(sample.tensor[:, 0].numpy(), np.stack((y, u, v)))


@pytest.mark.parametrize(
    ("bgr", "yuv"),
    [
        ((0, 0, 0), [0, 128, 128]),
        ((255, 255, 255), [255, 128, 128]),
        ((0, 0, 255), [76, 85, 255]),  # red: Y = 0.299 * 255; V = 128 + 0.713 * 178.76 = 255.5
        ((255, 0, 0), [29, 255, 107]),  # blue
    ],
)
def test_yuv_is_full_range_bt601(bgr: tuple[int, int, int], yuv: list[int]) -> None:
    image = plain(1, 1, 0)
    image[:] = bgr
    sample = ToTensor(to_yuv=True)(sample_of(image), context())
    assert sample.tensor is not None and sample.tensor[:, 0, 0].tolist() == yuv


def test_normalize() -> None:
    """The detector computes it: pixels travel as uint8, the data set says what is meant."""
    normalize = Normalize(mean=128.0, std=128.0)
    sample = normalize(ToTensor()(sample_of(plain(2, 2, 7)), context()), context())
    assert sample.tensor is not None and sample.tensor.unique().tolist() == [7] and sample.tensor.dtype == torch.uint8
    assert input_format([ToTensor(to_yuv=True), normalize]) == InputFormat("yuv444", (128.0,), (128.0,))
    own = Normalize(mean=[0, 10, 20], std=[1, 2, 4])
    assert input_format([ToTensor(to_rgb=True), own]) == InputFormat("rgb", (0.0, 10.0, 20.0), (1.0, 2.0, 4.0))
    assert input_format([]) == InputFormat("bgr")
    with pytest.raises(UserError, match="2 times Normalize"):
        input_format([normalize, own])
    with pytest.raises(UserError, match="put ToTensor before it"):
        Normalize(mean=0.0, std=1.0)(sample_of(plain(2, 2, 0)), context())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Resize(img_scale=(0, 5)), r"got \(0, 5\)"),
        (lambda: Resize(img_scale=(5, 5), interpolation="cubic"), "'linear' or 'area'"),  # type: ignore[arg-type]
        (lambda: RandomResize(scale=(5, 5), ratio_range=(2.0, 1.0)), "0 < low <= high"),
        (lambda: RandomFlip(px=1.5), "probability"),
        (lambda: Pad(size=(5, 5), fill=300), r"0\.\.255"),
        (lambda: Mosaic(img_scale=(5, 5), max_cached=0), "at least 1"),
        (lambda: MixUp(beta=-1.0), "positive"),
        (lambda: HSVRandomAug(hue_delta=-1), r"0\.\.255"),
        (lambda: Normalize(mean=0.0, std=0.0), "must be positive"),
        (lambda: ToTensor(to_yuv=True, to_rgb=True), "exclude each other"),
    ],
)
def test_wrong_arguments(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
