"""Priors, box coder, preprocessing."""

from __future__ import annotations

import pytest
import torch

from hatdet.models.task_modules.coders import DistancePointBBoxCoder
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.models.task_modules.priors import MlvlPointGenerator


def test_points_are_top_left_corners_row_by_row() -> None:
    points = MlvlPointGenerator(strides=(8, 16)).grid_priors([(2, 3), (1, 2)])
    assert points.tolist() == [
        [0, 0, 8, 8],
        [8, 0, 8, 8],
        [16, 0, 8, 8],
        [0, 8, 8, 8],
        [8, 8, 8, 8],
        [16, 8, 8, 8],
        [0, 0, 16, 16],
        [16, 0, 16, 16],
    ]


def test_points_in_the_centre_and_other_sizes_later() -> None:
    generator = MlvlPointGenerator(strides=(8,), offset=0.5)
    assert generator.grid_priors([(1, 2)])[:, :2].tolist() == [[4, 4], [12, 4]]
    assert generator.grid_priors([(2, 1)])[:, :2].tolist() == [[4, 4], [4, 12]]
    with pytest.raises(ValueError, match=r"strides \(8,\) need 1 map sizes, got \[\(1, 1\), \(1, 1\)\]"):
        generator.grid_priors([(1, 1), (1, 1)])


def test_coder() -> None:
    coder = DistancePointBBoxCoder()
    points, boxes = torch.tensor([[10.0, 20.0]]), torch.tensor([[7.0, 15.0, 11.0, 26.0]])
    assert coder.encode(points, boxes).tolist() == [[3, 5, 1, 6]]
    assert torch.equal(coder.decode(points, coder.encode(points, boxes)), boxes)
    assert coder.decode(points, torch.zeros(2, 1, 4)).shape == (2, 1, 4)


def test_preprocessor_normalizes_bytes() -> None:
    img = torch.tensor([0, 51, 255], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 5, 4)
    x = DataPreprocessor(mean=0, std=255)(img)
    assert x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x[1, :, 4, 3], torch.tensor([0.0, 0.2, 1.0]))
    x = DataPreprocessor(mean=(1.0, 1.0, 5.0), std=(1.0, 2.0, 50.0))(img)
    assert x[0, :, 0, 0].tolist() == [-1, 25, 5]
    assert img[0, :, 0, 0].tolist() == [0, 51, 255], "the input is left alone"


def test_preprocessor_reverses_channels_before_it_normalizes() -> None:
    img = torch.tensor([10, 20, 30], dtype=torch.uint8)[None, :, None, None]
    x = DataPreprocessor(mean=(30.0, 0.0, 0.0), std=1.0, bgr_to_rgb=True)(img)
    assert x.flatten().tolist() == [0, 20, 10]


def test_preprocessor_passes_floats_and_holds_no_state() -> None:
    preprocessor = DataPreprocessor(mean=(1.0, 2.0, 3.0), std=2.0)
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(preprocessor(x), x)
    assert preprocessor.state_dict() == {} and list(preprocessor.buffers()) == []


def test_preprocessor_errors() -> None:
    with pytest.raises(ValueError, match=r"mean must be one number or three, got \(1, 2\)"):
        DataPreprocessor(mean=(1, 2), std=1)
    with pytest.raises(ValueError, match="std must not contain 0"):
        DataPreprocessor(mean=0, std=(1, 0, 1))
    for wrong, said in ((-1.0, "not contain 0 or less, got -1.0"), (float("inf"), "std must be finite, got inf")):
        with pytest.raises(ValueError, match=said):
            DataPreprocessor(mean=0.0, std=wrong)
    with pytest.raises(ValueError, match="mean must be finite, got nan"):
        DataPreprocessor(mean=float("nan"), std=1.0)
    with pytest.raises(TypeError, match=r"must be uint8, .* got torch\.int64"):
        DataPreprocessor(mean=0, std=1)(torch.zeros(1, 3, 2, 2, dtype=torch.int64))
