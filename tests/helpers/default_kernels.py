"""An integer graph in the profile ``xnnpack`` against LiteRT's default kernels: equality of every tensor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.export.metadata import file_names
from hatdet.export.runtimes.integer import LiteRTRuntime, to_nhwc
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.pairs.sub import SubOp
from hatdet.integer.operators.pointwise.clamp import ClampOp
from hatdet.integer.operators.windows.weighted import WeightedOp
from hatdet.integer.profiles.table import PROFILES
from tests.helpers.int_graphs import GraphBuilder


def xnnpack(g: GraphBuilder, *outputs: str) -> IntGraph:
    """The builder's graph in the profile, with the profile's limits of fused activations."""
    for number, op in enumerate(g.ops):
        if isinstance(op, (AddOp, ClampOp, SubOp, WeightedOp)):
            lo, hi = PROFILES["xnnpack"].limits(op.activation, g.tensors[op.output].qparams)
            data: Any = op
            g.ops[number] = replace(data, lo=lo, hi=hi)
    return g.graph(*outputs, profile="xnnpack")


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
