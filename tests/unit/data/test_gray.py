"""Pictures of one channel: the luma of a decoded picture, and every transform on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from hatdet.data.collate import Collate2D
from hatdet.data.datasets.coco_lmdb import CocoFromLMDB
from hatdet.data.image_file import decode, to_gray
from hatdet.data.samplers import SampleRef
from hatdet.data.transforms.color import HSVRandomAug
from hatdet.data.transforms.geometry import Pad, RandomCrop, RandomFlip, RandomResize, Resize
from hatdet.data.transforms.mixup import MixUp
from hatdet.data.transforms.mosaic import Mosaic
from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Context, Sample, image_sample
from hatdet.data.transforms.tensor import Normalize, ToTensor, input_format
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import InputFormat

GEOMETRY: list[Any] = [
    Mosaic((64, 64), max_cached=4, prob=1.0),
    RandomResize((96, 96), (0.6, 1.4)),
    RandomCrop((64, 64)),
    RandomFlip(px=0.5, py=0.5),
    Pad((64, 64)),
    MixUp(prob=1.0, max_cached=4),
]


def luma(image: np.ndarray) -> np.ndarray:
    blue, green, red = (image[..., i].astype(np.int64) for i in range(3))
    return ((3735 * blue + 19235 * green + 9798 * red + 16384) >> 15)[..., None].astype(np.uint8)


def picture(channels: int, seed: int = 0, size: tuple[int, int] = (31, 45)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, channels)).astype(np.uint8)


def test_gray_is_the_luma_in_fixed_point() -> None:
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(52, -1, 3)
    assert np.array_equal(to_gray(grid), luma(grid))
    assert to_gray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)).ravel().tolist() == [29, 150, 76]
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert np.array_equal(to_gray(np.repeat(gray, 3, axis=2)), gray)
    assert to_gray(gray) is gray or np.array_equal(to_gray(gray), gray)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_grayscale_files_keep_their_levels(suffix: str) -> None:
    data = cv2.imencode(suffix, picture(1))[1].tobytes()
    assert np.array_equal(to_gray(decode(data))[..., 0], cv2.imdecode(np.frombuffer(data, np.uint8), 0))


def test_sixteen_bits_and_transparency_are_decoded_as_for_colours() -> None:
    deep = cv2.imencode(".png", (picture(1).astype(np.uint16) << 8) + 77)[1].tobytes()
    assert np.array_equal(to_gray(decode(deep)), picture(1))
    alpha = picture(4)
    assert np.array_equal(to_gray(decode(cv2.imencode(".png", alpha)[1].tobytes())), luma(alpha[..., :3]))


def dataset(packed: Path, transforms: list[Any], **more: Any) -> CocoFromLMDB:
    return CocoFromLMDB(packed, transforms, **more)


def test_a_data_set_is_gray_from_its_first_pixel(packed: Path) -> None:
    """Resizing comes after the luma, as on a camera that has no colours."""
    gray = dataset(packed, [Resize((32, 32)), Pad((32, 32)), ToTensor(color="gray")], test_mode=True)
    colours = dataset(packed, [ToTensor()], test_mode=True)
    assert gray.input_format == InputFormat("gray") and gray.input_format.channels == 1
    for index in range(len(gray)):
        item, whole = gray[index], colours[index]["img"].permute(1, 2, 0).numpy()
        assert item["img"].shape == (1, 32, 32) and item["img"].dtype == torch.uint8
        height, width = item["img_size"]
        expected = np.full((32, 32), 114, np.uint8)
        expected[:height, :width] = cv2.resize(luma(whole), (width, height), interpolation=cv2.INTER_LINEAR)
        assert np.array_equal(item["img"][0].numpy(), expected)
    batch = Collate2D()([gray[0], gray[1]])
    assert batch["img"].shape == (2, 1, 32, 32)


def test_every_geometric_transform_is_that_of_three_equal_channels(packed: Path, monkeypatch: Any) -> None:
    """The same draws, the same boxes, and each of three equal channels is what the one is."""
    ours = dataset(packed, [*GEOMETRY, ToTensor(color="gray")])
    monkeypatch.setattr(
        "hatdet.data.datasets.decoding.decode",
        lambda *arguments: np.repeat(to_gray(decode(*arguments)), 3, axis=2),
    )
    theirs = dataset(packed, [*GEOMETRY, ToTensor()])
    for seed in range(40):
        ref = SampleRef(seed % len(ours), seed, tuple((seed + k) % len(ours) for k in (1, 2, 3, 4)))
        a, b = ours[ref], theirs[ref]
        assert torch.equal(a["gt_boxes"], b["gt_boxes"])
        assert a["img"].shape == (1, 64, 64)
        assert torch.equal(a["img"].expand(3, -1, -1), b["img"])


def sample_of(image: np.ndarray) -> Sample:
    size = image.shape[:2]
    no_boxes = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    return image_sample(Sample(0, 0, "x.png", size, [], size, *no_boxes, size), image)


def test_of_a_gray_picture_the_value_is_shifted() -> None:
    image, seen = picture(1), set()
    for seed in range(30):
        draws = np.random.default_rng(seed)
        shift = int((draws.uniform(-1, 1, 3) * (5, 30, 40) * draws.integers(0, 2, 3))[2])
        sample = HSVRandomAug(5, 30, 40)(sample_of(image), Context(np.random.default_rng(seed), None))  # type: ignore[arg-type]
        assert np.array_equal(render(sample), np.clip(image.astype(int) + shift, 0, 255)), shift
        seen.add(np.sign(shift))
    assert seen == {-1, 0, 1}


def test_colours_of_the_tensor() -> None:
    image = picture(3)
    context = Context(np.random.default_rng(0), None)  # type: ignore[arg-type]
    for old, color in ((dict(to_yuv=True), "yuv444"), (dict(to_rgb=True), "rgb"), ({}, "bgr")):
        a, b = ToTensor(**old), ToTensor(color=color)  # type: ignore[arg-type]
        assert a.color == b.color == color
        assert torch.equal(a(sample_of(image), context).tensor, b(sample_of(image), context).tensor)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="color must be one of bgr, rgb, yuv444, gray, got 'grey'"):
        ToTensor(color="grey")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="exclude each other"):
        ToTensor(to_yuv=True, color="gray")
    with pytest.raises(UserError, match=r"ToTensor\(color='gray'\): x.png came as a picture of 3 channel.s., not of 1"):
        ToTensor(color="gray")(sample_of(image), context)
    with pytest.raises(UserError, match="Normalize has three numbers, but gray pictures have one channel"):
        input_format([ToTensor(color="gray"), Normalize((1, 2, 3), 4)])
    assert input_format([ToTensor(color="gray"), Normalize(128, 128)]).mean == (128.0,)
