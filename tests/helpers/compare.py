"""Four opinions on one integer graph: the literal evaluator, the torch executor, LiteRT reference, TFLite Micro."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hatdet.export.metadata import file_names, output_names
from hatdet.export.onnx.compare import run_codes
from hatdet.export.onnx.exact import write_exact
from hatdet.export.onnx.file import open_session
from hatdet.export.runtimes.integer import LiteRTRuntime, TFLiteMicroRuntime, to_nhwc
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from tests.helpers.literal_integer import run_literal


def runtime_tensors(graph: IntGraph, codes: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Every tensor of the graph by its own name, (B, C, H, W), from each runtime."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")
    model = tflite.write(graph)
    names = file_names(graph)
    results = {}
    for make in (LiteRTRuntime, TFLiteMicroRuntime):
        runtime = make(model, keep_tensors=True)
        tensors = runtime.run_all(to_nhwc(codes))
        results[runtime.name] = {own: tensors[name].transpose(0, 3, 1, 2) for own, name in names.items()}
    return results


def exact_onnx_tensors(graph: IntGraph, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Every computed tensor of the graph from onnxruntime, by its own name, (B, C, H, W)."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = open_session(write_exact(graph, keep_tensors=True))
    tensors = {name: tensor for tensor, name in file_names(graph).items()}
    tensors |= dict(zip(output_names(graph), graph.outputs, strict=True))
    images = [run_codes(session, image) for image in torch.from_numpy(codes).split(1)]
    names = [tensors[value.name] for value in session.get_outputs()]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*images, strict=True), strict=True)}


def assert_equal_everywhere(graph: IntGraph, codes: np.ndarray) -> dict[str, np.ndarray]:
    """:func:`assert_all_equal`, and the exact ONNX form too."""
    expected = assert_all_equal(graph, codes)
    for name, value in exact_onnx_tensors(graph, codes).items():
        assert np.array_equal(value, expected[name]), f"exact ONNX: {name} differs from the formulas"
    return expected


def assert_all_equal(graph: IntGraph, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor is the same in all (the executor with both backends); returns the literal evaluator's."""
    expected = run_literal(graph, codes)
    executors = {
        f"torch ({backend})": IntExecutor(graph, backend=backend)(torch.from_numpy(codes), keep=True)
        for backend in ("auto", "float32")
    }
    found = {who: {n: t.numpy() for n, t in tensors.items()} for who, tensors in executors.items()}
    for who, tensors in {**found, **runtime_tensors(graph, codes)}.items():
        for name, value in expected.items():
            differing = int((tensors[name] != value).sum())
            assert differing == 0, f"{who}: {differing} of {value.size} values of {name} differ from the formulas"
    return expected
