"""An integer graph in the profile ``xnnpack`` against LiteRT's default kernels: equality of every tensor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hatdet.export.metadata import file_names
from hatdet.export.runtimes.integer import LiteRTRuntime, to_nhwc
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph


def default_tensors(graph: IntGraph, codes: np.ndarray, threads: int = 1) -> dict[str, np.ndarray]:
    """Every tensor by its own name, (B, C, H, W), from LiteRT's default kernels."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    runtime = LiteRTRuntime(tflite.write(graph), kernels="default", keep_tensors=True, threads=threads)
    tensors = runtime.run_all(to_nhwc(codes))
    return {own: tensors[name].transpose(0, 3, 1, 2) for own, name in file_names(graph).items()}


def executed(graph: IntGraph, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor from the torch executor, once both of its backends agree."""
    runs = [IntExecutor(graph, backend=b)(torch.from_numpy(codes), keep=True) for b in ("auto", "float32")]
    for name, value in runs[0].items():
        assert torch.equal(value, runs[1][name]), f"the backends differ in {name}"
    return {name: value.numpy() for name, value in runs[0].items()}


def assert_default_kernels(graph: IntGraph, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor is the executor's with 1 and with 4 threads; returns them."""
    ours = executed(graph, codes)
    for threads in (1, 4):
        for name, value in default_tensors(graph, codes, threads).items():
            differing = np.abs(value.astype(int) - ours[name])
            assert not differing.any(), (
                f"{name}, {threads} threads: {np.count_nonzero(differing)} of {value.size} differ, by {differing.max()}"
            )
    return ours
