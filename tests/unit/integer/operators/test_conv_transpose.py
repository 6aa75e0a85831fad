"""Transposed convolutions: torch's function, in integers equal in every runtime, whatever is cut off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hatdet.export.runtimes.integer import LiteRTRuntime, to_nhwc
from hatdet.export.targets.table import get_target
from hatdet.export.tflite import int8
from hatdet.export.tflite.file_operators import read_file
from hatdet.export.tflite.transposed import TransposedPlan, plan_transposed
from hatdet.export.vela.compile import compile_file
from hatdet.integer.arithmetic import activation_limits
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.windows.conv_transpose import ConvTransposeOp
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.helpers.compare import assert_equal_everywhere
from tests.helpers.int_graphs import GraphBuilder, qparams, random_codes
from tests.helpers.literal_transposed import accumulators

Pair = tuple[int, int]
SIGNED = qparams(0.021, 7)


def transposed(
    kernel: Pair, stride: Pair, padding: Pair, more: Pair, activation: str = "none", channels: Pair = (3, 4),
    size: Pair = (4, 5), q: QuantParams | None = None, **fields: Any,
) -> IntGraph:  # fmt: skip
    inputs, outputs = channels
    g = GraphBuilder((inputs, *size), SIGNED, seed=sum(kernel))
    y = q or (qparams(6 / 255, -128) if activation != "none" else qparams(0.043, -11))
    lo, hi = activation_limits(activation, y.scale, y.zero_point)
    typical = 0.03 / np.sqrt(inputs * np.prod(kernel))
    scale = (typical * g.rng.uniform(0.3, 1.7, outputs)).astype(np.float32)
    numbers: dict[str, Any] = {
        "weight": g.rng.integers(-127, 128, (outputs, inputs, *kernel)).astype(np.int8),
        "bias": g.rng.integers(-2000, 4000, outputs).astype(np.int32),
        "weight_scale": scale,
        **fields,
    }
    g.apply("conv_transpose", "x", "y", y, stride=stride, padding=padding, output_padding=more,
            activation=activation, lo=lo, hi=hi, **numbers)  # fmt: skip
    return g.graph("y")


# kernel, stride, padding, output_padding
GEOMETRIES: dict[str, tuple[Pair, Pair, Pair, Pair]] = {
    "U-Net's 2x2": ((2, 2), (2, 2), (0, 0), (0, 0)),
    "4x4 to twice the size": ((4, 4), (2, 2), (1, 1), (0, 0)),
    "3x3 to twice the size": ((3, 3), (2, 2), (1, 1), (1, 1)),
    "3x3, one less": ((3, 3), (2, 2), (1, 1), (0, 0)),
    "3x3, all of it": ((3, 3), (2, 2), (0, 0), (0, 0)),
    "3x3, all and one more": ((3, 3), (2, 2), (0, 0), (1, 1)),
    "2x2, cropped": ((2, 2), (2, 2), (1, 1), (0, 0)),
    "2x2, cropped, one more": ((2, 2), (2, 2), (1, 1), (1, 1)),
    "4x4, all of it": ((4, 4), (2, 2), (0, 0), (0, 0)),
    "4x4, cropped by 2": ((4, 4), (2, 2), (2, 2), (0, 0)),
    "4x4, cropped by 3, one more": ((4, 4), (2, 2), (3, 3), (1, 1)),
    "5x5": ((5, 5), (2, 2), (2, 2), (1, 1)),
    "1x1, stride 2": ((1, 1), (2, 2), (0, 0), (0, 0)),
    "1x1, stride 2, one more": ((1, 1), (2, 2), (0, 0), (1, 1)),
    "stride 1": ((3, 3), (1, 1), (1, 1), (0, 0)),
    "stride 1, all of it": ((3, 3), (1, 1), (0, 0), (0, 0)),
    "stride 3": ((3, 3), (3, 3), (0, 0), (0, 0)),
    "stride 3, two more": ((3, 3), (3, 3), (1, 1), (2, 2)),
    "stride 4, kernel 4": ((4, 4), (4, 4), (0, 0), (0, 0)),
    "stride 4, kernel 2": ((2, 2), (4, 4), (0, 0), (3, 3)),
    "axes that differ": ((4, 3), (2, 1), (1, 0), (0, 0)),
    "axes that crop differently": ((3, 4), (2, 2), (0, 2), (1, 0)),
}


@pytest.mark.parametrize("activation", ["none", "relu6"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_runtime_computes_the_same(name: str, activation: str) -> None:
    graph = transposed(*GEOMETRIES[name], activation)
    expected = assert_equal_everywhere(graph, random_codes((2, 3, 4, 5)))
    assert len(np.unique(expected["y"])) > 50


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_real_function_is_torchs(name: str) -> None:
    kernel, stride, padding, more = GEOMETRIES[name]
    module = nn.ConvTranspose2d(3, 4, kernel, stride, padding, more)
    settings = {"channels": 4, "kernel": kernel, "stride": stride, "padding": padding, "output_padding": more,
                "activation": "none"}  # fmt: skip
    x = torch.randn(2, 3, 4, 5)
    wanted = module(x)
    found = ConvTransposeOp.real(settings)([x], module.weight.transpose(0, 1), module.bias)
    assert torch.equal(found, wanted)
    assert ConvTransposeOp.shape_of([(3, 4, 5)], settings) == tuple(wanted.shape[1:])


def test_a_value_adds_its_kernel_around_its_place() -> None:
    """One input value of 2 (code 9, zero point 7), kernel 1 to 9: stride 2 puts it at (2, 2), minus the padding."""
    weight = np.arange(1, 10, dtype=np.int8).reshape(1, 1, 3, 3)
    one = {"weight": weight, "bias": np.array([5], np.int32), "weight_scale": np.array([1.0], np.float32)}
    y = QuantParams(SIGNED.scale, 0)
    graph = transposed((3, 3), (2, 2), (1, 1), (1, 1), channels=(1, 1), size=(2, 2), q=y, **one)
    codes = np.full((1, 1, 2, 2), 7, dtype=np.int8)
    codes[0, 0, 1, 1] = 9
    expected = np.full((4, 4), 5)
    expected[1:, 1:] += 2 * weight[0, 0]
    assert np.array_equal(IntExecutor(graph)(torch.from_numpy(codes))[0][0, 0].numpy(), expected)
    assert np.array_equal(accumulators(graph, graph.ops[0], codes)[0, 0], expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("geometry", "plan"),
    [
        ("U-Net's 2x2", TransposedPlan("SAME", (0, 0), (8, 10), (0, 0))),
        ("4x4 to twice the size", TransposedPlan("SAME", (0, 0), (8, 10), (0, 0))),
        ("3x3 to twice the size", TransposedPlan("SAME", (1, 1), (8, 10), (0, 0))),
        ("3x3, one less", TransposedPlan("VALID", (0, 0), (9, 11), (1, 1))),
        ("3x3, all and one more", TransposedPlan("VALID", (1, 1), (10, 12), (0, 0))),
        ("2x2, cropped, one more", TransposedPlan("VALID", (0, 0), (8, 10), (1, 1))),
        ("1x1, stride 2", TransposedPlan("VALID", (1, 1), (8, 10), (0, 0))),
        ("axes that crop differently", TransposedPlan("VALID", (1, 0), (10, 12), (0, 2))),
    ],
)
def test_plans(geometry: str, plan: TransposedPlan) -> None:
    kernel, *rest = GEOMETRIES[geometry]
    assert plan_transposed((4, 5), kernel, *rest) == plan


@pytest.mark.parametrize(
    ("geometry", "activation", "q", "codes"),
    [
        ("U-Net's 2x2", "none", None, ["TRANSPOSE_CONV"]),
        ("U-Net's 2x2", "relu6", None, ["TRANSPOSE_CONV"]),  # codes end at 0 and 6 anyway
        ("U-Net's 2x2", "relu", qparams(0.04, 3), ["TRANSPOSE_CONV", "MAX_POOL_2D"]),
        ("3x3, one less", "relu", qparams(0.04, 3), ["TRANSPOSE_CONV", "SLICE", "MAX_POOL_2D"]),
        ("3x3 to twice the size", "none", None, ["TRANSPOSE_CONV"]),
    ],
)
def test_operators_of_the_file(geometry: str, activation: str, q: QuantParams | None, codes: list[str]) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    graph = transposed(*GEOMETRIES[geometry], activation, q=q)
    assert_equal_everywhere(graph, random_codes((1, 3, 4, 5)))
    model = read_file(int8.write(graph))
    assert [op.code for op in model.operators] == codes
    zeros = 16 / 9 if geometry == "3x3 to twice the size" else 1  # rows of zeros count as multiplied
    assert model.macs == 4 * 5 * 3 * 4 * int(np.prod(GEOMETRIES[geometry][0])) * zeros
    assert graph.ops[0].macs(graph.tensors["y"].shape) * zeros == model.macs
    LiteRTRuntime(int8.write(graph), kernels="default").run(to_nhwc(random_codes((1, 3, 4, 5))))


@pytest.mark.slow
def test_vela_takes_what_its_limit_lets_pass() -> None:
    pytest.importorskip("ethosu.vela", reason="Vela is not installed")
    target = get_target("ethos-u55-128")
    for name, geometry in GEOMETRIES.items():
        data = int8.write(transposed(*geometry))
        refused = len(target.violations(read_file(data)))
        assert len(compile_file(data, target).cpu_operators) == refused == (geometry[1] not in ((1, 1), (2, 2))), name


@pytest.mark.parametrize(("channels", "bias"), [(2200, 0), (2, 2**30)])
def test_sums_beyond_float32(channels: int, bias: int) -> None:
    """2200 inputs of 127 * 135 pass 2**24; so does a large bias alone."""
    weight = np.full((2, channels, 2, 2), 127, np.int8)
    weight[:, ::3] = 125
    fields = {"weight": weight, "bias": np.full(2, bias + 1, np.int32), "weight_scale": np.full(2, 1e-7, np.float32)}
    graph = transposed((2, 2), (1, 1), (0, 0), (0, 0), channels=(channels, 2), size=(2, 3), q=qparams(0.1, 0), **fields)
    codes = np.full((1, channels, 2, 3), -128, dtype=np.int8)
    codes[:, 1::2] = random_codes((1, channels, 2, 3))[:, 1::2]
    assert_equal_everywhere(graph, codes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight": np.ones((4, 2, 2, 2), np.int8)}, "weight of 2 inputs; allowed: 3, as its input has"),
        ({"bias": np.ones(3, np.int32)}, r"bias of shape \(3,\); allowed: one number for each of 4 outputs"),
        ({"stride": (0, 2)}, r"stride \(0, 2\); allowed: 2 whole numbers of 1 and more"),
        ({"output_padding": (2, 0)}, r"output_padding \(2, 0\); allowed: less than the stride \(2, 2\)"),
        ({"padding": (5, 5)}, "an output of -2 x 0; allowed: 1 x 1 and more"),
    ],
)
def test_numbers_that_do_not_go_together(fields: dict[str, Any], message: str) -> None:
    op = transposed((2, 2), (2, 2), (0, 0), (0, 0)).ops[0]
    assert isinstance(op, ConvTransposeOp)
    with pytest.raises(UserError, match=message):
        replace(op, **fields).check([(3, 4, 5)])


def test_the_graph_survives_its_checkpoint() -> None:
    graph = transposed(*GEOMETRIES["3x3, one less"], "relu")
    again = IntGraph.from_state(graph.to_state())
    codes = torch.from_numpy(random_codes((1, 3, 4, 5)))
    assert torch.equal(IntExecutor(again)(codes)[0], IntExecutor(graph)(codes)[0])
