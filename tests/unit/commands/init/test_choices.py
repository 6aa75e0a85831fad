"""What is proposed for a data set and a device, against numbers computed by hand."""

from __future__ import annotations

import pytest

from hatdet.commands.init import choices
from hatdet.commands.init.reading import Picture


def pictures(side: float, width: int = 640, height: int = 480, count: int = 20) -> list[Picture]:
    return [Picture(width, height, ((side, side),))] * count


@pytest.mark.parametrize(
    ("target", "images", "network"),
    [
        ("ethos-u55-64", 100_000, "nano"),
        ("tflite", 100_000, "nano"),
        ("onnx", 2999, "nano"),
        ("onnx", 3000, "tiny"),
        ("onnx", 10_000, "s"),
        ("ethos-u65-256", 10_000, "tiny"),
    ],
)
def test_the_network_follows_the_device_and_the_pictures(target: str, images: int, network: str) -> None:
    assert choices.model(target, images).value == network


def test_boxes_are_measured_as_the_network_sees_them() -> None:
    """640 x 480 into 320 x 320: by one half. A box of 40 x 10 has the side of a square of 20 x 20."""
    data = [Picture(640, 480, ((40.0, 10.0), (100.0, 100.0)))]
    assert choices.box_sides(data, 320) == [10.0, 50.0]
    assert choices.share_below([10.0, 50.0], 16.0) == 0.5
    assert choices.share_below([], 16.0) == 0.0


@pytest.mark.parametrize(
    ("side", "target", "size"),
    [
        (32.0, "onnx", 320),  # 16 px at 320: not below 16
        (31.0, "onnx", 384),  # 15.5 at 320, 18.6 at 384
        (16.5, "onnx", 640),  # 8.25 at 320; 16 px need 621
        (16.5, "tflite", 384),  # the largest proposed for it is below 416
        (16.5, "ethos-u55-128", 320),
        (5.0, "onnx", 640),  # nothing makes them large enough
        (110.0, "onnx", 288),  # 48 px need 279
        (170.0, "onnx", 192),  # 51 px at 192
        (400.0, "onnx", 192),
    ],
)
def test_the_input_follows_the_objects(side: float, target: str, size: int) -> None:
    choice = choices.imgsz(pictures(side), target)
    assert choice.value == (size, size)


@pytest.mark.parametrize(("side", "size"), [(60, 96), (40, 128), (20, 256), (4, 256)])
def test_the_input_for_points_keeps_neighbours_apart(side: float, size: int) -> None:
    # 320 pixels become 96: 60 are 18, 40 are 12 (in 128: 16, two cells); 20 are 16 in 256.
    assert choices.points_imgsz([Picture(320, 240, ((side, side),))]).value == (size, size)


def test_the_reason_says_what_a_larger_input_would_bring() -> None:
    choice = choices.imgsz(pictures(16.5, count=5) + pictures(60.0, count=5), "ethos-u55-128")
    assert choice.why == (
        "50 % of the objects are below 16 px there; 640 (0 %) costs 4.0 times as much: if ethos-u55-128 carries it"
    )
    assert choices.imgsz(pictures(31.0), "onnx").why == (
        "0 % of the objects are below 16 px there, at 320 it would be 100 %"
    )
    assert "320 would cost 2.8 times as much" in choices.imgsz(pictures(400.0), "onnx").why


@pytest.mark.parametrize(
    ("images", "epochs"), [(1, 300), (100, 200), (292, 140), (1000, 100), (10_000, 50), (1_000_000, 30)]
)
def test_epochs_are_those_of_the_recipes(images: int, epochs: int) -> None:
    assert choices.epochs(images).value == epochs


@pytest.mark.parametrize(
    ("images", "epochs", "network", "size", "memory", "batch"),
    [
        (1000, 100, "nano", 320, 16_000, 8),
        (30, 260, "nano", 320, 16_000, 4),  # 975 steps of 8
        (10_000, 50, "s", 320, 16_000, 16),
        (10_000, 50, "s", 640, 16_000, 8),  # 2 * 139 * 4 = 1112 MiB a picture: 14 fit
        (1000, 100, "nano", 320, 1136, 8),  # exactly 8 times 142
        (1000, 100, "nano", 320, 1135, 4),
        (1000, 100, "nano", 320, 10, 1),
    ],
)
def test_the_batch_fits_into_the_memory(
    images: int, epochs: int, network: str, size: int, memory: float, batch: int
) -> None:
    assert choices.batch_size(images, epochs, network, size, memory).value == batch


def test_pictures_of_one_shape_have_a_narrower_input() -> None:
    assert choices.narrow(pictures(9, 640, 480), 320) == (256, 320)
    assert choices.narrow(pictures(9, 480, 640), 320) == (320, 256)
    assert choices.narrow(pictures(9, 1920, 1080), 320) == (192, 320)
    assert choices.narrow(pictures(9, 500, 500), 320) is None
    assert choices.narrow(pictures(9, 640, 480) + pictures(9, 480, 640), 320) is None
