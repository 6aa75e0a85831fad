"""How large transforms may draw a picture, and at what scale it is decoded for that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hatdet.data.transforms.batch.leave import LeaveToDevice
from hatdet.data.transforms.color import HSVRandomAug
from hatdet.data.transforms.crop import CenterCrop
from hatdet.data.transforms.geometry import FilterBoxes, Pad, RandomCrop, RandomFlip, RandomResize, Resize
from hatdet.data.transforms.mixup import MixUp
from hatdet.data.transforms.mosaic import Mosaic
from hatdet.data.transforms.reach import Reach, reduction
from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Context, Sample, Source, Tile, flip, resize, window
from hatdet.data.transforms.tensor import Normalize, ToTensor
from tests.helpers.samples import noise

PHOTO, PHONE = (960, 1280), (3000, 4000)


def recipe(largest: float, mixup: float = 0.5, prob: float = 1.0) -> list[Any]:
    """The detector's training transforms at 320 px."""
    return [
        Mosaic(img_scale=(320, 320), prob=prob),
        RandomResize(scale=(640, 640), ratio_range=(0.5, largest)),
        RandomCrop(crop_size=(320, 320)),
        HSVRandomAug(),
        RandomFlip(),
        Pad(size=(320, 320)),
        MixUp(prob=mixup),
        ToTensor(),
        Normalize(mean=0.0, std=255.0),
    ]


@pytest.mark.parametrize(
    ("size", "largest", "expected"),
    [
        (PHOTO, 2.0, 2),  # a quarter on the mosaic, at most twice that: half of the file's pixels are enough
        (PHOTO, 1.4, 2),  # 0.35, and MixUp's partner 0.5
        (PHONE, 2.0, 4),  # 0.08, 0.16: a quarter
        (PHONE, 1.4, 4),
        ((480, 640), 2.0, 1),
        ((480, 640), 1.4, 1),
        ((300, 400), 1.4, 1),
        ((959, 1280), 2.0, 2),  # 240 / 959 is above a quarter by rounding alone
        ((1280, 960), 2.0, 2),
        ((1, 1), 2.0, 1),
    ],
)
def test_the_decoded_picture_is_never_enlarged(size: tuple[int, int], largest: float, expected: int) -> None:
    assert reduction([recipe(largest)], size) == expected


def test_partners_count_and_so_do_pictures_that_a_transform_leaves_alone() -> None:
    assert reduction([recipe(1.0)], PHOTO) == 2  # MixUp's partner: half of the file's pixels
    left = [*recipe(1.0)[:3], LeaveToDevice(recipe(1.0)[3:8])]  # as it ends where the device finishes
    assert reduction([left], PHOTO) == 2 and reduction([[*left[:3], LeaveToDevice(recipe(1.0)[3:6])]], PHOTO) == 4
    assert reduction([recipe(1.0, mixup=0)], PHOTO) == 4  # a quarter on the mosaic
    assert reduction([recipe(1.0, mixup=0, prob=0.5)], PHOTO) == 2  # alone: on the whole of 640 pixels
    assert reduction([recipe(2.0, prob=0.5)], PHOTO) == 1


def test_all_pipelines_count() -> None:
    late = [RandomResize(scale=(320, 320), ratio_range=(0.5, 2.5)), RandomCrop(crop_size=(320, 320)), ToTensor()]
    assert reduction([recipe(2.0), late], PHOTO) == 1  # 0.625
    assert reduction([late], PHONE) == 4  # 0.2


def test_a_crop_before_a_resize_enlarges() -> None:
    assert reduction([[RandomCrop(crop_size=(480, 480)), Resize(img_scale=(240, 240))]], PHOTO) == 2
    assert reduction([[Resize(img_scale=(240, 240))]], PHOTO) == 4
    assert reduction([[Resize(img_scale=(240, 600), keep_ratio=False)]], PHOTO) == 2  # 600 / 1280 the larger
    assert reduction([[Resize(img_scale=(600, 240), either_way=True)]], (1280, 960)) == 4  # 240 / 960
    assert reduction([[Pad(size=(1280, 1280)), Resize(img_scale=(320, 320))]], PHOTO) == 4
    assert reduction([[FilterBoxes(), RandomFlip(), Resize(img_scale=(100, 160))]], PHOTO) == 8
    assert Reach(PHOTO, PHOTO).fitted((320, 320)) == Reach(PHOTO, (240, 320), 0.25)


def test_whole_where_a_transform_does_not_say() -> None:
    assert reduction([[Resize(img_scale=(100, 100)), CenterCrop(size=(50, 50), resize=64)]], PHOTO) == 1
    assert reduction([[Resize(img_scale=(100, 100)), lambda sample, ctx: sample]], PHOTO) == 1
    assert reduction([[]], PHOTO) == 1


class Seen:
    """Pictures of one size, and the scales at which they are drawn."""

    indices = (1, 2, 3)

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def load(self, index: int) -> Sample:
        (height, width), box = self.size, np.array([[0, 0, *self.size[::-1]]], np.float32)
        tile = Tile(Source(self.size, self.pixels), 1.0, 1.0, 0.0, 0.0, (0.0, 0.0, float(width), float(height)))
        return Sample(index, index, "a", self.size, [tile], self.size, box, np.zeros(1, np.int64), self.size)

    def pixels(self) -> np.ndarray:
        return noise(*self.size)


@pytest.mark.parametrize("size", [(61, 83), (120, 40), (64, 64)])
@pytest.mark.parametrize("prob", [1.0, 0.5])
def test_no_draw_is_larger_than_the_reach_says(
    size: tuple[int, int], prob: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hatdet.data.transforms import render as module

    drawn: list[float] = []
    draw = module._draw

    def watched(tile: Tile, *rest: Any) -> Any:
        if tile.source.size == size:
            drawn.append(max(abs(tile.sx), abs(tile.sy)))
        return draw(tile, *rest)

    monkeypatch.setattr(module, "_draw", watched)
    pipeline = [
        Mosaic(img_scale=(32, 32), prob=prob),
        RandomResize(scale=(64, 64), ratio_range=(0.5, 1.5)),
        RandomCrop(crop_size=(32, 32), allow_empty=True),
        HSVRandomAug(),
        RandomFlip(),
        Pad(size=(32, 32)),
        MixUp(prob=0.5),
    ]
    ways = [Reach(size, size)]
    for transform in pipeline:
        ways = [way for before in ways for way in transform.reaches(before)]
    partners = Seen(size)
    for seed in range(30):
        sample = partners.load(0)
        ctx = Context(np.random.default_rng(seed), partners, must_keep=True)
        for transform in pipeline:
            sample = transform(sample, ctx)  # type: ignore[assignment, operator]
        render(sample)
    most = max(way.scale for way in ways)
    assert 0.85 * most < max(drawn) <= 1.01 * most


@pytest.mark.parametrize("size", [(64, 48), (61, 45), (62, 47)])
@pytest.mark.parametrize("mirror", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_reduced_picture_lies_where_the_whole_one_does(
    size: tuple[int, int], mirror: tuple[bool, bool], axis: int
) -> None:
    """A ramp of four levels a pixel, whole and as means of 4 x 4 pixels: half a pixel off would be two levels."""
    places = np.indices((64, 48))[axis]
    ramp = np.broadcast_to((4 * places)[:, :, None], (64, 48, 3)).astype(np.uint8)
    means = np.rint(ramp.reshape(16, 4, 12, 4, 3).mean(axis=(1, 3))).astype(np.uint8)
    pictures = []
    for source in (Source(size, lambda: ramp[: size[0], : size[1]]), Source(size, lambda: means, reduction=4)):
        tile = Tile(source, 1.0, 1.0, 0.0, 0.0, (0.0, 0.0, float(size[1]), float(size[0])))
        none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        sample = window(flip(Sample(0, 0, "a", size, [tile], size, *none, size), *mirror), -5, -7, (80, 60))
        pictures.append(render(resize(sample, (20, 15))).astype(int))
    inner = (slice(4, 1 + size[0] // 4), slice(3, size[1] // 4))  # the border repeats other pixels
    assert np.abs(pictures[0] - pictures[1])[inner].max() <= 1
