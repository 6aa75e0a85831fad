"""The torch executor against literal int64 loops, on graphs written by hand."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.integer import onednn
from hatdet.integer.arithmetic import conv_multiplier, multiply_by_quantized_multiplier, quantize_multiplier
from hatdet.integer.executor import IntExecutor as Executor
from hatdet.integer.graph import IntGraph
from hatdet.integer.kernels import accumulator_bounds, parts_needed
from hatdet.integer.native import build
from hatdet.integer.operators.layout.concat import ConcatOp
from hatdet.integer.operators.layout.pad import PadOp
from hatdet.integer.operators.layout.resize_bilinear import ResizeBilinearOp
from hatdet.integer.operators.layout.resize_nearest import ResizeNearestOp
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.windows.average_pool import AveragePoolOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.operators.windows.max_pool import MaxPoolOp
from hatdet.integer.tensors import QuantParams, TensorInfo
from hatdet.utils.errors import UserError


@pytest.fixture(params=["float32", "int8", "native"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "int8" and not onednn.available():
        pytest.skip("oneDNN's int8 convolutions are not exact on this processor")
    if request.param == "native" and build.library() is None:
        pytest.skip(f"no kernels in C here: {build.describe()}")
    return str(request.param)


def q(scale: float, zero: int) -> QuantParams:
    return QuantParams(float(np.float32(scale)), zero)


def conv_graph(
    weight: np.ndarray, bias: np.ndarray, px: QuantParams, py: QuantParams, *, stride: int = 1, padding: int = 0,
    groups: int = 1, lo: int = -128, hi: int = 127, weight_scale: float = 0.01, size: tuple[int, int] = (7, 6),
) -> IntGraph:  # fmt: skip
    scales = np.full(len(bias), weight_scale, np.float32) * np.linspace(1, 2, len(bias), dtype=np.float32)
    op = ConvOp(
        "conv", "x", "y", weight.astype(np.int8), bias.astype(np.int32), scales, (stride, stride),
        (padding, padding), (1, 1), groups, "none", lo, hi,
    )  # fmt: skip
    k = weight.shape[2]
    out = tuple((n + 2 * padding - k) // stride + 1 for n in size)
    tensors = {
        "x": TensorInfo("x", (weight.shape[1] * groups, *size), px),
        "y": TensorInfo("y", (len(bias), out[0], out[1]), py),
    }
    return IntGraph(tensors, [op], ("x",), ("y",))


def literal_conv(graph: IntGraph, codes: np.ndarray) -> np.ndarray:
    op = graph.ops[0]
    assert isinstance(op, ConvOp)
    px, py = graph.qparams("x"), graph.qparams("y")
    centred = np.pad(
        codes.astype(np.int64) - px.zero_point, ((0, 0), (0, 0), (op.padding[0],) * 2, (op.padding[1],) * 2)
    )
    m, e = quantize_multiplier(conv_multiplier(px.scale, op.weight_scale, py.scale))
    out = np.zeros((len(codes), *graph.tensors["y"].shape), np.int64)
    per_group, width = len(op.bias) // op.groups, op.weight.shape[1]
    for o in range(out.shape[1]):
        part = centred[:, (o // per_group) * width : (o // per_group + 1) * width]
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                window = part[:, :, i * op.stride[0] :, j * op.stride[1] :][
                    :, :, : op.weight.shape[2], : op.weight.shape[3]
                ]
                acc = (window * op.weight[o].astype(np.int64)).sum((1, 2, 3)) + int(op.bias[o])
                out[:, o, i, j] = multiply_by_quantized_multiplier(acc, m[o], e[o]) + py.zero_point
    return np.clip(out, op.lo, op.hi)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("k", "padding"), [(1, 0), (3, 1), (5, 2)])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("zero", [-128, 5])
def test_conv_equals_literal_loops(stride: int, k: int, padding: int, groups: int, zero: int, backend: str) -> None:
    rng = np.random.default_rng(k * 10 + groups)
    weight = rng.integers(-127, 128, (8, 4 // groups, k, k))
    bias = rng.integers(-20000, 20000, 8)
    graph = conv_graph(weight, bias, q(0.02, zero), q(0.31, -7), stride=stride, padding=padding, groups=groups)
    codes = rng.integers(-128, 128, (3, 4, 7, 6)).astype(np.int8)
    codes[1] = np.where(rng.random(codes[1].shape) < 0.5, -128, 127)
    (got,) = Executor(graph, backend=backend)(torch.from_numpy(codes))
    want = literal_conv(graph, codes)
    assert len(np.unique(want)) > 30
    assert np.array_equal(got.numpy(), want)


def test_fused_limits_hold(backend: str) -> None:
    weight, bias = np.full((2, 1, 1, 1), 100), np.array([0, -300])
    graph = conv_graph(weight, bias, q(0.05, -128), q(0.05, -128), lo=-128, hi=-8, size=(16, 16))
    codes = np.arange(-128, 128, dtype=np.int8).reshape(1, 1, 16, 16)
    (got,) = Executor(graph, backend=backend)(torch.from_numpy(codes))
    assert int(got.max()) == -8
    assert np.array_equal(got.numpy(), literal_conv(graph, codes))


def test_accumulators_beyond_float32_are_cut_in_parts(backend: str) -> None:
    """2 048 channels of 3x3 extreme weights reach 2**29: one float32 convolution would be wrong, this is not."""
    weight = np.full((1, 2048, 3, 3), 127)
    weight[0, ::2] = 126
    bias = np.array([1])
    graph = conv_graph(weight, bias, q(0.01, -128), q(20.0, -128), weight_scale=0.001, size=(3, 3))
    tensors = torch.from_numpy(weight.astype(np.float32)), torch.ones(1)
    assert float(accumulator_bounds(*tensors, 0, 255).max()) > 2**24
    assert parts_needed(*tensors, 0, 255) > 16
    rng = np.random.default_rng(0)
    codes = rng.integers(100, 128, (2, 2048, 3, 3)).astype(np.int8)
    (got,) = Executor(graph, backend=backend)(torch.from_numpy(codes))
    assert np.array_equal(got.numpy(), literal_conv(graph, codes))


def test_multipliers_outside_the_proof_take_the_literal_path(backend: str) -> None:
    rng = np.random.default_rng(5)
    weight, bias = rng.integers(-127, 128, (3, 64, 3, 3)), rng.integers(-9, 9, 3)
    graph = conv_graph(weight, bias, q(1e-4, -128), q(3.0, 0), weight_scale=1e-3, size=(5, 5))
    bounds = accumulator_bounds(torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), 0, 255)
    codes = rng.integers(-128, 128, (1, 64, 5, 5)).astype(np.int8)
    (got,) = Executor(graph, backend=backend)(torch.from_numpy(codes))
    assert float(bounds.max()) < 2**24
    assert np.array_equal(got.numpy(), literal_conv(graph, codes))


def small_graph() -> IntGraph:
    p, wide = q(0.1, -128), q(0.2, -128)
    tensors = {
        "x": TensorInfo("x", (1, 2, 2), p),
        "up": TensorInfo("up", (1, 4, 4), p),
        "pool": TensorInfo("pool", (1, 4, 4), p),
        "cat": TensorInfo("cat", (2, 4, 4), p),
        "sum": TensorInfo("sum", (1, 4, 4), wide),
    }
    ops = [
        ResizeNearestOp("up", "x", "up", 2),
        MaxPoolOp("pool", "up", "pool", (5, 5), (1, 1), (2, 2)),
        ConcatOp("cat", ("up", "pool"), "cat"),
        AddOp("sum", "up", "pool", "sum", "none", -128, 127),
    ]
    return IntGraph(tensors, ops, ("x",), ("cat", "sum"))


def test_copies_pool_concat_and_add_by_hand(backend: str) -> None:
    codes = torch.tensor([[[[-128, -100], [-90, 20]]]], dtype=torch.int8)
    cat, total = Executor(small_graph(), backend=backend)(codes)
    assert cat[0, 0].tolist() == [[-128, -128, -100, -100]] * 2 + [[-90, -90, 20, 20]] * 2
    assert cat[0, 1].tolist() == [[20] * 4] * 4  # a 5x5 window reaches the largest value from everywhere
    # up + pool in steps of 0.1, halved: (0 + 148) / 2 = 74, (28 + 148) / 2 = 88
    assert total[0, 0, 0].tolist() == [74 - 128, 74 - 128, 88 - 128, 88 - 128]


def test_keep_gives_every_tensor(backend: str) -> None:
    values = Executor(small_graph(), backend=backend)(torch.zeros(1, 1, 2, 2, dtype=torch.int8), keep=True)
    assert set(values) == {"x", "up", "pool", "cat", "sum"}


def test_state_round_trip_is_weights_only(backend: str) -> None:
    rng = np.random.default_rng(0)
    graph = conv_graph(rng.integers(-127, 128, (4, 2, 3, 3)), rng.integers(-9, 9, 4), q(0.1, 3), q(0.3, -3))
    file = io.BytesIO()
    torch.save(graph.to_state(), file)
    file.seek(0)
    again = IntGraph.from_state(torch.load(file, weights_only=True))
    assert again.metadata["profile"] == "tflite_ref"
    codes = torch.from_numpy(rng.integers(-128, 128, (2, 2, 7, 6)).astype(np.int8))
    assert torch.equal(Executor(graph, backend=backend)(codes)[0], Executor(again, backend=backend)(codes)[0])


def test_graph_refuses_what_no_runtime_would_run(backend: str) -> None:
    graph = small_graph()
    graph.tensors["pool"] = TensorInfo("pool", (1, 4, 4), q(0.3, 0))
    with pytest.raises(ValueError, match="equal quantization"):
        graph.validate()
    with pytest.raises(ValueError, match="nothing has made"):
        IntGraph(small_graph().tensors, small_graph().ops[1:], ("x",), ("cat",))
    with pytest.raises(TypeError, match="int8"):
        Executor(small_graph(), backend=backend)(torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match="format version"):
        IntGraph.from_state({**small_graph().to_state(), "format_version": 99})


@pytest.mark.parametrize(
    "change",
    [{"ops": 0}, {"ops": [{"kind": "other"}]}, {"ops": [{}]}, {"tensors": None}, {"inputs": 3}, {"metadata": "x"}],
)
def test_a_state_of_another_make_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not an integer graph that hatdet wrote .*tools/predict.py --stage int_infer"):
        IntGraph.from_state({**small_graph().to_state(), **change})


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("conv", {"groups": -1}, "-1 groups"),
        ("conv", {"groups": 0}, "0 groups"),
        ("conv", {"groups": 3}, "3 groups"),
        ("conv", {"groups": 4}, "4 groups"),
        ("conv", {"stride": (0, 1)}, r"stride \(0, 1\); allowed: 2 whole numbers of 1 and more"),
        ("conv", {"stride": (1.5, 1)}, r"stride \(1.5, 1\)"),
        ("conv", {"padding": (-1, 0)}, r"padding \(-1, 0\); allowed: 2 whole numbers of 0 and more"),
        ("conv", {"padding": (1,)}, r"padding \(1,\)"),
        ("conv", {"dilation": (1, 0)}, r"dilation \(1, 0\)"),
        ("conv", {"dilation": (1, 4)}, "a kernel over 9 rows or columns; allowed: at most the padded map's 8"),
        ("conv", {"bias": np.zeros(3, np.int32)}, r"a bias of shape \(3,\); allowed: one number for each of 4 "),
        ("conv", {"weight": np.zeros((4, 2, 3), np.int8)}, r"a weight of shape \(4, 2, 3\)"),
        ("max_pool", {"kernel": (0, 5)}, r"kernel \(0, 5\)"),
        ("max_pool", {"padding": (3, 2)}, r"padding \(3, 2\); allowed: at most half of the kernel \(5, 5\)"),
        ("average_pool", {"kernel": (7, 7)}, "a kernel over 7 rows or columns; allowed: at most the padded map's 6"),
        ("pad", {"padding": (1, 1, -2, 1)}, r"padding \(1, 1, -2, 1\); allowed: 4 whole numbers of 0 and more"),
        ("resize_nearest", {"factor": 0}, "factor 0; allowed: at least 1"),
        ("resize_bilinear", {"factor": 3}, "factor 3; allowed: 2, 4 or 8"),
    ],
)
def test_geometry_that_no_kernel_has(kind: str, change: dict[str, Any], message: str) -> None:
    graph = IntGraph(
        {name: TensorInfo(name, (4, 6, 6), q(0.1, 0)) for name in ("x", "y")},
        [
            {
                "conv": ConvOp(
                    "y", "x", "y", np.ones((4, 2, 3, 3), np.int8), np.zeros(4, np.int32), np.ones(4, np.float32),
                    (1, 1), (1, 1), (1, 1), 2, "none", -128, 127,
                ),
                "max_pool": MaxPoolOp("y", "x", "y", (5, 5), (1, 1), (2, 2)),
                "average_pool": AveragePoolOp("y", "x", "y", (2, 2), (2, 2)),
                "pad": PadOp("y", "x", "y", (1, 1, 1, 1)),
                "resize_nearest": ResizeNearestOp("y", "x", "y", 2),
                "resize_bilinear": ResizeBilinearOp("y", "x", "y", 2),
            }[kind]
        ],
        ("x",), ("y",),
    )  # fmt: skip
    text = rf"^operator 'y' \({kind}\) has {message}"
    if "groups" in change:
        text = rf"^convolution 'y': weight \(4, 2, 3, 3\) in {message} does not fit 4 input channels"
    with pytest.raises(UserError, match=rf"{text}.*[;:] build the graph with QAT2Int again$"):
        IntGraph(graph.tensors, [replace(graph.ops[0], **change)], ("x",), ("y",))


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("zero", [-128, 11])
def test_a_bias_beyond_float32_is_added_apart(groups: int, zero: int, backend: str) -> None:
    """A wide output on small inputs has biases of more than 2**24 steps, odd ones too, which float32 does not hold."""
    rng = np.random.default_rng(3)
    weight = rng.integers(-127, 128, (8, 16 // groups, 3, 3))
    bias = rng.integers(-(2**27), 2**27, 8) | 1
    graph = conv_graph(weight, bias, q(0.01, zero), q(9.0, 3), padding=1, groups=groups, weight_scale=0.0005)
    x_lo, x_hi = -128 - zero, 127 - zero
    assert parts_needed(torch.from_numpy(weight).float(), torch.from_numpy(bias).double(), x_lo, x_hi) == 1
    codes = rng.integers(-128, 128, (2, 16, 7, 6)).astype(np.int8)
    (got,) = Executor(graph, backend=backend)(torch.from_numpy(codes))
    assert np.array_equal(got.numpy(), literal_conv(graph, codes)) and len(got.unique()) >= 8


def test_weights_are_packed_for_each_input_shape_and_few_are_kept() -> None:
    """Other batch and image sizes than the first give the same numbers; the layouts kept do not grow without end."""
    if not onednn.available():
        pytest.skip("oneDNN's int8 convolutions are not exact on this processor")
    rng = np.random.default_rng(0)
    weight, bias = torch.from_numpy(rng.integers(-127, 128, (36, 16, 3, 3))), torch.zeros(36)
    conv = onednn.Int8Conv(weight, bias, 9, (1, 1), (1, 1), (1, 1), 1)
    for batch, height, width in [(1, 4, 4), (2, 4, 4), (1, 16, 9), (3, 5, 7), (1, 4, 4), (1, 1, 1), (2, 20, 20)]:
        x = torch.from_numpy(rng.integers(0, 256, (batch, 16, height, width)).astype(np.uint8))
        x = x.contiguous(memory_format=torch.channels_last)
        want = torch.nn.functional.conv2d(x.double() - 9, weight.double(), padding=1)
        assert torch.equal(conv(x).double(), want)
    assert len(conv._packed) <= onednn.KEPT_SHAPES
