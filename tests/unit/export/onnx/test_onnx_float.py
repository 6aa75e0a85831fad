"""The float ONNX file: torch's numbers, with and without normalization and decoding inside."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hatdet.export.formats.onnx import export_float_onnx
from hatdet.export.onnx.file import open_session, read_metadata
from hatdet.export.onnx.floating import operators, write_float
from hatdet.models.detectors.rtmdet import RTMDet
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.utils.errors import UserError
from tests.helpers.rtmdet import build_rtmdet

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
SIZE = (64, 96)


def lively(activation: str = "ReLU6", attention: bool = False) -> RTMDet:
    """A small detector whose batch normalization is not the identity and whose maps vary."""
    torch.manual_seed(0)
    detector = build_rtmdet(
        num_classes=3, deepen_factor=0.1, widen_factor=0.125, activation=activation, channel_attention=attention
    )
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
            torch.nn.init.normal_(module.bias)
            torch.nn.init.normal_(module.running_mean, std=0.2)
    for conv in [*detector.bbox_head.rtm_cls, *detector.bbox_head.rtm_reg]:
        torch.nn.init.normal_(conv.weight, std=0.2)
    return detector.eval()


@pytest.fixture(scope="module")
def detector() -> RTMDet:
    found = lively()
    found.preprocessor = DataPreprocessor(mean=(103.5, 116.25, 123.5), std=(57.0, 58.5, 57.5), bgr_to_rgb=True)
    return found


def pixels(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, *SIZE), generator=generator, dtype=torch.uint8)


def run(model: bytes, images: Tensor) -> list[np.ndarray]:
    found: list[np.ndarray] = open_session(model).run(None, {"images": images.contiguous().numpy()})
    return found


@pytest.mark.parametrize(
    ("activation", "attention", "opset"), [("ReLU6", False, 11), ("SiLU", True, 13), ("Hardswish", True, 20)]
)
def test_maps_are_torchs(activation: str, attention: bool, opset: int, tmp_path: Path) -> None:
    detector = lively(activation, attention)
    record = export_float_onnx(detector, SIZE, tmp_path / "m.onnx", pixels=pixels(), opset=opset)
    assert record.ok and record.format == "onnx float32"
    comparison = record.checks["comparison"]
    assert comparison["images"] == 2 and set(comparison["max_abs"]) == set(detector.output_names)
    assert min(comparison["magnitude"].values()) > 0.5, "maps of zeros would agree too"
    assert "onnxruntime against torch on 2 images: largest difference" in record.text
    model = onnx.load(str(tmp_path / "m.onnx"))
    assert model.opset_import[0].version == opset
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in detector.modules()), "the caller's model is not touched"


def test_normalization_outside_is_the_default(detector: RTMDet) -> None:
    model, raw = write_float(detector, SIZE), pixels(1)
    expected = detector.run_network(detector.preprocess(raw))
    for ours, theirs in zip(run(model, detector.preprocess(raw)), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-4, atol=1e-4)
    found = read_metadata(model)
    assert (found["normalization"], found["input_order"], found["decoded"]) == ("outside", "RGB", False)
    assert found["mean"] == [103.5, 116.25, 123.5] and found["input"]["shape"] == [1, 3, *SIZE]


def test_normalization_inside_takes_pixels(detector: RTMDet) -> None:
    """Channels are swapped and normalized as the detector does it: a pixel near the mean would hide a wrong order."""
    model, raw = write_float(detector, SIZE, preprocess=True), pixels(1)
    raw[:, 0], raw[:, 2] = 20, 240
    for ours, theirs in zip(run(model, raw.float()), run(write_float(detector, SIZE), detector.preprocess(raw))):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    found = read_metadata(model)
    assert (found["normalization"], found["input_order"]) == ("inside", "BGR")


def test_decoding_inside(detector: RTMDet, tmp_path: Path) -> None:
    record = export_float_onnx(detector, SIZE, tmp_path / "m.onnx", pixels=pixels(), decode=True, preprocess=True)
    assert record.ok, record.text
    boxes, scores = run((tmp_path / "m.onnx").read_bytes(), pixels(1).float())
    assert boxes.shape == (1, 126, 4) and scores.shape == (1, 126, 3)  # 8 x 12 + 4 x 6 + 2 x 3 places
    with torch.no_grad():
        maps = detector.run_network(detector.preprocess(pixels(1)))
    assert scores[0, 0, 1] == pytest.approx(float(maps[0][0, 1, 0, 0].sigmoid()), abs=1e-5)
    x, y = 8 * 5, 8 * 3  # the place in column 5, row 3 of stride 8
    left, top, right, bottom = (8 * float(v) for v in maps[3][0, :, 3, 5])
    assert boxes[0, 3 * 12 + 5] == pytest.approx([x - left, y - top, x + right, y + bottom], abs=1e-2)
    assert read_metadata(tmp_path / "m.onnx")["output_names"] == ["boxes", "scores"]


def test_simplify_keeps_the_numbers(
    detector: RTMDet, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("hatdet"), "propagate", True)
    caplog.set_level(logging.INFO)
    plain, simple = write_float(detector, SIZE), write_float(detector, SIZE, simplify=True)
    models = [onnx.load_from_string(data) for data in (plain, simple)]
    before, after = (operators(model) for model in models)
    assert after < before and f"simplified: {after} operators, {before} before" in caplog.text
    assert {node.domain for node in models[1].graph.node} <= {"", "ai.onnx"} and len(models[1].opset_import) == 1
    images = detector.preprocess(pixels(1))
    for ours, theirs in zip(run(simple, images), run(plain, images)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert read_metadata(simple) == read_metadata(plain)


@pytest.mark.parametrize("opset", [10, 21, 0])
def test_opsets_out_of_range(detector: RTMDet, opset: int) -> None:
    with pytest.raises(UserError, match=rf"--opset {opset} is not available for this file: use 11 to 20 \(default: 13"):
        write_float(detector, SIZE, opset=opset)


def test_an_operator_that_onnx_has_not(detector: RTMDet) -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (torch.special.bessel_j0(x),)

    class OddDetector(torch.nn.Module):
        output_names = ("y",)

        def network(self) -> torch.nn.Module:
            return Odd()

        def metadata(self) -> dict[str, object]:
            return {"mean": [0.0], "std": [1.0]}

    with pytest.raises(UserError, match=r"cannot be said in ONNX of opset 13: .*bessel_j0.*; try a newer --opset"):
        write_float(OddDetector(), SIZE)


def test_a_different_file_is_noticed(detector: RTMDet) -> None:
    from hatdet.export.onnx.compare import compare_float
    from hatdet.export.onnx.floating import reference

    other = lively("SiLU")
    model = write_float(other, SIZE)
    same = reference(detector, SIZE, decode=False, preprocess=False)
    report = compare_float(model, detector.preprocess(pixels(1)), same)
    assert not report.ok and "MORE than rounding" in report.text()
