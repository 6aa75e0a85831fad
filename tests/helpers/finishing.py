"""Batches whose augmentation is finished by the device, beside those that the data's process finishes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hatdet.data.collate import Collate2D
from hatdet.data.transforms.apply import apply
from hatdet.data.transforms.batch.leave import LeaveToDevice
from hatdet.data.transforms.color import HSVRandomAug
from hatdet.data.transforms.geometry import Pad, RandomCrop, RandomFlip, RandomResize
from hatdet.data.transforms.mixup import MixUp
from hatdet.data.transforms.mosaic import Mosaic
from hatdet.data.transforms.sample import Context, Image, Sample, Source, Tile
from hatdet.data.transforms.tensor import ToTensor

SIDE = 64


def picture(number: int, channels: int = 3) -> Image:
    """Smooth with noise, of a size of its own; read-only."""
    rng = np.random.default_rng(number)
    height, width = (int(side) for side in rng.integers(40, 130, 2))
    y, x = np.mgrid[:height, :width]
    image = (np.stack([x * 2, y * 3, x + y], 2) + rng.integers(0, 60, (height, width, 3))).astype(np.uint8)
    image = np.ascontiguousarray(image[:, :, :channels])
    image.flags.writeable = False
    return image


def sample_of(number: int, channels: int = 3) -> Sample:
    image = picture(number, channels)
    height, width = image.shape[:2]
    tile = Tile(Source((height, width), lambda: image), 1, 1, 0, 0, (0, 0, width, height))
    boxes = np.array([[4, 5, width - 6, height - 7]], np.float32)
    sample = Sample(number, number, str(number), (height, width), [tile], (height, width), boxes, np.array([1]), (0, 0))
    sample.channels = channels
    return sample


class Earlier:
    """The pictures before one."""

    def __init__(self, number: int, channels: int = 3) -> None:
        self.indices, self.channels = tuple(range(number + 1, number + 9)), channels

    def load(self, index: int) -> Sample:
        return sample_of(index, self.channels)


def endings(color: str = "bgr", mixup: float = 0.7, flips: float = 0.5) -> list[Any]:
    """What a device can do."""
    return [
        HSVRandomAug(5, 30, 30),
        RandomFlip(0.5, flips),
        Pad((SIDE, SIDE), 114),
        MixUp(prob=mixup),
        ToTensor(color=color),  # type: ignore[arg-type]
    ]


def beginnings(mosaic: bool = True, low: float = 0.5) -> list[Any]:
    """Mosaic, or smaller pictures with a margin."""
    crop = [RandomResize((2 * SIDE, 2 * SIDE), (low, 2.0)), RandomCrop((SIDE, SIDE), allow_empty=True)]
    return [Mosaic((SIDE, SIDE)), *crop] if mosaic else [RandomResize((SIDE, SIDE), (low, 1.2)), crop[1]]


def batches(first: Sequence[Any], last: Sequence[Any], count: int, channels: int = 3) -> tuple[dict[str, Any], ...]:
    """A batch of ``count`` samples of the list in one piece, and of the list whose end is left to the device."""
    made = []
    for transforms in ([*first, *last], [*first, LeaveToDevice(list(last))]):
        items = []
        for number in range(count):
            ctx = Context(np.random.default_rng(number), Earlier(number, channels), must_keep=True)
            sample = apply(transforms, sample_of(number, channels), ctx)
            assert sample is not None and sample.tensor is not None
            item = {
                "img": sample.tensor,
                "gt_boxes": torch.from_numpy(sample.boxes),
                "gt_labels": torch.from_numpy(sample.labels),
                "img_id": number,
                "orig_size": sample.orig_size,
                "img_size": sample.img_size,
                "scale_factor": sample.scale,
            }
            if sample.unfinished is not None:
                item["unfinished"] = sample.unfinished
            items.append(item)
        made.append(Collate2D()(items))
    return tuple(made)


def off_by(expected: Tensor, found: Tensor) -> Tensor:
    """Differences in levels, int64 (B, C, H, W)."""
    assert expected.shape == found.shape and found.dtype == torch.uint8
    return (expected.long() - found.cpu().long()).abs()
