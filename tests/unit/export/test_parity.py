"""The proof itself must be able to fail."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

from hatdet.export import tflite
from hatdet.export.parity import check_parity
from hatdet.integer.graph import ConvOp, IntGraph
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
