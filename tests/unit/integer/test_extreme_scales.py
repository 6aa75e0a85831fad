"""Extreme scales and zero points, operator by operator and code by code: every runtime computes what the executor does,
or the graph is refused in one line. Nothing may differ in silence."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from hatdet.export.onnx.exact import write_exact
from hatdet.export.runtimes.integer import LiteRTRuntime, TFLiteMicroRuntime, to_nhwc
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.arithmetic import activation_limits, conv_multiplier, prepare_requantization
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pairs.mul import agreeing_output_scale
from hatdet.integer.operators.pointwise import activation_codes as activations
from hatdet.integer.operators.pointwise.activation_codes import (
    GATE_INPUT,
    SIGNED_UNIT_INTERVAL,
    UNIT_INTERVAL,
    activation_table,
    kernels_agree,
)
from hatdet.integer.operators.pointwise.prelu import agreeing_output_scale as prelu_output_scale
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import GraphBuilder, qparams, wide

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")

EVERY = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)
SCALES = [2.0**-16, 1e-3, 0.05, 1.9, 2.0, 2.1, 4.0, 16.0, 100.0, 1e5]
ZEROS = [-128, 0, 127]
ONE = np.full((1, 1, 1, 1), 127, dtype=np.int8)
Case = tuple[tuple[float, ...], GraphBuilder]


def results(graph: IntGraph, codes: np.ndarray) -> dict[str, np.ndarray]:
    """The output by everything that computes it: the executor's backends, both reference runtimes, exact ONNX."""
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    data, x = tflite.write(graph), torch.from_numpy(codes)
    found = {backend: IntExecutor(graph, backend=backend)(x)[0].numpy() for backend in ("auto", "float32")}
    for make in (LiteRTRuntime, TFLiteMicroRuntime):
        runtime = make(data)
        found[runtime.name] = runtime.run(to_nhwc(codes))[0].transpose(0, 3, 1, 2)
    session = ort.InferenceSession(write_exact(graph))
    feed = {session.get_inputs()[0].name: (codes.astype(np.int16) + 128).astype(np.uint8)}
    value = session.run(None, feed)[0]
    found["exact ONNX"] = value.astype(np.int32) - (128 if value.dtype == np.uint8 else 0)
    LiteRTRuntime(data, kernels="default").run(to_nhwc(codes))  # loads and runs; it rounds in its own way
    return found


def sweep(cases: Iterator[Case], codes: np.ndarray = EVERY) -> Counter[str]:
    """How many of the cases are equal everywhere, and how many refused. A difference fails."""
    tally: Counter[str] = Counter()
    for key, g in cases:
        try:
            found = results(g.graph("y"), codes)
        except UserError as error:
            assert "\n" not in str(error)
            tally["refused"] += 1
            continue
        for who, value in found.items():
            assert np.array_equal(value, found["auto"]), (key, who)
        tally["equal"] += 1
    return tally


def one_scale(make: Callable[[GraphBuilder], object]) -> Iterator[Case]:
    for scale, zero in itertools.product(SCALES, ZEROS):
        g = GraphBuilder((1, 16, 16), qparams(scale, zero))
        make(g)
        yield (scale, zero), g


def two_scales(make: Callable[[GraphBuilder, QuantParams], object]) -> Iterator[Case]:
    for i, (first, second) in enumerate(itertools.product(SCALES, SCALES)):
        zeros = ((0, 0), (-128, 127), (127, -128), (3, -5))[i % 4]
        g = GraphBuilder((1, 16, 16), qparams(first, zeros[0]))
        make(g, qparams(second, zeros[1]))
        yield (first, second, *zeros), g


def three_scales(make: Callable[[GraphBuilder, QuantParams], object]) -> Iterator[Case]:
    """``a`` and ``b`` hold the two channels of ``x`` under their own quantization."""
    for first, second, third in itertools.product(SCALES[::3], SCALES[::3], SCALES[1::3]):
        g = GraphBuilder((2, 64, 64), qparams(1.0, 0))
        for channel, name, q in ((0, "a", qparams(first, -3)), (1, "b", qparams(second, 90))):
            weight = np.zeros((1, 2, 1, 1), dtype=np.int8)
            weight[0, channel] = 1
            g.conv("x", name, 1, (1, 1), padding=(0, 0), activation="none", q=q, weight=weight,
                   bias=np.array([-q.zero_point], np.int32), weight_scale=np.array([q.scale], np.float32))  # fmt: skip
        make(g, qparams(third, 5))
        yield (first, second, third), g


EIGHTH = np.arange(-128, 128, 8).astype(np.int8)
PAIRS = np.stack(np.meshgrid(np.append(EIGHTH, EIGHTH + 5), np.append(EIGHTH, EIGHTH + 5), indexing="ij"))[None]

ONE_SCALE: dict[str, Callable[[GraphBuilder], object]] = {
    "sigmoid": lambda g: g.activation("x", "y", "sigmoid", UNIT_INTERVAL),
    "hardsigmoid": lambda g: g.activation("x", "y", "hardsigmoid", UNIT_INTERVAL),
    "tanh": lambda g: g.activation("x", "y", "tanh", SIGNED_UNIT_INTERVAL),
    "max pool": lambda g: g.max_pool("x", "y", (3, 3), padding=(1, 1)),
    "average pool": lambda g: g.average_pool("x", "y", (2, 2)),
    "global maximum": lambda g: g.apply("global_max_pool", "x", "y", size=(2, 4)),
    "averages of blocks": lambda g: g.apply("global_average_pool", "x", "y", size=(4, 2)),
    "global average": lambda g: g.average("x", "y"),
    "pad": lambda g: g.pad("x", "y", (1, 2, 0, 3)),
    "relu": lambda g: g.clamp("x", "y", "relu"),
    "relu6": lambda g: g.clamp("x", "y", "relu6"),
    "nearest": lambda g: g.resize("x", "y"),
    "bilinear": lambda g: g.bilinear("x", "y"),
    "concat": lambda g: g.concat(["x", "x"], "y"),
    "depth to space": lambda g: g.apply(
        "depth_to_space", g.apply("channel_order", "x", "wide", channels=(0, 0, 0, 0)), "y", block=2
    ),
    "channel order": lambda g: g.apply("channel_order", "x", "y", channels=(0, 0)),
    "maximum": lambda g: g.apply("maximum", [g.average("x", "mean"), "x"], "y"),
    "minimum": lambda g: g.apply("minimum", ["x", g.average("x", "mean")], "y"),
    "slice": lambda g: g.apply("slice", "x", "y", begin=[(0, 1, 0)] * 3, end=[(1, 1, 0)] * 3, stride=(2, 1)),
}


@pytest.mark.parametrize("kind", ONE_SCALE)
def test_operators_with_one_scale(kind: str) -> None:
    assert sweep(one_scale(ONE_SCALE[kind])) == {"equal": 30}


def conv(weight_scale: float, activation: str = "none", bits: int = 8, bias: int = 5) -> Callable[..., object]:
    def make(g: GraphBuilder, q: QuantParams) -> object:
        return g.conv(
            "x", "y", 1, (1, 1), padding=(0, 0), activation=activation, q=wide(q.scale) if bits == 16 else q,
            weight=ONE, bias=np.array([bias], np.int32), weight_scale=np.array([weight_scale], np.float32),
        )  # fmt: skip

    return make


def silu(g: GraphBuilder, q: QuantParams) -> object:
    scale = agreeing_output_scale([(g.tensors["x"].qparams.scale, UNIT_INTERVAL.scale)], q.scale)
    return g.activation("x", "y", "silu", qparams(scale, q.zero_point))


def prelu(g: GraphBuilder, q: QuantParams) -> object:
    scale = prelu_output_scale(g.tensors["x"].qparams.scale, 2.0**-9, q.scale)
    alpha = np.array([-77], np.int8)
    return g.apply("prelu", "x", "y", qparams(scale, q.zero_point), alpha=alpha, alpha_scale=2.0**-9)


def transposed(weight_scale: float, activation: str = "none", bias: int = 5) -> Callable[..., object]:
    """The same numbers as a convolution's: the arithmetic is one."""

    def make(g: GraphBuilder, q: QuantParams) -> object:
        lo, hi = activation_limits(activation, q.scale, q.zero_point)
        return g.apply(
            "conv_transpose", "x", "y", q, weight=ONE, bias=np.array([bias], np.int32),
            weight_scale=np.array([weight_scale], np.float32), stride=(1, 1), padding=(0, 0), output_padding=(0, 0),
            activation=activation, lo=lo, hi=hi,
        )  # fmt: skip

    return make


# The operator, and how many of the 100 cases no kernel can hold.
TWO_SCALES: dict[str, tuple[Callable[[GraphBuilder, QuantParams], object], int]] = {
    "requantize": (lambda g, q: g.requantize("x", "y", q), 2),
    "hardswish": (lambda g, q: g.activation("x", "y", "hardswish", q), 45),
    "silu": (silu, 2),
    "prelu": (prelu, 13),
    "conv": (conv(0.01), 2),
    "conv of a tiny weight": (conv(2.0**-24, bias=2**22), 1),
    "conv of a large weight": (conv(1.0, "relu"), 10),
    "conv relu6": (conv(0.01, "relu6"), 2),
    "conv_transpose": (transposed(0.01), 2),
    "conv_transpose of a tiny weight": (transposed(2.0**-24, bias=2**22), 1),
    "conv_transpose of a large weight": (transposed(1.0, "relu"), 10),
    "conv_transpose relu6": (transposed(0.01, "relu6"), 2),
    "conv to 16 bits": (conv(0.01, bits=16), 15),
    "conv relu6 to 16 bits": (conv(0.01, "relu6", bits=16), 15),
}


@pytest.mark.parametrize("kind", TWO_SCALES)
def test_operators_with_two_scales(kind: str) -> None:
    make, refused = TWO_SCALES[kind]
    assert sweep(two_scales(make)) == Counter({"equal": 100 - refused, "refused": refused}) + Counter()


def mul(g: GraphBuilder, q: QuantParams) -> object:
    scales = g.tensors["a"].qparams.scale, g.tensors["b"].qparams.scale
    return g.mul("a", "b", "y", qparams(agreeing_output_scale([scales], q.scale), q.zero_point))


THREE_SCALES: dict[str, tuple[Callable[[GraphBuilder, QuantParams], object], int]] = {
    "add": (lambda g, q: g.add("a", "b", "y", q), 7),
    "add relu6": (lambda g, q: g.add("a", "b", "y", q, "relu6"), 7),
    "sub": (lambda g, q: g.sub("a", "b", "y", q), 7),
    "sub relu6": (lambda g, q: g.sub("a", "b", "y", q, "relu6"), 7),
    "mul": (mul, 11),
}


@pytest.mark.parametrize("kind", THREE_SCALES)
def test_operators_with_three_scales(kind: str) -> None:
    make, refused = THREE_SCALES[kind]
    assert sweep(three_scales(make), PAIRS) == {"equal": 48 - refused, "refused": refused}


@pytest.mark.parametrize("scale", [1.9, 2.0, 2.1, 4.0, 6.0, 8.1, 16.0, 100.0])
@pytest.mark.parametrize("zero", [-128, -126, -20, 0, 127])
def test_sigmoid_of_a_coarse_input(scale: float, zero: int) -> None:
    """Input codes that stand for 0 give 1/2 (code 0), those from 8 up 255/256, those from -8 down 0."""
    x = qparams(scale, zero)
    g = GraphBuilder((1, 16, 16), x)
    g.activation("x", "y", "sigmoid", UNIT_INTERVAL)
    found = results(g.graph("y"), EVERY)
    assert all(np.array_equal(value, found["auto"]) for value in found.values()), {**found}
    real = x.scale * (np.arange(-128, 128) - zero)
    expected = np.clip(np.round(256 / (1 + np.exp(-np.clip(real, -50, 50)))), 0, 255) - 128
    assert np.abs(found["auto"].ravel() - expected).max() <= 1  # where x is requantized first: by at most 1/32
    assert found["auto"].ravel()[zero + 128] == 0


@pytest.mark.parametrize("scale", [1.9, 4.0, 7.9, 8.0, 8.1, 16.0, 100.0])
@pytest.mark.parametrize("zero", [-128, -20, 0, 127])
def test_tanh_of_a_coarse_input(scale: float, zero: int) -> None:
    """From a scale of 8 on TFLite Micro takes 0 for saturated; the input is requantized before it gets there."""
    x = qparams(scale, zero)
    g = GraphBuilder((1, 16, 16), x)
    g.activation("x", "y", "tanh", SIGNED_UNIT_INTERVAL)
    found = results(g.graph("y"), EVERY)
    assert all(np.array_equal(value, found["auto"]) for value in found.values()), {**found}
    expected = np.clip(np.round(128 * np.tanh(x.scale * (np.arange(-128, 128) - zero))), -128, 127)
    assert np.array_equal(found["auto"].ravel(), expected)
    assert (activations.gate_input(x, "tanh") == GATE_INPUT) is (scale >= 8)


def test_the_check_sees_where_tflite_micro_saturates_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the requantization the runtimes differ, and the check says so."""
    monkeypatch.setattr(activations, "gate_input", lambda x, *_: x)
    for scale, worst in ((1.9, 0), (2.0, 1), (2.1, 0), (4.0, 5), (8.1, 128), (100.0, 128)):
        x = qparams(scale, 0)
        g = GraphBuilder((1, 16, 16), x)
        g.activation("x", "y", "sigmoid", UNIT_INTERVAL)
        assert kernels_agree("sigmoid", x, UNIT_INTERVAL) is (worst == 0)
        if worst:
            with pytest.raises(UserError, match="TFLite Micro may round its sigmoid"):
                tflite.write(g.graph("y"))
        with monkeypatch.context() as unchecked:
            unchecked.setattr("hatdet.integer.profiles.checks.tflite_ref.kernels_agree", lambda *_: True)
            micro = TFLiteMicroRuntime(tflite.write(g.graph("y"))).run(to_nhwc(EVERY))[0].ravel().astype(int)
        assert np.abs(micro - activation_table("sigmoid", x, UNIT_INTERVAL)).max() == worst


def test_a_fine_input_is_read_as_it_is() -> None:
    """Tables of scales on which the kernels always agreed are what they were: nothing is requantized."""
    for scale, zero in ((1e-3, 0), (1.99, 0), (2.0, -128), (2.1, 5), (3.9, 0), (7.9, -20)):
        assert activations.gate_input(qparams(scale, zero)) == qparams(scale, zero)
    for scale, zero in ((2.0, 0), (4.0, 0), (6.2, -20), (8.0, 127), (1e4, 0)):
        assert activations.gate_input(qparams(scale, zero)) == GATE_INPUT


@pytest.mark.parametrize("multiplier", [200.0, 255.9, 256.0, 300.0, 1e4, 1e6])
def test_convolution_with_a_large_multiplier_loads_in_default_kernels(multiplier: float) -> None:
    """Weight 1, bias 0: from 255.5 on an input of 1 saturates, and a file's weight scale stays below 256."""
    g = GraphBuilder((1, 16, 16), qparams(1.0, 0))
    g.conv("x", "y", 1, (1, 1), padding=(0, 0), activation="none", q=qparams(1.0, -4), bias=np.zeros(1, np.int32),
           weight=np.ones((1, 1, 1, 1), np.int8), weight_scale=np.array([multiplier], np.float32))  # fmt: skip
    found = results(g.graph("y"), EVERY)
    assert all(np.array_equal(value, found["auto"]) for value in found.values())
    assert found["auto"].ravel()[127:130].tolist() == [-128, -4, 127]


def test_capped_multipliers_give_the_codes_of_the_uncapped() -> None:
    acc = np.arange(-70000, 70000)
    for multiplier in (255.6, 256.0, 1000.0, 1e9):
        req = prepare_requantization(conv_multiplier(1.0, np.array([multiplier], np.float32), 1.0), np.array([7e4]))
        got = np.clip(np.floor(acc * req.a + 0.5 + req.delta * np.sign(acc * req.a)), -255, 255)
        assert np.array_equal(got, np.clip(np.sign(acc) * np.floor(np.abs(acc) * multiplier + 0.5), -255, 255))
