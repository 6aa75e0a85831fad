"""The explicit-integer ONNX form: every tensor of every operator equals the torch executor's, under onnxruntime."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from hatdet.export.forms import Refusal
from hatdet.export.onnx.compare import IntegerComparison, compare_integer, run_codes
from hatdet.export.onnx.digits import digits
from hatdet.export.onnx.exact import write_exact
from hatdet.export.onnx.file import open_session, read_metadata
from hatdet.export.onnx.operators.exact import FORMS
from hatdet.integer.arithmetic import conv_multiplier, prepare_requantization
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.base import Kernel, Machine, OneInput
from hatdet.integer.operators.pointwise.activation_codes import UNIT_INTERVAL
from hatdet.integer.operators.table import OP_TYPES
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.tensors import QuantParams, TensorInfo
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes, small_network, wide

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def compare(graph: IntGraph, codes: np.ndarray, opset: int = 13, optimize: bool = True) -> IntegerComparison:
    model = write_exact(graph, opset=opset, keep_tensors=True)
    return compare_integer(graph, model, torch.from_numpy(codes), exact=True, optimize=optimize)


def assert_equal(graph: IntGraph, codes: np.ndarray, levels: int = 2, **kwargs: Any) -> IntegerComparison:
    report = compare(graph, codes, **kwargs)
    assert report.ok, report.text()
    assert {t.name for t in report.tensors} >= {op.output for op in graph.ops} - set(graph.outputs)
    assert min(t.levels for t in report.tensors) >= levels, "a constant tensor shows nothing"
    return report


def extremes(shape: tuple[int, ...]) -> np.ndarray:
    """All -128, all 127, a chequerboard of both, and random codes."""
    low, high = np.full(shape, -128, np.int8), np.full(shape, 127, np.int8)
    board = np.where(np.indices(shape).sum(0) % 2, low, high)
    return np.stack([low, high, board, random_codes(shape, 5)])


@pytest.mark.parametrize(("opset", "optimize"), [(13, True), (13, False), (17, True), (20, True), (20, False)])
def test_a_network_with_and_without_the_runtimes_optimizations(opset: int, optimize: bool) -> None:
    graph = small_network(seed=opset)
    codes = np.concatenate([random_codes((2, 3, 32, 48), opset), extremes((3, 32, 48))])
    report = assert_equal(graph, codes, opset=opset, optimize=optimize)
    assert report.images == 6 and report.compared > 100_000
    assert max(t.levels for t in report.tensors) > 100


@pytest.mark.parametrize("size", [(20, 36), (4, 4), (36, 8)])
def test_other_sizes(size: tuple[int, int]) -> None:
    assert_equal(small_network(*size, seed=3), extremes((3, *size)))


@pytest.mark.parametrize(
    "conv",
    [
        dict(channels=7, kernel=(3, 1), padding=(1, 0), stride=(2, 1)),
        dict(channels=6, kernel=(3, 5), padding=(2, 4), dilation=(2, 2), groups=2),
        dict(channels=12, kernel=(2, 2), padding=(0, 0), groups=6),
        dict(channels=5, activation="none", q=qparams(0.03, 5)),
        dict(channels=5, activation="relu", q=qparams(0.05, -100)),
        dict(channels=5, activation="relu6", q=qparams(0.05, -128)),  # 6 is code -8: the upper limit cuts
    ],
)
def test_convolutions(conv: dict[str, Any]) -> None:
    g = GraphBuilder((6, 9, 11), qparams(0.02, 17), seed=1)
    g.conv("x", "y", **conv)
    assert_equal(g.graph("y"), extremes((6, 9, 11)), levels=20)


@pytest.mark.parametrize(("channels", "groups"), [(160, 1), (160, 2), (288, 1), (1100, 1)])
def test_accumulators_beyond_float32(channels: int, groups: int) -> None:
    """Extreme weights sum to more than 2**24 over one pixel's neighbourhood: the weights are cut into digits."""
    g = GraphBuilder((channels, 5, 4), qparams(0.02, -128), seed=2)
    weight = np.where(g.rng.random((4, channels // groups, 3, 3)) < 0.5, 127, 126).astype(np.int8)
    weight[1::2] *= -1
    bound = 127 * 255 * 9 * channels // groups
    g.conv("x", "y", 4, groups=groups, weight=weight, weight_scale=np.full(4, 1e-4, np.float32),
           bias=np.array([-bound, bound, -bound // 2, 2**30]), activation="none",
           q=qparams(bound * 0.02 * 1e-4 / 2**9, 3))  # fmt: skip
    parts = digits(next(op for op in g.ops if isinstance(op, ConvOp)), (0, 255))
    assert len(parts) == (2 if channels / groups < 900 else 3)
    assert_equal(g.graph("y"), extremes((channels, 5, 4)), levels=5)


def test_digits_sum_to_the_weights() -> None:
    weight = np.arange(-128, 128).astype(np.int8).reshape(1, 256, 1, 1).repeat(9, 2).repeat(9, 3)
    zeros = np.zeros(1, np.int32)
    op = ConvOp("c", "x", "y", weight, zeros, np.ones(1, np.float32), (1, 1), (0, 0), (1, 1), 1, "none", -128, 127)
    parts = digits(op, (-255, 255))
    assert len(parts) > 1
    assert np.array_equal(sum(place * digit.astype(np.int64) for place, digit in parts), weight)
    assert [(place, part is op.weight) for place, part in digits(op, (-1, 1))] == [(1, True)]


def test_too_many_values_for_digits_are_refused() -> None:
    weight = np.full((1, 40000, 1, 1), -2, np.int8)
    op = ConvOp("wide", "x", "y", weight, np.zeros(1, np.int32), np.ones(1, np.float32),
                (1, 1), (0, 0), (1, 1), 1, "none", -128, 127)  # fmt: skip
    with pytest.raises(UserError, match="convolution 'wide' sums too many values"):
        digits(op, (0, 255))


@pytest.mark.parametrize("output_scale", [60.0, 900.0, 2e-4])
def test_multipliers_that_only_int64_covers(output_scale: float) -> None:
    """Outputs so coarse that large accumulators are not clamped, or so fine that codes are shifted left."""
    g = GraphBuilder((300, 4, 4), qparams(0.02, -128), seed=4)
    q = qparams(output_scale, 0)
    weight = (
        g.rng.integers(60, 128, (3, 300, 1, 1)).astype(np.int8) * np.array([1, -1, 1], np.int8)[:, None, None, None]
    )
    g.conv("x", "y", 3, kernel=(1, 1), padding=(0, 0), weight=weight, weight_scale=np.full(3, 0.01, np.float32),
           bias=np.array([0, 0, -4_000_000]), activation="none", q=q)  # fmt: skip
    bound = np.full(3, 300 * 127 * 255.0)
    req = prepare_requantization(conv_multiplier(0.02, np.full(3, 0.01, np.float32), q.scale), bound)
    assert bool(req.exact.all()) == (output_scale == 2e-4)
    ramp = (
        np.arange(-128, 128).astype(np.int8).repeat(300).reshape(16, 16, 300).transpose(0, 2, 1).reshape(16, 300, 4, 4)
    )
    assert_equal(g.graph("y"), ramp, levels=2)


@pytest.mark.parametrize("scales", [(0.02, 0.05, 0.03), (0.05, 0.001, 0.2), (1e-4, 2.0, 0.5)])
def test_sums_and_products(scales: tuple[float, float, float]) -> None:
    g = GraphBuilder((4, 16, 16), qparams(scales[0], -20), seed=3)
    g.requantize("x", "z", qparams(scales[1], 9))
    g.add("x", "z", "sum", qparams(scales[2], -3))
    g.add("sum", "x", "rectified", qparams(scales[2], -30), activation="relu")
    g.mul("x", "z", "square", qparams(scales[0] * scales[1] * 90, 4))
    g.average("square", "gate")
    g.mul("square", "gate", "gated", qparams(scales[0], 0))
    grid = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16).repeat(4, 1)
    assert_equal(g.graph("gated", "rectified"), np.concatenate([grid, random_codes((2, 4, 16, 16))]), levels=1)


@pytest.mark.parametrize("zero_point", [-128, -40, 90])
def test_activations_over_all_codes(zero_point: int) -> None:
    g = GraphBuilder((1, 16, 16), qparams(0.047, zero_point))
    g.activation("x", "hardswish", "hardswish", qparams(0.03, -118))
    g.activation("x", "sigmoid", "sigmoid", UNIT_INTERVAL)
    g.activation("x", "silu", "silu", qparams(0.021, -111))
    g.activation("x", "hardsigmoid", "hardsigmoid", UNIT_INTERVAL)
    codes = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)
    assert_equal(g.graph("hardswish", "sigmoid", "silu", "hardsigmoid"), codes, levels=40)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (2, 3)])
def test_global_average(size: tuple[int, int]) -> None:
    g = GraphBuilder((64, *size), qparams(0.1, 40), seed=1)
    g.average("x", "y")
    codes = np.concatenate([extremes((64, *size)), np.sort(random_codes((64, 64, *size), 2), axis=0)])
    assert_equal(g.graph("y"), codes, levels=50)


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_bilinear_enlargement(factor: int, optimize: bool) -> None:
    """Ties fall on both sides of zero: neighbours differ by every amount."""
    g = GraphBuilder((64, 5, 3), qparams(0.1, 3))
    g.bilinear("x", "y", factor)
    codes = np.concatenate([extremes((64, 5, 3)), random_codes((2, 64, 5, 3), factor, -5, 5)])
    assert_equal(g.graph("y"), codes, levels=200, optimize=optimize)


@pytest.mark.parametrize(("kernel", "stride"), [((2, 2), (2, 2)), ((3, 5), (2, 1)), ((8, 8), (1, 1))])
def test_averages_of_windows(kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    g = GraphBuilder((16, 9, 11), qparams(0.1, -7))
    g.average_pool("x", "y", kernel, stride)
    codes = np.concatenate([extremes((16, 9, 11)), random_codes((2, 16, 9, 11), 3, -4, 4)])
    assert_equal(g.graph("y"), codes, levels=10)


def test_paddings_and_clamps() -> None:
    g = GraphBuilder((3, 5, 6), qparams(0.04, 30))
    g.pad("x", "padded", (0, 1, 2, 3))
    g.clamp("padded", "relu", "relu")
    g.clamp("x", "relu6", "relu6")
    assert_equal(g.graph("relu", "relu6"), extremes((3, 5, 6)), levels=10)


def test_pools_and_enlargements() -> None:
    g = GraphBuilder((3, 7, 9), qparams(0.1, 100))
    g.max_pool("x", "p", (3, 3), stride=(2, 2), padding=(1, 1))
    g.max_pool("p", "q", (2, 2))
    g.resize("q", "r", 3)
    g.concat(["r", "r"], "y")
    assert_equal(g.graph("y"), extremes((3, 7, 9)), levels=10)


def test_a_wrong_bias_is_noticed() -> None:
    graph = small_network()
    index = next(i for i, op in enumerate(graph.ops) if op.output == "mixed")
    op = graph.ops[index]
    assert isinstance(op, ConvOp)
    wrong = replace(graph, ops=[*graph.ops[:index], replace(op, bias=op.bias + 60), *graph.ops[index + 1 :]])
    codes = torch.from_numpy(random_codes((1, 3, 32, 48)))
    report = compare_integer(graph, write_exact(wrong, keep_tensors=True), codes, exact=True)
    assert not report.ok and report.differing > 100 and report.max_lsb >= 1
    assert "differing (torch vs onnxruntime; first: " in report.text()
    assert report.to_dict()["first_differing"] in {"mixed", "cls_8", "reg_8"}


def test_the_same_graph_gives_the_same_bytes() -> None:
    assert write_exact(small_network(seed=7)) == write_exact(small_network(seed=7))


def test_metadata_says_what_goes_in_and_out(tmp_path: Any) -> None:
    write_exact(small_network(), tmp_path / "m.onnx", {"classes": ["a", "b", "c"], "strides": (8,)})
    found = read_metadata(tmp_path / "m.onnx")
    assert (found["format"], found["profile"]) == ("onnx uint8 exact", "tflite_ref")
    assert found["classes"] == ["a", "b", "c"] and found["strides"] == [8]
    assert found["input"] == {
        "name": "images", "shape": [1, 3, 32, 48], "layout": "NCHW", "dtype": "uint8",
        "scale": float(np.float32(1 / 255)), "zero_point": 0, "real": "scale * (code - zero_point)",
    }  # fmt: skip
    assert [t["name"] for t in found["outputs"]] == found["output_names"] == ["cls_8", "reg_8"]
    assert found["outputs"][0]["zero_point"] == -11 + 128 and found["outputs"][0]["shape"] == [1, 3, 16, 24]
    assert (tmp_path / "m.onnx.json").is_file() and len(list(tmp_path.iterdir())) == 2


def test_one_tensor_under_two_names() -> None:
    g = GraphBuilder((3, 4, 4), qparams(0.02))
    g.conv("x", "y", 3)
    graph = g.graph("y", "y", output_names=("first", "second"))
    model = onnx.load_from_string(write_exact(graph))
    assert [value.name for value in model.graph.output] == ["first", "second"]
    first, second = run_codes(open_session(write_exact(graph)), torch.from_numpy(random_codes((1, 3, 4, 4))))
    assert np.array_equal(first, second) and len(np.unique(first)) > 5


@dataclass(frozen=True)
class Fold(OneInput):
    """An operator that the file has no form of."""

    kind: ClassVar[str] = "fold"
    def make_kernel(self, machine: Machine) -> Kernel:
        raise AssertionError("what cannot be written is not run")


def test_what_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {name: TensorInfo(name, (3, 4, 4), QuantParams(1.0, 0)) for name in ("x", "y")}
    refusal = Refusal("has no explicit-integer ONNX form", "use --format tflite")
    monkeypatch.setitem(OP_TYPES, "fold", Fold)
    monkeypatch.setitem(FORMS, Fold, refusal)  # type: ignore[call-overload]
    with pytest.raises(UserError, match=r"operator 'strange' \(fold\) has no explicit-integer ONNX form; use --format"):
        write_exact(IntGraph(tensors, [Fold("strange", "x", "y")], ("x",), ("y",)))
    with pytest.raises(UserError, match="output 'x' is the input itself"):
        write_exact(IntGraph(tensors, [], ("x",), ("x",)))
    for opset in (12, 21):
        with pytest.raises(UserError, match=rf"--opset {opset} is not available for this file: use 13 to 20"):
            write_exact(small_network(), opset=opset)


def test_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_exact(small_network())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="running ONNX files needs onnxruntime .*; install it with: pip install onnx"):
        read_metadata(model)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match="writing ONNX files needs onnx .*; install it with: pip install onnx"):
        write_exact(small_network())


@pytest.mark.parametrize(("activation", "groups"), [("none", 1), ("relu6", 1), ("relu", 2), ("none", 4)])
def test_outputs_of_16_bits(activation: str, groups: int) -> None:
    """int16 codes as they are, without the 128 of uint8; accumulators beyond 2**24 too."""
    g = GraphBuilder((4, 12, 10), qparams(0.03, -20), seed=3)
    scale = {"none": 9, "relu": 5, "relu6": 6.1}[activation] / 32767
    g.conv("x", "y", 8, groups=groups, activation=activation, q=wide(scale))
    g.conv("x", "z", 4, activation="none")
    bias = np.array([2**27, -(2**27), 5], np.int32)
    g.conv("x", "far", 3, activation="none", q=wide(0.05), bias=bias, weight_scale=np.full(3, 1e-4, np.float32))
    graph = g.graph("y", "z", "far")
    report = assert_equal(graph, extremes((4, 12, 10)), levels=20)
    assert {t.name: t.levels for t in report.tensors}["y"] > 256
    model = write_exact(graph)
    outputs = [(value.name, value.type) for value in open_session(model).get_outputs()]
    assert outputs == [("y", "tensor(int16)"), ("z", "tensor(uint8)"), ("far", "tensor(int16)")]
    described = read_metadata(model)["outputs"]
    assert [(o["dtype"], o["zero_point"]) for o in described] == [("int16", 0), ("uint8", 117), ("int16", 0)]
