"""The proof itself must be able to fail."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

from hatdet.export.runtimes import integer as runtimes
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.windows.conv import ConvOp
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes, small_network

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")


def altered(graph: IntGraph, output: str) -> IntGraph:
    """The graph with one bias of the convolution that makes ``output`` moved by 3 %."""
    ops = list(graph.ops)
    for i, op in enumerate(ops):
        if isinstance(op, ConvOp) and op.output == output:
            bias = op.bias.copy()
            bias[0] += max(1, abs(int(bias[0])) // 30)
            ops[i] = dataclasses.replace(op, bias=bias)
    return IntGraph(graph.tensors, ops, graph.inputs, graph.outputs, graph.metadata)


def test_equal_models() -> None:
    graph = small_network()
    report = check_parity(graph, tflite.write(graph), random_codes((2, 3, 32, 48)))
    values = 2 * (16 * 24 * 3 + 8 * 12 * 4)
    assert report.ok and report.compared == values and report.first_differing is None
    line = f"parity: {values} values compared, 0 differing (torch = LiteRT reference = TFLite Micro)"
    assert report.text().splitlines()[0] == line
    assert [t.name for t in report.tensors] == ["cls_8", "reg_8"]
    assert all(t.levels > 30 for t in report.tensors) and report.warnings == []


def test_intermediates() -> None:
    graph = small_network()
    report = check_parity(graph, tflite.write(graph), random_codes((1, 3, 32, 48)), intermediates=True)
    assert report.ok and len(report.tensors) == len(graph.ops)
    assert [t.name for t in report.tensors[:3]] == ["stem", "dw", "pw"]
    assert report.compared == sum(int(np.prod(graph.tensors[op.output].shape)) for op in graph.ops)


def test_a_different_file_is_caught_and_the_first_tensor_named() -> None:
    graph = small_network()
    report = check_parity(graph, tflite.write(altered(graph, "pw")), random_codes((1, 3, 32, 48)), intermediates=True)
    assert not report.ok and report.differing > 0
    assert report.first_differing == "pw"
    text = report.text()
    assert "(torch vs LiteRT reference vs TFLite Micro)" in text and "first differing tensor: pw" in text
    stem = report.tensors[0]
    assert stem.differing == {"LiteRT reference": 0, "TFLite Micro": 0}


def test_drift_of_the_default_kernels_is_reported_and_not_judged() -> None:
    graph = small_network()
    report = check_parity(graph, tflite.write(graph), random_codes((2, 3, 32, 48)))
    assert [t.name for t in report.default_kernels] == ["cls_8", "reg_8"]
    assert report.to_dict()["default_kernels"]["max_lsb"] == report.default_max_lsb
    assert "LiteRT's default kernels (not part of the verdict)" in report.text()
    without = check_parity(graph, tflite.write(graph), random_codes((1, 3, 32, 48)), default_kernels=False)
    assert without.default_kernels == [] and without.default_differing_share == 0.0


def test_a_collapsed_network_is_warned_about() -> None:
    g = GraphBuilder((3, 8, 8), qparams(1 / 255, -128))
    g.conv("x", "y", 2, weight=np.zeros((2, 3, 3, 3), np.int8), weight_scale=np.full(2, 0.01, np.float32))
    graph = g.graph("y")
    report = check_parity(graph, tflite.write(graph), random_codes((1, 3, 8, 8)))
    assert report.ok and len(report.warnings) == 1
    assert "warning: outputs with fewer than 16 distinct codes prove little: y (2)" in report.text()


def test_a_missing_runtime_is_said_and_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite_micro.python.tflite_micro.runtime", None)
    graph = small_network()
    report = check_parity(graph, tflite.write(graph), random_codes((1, 3, 32, 48)))
    assert report.warnings == ["TFLite Micro is not installed and was not compared"]
    assert report.ok and report.runtimes == ("LiteRT reference",)
    assert report.line().endswith("(torch = LiteRT reference; TFLite Micro not installed)")


def test_wrong_inputs() -> None:
    graph = small_network()
    with pytest.raises(ValueError, match="parity takes int8 codes"):
        check_parity(graph, tflite.write(graph), random_codes((1, 3, 48, 32)))
    with pytest.raises(ValueError, match="at least one"):
        check_parity(graph, tflite.write(graph), random_codes((0, 3, 32, 48)))


def test_report_is_plain() -> None:
    import json

    graph = small_network()
    report = check_parity(graph, tflite.write(graph), random_codes((1, 3, 32, 48)))
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True


def large_multiplier() -> IntGraph:
    g = GraphBuilder((1, 4, 4), qparams(1.0, 0))
    g.conv("x", "y", 1, (1, 1), padding=(0, 0), activation="none", q=qparams(1.0), bias=np.zeros(1, np.int32),
           weight=np.ones((1, 1, 1, 1), np.int8), weight_scale=np.array([300.0], np.float32))  # fmt: skip
    return g.graph("y")


def test_a_file_that_the_default_kernels_refuse_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with a multiplier of 300, as it would stand in the file without the writer's limit."""
    monkeypatch.setattr("hatdet.export.tflite.operators.int8.stored_weight_scale", lambda _, scale, __: scale)
    report = check_parity(large_multiplier(), tflite.write(large_multiplier()), random_codes((1, 1, 4, 4)))
    assert report.ok and report.default_kernels == []
    (line,) = [text for text in report.warnings if "default" in text]
    assert line.startswith("LiteRT default cannot load this file: ") and "XNNPACK" in line and "\n" not in line
    assert "LiteRT's default kernels (not part of the verdict):" not in report.text()


def test_a_file_that_the_default_kernels_take_has_no_such_warning() -> None:
    report = check_parity(large_multiplier(), tflite.write(large_multiplier()), random_codes((1, 1, 4, 4)))
    assert report.ok and not [text for text in report.warnings if "default" in text]


def test_a_reference_runtime_that_refuses_the_file_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise runtimes.ModelRefused("TFLite Micro cannot load this file: no memory")

    monkeypatch.setattr(runtimes, "TFLiteMicroRuntime", refuse)
    graph = small_network()
    report = check_parity(graph, tflite.write(graph), random_codes((1, 3, 32, 48)))
    assert not report.ok and report.differing == 0
    assert report.line().endswith("; TFLite Micro REFUSES the file: TFLite Micro cannot load this file: no memory)")
