"""From float weights to a proven file, on a toy detector with every operator of the nano."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hatdet.export import tflite
from hatdet.export.calibrate import calibrate, is_quantized_state
from hatdet.export.delivery import evaluation_record, file_record, input_codes, write_results
from hatdet.export.evaluate import TFLiteDetector
from hatdet.export.parity import check_parity
from hatdet.integer.graph import IntGraph
from hatdet.quantization.detector import QuantizedDetector
from hatdet.utils.errors import UserError
from tests.unit.quantization.toy import batch, detector

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")


@pytest.fixture(scope="module")
def quantized() -> QuantizedDetector:
    return calibrate(detector(), [batch(i) for i in range(4)], max_images=10)[0]


@pytest.fixture(scope="module")
def graph(quantized: QuantizedDetector) -> IntGraph:
    return quantized.int_graph((36, 28))


def test_settings_of_the_config_reach_the_calibrated_model() -> None:
    """16-bit outputs asked for are 16-bit outputs, also where an export calibrates float weights itself."""
    for settings, bits in (({"int16_output": True}, {16}), (None, {8})):
        model, _ = calibrate(detector(), [batch(0)], 1, settings=settings)
        graph = model.int_graph((32, 32))
        assert {graph.qparams(name).bits for name in graph.outputs} == bits


def test_calibration_counts_images() -> None:
    _, seen = calibrate(detector(), [batch(i) for i in range(4)], max_images=10)
    assert seen == 10
    with pytest.raises(UserError, match="at least one image"):
        calibrate(detector(), [], max_images=10)


def test_kinds_of_weights(quantized: QuantizedDetector) -> None:
    assert is_quantized_state(quantized.state_dict())
    assert not is_quantized_state(detector().state_dict())


def test_input_codes_are_pixels_minus_128(graph: IntGraph) -> None:
    batches = [batch(0), batch(1)]
    codes = input_codes(detector(), batches, graph, 6)
    pixels = torch.cat([b["img"] for b in batches])[:6]
    assert codes.dtype == torch.int8 and torch.equal(codes.int(), pixels.int() - 128)
    assert len(input_codes(detector(), batches, graph, 100)) == 8, "no more than there are"
    with pytest.raises(UserError, match=r"takes images of \(36, 28\) \(h, w\), the validation data has \(28, 36\)"):
        input_codes(detector(), [batch(0, height=28, width=36)], graph, 1)
    with pytest.raises(UserError, match="no images"):
        input_codes(detector(), [], graph, 1)


def test_the_whole_way(quantized: QuantizedDetector, graph: IntGraph, tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")
    path = tmp_path / "toy_int8.tflite"
    data = tflite.write(graph, path, metadata={"classes": ["a", "b"]})
    report = check_parity(graph, data, input_codes(quantized, [batch(9)], graph, 4), intermediates=True)
    assert report.ok and not report.warnings, report.text()
    exported = TFLiteDetector(detector=quantized.task, model=path, workers=2)
    for ours, theirs in zip(exported(batch(7)), quantized.evaluation_model()(batch(7)), strict=True):
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_evaluation_record() -> None:
    same = evaluation_record({"AP": 0.25, "APs": float("nan")}, {"AP": 0.25, "APs": float("nan")}, "LiteRT reference")
    assert same["equal"] and same["different"] == []
    other = evaluation_record({"AP": 0.25}, {"AP": 0.250000001}, "LiteRT reference")
    assert not other["equal"] and other["different"] == ["AP"]


def test_results_file(tmp_path: Path) -> None:
    path = write_results(tmp_path, {"AP": np.float64(0.5), "none": float("nan"), "shape": (1, 2)})
    assert path.name == "export-results.json"
    assert json.loads(path.read_text()) == {"AP": 0.5, "none": None, "shape": [1, 2]}
    assert [p.name for p in tmp_path.iterdir()] == ["export-results.json"]


def test_file_record(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert file_record(tmp_path / "m.tflite") == {"file": "m.tflite", "bytes": 3, "sha256": digest}
