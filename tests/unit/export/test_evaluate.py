"""The exported file as a detector: the same boxes as the integer model, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hatdet.export.evaluate import TFLiteDetector, dequantize, quantize_images, same_values
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import small_network

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
PIXELS = QuantParams(float(np.float32(1 / 255)), -128)


class RawMaps:
    """A detector whose boxes are its raw maps, as they come."""

    def preprocess(self, img: Tensor) -> Tensor:
        return img.float() / 255

    def predict(self, maps: tuple[Tensor, ...], batch: dict[str, Any]) -> list[dict[str, Tensor]]:
        return [{"cls": c, "reg": r} for c, r in zip(*maps)]


def images(count: int, height: int = 32, width: int = 48) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, height, width)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def test_a_pixel_minus_128_is_the_input_code() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    codes = quantize_images(pixels.float() / 255, PIXELS)
    assert torch.equal(codes.int().flatten(), torch.arange(256) - 128)
    assert torch.equal(quantize_images(torch.tensor([-1.0, 2.0]), PIXELS), torch.tensor([-128, 127], dtype=torch.int8))


def test_dequantize() -> None:
    real = dequantize(torch.tensor([-128, -11, 127], dtype=torch.int8), QuantParams(0.5, -11))
    assert real.tolist() == [-58.5, 0.0, 69.0]


@pytest.fixture(scope="module")
def graph() -> IntGraph:
    return small_network()


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (3, 1), (3, 2), (1, 2), (5, 2)])
def test_maps_are_those_of_the_torch_executor(graph: IntGraph, count: int, workers: int) -> None:
    task, batch = RawMaps(), {"img": images(count)}
    model = TFLiteDetector(detector=task, model=tflite.write(graph), workers=workers)
    expected = task.predict(IntExecutor(graph).run_real(task.preprocess(batch["img"])), batch)
    got = model(batch)
    assert len(got) == count
    for ours, theirs in zip(got, expected):
        assert torch.equal(ours["cls"], theirs["cls"]) and torch.equal(ours["reg"], theirs["reg"])
        assert ours["cls"].stride() == theirs["cls"].stride(), "elementwise functions may depend on the memory layout"
    assert len(got[0]["cls"].unique()) > 20


def test_other_image_sizes_are_refused(graph: IntGraph) -> None:
    model = TFLiteDetector(detector=RawMaps(), model=tflite.write(graph), workers=1)
    with pytest.raises(UserError, match=r"takes images of \(32, 48\) .* the batch has \(64, 48\)"):
        model({"img": images(1, 64)})


def test_same_values_to_the_last_digit() -> None:
    nan = float("nan")
    assert same_values({"AP": 0.3, "x": nan}, {"AP": 0.3, "x": nan}) == []
    assert same_values({"AP": 0.3}, {"AP": np.nextafter(0.3, 1)}) == ["AP"]
    assert same_values({"AP": 0.3, "a": 1.0}, {"AP": 0.3, "b": 1.0}) == ["a", "b"]
