"""A file's graph under another profile: every tensor is that of LiteRT's kernels of this other profile on the file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from hatdet.export.bundle import under_profile
from hatdet.export.bundle.under_profile import under
from hatdet.export.metadata import file_names
from hatdet.export.runtimes.integer import LiteRTRuntime, to_nhwc
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.arithmetic import limits_name
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.pointwise.activation_codes import SIGNED_UNIT_INTERVAL, UNIT_INTERVAL
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.tensors import TensorInfo
from hatdet.quantization.detector import quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.utils.errors import UserError
from tests.helpers.fuzz import SIZE, random_module
from tests.helpers.int_graphs import GraphBuilder, in_profile, qparams
from tests.helpers.spellings import Task

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

REF, XNN = PROFILES["tflite_ref"], PROFILES["xnnpack"]
CODES = np.arange(-128, 128, dtype=np.int8).reshape(1, 1, 16, 16)


def differing(graph: IntGraph, other: str, codes: np.ndarray) -> dict[str, int]:
    """By tensor, where the kernels of the other profile give something else than the executor of ``under``'s graph."""
    profile = PROFILES[other]
    ours = IntExecutor(under(graph, profile))(torch.from_numpy(codes), keep=True)
    theirs = LiteRTRuntime(tflite.write(graph), profile.litert, keep_tensors=True).run_all(to_nhwc(codes))
    counts = {name: int((to_nhwc(ours[name]) != theirs[said]).sum()) for name, said in file_names(graph).items()}
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize("own", ["tflite_ref", "xnnpack"])
@pytest.mark.parametrize("seed", [2, 10])
def test_random_network(own: str, seed: int) -> None:
    network = random_module(seed)
    model = Task(network, len(network.outputs)).eval()
    fuse_bn(model)
    settings = dict(observer="min_max", averaging_constant=0.01, qat_forward="integer", arithmetic=own)
    q = quantize_detector(model, **settings).eval()  # type: ignore[arg-type]
    x = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed)) * 4 - 2
    q.set_observing(True)
    q.run_network(x)
    q.set_observing(False)
    q.set_quantizing(True)
    graph = q.int_graph(SIZE)
    params = graph.qparams(graph.inputs[0])
    codes = (torch.round(x / params.scale) + params.zero_point).clamp(-128, 127).to(torch.int8).numpy()
    other = "xnnpack" if own == "tflite_ref" else "tflite_ref"
    assert differing(graph, other, codes) == {}
    runs = [IntExecutor(g)(torch.from_numpy(codes)) for g in (graph, under(graph, PROFILES[other]))]
    assert any((a != b).any() for a, b in zip(*runs, strict=True)), "the profiles differ"


def gates(scale: float) -> IntGraph:
    """So coarse an input that the reference profile writes a requantization in front of gates."""
    g = GraphBuilder((1, 16, 16), qparams(scale, 3))
    g.activation("x", "sigmoid", "sigmoid", UNIT_INTERVAL)
    g.activation("x", "tanh", "tanh", SIGNED_UNIT_INTERVAL)
    y = XNN.product_scale([(qparams(scale).scale, UNIT_INTERVAL.scale)], scale / 1.7)
    g.activation("x", "silu", "silu", qparams(y, -60))
    return g.graph("sigmoid", "tanh", "silu")


def test_gates_read_what_the_file_has_in_front_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert differing(gates(8.0), "xnnpack", CODES) == differing(gates(4.6), "xnnpack", CODES) == {}
    kinds = [op.kind for op in under(gates(8.0), XNN).ops]
    assert kinds == [*("requantize", "activation") * 3, "mul"]

    def as_one(op: Operator, graph: IntGraph, tensors: dict[str, TensorInfo]) -> Iterator[Operator]:
        yield op

    monkeypatch.setattr(under_profile, "_said", as_one)
    assert differing(gates(4.6), "xnnpack", CODES).keys() >= {"sigmoid"}


def test_a_gate_that_the_profile_would_not_have_in_its_file_is_refused() -> None:
    """XNNPACK's table reads anything; TFLite Micro takes such an input for saturated."""
    g = GraphBuilder((1, 16, 16), qparams(8.0, 3))
    g.activation("x", "y", "sigmoid", UNIT_INTERVAL)
    with pytest.raises(UserError, match="operator 'y_sigmoid': its sigmoid reads .*scale=8.0.*, with which not all"):
        under(in_profile(g.graph("y"), "xnnpack"), REF)


@pytest.mark.parametrize("own", ["tflite_ref", "xnnpack"])
def test_limits_are_those_that_the_kernels_derive(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """6 is 48.5 output scales: away from zero with one profile, to the even code with the other. What is fused in no
    operator is a constant of the file, with the limits of its own profile."""
    y = qparams(6 / 48.5, 0)
    assert REF.limits("relu6", y) != XNN.limits("relu6", y)
    g = GraphBuilder((1, 16, 16), y)
    g.add("x", "x", "sum", y, activation="relu6")
    g.sub("x", "sum", "difference", y, activation="relu_n1_to_1")
    weight, bias = np.full((1, 1, 1, 1), 64, np.int8), np.zeros(1, np.int32)
    scale = np.array([1 / 32], np.float32)
    g.conv("x", "dense", 1, (1, 1), padding=(0, 0), activation="relu6", q=y, weight=weight, bias=bias,
           weight_scale=scale)  # fmt: skip
    g.conv("x", "own", 1, (1, 1), padding=(0, 0), activation=limits_name(0.0, 4.0), q=y, weight=weight, bias=bias,
           weight_scale=scale)  # fmt: skip
    g.clamp("x", "clamped", "relu6")
    lo, hi = REF.limits("relu6", y)
    g.apply("conv_transpose", "x", "transposed", y, stride=(1, 1), padding=(0, 0), output_padding=(0, 0),
            weight=weight, bias=bias, weight_scale=scale, activation="relu6", lo=lo, hi=hi)  # fmt: skip
    names = ("sum", "difference", "dense", "own", "clamped", "transposed")
    graph = in_profile(g.graph(*names), own)
    other = "xnnpack" if own == "tflite_ref" else "tflite_ref"
    assert differing(graph, other, CODES) == {}
    monkeypatch.setattr(under_profile, "_limited", lambda op, graph, profile: op)
    assert {"sum", "dense", "transposed"} <= set(differing(graph, other, CODES))
