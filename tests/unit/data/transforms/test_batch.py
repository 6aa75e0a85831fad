"""Augmentation that is left to the training device gives the batches of the data's process."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from hatdet.data.transforms.batch import finish as finishing
from hatdet.data.transforms.batch.finish import FinishOnDevice, finished_item, mix, place, shift_colours
from hatdet.data.transforms.batch.leave import LeaveToDevice
from hatdet.data.transforms.batch.unfinished import Unfinished, join
from hatdet.data.transforms.color import HSVRandomAug
from hatdet.data.transforms.geometry import Pad, RandomFlip, Resize
from hatdet.data.transforms.tensor import ToTensor, input_format
from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.utils.errors import UserError
from tests.helpers.finishing import SIDE, batches, beginnings, endings, off_by


def equal_but_for_pictures(expected: dict[str, Any], found: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected if key != "img")


@pytest.mark.parametrize("color", ["bgr", "rgb", "yuv444"])
def test_mosaic_batches_are_equal(color: str) -> None:
    """Mosaic covers the canvas, whose width is a multiple of OpenCV's 32 columns: nothing differs."""
    expected, left = batches(beginnings(low=1.0), endings(color), 48)
    assert "unfinished" in left and len(left["unfinished"]["mix_rows"]) > 10
    found = FinishOnDevice()(left)
    equal_but_for_pictures(expected, found)
    assert torch.equal(expected["img"], found["img"])
    assert found["img"].is_contiguous(memory_format=torch.channels_last)


def test_smaller_pictures_differ_in_the_rest_of_opencv_s_lines_alone() -> None:
    expected, left = batches(beginnings(mosaic=False), endings(mixup=0.0), 64)
    found = FinishOnDevice()(left)
    equal_but_for_pictures(expected, found)
    off = off_by(expected["img"], found["img"])
    assert int(off.max()) <= 1
    for number, one in enumerate(off):
        width = int(expected["img_size"][number, 1])
        columns = one.amax((0, 1)).nonzero().flatten()
        assert all(column < width % 32 or width - width % 32 <= column < width for column in columns.tolist())


def test_gray_pictures_are_equal() -> None:
    expected, left = batches(beginnings(), endings("gray"), 32, channels=1)
    assert len(left["unfinished"]["shift_rows"]) > 5
    assert torch.equal(expected["img"], FinishOnDevice()(left)["img"])


def test_without_anything_to_do_the_picture_is_the_same() -> None:
    expected, left = batches(beginnings(), [ToTensor()], 3)
    assert all(len(left["unfinished"][f"{name}_rows"]) == 0 for name in ("shift", "place", "mix"))
    assert torch.equal(expected["img"], FinishOnDevice()(left)["img"])


def test_a_batch_of_one_and_one_item() -> None:
    expected, left = batches(beginnings(), endings(), 1)
    before = copy.deepcopy(left)
    assert torch.equal(expected["img"], FinishOnDevice()(left)["img"])
    assert torch.equal(before["img"], left["img"]), "the loader's own tensor is not written to"
    item = {"img": torch.zeros((3, 2, 2), dtype=torch.uint8), "unfinished": Unfinished((2, 2), (1, 2), "bgr", fill=9)}
    assert finished_item(item)["img"].tolist() == 3 * [[[0, 0], [9, 9]]]
    assert finished_item({"img": 1}) == {"img": 1}


def test_every_color_is_shifted_as_opencv_does() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 64, 96, 3)).astype(np.uint8)
    shifts = [(5, -30, 17), (-4, 0, 0), (179, 255, -255)]
    found = shift_colours(torch.from_numpy(pixels), torch.tensor(shifts))
    for image, (hue, saturation, value), ours in zip(pixels, shifts, found.numpy(), strict=True):
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + hue) % 180
        for channel, shift in ((1, saturation), (2, value)):
            hsv[..., channel] = np.clip(hsv[..., channel].astype(int) + shift, 0, 255)
        assert np.array_equal(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), ours)


def test_mirrored_and_padded_by_hand() -> None:
    pixels = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 4, 1).repeat(2, 1, 1, 1)
    mirror, sizes = torch.tensor([[True, False], [False, True]]), torch.tensor([[2, 3], [3, 4]])
    found = place(pixels, mirror, sizes, 99)[..., 0].tolist()
    assert found[0] == [[2, 1, 0, 99], [6, 5, 4, 99], [99, 99, 99, 99]]
    assert found[1] == [[8, 9, 10, 11], [4, 5, 6, 7], [0, 1, 2, 3]]


@pytest.mark.parametrize("share", [0.5, 0.3, 0.61803398, 0.9999, 1.0])
def test_all_pairs_of_levels_are_mixed_as_opencv_does(share: float) -> None:
    first, second = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    expected = cv2.addWeighted(first, share, second, 1 - share, 0)
    one, two = (torch.from_numpy(levels.copy()).view(1, 256, 256, 1) for levels in (first, second))
    shares = torch.from_numpy(np.array([[share, 1 - share]], np.float32))
    off = np.abs(mix(one, two, shares)[0, :, :, 0].numpy().astype(int) - expected)
    assert off.max() <= 1 and (off == 0).mean() > 0.99, "equal where OpenCV has fused multiply-adds"


def test_the_sample_is_drawn_like_any_other() -> None:
    left = LeaveToDevice(endings("rgb"))
    assert left.window == 10 and left.color == "rgb" and input_format([left]).color == "rgb"
    assert LeaveToDevice([Pad((8, 8))]).window == 0


@pytest.mark.parametrize(
    "transforms",
    [[RandomFlip(), HSVRandomAug()], [Resize((8, 8)), ToTensor()], [Pad((8, 8)), Pad((9, 9))]],
    ids=["order", "unknown", "twice"],
)
def test_other_lists_are_refused(transforms: list[Any]) -> None:
    with pytest.raises(UserError, match="in this order"):
        LeaveToDevice(transforms)


def test_an_unfinished_batch_is_refused_by_the_batch_processor() -> None:
    _, left = batches(beginnings(), endings(), 2)
    device = torch.device("cpu")
    with pytest.raises(UserError, match="FinishOnDevice"):
        BasicBatchProcessor().prepare_batch(left, device)
    done = BasicBatchProcessor(batch_transforms=[FinishOnDevice()]).prepare_batch(left, device)
    assert "unfinished" not in done and done["img"].shape == (2, 3, SIDE, SIDE)
    plain = {"img": torch.zeros(1)}
    assert FinishOnDevice()(plain) is plain


def test_samples_that_do_not_belong_together_are_refused() -> None:
    one = Unfinished((4, 4), (2, 2), "bgr")
    for other in (replace(one, color="rgb"), replace(one, fill=1), replace(one, canvas=(4, 8))):
        with pytest.raises(UserError, match="same ToTensor and Pad"):
            join([one, other], (4, 4))
    with pytest.raises(UserError, match="same ToTensor and Pad"):  # extended by the collation
        join([one], (8, 8))


def test_a_gray_picture_among_colours_is_refused() -> None:
    with pytest.raises(UserError, match=r"1 channel\(s\), not of 3"):
        batches(beginnings(), endings("bgr"), 1, channels=1)


def test_transforms_and_batches_travel_between_processes() -> None:
    _, left = batches(beginnings(), endings(), 2)
    again = pickle.loads(pickle.dumps(left))
    assert torch.equal(FinishOnDevice()(again)["img"], FinishOnDevice()(left)["img"])
    assert pickle.loads(pickle.dumps(LeaveToDevice(endings()))).window == 10


def test_tables_are_made_once_a_device() -> None:
    assert finishing._tables("cpu") is finishing._tables("cpu")
    assert [len(table) for table in finishing._tables("cpu")] == [1 << 24, 180 << 16]
