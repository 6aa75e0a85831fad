"""Drawing tiles, pixel by pixel: whole or in part, mirrored, averaged, at the edges of source and canvas."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from hatdet.data.transforms.render import render, with_channels
from hatdet.data.transforms.sample import Image, Sample, Source, Tile, flip, image_sample, resize, window

MIRRORS = list(itertools.product((False, True), repeat=2))


def picture(height: int, width: int, channels: int = 3) -> Image:
    image = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, channels)).astype(np.uint8)
    image.flags.writeable = False
    return image


def sample_of(canvas: tuple[int, int], *tiles: Tile, fill: int = 114, channels: int = 3) -> Sample:
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return Sample(0, 0, "a", canvas, list(tiles), canvas, *none, canvas, fill=fill, channels=channels)


def whole(image: Image) -> Sample:
    return image_sample(sample_of(image.shape[:2], channels=image.shape[2]), image)


def tile(image: Image, sx: float, sy: float, tx: float, ty: float, clip: tuple[float, ...], area: bool = False) -> Tile:
    return Tile(Source(image.shape[:2], lambda: image), sx, sy, tx, ty, clip, area)  # type: ignore[arg-type]


def mirrored(image: Image, horizontal: bool, vertical: bool) -> Image:
    return image[:: -1 if vertical else 1, :: -1 if horizontal else 1]


@pytest.mark.parametrize("mirror", MIRRORS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_cut_of_a_mirrored_picture_has_its_pixels(mirror: tuple[bool, bool], channels: int) -> None:
    image = picture(20, 31, channels)
    for x, y, height, width in ((3, 5, 9, 11), (0, 0, 20, 31), (20, 11, 9, 11), (0, 7, 1, 1)):
        drawn = render(window(flip(whole(image), *mirror), x, y, (height, width)))
        assert np.array_equal(drawn, mirrored(image, *mirror)[y : y + height, x : x + width])


@pytest.mark.parametrize("mirror", MIRRORS)
def test_a_cut_that_reaches_beyond_is_filled(mirror: tuple[bool, bool]) -> None:
    image = picture(6, 9)
    drawn = render(window(flip(whole(image), *mirror), -2, 3, (5, 14)))
    expected = np.full((5, 14, 3), 114, np.uint8)
    expected[:3, 2:11] = mirrored(image, *mirror)[3:]
    assert np.array_equal(drawn, expected)


@pytest.mark.parametrize("mirror", MIRRORS)
@pytest.mark.parametrize("size", [(10, 20), (40, 62), (10, 62)])
def test_a_cut_of_an_averaged_picture_is_the_cut_of_opencvs(mirror: tuple[bool, bool], size: tuple[int, int]) -> None:
    image = picture(20, 31)
    reduced = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR if size == (40, 62) else cv2.INTER_AREA)
    drawn = render(window(flip(resize(whole(image), size, area=True), *mirror), 2, 3, (5, 7)))
    assert np.array_equal(drawn, mirrored(reduced, *mirror)[3:8, 2:9])


def test_averaging_needs_a_side_that_shrinks() -> None:
    image = picture(20, 31)
    for size, method in (((20, 62), cv2.INTER_LINEAR), ((40, 31), cv2.INTER_LINEAR), ((20, 30), cv2.INTER_AREA),
                         ((19, 31), cv2.INTER_AREA)):  # fmt: skip
        drawn = render(resize(whole(image), size, area=True))
        assert np.array_equal(drawn, cv2.resize(image, size[::-1], interpolation=method))


@pytest.mark.parametrize("mirror", MIRRORS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("at", [(4, 6), (0, 0), (30, 26), (-3, -4)])
def test_a_part_is_resampled_as_the_whole_would_be(
    mirror: tuple[bool, bool], channels: int, at: tuple[int, int]
) -> None:
    """OpenCV's own warp of the whole source, borders repeated; what no source pixel covers is fill."""
    image, (height, width), (x, y) = picture(23, 31, channels), (41, 47), at
    drawn = render(window(flip(resize(whole(image), (height, width)), *mirror), x, y, (20, 21)))
    matrix = np.array([[31 / 47, 0, (x + 0.5) * 31 / 47 - 0.5], [0, 23 / 41, (y + 0.5) * 23 / 41 - 0.5]])
    for axis, (flipped, size, full) in enumerate(zip(mirror, (31, 23), (47, 41), strict=True)):
        if flipped:
            step = -size / full
            matrix[axis, axis], matrix[axis, 2] = step, (at[axis] + 0.5 - full) * step - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = with_channels(cv2.warpAffine(image, matrix, (21, 20), flags=flags, borderMode=cv2.BORDER_REPLICATE))
    expected = np.full_like(warped, 114)
    top, left = max(0, -y), max(0, -x)
    expected[top : height - y, left : width - x] = warped[top : height - y, left : width - x]
    assert np.array_equal(drawn, expected)


@pytest.mark.parametrize("size", [(23, 62), (46, 31), (23, 93), (92, 31)])
def test_a_part_that_is_stretched_one_way_only_is_resampled(size: tuple[int, int]) -> None:
    image, (height, width) = picture(23, 31), size
    drawn = render(window(resize(whole(image), size), 5, 4, (11, 13)))
    matrix = np.array([[31 / width, 0, 5.5 * 31 / width - 0.5], [0, 23 / height, 4.5 * 23 / height - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    assert np.array_equal(drawn, cv2.warpAffine(image, matrix, (13, 11), flags=flags, borderMode=cv2.BORDER_REPLICATE))


def test_a_later_tile_lies_on_an_earlier_one() -> None:
    below, above = np.full((4, 6, 3), 10, np.uint8), np.full((2, 3, 3), 20, np.uint8)
    drawn = render(sample_of((4, 6), tile(below, 1, 1, 0, 0, (0, 0, 6, 4)), tile(above, 1, 1, 3, 1, (3, 1, 6, 3))))
    assert (drawn[1:3, 3:] == 20).all() and (drawn == 10).sum() == 3 * (24 - 6)


def test_a_picture_that_is_shown_whole_or_cut_is_not_copied() -> None:
    image = picture(20, 31)
    assert np.shares_memory(render(whole(image)), image)
    assert np.shares_memory(render(window(whole(image), 3, 4, (5, 6))), image)


def test_a_tile_narrower_than_half_a_pixel_is_drawn_as_one() -> None:
    """10 x 10 pixels on 1.0 x 0.4 of the canvas: their mean."""
    image = picture(10, 10)
    mean = cv2.resize(image, (1, 1), interpolation=cv2.INTER_AREA)
    for sx, sy, clip in ((0.1, 0.04, (0, 0, 1, 0.6)), (0.04, 0.1, (0, 0, 0.6, 1))):
        assert np.array_equal(render(sample_of((1, 1), tile(image, sx, sy, 0, 0, clip, area=True))), mean)


@pytest.mark.parametrize("vertical", [False, True])
def test_an_averaged_size_that_was_rounded_down_repeats_its_last_row(vertical: bool) -> None:
    """44 pixels on 4.4 from 0.4 to 4.8: four are drawn, five are to be seen."""
    image = picture(3, 44)
    columns = cv2.resize(image, (4, 3), interpolation=cv2.INTER_AREA)
    five = tile(image, 0.1, 1, 0.4, 0, (0.4, 0, 4.8, 3), area=True)
    fifth = tile(image, 0.1, 1, -3.6, 0, (0, 0, 0.8, 3), area=True)
    canvases: list[tuple[Tile, tuple[int, int], Image]] = [
        (five, (3, 5), columns[:, [0, 1, 2, 3, 3]]), (fifth, (3, 1), columns[:, 3:]),
    ]  # fmt: skip
    for shown, (height, width), expected in canvases:
        if vertical:
            turned = np.ascontiguousarray(image.transpose(1, 0, 2))
            x1, y1, x2, y2 = shown.clip
            shown = tile(turned, 1, 0.1, 0, shown.tx, (y1, x1, y2, x2), area=True)
            height, width, expected = width, height, expected.transpose(1, 0, 2)
        assert np.array_equal(render(sample_of((height, width), shown)), expected)


def test_edges_count_as_whole_within_a_thousandth_of_a_pixel() -> None:
    """A source on 0.0009 to 8.0009 is the picture itself; on 0.0011 it is resampled."""
    image = picture(8, 8)
    for shift, same in ((0.0009, True), (-0.0009, True), (0.02, False), (-0.02, False)):
        for tx, ty in ((shift, 0), (0, shift)):
            drawn = render(sample_of((8, 8), tile(image, 1, 1, tx, ty, (0, 0, 8, 8))))
            assert np.array_equal(drawn, image) == same or not same
            assert np.shares_memory(drawn, image) == same


def test_what_no_tile_covers_is_fill_and_edges_round_to_the_nearest_pixel() -> None:
    image = np.full((10, 10, 1), 9, np.uint8)
    drawn = render(sample_of((6, 7), tile(image, 1, 1, 0, 0, (1.5, 2.4, 4.5, 4.6)), fill=3, channels=1))
    expected = np.full((6, 7, 1), 3, np.uint8)
    expected[2:5, 2:5] = 9
    assert np.array_equal(drawn, expected)
    outside = sample_of(
        (6, 7), tile(image, 1, 1, -9, 0, (-9, 0, 1, 10)), tile(image, 1, 1, 6, 5, (6, 5, 16, 15)), fill=3, channels=1
    )
    drawn = render(outside)
    assert (drawn[:, 0] == 9).all() and drawn[5, 6] == 9 and (drawn == 9).sum() == 7
    nothing = sample_of(
        (2, 2), tile(image, 1, 1, 5, 5, (5, 5, 15, 15)), tile(image, 1, 1, 0, 0, (1, 1, 1.4, 2)), channels=1
    )
    assert (render(nothing) == 114).all()


def test_the_drawn_picture_is_the_samples_only_tile() -> None:
    sample = resize(whole(picture(20, 31)), (10, 11))
    drawn = render(sample)
    assert len(sample.tiles) == 1 and sample.tiles[0].source.pixels() is drawn and sample.canvas == (10, 11)
    shown = sample.tiles[0]
    assert (shown.sx, shown.sy, shown.tx, shown.ty, shown.clip) == (1, 1, 0, 0, (0, 0, 11, 10))
    assert render(sample) is drawn or np.array_equal(render(sample), drawn)
