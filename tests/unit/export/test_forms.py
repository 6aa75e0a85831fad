"""Every writer has a form, or a refusal with its reason, of every operator; and what the forms write computes it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.export.float_graph import FloatGraph, FloatOp
from hatdet.export.formats.savedmodel import run_network
from hatdet.export.forms import ISLAND, Refusal, translate
from hatdet.export.onnx.compare import compare_integer
from hatdet.export.onnx.exact import write_exact
from hatdet.export.onnx.file import open_session
from hatdet.export.onnx.operators import exact as onnx_exact
from hatdet.export.onnx.operators import qdq as onnx_qdq
from hatdet.export.onnx.qdq import write_qdq
from hatdet.export.runtimes.floating import FloatTFLite
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.savedmodel import operators as savedmodel
from hatdet.export.targets.table import get_target
from hatdet.export.tflite import int8, limits
from hatdet.export.tflite.file_operators import read_file
from hatdet.export.tflite.floating import write_float
from hatdet.export.tflite.operators import floating as tflite_floating
from hatdet.export.tflite.operators import int8 as tflite_int8
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.island import FloatOp as IslandOp
from hatdet.integer.operators.pairs.mul import agreeing_output_scale
from hatdet.integer.operators.pointwise.activation_codes import FUNCTIONS, SIGNED_UNIT_INTERVAL, UNIT_INTERVAL
from hatdet.integer.operators.pointwise.function import function_table, real_values
from hatdet.integer.operators.pointwise.prelu import PreluOp
from hatdet.integer.operators.table import OP_TYPES
from hatdet.integer.operators.windows.weighted import WeightedOp
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes

TABLES: dict[str, Mapping[type, Any]] = {
    "int8 .tflite": tflite_int8.FORMS,
    "float .tflite": tflite_floating.FORMS,
    "exact .onnx": onnx_exact.FORMS,
    "QDQ .onnx": onnx_qdq.FORMS,
    "SavedModel": savedmodel.FORMS,
}
FUNCTION_TABLES: dict[str, Mapping[str, Any]] = {
    "int8 .tflite": tflite_int8.FUNCTIONS,
    "its limits": limits.FUNCTIONS,
    "float .tflite": tflite_floating.FUNCTIONS,
    "QDQ .onnx": onnx_qdq.FUNCTIONS,
    "SavedModel": savedmodel.FUNCTIONS,
}
Build = Callable[[GraphBuilder], str]
FINE = qparams(0.02, 3)
SLOPES = np.array([-20, 5, 64, 127], np.int8)
GELU = function_table(real_values("gelu", (), 0.02 * (np.arange(-128.0, 128.0) - 3))[0], FINE)


def _product(g: GraphBuilder) -> str:
    scale = agreeing_output_scale([(FINE.scale, FINE.scale)], FINE.scale)
    return g.mul("x", "x", "y", qparams(scale, 3))


def _silu(g: GraphBuilder) -> str:
    scale = agreeing_output_scale([(FINE.scale, UNIT_INTERVAL.scale)], FINE.scale)
    return g.activation("x", "y", "silu", qparams(scale, -100))


def _conv_transpose(g: GraphBuilder, activation: str = "relu6") -> str:
    weight, bias = g.rng.integers(-127, 128, (6, 4, 3, 4)).astype(np.int8), np.arange(-3000, 3000, 1000, np.int32)
    numbers = {"weight": weight, "bias": bias, "weight_scale": np.full(6, 2e-3, np.float32)}
    return g.apply("conv_transpose", "x", "y", qparams(0.02, 9), **numbers, stride=(2, 2), padding=(1, 0),
                   output_padding=(0, 1), activation=activation, lo=9, hi=127)  # fmt: skip


ONE: dict[str, Build] = {
    "activation": lambda g: g.activation("x", "y", "hardswish", qparams(0.02, -100)),
    "activation hardsigmoid": lambda g: g.activation("x", "y", "hardsigmoid", UNIT_INTERVAL),
    "activation hardswish": lambda g: g.activation("x", "y", "hardswish", qparams(0.02, -100)),
    "activation sigmoid": lambda g: g.activation("x", "y", "sigmoid", UNIT_INTERVAL),
    "activation silu": _silu,
    "activation tanh": lambda g: g.activation("x", "y", "tanh", SIGNED_UNIT_INTERVAL),
    "add": lambda g: g.add("x", "x", "y", qparams(0.04, 3), "relu6"),
    "average_pool": lambda g: g.average_pool("x", "y", (3, 2), (2, 1)),
    "channel_order": lambda g: g.apply("channel_order", "x", "y", channels=(2, 0, 3, 1, 1)),
    "clamp": lambda g: g.clamp("x", "y", "relu"),
    "concat": lambda g: g.concat(["x", "x"], "y"),
    "conv": lambda g: g.conv("x", "y", 6, stride=(2, 1), q=qparams(0.02, -128)),
    "conv_transpose": _conv_transpose,
    "function": lambda g: g.apply("function", "x", "y", qparams(0.02, 3), function="gelu", numbers=(), table=GELU),
    "depth_to_space": lambda g: g.apply("depth_to_space", "x", "y", block=2),
    "global_average_pool": lambda g: g.average("x", "y"),
    "leaky_relu": lambda g: g.apply("leaky_relu", "x", "y", qparams(0.02, -100), slope=0.25),
    "global_max_pool": lambda g: g.apply("global_max_pool", "x", "y", size=(2, 1)),
    "max_pool": lambda g: g.max_pool("x", "y", (3, 3), (2, 2), (1, 1)),
    "maximum": lambda g: g.apply("maximum", ["x", "x"], "y"),
    "minimum": lambda g: g.apply("minimum", ["x", "x"], "y"),
    "mul": _product,
    "pad": lambda g: g.pad("x", "y", (1, 0, 2, 3)),
    "prelu": lambda g: g.apply("prelu", "x", "y", qparams(0.015, -60), alpha=SLOPES, alpha_scale=0.0078125),
    "requantize": lambda g: g.requantize("x", "y", qparams(0.03, -7)),
    "resize_bilinear": lambda g: g.bilinear("x", "y"),
    "resize_nearest": lambda g: g.resize("x", "y", 3),
    "slice": lambda g: g.apply(
        "slice", "x", "y", begin=((0, 1, 1), (0, 1, 1), (1, 1, -5)), end=((0, 1, 3), (1, 1, 0), (1, 1, -1)),
        stride=(2, 3),
    ),
    "sub": lambda g: g.sub(g.max_pool("x", "before", (8, 7), (8, 7)), "x", "y", qparams(0.04, 3), "relu6"),
}
"""A graph of one operator for each of their kinds, and for each function of its own."""

LIMITED: dict[str, Build] = {
    "add, limits that the format has": lambda g: g.add("x", "x", "y", qparams(0.04, 3), "relu_n1_to_1"),
    "add, other limits": lambda g: g.add("x", "x", "y", qparams(0.04, 3), "clamp(-1.5,0.5)"),
    "clamp, limits that the format has": lambda g: g.clamp("x", "y", "relu_n1_to_1"),
    "clamp, other limits": lambda g: g.clamp("x", "y", "clamp(-0.5,0.75)"),
    "clamp, one limit": lambda g: g.clamp("x", "y", "clamp(-inf,0.75)"),
    "conv, limits that the format has": lambda g: g.conv("x", "y", 6, q=qparams(0.02, -8), activation="relu_n1_to_1"),
    "conv_transpose, other limits": lambda g: _conv_transpose(g, "clamp(0.0,2.5)"),
    "conv, other limits": lambda g: g.conv("x", "y", 6, q=qparams(0.02, -8), activation="clamp(-0.5,inf)"),
}
ALL = {**ONE, **LIMITED}


def graph_of(name: str) -> IntGraph:
    """Its input ``x`` is (4, 8, 7), its output ``y``."""
    g = GraphBuilder((4, 8, 7), FINE)
    return g.graph(ALL[name](g))


def codes() -> torch.Tensor:
    return torch.from_numpy(random_codes((2, 4, 8, 7)))


@pytest.mark.parametrize("writer", TABLES)
def test_every_operator_has_a_form_or_a_refusal(writer: str) -> None:
    table = TABLES[writer]
    assert set(table) == set(OP_TYPES.values()), f"{writer} lacks, or has too many"
    for form in table.values():
        assert callable(form) and (not isinstance(form, Refusal) or (form.reason and form.instead))
    assert table[IslandOp] is ISLAND


@pytest.mark.parametrize("table", FUNCTION_TABLES)
def test_every_function_has_a_form_or_a_refusal(table: str) -> None:
    assert set(FUNCTION_TABLES[table]) == set(FUNCTIONS)


def test_every_operator_and_function_is_executed_here() -> None:
    assert {name.partition(" ")[0] for name in ONE} == set(OP_TYPES) - {IslandOp.kind}
    assert {name.partition(" ")[2] for name in ONE} - {""} == set(FUNCTIONS)


def test_a_refusal_names_the_operator_the_reason_and_what_to_use() -> None:
    graph = graph_of("requantize")
    table = {**tflite_int8.FORMS, OP_TYPES["requantize"]: Refusal("has no form in stone", "use paper")}
    with pytest.raises(UserError, match=r"^operator 'y_requantize' \(requantize\) has no form in stone; use paper$"):
        translate(object(), graph.ops, table)


@pytest.mark.parametrize("name", ALL)
def test_int8_tflite_computes_it_exactly(name: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    graph = graph_of(name)
    report = check_parity(graph, int8.write(graph), codes(), default_kernels=False)
    assert report.ok and report.tensors[0].levels > 2, report.text()


@pytest.mark.parametrize("name", ALL)
def test_exact_onnx_computes_it_exactly(name: str) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    graph = graph_of(name)
    report = compare_integer(graph, write_exact(graph), codes(), exact=True)
    assert report.ok and report.tensors[0].levels > 2, report.text()


@pytest.mark.parametrize("name", ALL)
def test_qdq_onnx_rounds_in_its_own_way(name: str) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    graph = graph_of(name)
    report = compare_integer(graph, write_qdq(graph), codes(), exact=False)
    assert report.max_lsb <= 1 and report.tensors[0].levels > 2, report.text()


REFUSED_BY_VELA = {"function", "resize_nearest"}  # by table; a factor of 3


@pytest.mark.parametrize("name", ALL)
def test_the_npu_takes_it_or_its_limit_says_why(name: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    model = read_file(int8.write(graph_of(name)))
    found = get_target("ethos-u55-128").violations(model)
    assert bool(found) is (name in REFUSED_BY_VELA)
    assert get_target("tflite").violations(model) == []


def real_graph(graph: IntGraph) -> FloatGraph:
    """The float graph that an integer graph approximates."""
    ops = []
    for op in graph.ops:
        weight = bias = None
        if isinstance(op, WeightedOp):
            weight = (op.weight * op.weight_scale[:, None, None, None]).astype(np.float32)
            bias = (op.bias * op.weight_scale * graph.qparams(op.input).scale).astype(np.float32)
        if isinstance(op, PreluOp):
            weight = (op.alpha * op.alpha_scale).astype(np.float32)
        ops.append(FloatOp(op.kind, op.name, op.inputs, op.output, op.settings, weight, bias))
    shapes = {name: info.shape for name, info in graph.tensors.items()}
    return FloatGraph("x", ("y",), ("y",), tuple(ops), shapes)


def real_values(graph: FloatGraph, x: torch.Tensor) -> torch.Tensor:
    values = {"x": x}
    for op in graph.ops:
        parameters = (None if p is None else torch.from_numpy(p) for p in (op.weight, op.bias))
        values[op.output] = OP_TYPES[op.kind].real(op.arguments)([values[name] for name in op.inputs], *parameters)
    return values["y"]


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"requantize"}))
def test_float_tflite_computes_the_real_function(name: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    graph = real_graph(graph_of(name))
    x = torch.randn(2, 4, 8, 7, generator=torch.Generator().manual_seed(0))
    (found,) = FloatTFLite(write_float(graph, "{}")).run(x)
    assert torch.allclose(found, real_values(graph, x), atol=1e-5) and len(found.unique()) > 2


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"requantize"}))
def test_float_onnx_is_what_torchs_exporter_writes(name: str) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    graph = real_graph(graph_of(name))
    x = torch.randn(1, 4, 8, 7, generator=torch.Generator().manual_seed(0))

    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return real_values(graph, x)

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the exporter's planned replacement
        torch.onnx.export(Network(), (x,), buffer, dynamo=False, opset_version=11, input_names=["x"])  # type: ignore[arg-type]
    (found,) = open_session(buffer.getvalue()).run(None, {"x": x.numpy()})
    assert np.allclose(found, real_values(graph, x), atol=1e-5)


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"requantize"}))
def test_a_savedmodel_computes_the_real_function(name: str) -> None:
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    graph = real_graph(graph_of(name))
    x = torch.randn(1, 4, 8, 7, generator=torch.Generator().manual_seed(0))
    found = run_network(tf, graph, tf.constant(x.permute(0, 2, 3, 1).numpy()))["y"]
    assert np.allclose(np.transpose(found.numpy(), (0, 3, 1, 2)), real_values(graph, x), atol=1e-5)


MORE_MACS = {
    "activation hardsigmoid": 224,  # said as a depthwise convolution
    "channel_order": 1120,  # as a convolution with ones
    "conv_transpose": 4032,  # output_padding is zeros in the kernel
}


@pytest.mark.parametrize("name", ONE)
def test_macs_of_the_graph_are_those_of_the_file(name: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    graph = graph_of(name)
    assert read_file(int8.write(graph)).macs == graph.macs + MORE_MACS.get(name, 0)


def test_macs_by_hand() -> None:
    """4 -> 6 channels, a kernel of 3 x 3, on 4 x 7 positions."""
    assert graph_of("conv").macs == 6 * 4 * 3 * 3 * 4 * 7
