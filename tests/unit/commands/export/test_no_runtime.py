"""An arithmetic that no package computes in: what commands write, and what they say instead of "equal"."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hatdet.commands.align_bpu_validation.comparison import open_runtimes
from hatdet.commands.quantization.run import QAT, Quantization
from hatdet.export.runtimes.parity import ParityReport
from hatdet.export.seal import seal
from hatdet.export.tflite import int8 as tflite
from hatdet.inference.arithmetic import arithmetic_of
from hatdet.inference.model_files import open_model
from hatdet.integer.graph import IntGraph
from hatdet.integer.profiles.table import PROFILES
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from hatdet.utils.errors import UserError
from tests.unit.commands.conftest import Files

Tool = Callable[[str], Callable[[list[str]], int | None]]
UNPROVEN = "not verified against a runtime here: no package has TFLite Micro or CMSIS-NN built with single rounding"


@pytest.fixture(scope="module")
def graph(files: Files) -> IntGraph:
    state = load_checkpoint(files.root / "graph.pth.tar")["int_graph"]
    state["metadata"]["profile"] = "tflite_single"
    return IntGraph.from_state(state)


@pytest.fixture
def checkpoint(graph: IntGraph, tmp_path: Path) -> str:
    path = tmp_path / "single.pth.tar"
    save_checkpoint(path, {"int_graph": graph.to_state()})
    return str(path)


def test_export_says_that_nothing_is_verified(
    files: Files, tool: Tool, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [files.config_path, checkpoint, "--verify", "2", "--format", "tflite", *files.words()]
    assert tool("export")(arguments) == 0
    text = capsys.readouterr().out
    assert f"parity: {UNPROVEN} (tflite_single); run the self-test of a bundle on" in text and "differing (" not in text
    assert "LiteRT's reference kernels (not part of the verdict):" in text
    (record,) = json.loads((tmp_path / "export-results.json").read_text())["files"]
    parity = record["parity"]
    assert record["profile"] == "tflite_single" and parity["compared"] == 0 and not parity["ok"]
    assert parity["unproven"].startswith(UNPROVEN) and parity["runtimes"] == ["torch"]


def test_evaluation_of_the_file_is_refused_before_it_is_written(
    files: Files, tool: Tool, checkpoint: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="--evaluate runs the file in LiteRT, none of whose kernels compute in the"):
        tool("export")([files.config_path, checkpoint, "--evaluate", *files.words()])
    assert [path.name for path in tmp_path.iterdir()] == ["single.pth.tar"]


def test_a_file_is_opened_with_other_kernels_only_when_asked(files: Files, graph: IntGraph, tmp_path: Path) -> None:
    path = tmp_path / "single_int8.tflite"
    tflite.write(graph, path, metadata={"classes": ["square", "disc"]})
    with pytest.raises(UserError, match="no kernels of LiteRT compute in its arithmetic 'tflite_single'; evaluate the"):
        open_model(files.config(), path)
    assert open_model(files.config(), path, "reference")[1].endswith(", reference kernels")


def test_an_arithmetic_that_is_not_known_is_said_of_its_file(files: Files, graph: IntGraph, tmp_path: Path) -> None:
    """One that a module of the user's adds, which is not imported here."""
    path = tmp_path / "mine_int8.tflite"
    data = tflite.write(graph, metadata={"classes": ["square", "disc"]})
    path.write_bytes(seal(data.replace(b'"tflite_single"', b'"mine_of_its_n"')))
    with pytest.raises(UserError, match=r"mine_int8.tflite is made for the unknown arithmetic 'mine_of_its_n'; "):
        open_model(files.config(), path)
    predictor = open_model(files.config(), path, "reference")[2]
    assert arithmetic_of(path, predictor.model) == "mine_of_its_n"


def test_alignment_compares_the_exact_onnx_form_alone(graph: IntGraph) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    file = tflite.write(graph)
    found = open_runtimes(file, graph, None)
    assert list(found.reference) == ["onnx"] and found.drift is None
    assert found.missing == {"litert": "LiteRT has no kernels of the arithmetic 'tflite_single'; leave 'litert' out"}
    with pytest.raises(UserError, match="LiteRT has no kernels of the arithmetic 'tflite_single'"):
        open_runtimes(file, graph, ["litert"])
    assert open_runtimes(file, graph, ["onnx", "litert-default"]).drift_name == "litert-reference"
    with pytest.raises(UserError, match="tflm computes in the arithmetic 'tflite_ref', and this model is made for"):
        open_runtimes(file, graph, ["tflm"])


def test_quantization_without_a_row_of_the_file(tmp_path: Path) -> None:
    unproven = PROFILES["tflite_single"].unproven
    parity = ParityReport(images=2, runtimes=(), missing={}, tensors=[], unproven=unproven)
    result = Quantization(tmp_path / "m.tflite", {QAT: {"AP": 0.5}}, parity, [])
    assert result.ok and result.text().endswith(f"parity: {unproven}\nthe file was not evaluated")
