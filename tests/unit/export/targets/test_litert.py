"""What LiteRT's default kernels take: the notes of the target are what LiteRT itself says of files of one operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hatdet.export.targets.litert import LITERT_LIMITS, LITERT_OPERATORS, OWN_KERNELS
from hatdet.export.targets.table import get_target
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.file_operators import FileModel, FileOperator, FileTensor, read_file
from hatdet.export.tflite.flatbuffer import OPERATOR_VERSIONS
from hatdet.integer.operators.pairs.mul import agreeing_output_scale
from hatdet.integer.operators.pointwise.activation_codes import FIXED_OUTPUTS
from tests.helpers.int_graphs import GraphBuilder, in_profile, qparams, wide

SIGNED, OTHER = qparams(0.021, 7), qparams(0.05, 3)
PRELU = qparams(float(np.float32(agreeing_output_scale([(SIGNED.scale, 0.01)], 0.021))), 3)


def gate(function: str) -> Callable[[GraphBuilder], Any]:
    return lambda g: g.activation("x", "y", function, FIXED_OUTPUTS.get(function) or OTHER)


TAKEN: dict[str, Callable[[GraphBuilder], Any]] = {
    "conv": lambda g: g.conv("x", "y", 6),
    "depthwise": lambda g: g.conv("x", "y", 4, groups=4),
    "max_pool": lambda g: g.max_pool("x", "y", (2, 2), (2, 2)),
    "pad": lambda g: g.pad("x", "y", (1, 1, 1, 1)),
    "bilinear": lambda g: g.bilinear("x", "y"),
    "requantize": lambda g: g.requantize("x", "y", OTHER),
    "mul": lambda g: g.mul("x", "x", "y", OTHER),
    "add": lambda g: g.add("x", "x", "y", OTHER),
    "sub": lambda g: g.sub("x", "x", "y", OTHER),
    "leaky_relu": lambda g: g.apply("leaky_relu", "x", "y", OTHER, slope=0.1),
    "sigmoid": gate("sigmoid"),
    "tanh": gate("tanh"),
}
LEFT: dict[str, Callable[[GraphBuilder], Any]] = {
    "AVERAGE_POOL_2D": lambda g: g.average("x", "y"),
    "HARD_SWISH": gate("hardswish"),
    "MAXIMUM": lambda g: g.apply("maximum", ["x", "x"], "y"),
    "MINIMUM": lambda g: g.apply("minimum", ["x", "x"], "y"),
    "PRELU": lambda g: g.apply(
        "prelu", "x", "y", PRELU, alpha=np.array([1, 2, 3, 4], np.int8), alpha_scale=float(np.float32(0.01))
    ),
    "RESIZE_NEAREST_NEIGHBOR": lambda g: g.resize("x", "y"),
}


def delegated(data: bytes) -> bool:
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed")
    interpreter = litert.Interpreter(model_content=data)
    interpreter.allocate_tensors()
    return any(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())


def written(build: Callable[[GraphBuilder], Any]) -> bytes:
    g = GraphBuilder((4, 8, 8), SIGNED)
    build(g)
    return tflite.write(in_profile(g.graph("y"), "xnnpack"))


@pytest.mark.parametrize("name", TAKEN)
def test_what_xnnpack_takes(name: str) -> None:
    data = written(TAKEN[name])
    assert delegated(data) and get_target("litert-xnnpack").remarks(read_file(data)) == []


@pytest.mark.parametrize("code", LEFT)
def test_what_it_leaves(code: str) -> None:
    data = written(LEFT[code])
    (remark,) = get_target("litert-xnnpack").remarks(read_file(data))
    assert not delegated(data) and remark.code == code
    assert code in OWN_KERNELS and get_target("litert-xnnpack").violations(read_file(data)) == []


def test_an_output_of_16_bits_is_left_too() -> None:
    data = written(lambda g: g.conv("x", "y", 6, activation="none", q=wide(3e-4)))
    (remark,) = get_target("litert-xnnpack").remarks(read_file(data))
    assert not delegated(data) and remark.message.startswith("CONV_2D with an output of 16 bits")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("MEAN", "MEAN with axes: XNNPACK rounds a mean over height and width differently on x86 and on ARM. Use a"),
        ("ELU", "ELU with a kernel of its own: LiteRT 2.1.0 and 2.1.6 give different codes for it. Use nn.ELU"),
        ("GELU", "GELU does not run on litert-xnnpack; it takes ADD, AVERAGE_POOL_2D, "),
    ],
)
def test_operators_of_other_makers_are_refused(code: str, message: str) -> None:
    tensor = FileTensor("y", (1, 8, 8, 4), "INT8", 0, 1)
    model = FileModel((FileOperator(code, "y", "y", (tensor,), (tensor,), ("",), {}),), (tensor,), (tensor,))
    (found,) = get_target("litert-xnnpack").violations(model)
    assert found.message.startswith(message) and get_target("tflite").violations(model) == []


def test_every_operator_is_taken_or_refused() -> None:
    refused = {code for limit in LITERT_LIMITS for code in limit.codes}
    assert set(OPERATOR_VERSIONS) - set(LITERT_OPERATORS) == refused | {"GELU"}
