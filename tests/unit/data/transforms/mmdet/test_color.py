"""Changes of colour against the methods written out, and against numbers worked out by hand."""

from __future__ import annotations

import colorsys
from typing import Any

import cv2
import numpy as np
import pytest

from hatdet.data.transforms.color import HSVRandomAug
from hatdet.data.transforms.mmdet.color import enhance
from hatdet.data.transforms.mmdet.color.distort import PhotoMetricDistortion, RandomGrayscale, YOLOXHSVRandomAug, turned
from hatdet.data.transforms.render import render
from tests.helpers.samples import context, noise, sample_of


def test_saturation_and_hue_pixel_by_pixel() -> None:
    image = noise(5, 7).astype(np.float32)
    for saturation, hue in ((0.5, 0.0), (1.4, -18.0), (1.0, 17.0), (1.5, 18.0)):
        expected = np.zeros_like(image)
        for row in range(5):
            for column in range(7):
                b, g, r = (image[row, column] / 255).tolist()
                h, s, v = colorsys.rgb_to_hsv(r, g, b)
                s = min(s * saturation, 1.0) if saturation > 1 else s * saturation
                expected[row, column] = np.array(colorsys.hsv_to_rgb((h + hue / 360) % 1, s, v)[::-1]) * 255
        assert np.allclose(turned(image.copy(), saturation, hue), expected, atol=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_photometric_distortion(seed: int) -> None:
    image = noise(6, 8, seed)
    drawn = render(PhotoMetricDistortion()(sample_of(image), context(seed)))
    rng = np.random.default_rng(seed)
    late, brighten, contrast, saturate, turn, swap = rng.integers(0, 2, 6).tolist()
    shift, factor = rng.uniform(-32, 32), rng.uniform(0.5, 1.5)
    saturation = rng.uniform(0.5, 1.5) if saturate else 1.0
    hue = rng.uniform(-18, 18) if turn else 0.0
    order = rng.permutation(3)
    x = image.astype(np.float32)
    x = x + np.float32(shift) if brighten else x
    x = x * np.float32(factor) if contrast and not late else x
    x = turned(x.copy(), saturation, hue) if saturate or turn else x
    x = x * np.float32(factor) if contrast and late else x
    x = x[:, :, order] if swap else x
    assert np.array_equal(drawn, np.clip(np.rint(x), 0, 255).astype(np.uint8))


def test_photometric_distortion_of_gray_pictures() -> None:
    image = noise(6, 8, channels=1)
    assert render(PhotoMetricDistortion()(sample_of(image), context(3))).shape == (6, 8, 1)


def test_gray_of_all_channels() -> None:
    image = np.array([[[10, 20, 31], [0, 0, 255]]], np.uint8)
    drawn = render(RandomGrayscale(prob=1.0, keep_channels=True)(sample_of(image), context()))
    assert drawn.tolist() == [[[20] * 3, [85] * 3]]  # 61 / 3, rounded down
    weights = RandomGrayscale(prob=1.0, keep_channels=True, channel_weights=(2, 1, 1))
    assert render(weights(sample_of(image), context())).tolist() == [[[17] * 3, [63] * 3]]  # 71 / 4, 255 / 4
    assert np.array_equal(render(RandomGrayscale(0.0, True)(sample_of(image), context())), image)
    with pytest.raises(ValueError, match="keep_channels is False"):
        RandomGrayscale()


def test_hsv_is_the_same_by_both_names() -> None:
    image = noise(9, 9)
    ours, theirs = (render(made()(sample_of(image), context(5))) for made in (HSVRandomAug, YOLOXHSVRandomAug))
    assert np.array_equal(ours, theirs) and not np.array_equal(ours, image)


# ------------------------------------------------------------------------------------ AutoAugment's operations
IMAGE = np.array([[[0, 10, 20], [100, 128, 200]], [[50, 60, 255], [127, 64, 32]]], np.uint8)


def applied(name: str, mag: float, image: Any = IMAGE) -> Any:
    limit = max(mag, 0.0)
    options = {} if name in ("Equalize", "AutoContrast", "Invert") else dict(min_mag=limit, max_mag=limit)
    return render(getattr(enhance, name)(**options)(sample_of(image), context()))


def test_tables() -> None:
    assert np.array_equal(applied("Invert", 0), 255 - IMAGE)
    # from 128 on: 255 - 128 = 127, 255 - 200 = 55, 255 - 255 = 0
    assert applied("Solarize", 128.0).tolist() == [[[0, 10, 20], [100, 127, 55]], [[50, 60, 0], [127, 64, 32]]]
    more = [[[100, 110, 120], [200, 128, 200]], [[150, 160, 255], [227, 164, 132]]]
    assert applied("SolarizeAdd", 100.0).tolist() == more
    # 4 bits: multiples of 16
    assert applied("Posterize", 4.0).tolist() == [[[0, 0, 16], [96, 128, 192]], [[48, 48, 240], [112, 64, 32]]]
    assert not applied("Posterize", 0.0).any()
    assert np.array_equal(applied("Posterize", 8.0), IMAGE)


def test_mixtures() -> None:
    assert np.array_equal(applied("Brightness", 0.5), IMAGE // 2)
    assert np.array_equal(applied("Brightness", 1.9), np.clip(IMAGE * np.float32(1.9), 0, 255).astype(np.uint8))
    gray = cv2.cvtColor(IMAGE, cv2.COLOR_BGR2GRAY)
    assert np.array_equal(applied("Color", 0.0), np.repeat(gray[:, :, None], 3, axis=2))
    assert np.array_equal(applied("Color", 1.0), IMAGE)
    mean = round(float(gray.mean()))
    assert (applied("Contrast", 0.0) == mean).all()
    half = np.clip(0.5 * IMAGE.astype(float) + 0.5 * mean, 0, 255).astype(np.uint8)
    assert np.array_equal(applied("Contrast", 0.5), half)
    flat = np.full((5, 5, 3), 77, np.uint8)
    assert np.array_equal(applied("Sharpness", 1.7, flat), flat)
    spot = np.zeros((5, 5, 3), np.uint8)
    spot[2, 2] = 130
    blurred = applied("Sharpness", 0.0, spot)  # 130 / 13 around, 5 times that in the middle
    assert blurred[2, 2].tolist() == [50] * 3 and blurred[1, 1].tolist() == [10] * 3 and not blurred[0].any()


def test_histograms() -> None:
    ramp = np.repeat(np.array([[50, 100, 150]], np.uint8)[:, :, None], 3, axis=2)
    assert applied("AutoContrast", 0, ramp)[0, :, 0].tolist() == [0, 127, 255]
    flat = np.full((4, 4, 3), 9, np.uint8)
    assert np.array_equal(applied("AutoContrast", 0, flat), flat) and np.array_equal(applied("Equalize", 0, flat), flat)
    image = noise(40, 60)
    image[:, :, 0] //= 3
    equal = applied("Equalize", 0, image)
    for c in range(3):
        counts = [int((image[:, :, c] == level).sum()) for level in range(256)]
        used = [count for count in counts if count]
        step = (sum(used) - used[-1]) // 255
        table = [min(max((sum(counts[:level]) + step // 2) // step if level else 0, 0), 255) for level in range(256)]
        assert np.array_equal(equal[:, :, c], np.array(table, np.uint8)[image[:, :, c]])


def test_magnitudes() -> None:
    assert enhance.magnitude(10, 0.1, 1.9, context()) == 1.9 and enhance.magnitude(4, 0.0, 256.0, context()) == 102.4
    drawn = [enhance.magnitude(None, 0.1, 1.9, context(seed)) for seed in range(100)]
    assert min(drawn) >= 0.1 and max(drawn) <= 1.9 and len(set(drawn)) > 10
    with pytest.raises(ValueError, match=r"0\.\.2, the smaller first"):
        enhance.Color(max_mag=2.5)
    with pytest.raises(ValueError, match=r"level is 11"):
        enhance.Color(level=11)


def test_gray_pictures_keep_their_channel() -> None:
    for name in ("Color", "Brightness", "Contrast", "Sharpness", "Solarize", "Equalize", "AutoContrast", "Invert"):
        assert applied(name, 0.5, noise(9, 7, channels=1)).shape == (9, 7, 1), name
