"""The QDQ form: close to the integer model operator by operator, laid out so that onnxruntime fuses it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from hatdet.export.formats.onnx import export_exact_onnx, export_qdq_onnx
from hatdet.export.onnx.compare import compare_integer
from hatdet.export.onnx.file import read_metadata
from hatdet.export.onnx.qdq import write_qdq
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pointwise.activation_codes import UNIT_INTERVAL
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes, small_network, wide

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def drift(graph: IntGraph, codes: np.ndarray, optimize: bool = True) -> dict[str, int]:
    report = compare_integer(graph, write_qdq(graph), torch.from_numpy(codes), exact=False, optimize=optimize)
    assert min(t.levels for t in report.tensors) > 10
    return {t.name: t.max_lsb for t in report.tensors}


@pytest.mark.parametrize("optimize", [True, False])
def test_each_operator_is_at_most_one_unit_off(optimize: bool) -> None:
    g = GraphBuilder((4, 16, 16), qparams(0.03, -20), seed=3)
    g.conv("x", "conv", 5)
    g.conv("x", "depthwise", 4, stride=(2, 2), groups=4, activation="none")
    g.conv("x", "clipped", 4, activation="relu6", q=qparams(0.05, -100))  # the code of 6 is 20: both limits cut
    g.requantize("x", "z", qparams(0.05, 9))
    g.add("x", "z", "sum", qparams(0.06, -128), activation="relu")
    g.mul("x", "z", "product", qparams(0.15, 4))
    g.activation("x", "hardswish", "hardswish", qparams(0.03, -118))
    g.activation("x", "sigmoid", "sigmoid", UNIT_INTERVAL)
    g.activation("x", "silu", "silu", qparams(0.021, -111))
    g.activation("x", "hardsigmoid", "hardsigmoid", UNIT_INTERVAL)
    g.average_pool("x", "average", (2, 2), (2, 2))
    g.bilinear("x", "bilinear")
    outputs = [op.output for op in g.ops]
    found = drift(g.graph(*outputs), random_codes((2, 4, 16, 16)), optimize)
    assert set(found) == set(outputs) and max(found.values()) <= 1


def test_copies_are_exact() -> None:
    g = GraphBuilder((3, 8, 6), qparams(0.1, 100))
    g.max_pool("x", "p", (3, 3), stride=(2, 2), padding=(1, 1))
    g.resize("p", "r", 2)
    g.concat(["r", "x"], "y")
    g.pad("y", "padded", (0, 1, 1, 0))
    g.clamp("x", "clamped", "relu")
    assert set(drift(g.graph("p", "r", "y", "padded", "clamped"), random_codes((2, 3, 8, 6))).values()) == {0}


def test_limits_hold_under_the_runtime() -> None:
    g = GraphBuilder((3, 8, 8), qparams(0.03, 0), seed=1)
    g.conv("x", "y", 4, activation="relu6", q=qparams(0.05, -100))
    op = g.ops[0]
    assert isinstance(op, ConvOp) and (op.lo, op.hi) == (-100, 20)
    report = compare_integer(
        g.graph("y"), write_qdq(g.graph("y")), torch.from_numpy(random_codes((1, 3, 8, 8))), exact=False
    )
    assert report.max_lsb <= 1 and report.tensors[0].levels > 50


def test_average_over_channels_is_at_most_one_unit_off() -> None:
    g = GraphBuilder((64, 3, 5), qparams(0.1, 40), seed=1)
    g.average("x", "y")
    assert drift(g.graph("y"), random_codes((3, 64, 3, 5)))["y"] <= 1


def test_onnxruntime_fuses_every_convolution(tmp_path: Path) -> None:
    graph = small_network()
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "o.onnx"), 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(write_qdq(graph), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    assert kinds["QLinearConv"] == sum(isinstance(op, ConvOp) for op in graph.ops) and "Conv" not in kinds
    assert kinds["QLinearAdd"] == 1


def test_layout_of_the_file() -> None:
    graph = small_network()
    model = onnx.load_from_string(write_qdq(graph))
    assert [entry.version for entry in model.opset_import] == [13] and model.ir_version <= 8
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}
    convs = [op for op in graph.ops if isinstance(op, ConvOp)]
    assert sum(c.dtype == np.int8 and c.ndim == 4 for c in constants.values()) == len(convs)
    assert sum(c.dtype == np.int32 for c in constants.values()) == len(convs)
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantizers) == len(graph.ops)
    assert all(constants[name].ndim == 0 for node in quantizers for name in node.input[1:])
    assert all(constants[node.input[2]].dtype == np.uint8 for node in quantizers)


def test_records_state_drift_and_equality(tmp_path: Path) -> None:
    graph, codes = small_network(), torch.from_numpy(random_codes((2, 3, 32, 48)))
    rough = export_qdq_onnx(graph, tmp_path / "q.onnx", {"classes": ["a", "b", "c"]}, codes=codes)
    exact = export_exact_onnx(graph, tmp_path / "e.onnx", codes=codes, intermediates=True)
    assert rough.ok and exact.ok
    assert "drift: onnxruntime's own rounding gives " in rough.text and " LSB, 0." in rough.text
    assert rough.record()["comparison"]["compared"] == 2 * (3 * 16 * 24 + 4 * 8 * 12)
    assert rough.record()["bytes"] == (tmp_path / "q.onnx").stat().st_size
    assert ", 0 differing (torch = onnxruntime)" in exact.text
    assert len(exact.checks["comparison"]["tensors"]) == len(graph.ops)
    assert len(onnx.load(str(tmp_path / "e.onnx")).graph.output) == 2, "the file itself has its own outputs alone"
    found = read_metadata(tmp_path / "q.onnx")
    assert (found["format"], found["profile"], found["classes"]) == ("onnx uint8 qdq", "qdq", ["a", "b", "c"])


def test_nothing_stays_of_a_file_that_could_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_qdq(small_network(), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_opsets_without_quantization_per_channel_are_refused() -> None:
    with pytest.raises(UserError, match="--opset 11 is not available .* quantization per channel begins with 13"):
        write_qdq(small_network(), opset=11)


def test_outputs_of_16_bits_are_close() -> None:
    """The float rounding and the reduced multiplier (1 in 2**15) differ by at most two units at 32767."""
    g = GraphBuilder((4, 16, 16), qparams(0.03, -20), seed=3)
    g.conv("x", "y", 5, activation="none", q=wide(8 / 32767))
    g.conv("x", "z", 5, activation="relu6", q=wide(6.5 / 32767))
    graph, codes = g.graph("y", "z"), random_codes((2, 4, 16, 16))
    assert max(drift(graph, codes).values()) <= 2
    text = compare_integer(graph, write_qdq(graph), torch.from_numpy(codes), exact=False).text()
    assert "in the mean (outputs of 16 bits among them)" in text and "LSB of 16 bits, " in text
