"""``--engine litert``: the same boxes, proved on the way; what cannot be proved is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hatdet.commands.predict import main
from hatdet.export.engines import LiteRTEngine, ProvedDetector, check_engine
from hatdet.quantization.integer_detector import IntegerDetector
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import in_profile, small_network


class RawMaps(nn.Module):
    """A detector whose boxes are its raw maps, as they come."""

    def preprocess(self, img: Tensor) -> Tensor:
        return img.float() / 255

    def predict(self, maps: tuple[Tensor, ...], batch: dict[str, Any]) -> list[dict[str, Tensor]]:
        return [{"cls": c, "reg": r} for c, r in zip(*maps)]


def _model() -> IntegerDetector:
    return IntegerDetector(detector=RawMaps(), graph=in_profile(small_network(), "xnnpack"))


def _batch(count: int, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {"img": torch.randint(0, 256, (count, 3, 32, 48), generator=generator, dtype=torch.uint8)}


def _same(first: list[dict[str, Tensor]], second: list[dict[str, Tensor]]) -> bool:
    return all(torch.equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)


@pytest.fixture(scope="module")
def model() -> IntegerDetector:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    return _model()


def test_the_same_boxes_and_a_record_of_what_was_compared(model: IntegerDetector) -> None:
    engine = LiteRTEngine(proved=3, every=4, workers=2)
    detector = engine(model)
    for count, seed in ((2, 0), (5, 1), (6, 2), (1, 3)):
        assert _same(detector(_batch(count, seed)), model(_batch(count, seed)))
    record = engine.record()
    assert record["engine"] == "litert" and record["runtime"] == "LiteRT default"
    assert record["pictures"] == 14 and record["pictures_compared"] == 3 + 2  # 0 to 2, then 6 and 10
    sizes = [int(np.prod(model.graph.tensors[name].shape)) for name in model.graph.outputs]
    assert record["values_compared"] == 5 * sum(sizes) and record["values_differing"] == 0
    assert "equal to the torch executor on 5 of 14 pictures" in engine.line()


@pytest.mark.parametrize("number", [0, 2, 6])
def test_one_other_value_in_a_compared_picture_ends_it(
    model: IntegerDetector, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    detector = ProvedDetector(model, proved=3, every=4, workers=1)
    runtime, seen = detector._runtimes[0], 0
    honest = runtime.run

    def run(codes: Any) -> list[Any]:
        nonlocal seen
        made = honest(codes)
        if seen <= number < seen + len(codes):
            made[1][number - seen].reshape(-1)[-1] ^= 1
        seen += len(codes)
        return made

    monkeypatch.setattr(runtime, "run", run)
    with pytest.raises(UserError, match=f"in 1 of .* values of output '{model.graph.outputs[1]}', by at most 1"):
        for seed in range(3):
            detector(_batch(3, seed))


def test_another_arithmetic_is_refused() -> None:
    reference = IntegerDetector(detector=RawMaps(), graph=small_network())
    with pytest.raises(UserError, match="--engine litert needs arithmetic='xnnpack'; this model has 'tflite_ref'"):
        LiteRTEngine()(reference)


def test_names_and_stages() -> None:
    check_engine("torch", "float", tta=True)
    check_engine("litert", "int_infer")
    with pytest.raises(UserError, match=r"unknown engine ''; there are torch, litert"):
        check_engine("", "int_infer")
    with pytest.raises(UserError, match=r"unknown engine 'litrt'.*litert"):
        check_engine("litrt", "int_infer")
    with pytest.raises(UserError, match="not stage 'qat'; use --stage int_infer"):
        check_engine("litert", "qat")
    with pytest.raises(UserError, match="leave --tta or --engine litert out"):
        check_engine("litert", "int_infer", tta=True)


def test_the_command_refuses_before_it_reads_the_config() -> None:
    with pytest.raises(UserError, match="unknown engine 'tflite'"):
        main(["no_such_config.py", "--stage", "int_infer", "--engine", "tflite"])
