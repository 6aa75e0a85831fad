"""From float weights to a proven file, on a toy detector with every operator of the nano."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hatdet.export.calibrate import calibrate, is_quantized_state
from hatdet.export.delivery import evaluation_record, file_record, input_codes, write_results
from hatdet.export.evaluate import TFLiteDetector
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite import int8 as tflite
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


def test_the_weights_are_adjusted_where_an_export_calibrates(quantized: QuantizedDetector) -> None:
    settings = {"bias_correction": True, "weight_rounding": "adaround"}
    model, _ = calibrate(detector(), [batch(i) for i in range(4)], max_images=10, settings=settings)
    assert model.metadata()["refinement"] == {"equalize": False, **settings}
    pairs = zip(quantized.parameters(), model.parameters(), strict=True)
    assert all(not torch.equal(plain, adjusted) for plain, adjusted in pairs)


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
    path = write_results(tmp_path, {"AP": np.float64(0.5), "none": float("nan"), "snr": float("inf"), "shape": (1, 2)})
    assert path.name == "export-results.json"
    assert json.loads(path.read_text()) == {"AP": 0.5, "none": None, "snr": None, "shape": [1, 2]}
    assert [p.name for p in tmp_path.iterdir()] == ["export-results.json"]


def test_file_record(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert file_record(tmp_path / "m.tflite") == {"file": "m.tflite", "bytes": 3, "sha256": digest}


def exported(folder: Path, name: str, content: bytes, **more: object) -> dict[str, object]:
    (folder / name).write_bytes(content)
    return {**file_record(folder / name), "ok": True, **more}


def names_in(path: Path) -> list[str]:
    return [record["file"] for record in json.loads(path.read_text())["files"]]


def test_records_of_other_files_stay(tmp_path: Path) -> None:
    int8 = exported(tmp_path, "a_int8.tflite", b"int8", parity={"differing": 0})
    top = {"file": "a_int8.tflite", "sha256": int8["sha256"], "parity": {"differing": 0}, "evaluation": {"equal": True}}
    path = write_results(tmp_path, {"checkpoint": "a", "files": [int8], **top})
    write_results(tmp_path, {"checkpoint": "a", "files": [exported(tmp_path, "a.onnx", b"onnx")]})
    found = json.loads(path.read_text())
    assert names_in(path) == ["a.onnx", "a_int8.tflite"]
    assert found["parity"] == {"differing": 0} and found["evaluation"] == {"equal": True}
    other = exported(tmp_path, "b_int8.tflite", b"other", parity={"differing": 3})
    write_results(tmp_path, {"files": [other], "file": "b_int8.tflite", "parity": {"differing": 3}})
    found = json.loads(path.read_text())
    assert names_in(path) == ["b_int8.tflite", "a.onnx", "a_int8.tflite"]
    assert found["file"] == "b_int8.tflite" and found["parity"] == {"differing": 3} and "evaluation" not in found
    assert [record["parity"]["differing"] for record in found["files"] if "parity" in record] == [3, 0]


def test_records_of_files_that_are_gone_or_changed_are_dropped(tmp_path: Path) -> None:
    first = [exported(tmp_path, name, name.encode()) for name in ("gone", "changed", "kept", "again")]
    path = write_results(tmp_path, {"files": first, "file": "gone", "evaluation": {"equal": True}})
    (tmp_path / "gone").unlink()
    (tmp_path / "changed").write_bytes(b"something else")
    write_results(tmp_path, {"files": [exported(tmp_path, "again", b"anew")]})
    assert names_in(path) == ["again", "kept"] and "evaluation" not in json.loads(path.read_text())
    assert not list(tmp_path.glob(".*")), "no lock is left"


def test_a_folder_is_a_file_too_and_a_damaged_record_none(tmp_path: Path) -> None:
    (tmp_path / "a_saved_model").mkdir()
    (tmp_path / "a_saved_model" / "saved_model.pb").write_bytes(b"1")
    write_results(tmp_path, {"files": [file_record(tmp_path / "a_saved_model")]})
    path = write_results(tmp_path, {"files": [exported(tmp_path, "b", b"b")]})
    assert names_in(path) == ["b", "a_saved_model"]
    path.write_text('{"files": [1, ')
    write_results(tmp_path, {"files": [exported(tmp_path, "c", b"c")]})
    assert names_in(path) == ["c"]


@pytest.mark.parametrize("name", [[], {}, None, 3])
def test_a_damaged_record_of_a_former_file_is_left_out(tmp_path: Path, name: object) -> None:
    good = exported(tmp_path, "a.onnx", b"onnx")
    former = {"files": [{"file": name, "sha256": "0"}, {**good, "snr": float("inf")}]}
    (tmp_path / "export-results.json").write_text(json.dumps(former))
    new = exported(tmp_path, "b.onnx", b"more")
    content = json.loads(write_results(tmp_path, {"files": [new]}).read_text())
    assert content["files"] == [new, {**good, "snr": None}]
