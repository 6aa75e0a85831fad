"""Batches finished on a GPU are those finished on the CPU."""

from __future__ import annotations

import pytest
import torch

from hatdet.data.transforms.batch.finish import FinishOnDevice
from hatdet.engine.batch_processors import BasicBatchProcessor
from tests.helpers.finishing import batches, beginnings, endings


@pytest.mark.parametrize("color", ["bgr", "rgb", "yuv444", "gray"])
@pytest.mark.parametrize("mosaic", [True, False], ids=["mosaic", "smaller"])
def test_pictures_are_those_of_the_cpu(color: str, mosaic: bool) -> None:
    channels = 1 if color == "gray" else 3
    _, left = batches(beginnings(mosaic), endings(color), 24, channels)
    expected = FinishOnDevice()(left)
    processor = BasicBatchProcessor(batch_transforms=[FinishOnDevice()])
    found = processor.prepare_batch(left, torch.device("cuda"))
    assert found["img"].is_cuda and found.keys() == expected.keys()
    assert torch.equal(expected["img"], found["img"].cpu())
    assert found["img"].is_contiguous(memory_format=torch.channels_last)
