"""Batches of changing size."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.engine.multi_scale import MultiScale
from hatdet.utils.errors import UserError


def loop_at(step: int, epoch: int = 0, num_epochs: int = 10) -> Any:
    return SimpleNamespace(progress=SimpleNamespace(step=step, epoch=epoch), num_epochs=num_epochs)


def batch_of(height: int, width: int) -> dict[str, torch.Tensor]:
    return {
        "img": torch.full((2, 3, height, width), 77, dtype=torch.uint8).contiguous(memory_format=torch.channels_last),
        "gt_boxes": torch.tensor([[[0.0, 0.0, width, height]], [[width / 2, height / 4, width, height]]]),
        "gt_labels": torch.zeros(2, 1, dtype=torch.int64),
        "scale_factor": torch.tensor([[1.0, 2.0], [1.0, 2.0]]),
        "img_size": torch.tensor([[height, width], [height, width]]),
    }


def sizes_of(transform: MultiScale, steps: int, size: tuple[int, int] = (320, 320)) -> list[tuple[int, ...]]:
    found = []
    for step in range(steps):
        transform.begin_step(loop_at(step))
        found.append(tuple(transform(batch_of(*size))["img"].shape[-2:]))
    return found


def test_all_sizes_come_and_stay_for_an_interval() -> None:
    found = sizes_of(MultiScale(ratio_range=(0.7, 1.0), interval=5), 200)
    assert set(found) == {(224, 224), (256, 256), (288, 288), (320, 320)}
    assert all(len(set(found[start : start + 5])) == 1 for start in range(0, 200, 5))
    assert found != sizes_of(MultiScale(ratio_range=(0.7, 1.0), interval=5, seed=1), 200)


def test_the_size_depends_on_seed_and_step_alone() -> None:
    going_on = MultiScale(interval=3, seed=4)
    after_a_break = MultiScale(interval=3, seed=4)
    assert sizes_of(going_on, 60)[41:] == [
        (after_a_break.begin_step(loop_at(step)), tuple(after_a_break(batch_of(320, 320))["img"].shape[-2:]))[1]
        for step in range(41, 60)
    ]


def test_larger_sizes_too_and_not_square() -> None:
    transform = MultiScale(ratio_range=(0.5, 1.5))
    assert transform.sizes((128, 192)) == [(64, 96), (96, 128), (128, 192), (160, 256), (192, 288)]
    assert all(h % 32 == 0 and w % 32 == 0 for h, w in transform.sizes((416, 736)))


def test_boxes_and_sizes_go_with_the_image() -> None:
    transform = MultiScale(ratio_range=(0.5, 0.5))
    transform.begin_step(loop_at(0))
    batch = {**batch_of(128, 192), "gt_ignore": torch.tensor([[[0.0, 0, 20, 40]], [[0.0, 0, 0, 0]]])}
    found = transform(batch)
    assert found["gt_ignore"].tolist() == [[[0, 0, 10, 20]], [[0, 0, 0, 0]]]
    assert found["img"].shape == (2, 3, 64, 96) and found["img"].dtype is torch.uint8
    assert found["img"].is_contiguous(memory_format=torch.channels_last)
    assert (found["img"] == 77).all()
    assert found["gt_boxes"].tolist() == [[[0, 0, 96, 64]], [[48, 16, 96, 64]]]
    assert found["scale_factor"].tolist() == [[0.5, 1.0], [0.5, 1.0]]
    assert found["img_size"].tolist() == [[64, 96], [64, 96]]
    assert batch["img"].shape[-1] == 192 and batch["gt_boxes"][0, 0, 2] == 192  # the loader's batch is left alone


def test_a_side_that_grows_differently_moves_boxes_with_it() -> None:
    transform = MultiScale(ratio_range=(0.75, 0.75))
    transform.begin_step(loop_at(0))
    found = transform(batch_of(128, 192))
    assert found["img"].shape[-2:] == (96, 128)  # 144 is as near to 128 as to 160: to the even multiple
    assert found["gt_boxes"][0, 0].tolist() == pytest.approx([0, 0, 128, 96])
    assert found["scale_factor"][0].tolist() == pytest.approx([128 / 192, 1.5])


def test_the_last_epochs_have_the_size_of_the_loader() -> None:
    transform = MultiScale(ratio_range=(0.5, 0.5), num_last_epochs=2)
    for epoch, expected in ((7, 160), (8, 320), (9, 320)):
        transform.begin_step(loop_at(100 * epoch, epoch))
        assert transform(batch_of(320, 320))["img"].shape[-1] == expected


def test_evaluation_keeps_the_size() -> None:
    processor = BasicBatchProcessor(batch_transforms=[MultiScale(ratio_range=(0.5, 0.5))])
    assert processor.prepare_batch(batch_of(64, 64), torch.device("cpu"))["img"].shape[-1] == 64


def test_float_images_are_not_rounded() -> None:
    transform = MultiScale(ratio_range=(0.5, 0.5))
    transform.begin_step(loop_at(0))
    img = torch.linspace(0, 1, 64 * 64).reshape(1, 1, 64, 64).repeat(1, 3, 1, 1)
    found = transform({"img": img, "gt_boxes": torch.zeros(1, 1, 4)})["img"]
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, img.reshape(1, 3, 32, 2, 32, 2).mean((3, 5)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio_range": (1.2, 0.8)}, "the smaller first"),
        ({"ratio_range": (0.0, 1.0)}, "above 0"),
        ({"ratio_range": (1.0,)}, "two ratios"),
        ({"interval": 0}, "interval is 0; at least 1"),
        ({"num_last_epochs": -1}, "num_last_epochs is -1"),
        ({"size_divisor": 0}, "size_divisor is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MultiScale(**options)
