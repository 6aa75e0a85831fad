"""Functions by table: every runtime looks up what the integer model has, over all codes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pointwise.function import FUNCTIONS, FunctionOp, function_table, real_values
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError
from tests.helpers.compare import assert_equal_everywhere
from tests.helpers.forms import gradient_of, run_form
from tests.helpers.int_graphs import GraphBuilder, qparams
from tests.helpers.literal_integer import ORACLES, Arithmetic

EVERY = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)


def softplus(x: float, beta: float = 1.0, threshold: float = 20.0) -> float:
    return x if beta * x > threshold else math.log1p(math.exp(beta * x)) / beta


def elu(x: float, alpha: float = 1.0) -> float:
    return x if x > 0 else alpha * math.expm1(x)


def normal(x: float) -> float:
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


BY_HAND: dict[str, tuple[tuple[float, ...], Callable[..., float]]] = {
    "abs": ((), abs),
    "celu": ((2.0,), lambda x, a: max(0.0, x) + min(0.0, a * math.expm1(x / a))),
    "clamp": ((0.25, 1.5), lambda x, low, high: min(max(x, low), high)),
    "cos": ((), math.cos),
    "elu": ((1.5,), elu),
    "erf": ((), math.erf),
    "exp": ((), math.exp),
    "gelu": ((), lambda x: x * normal(x)),
    "gelu_tanh": ((), lambda x: 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))),
    "hardshrink": ((0.5,), lambda x, b: x if abs(x) > b else 0.0),
    "logsigmoid": ((), lambda x: -softplus(-x)),
    "mish": ((), lambda x: x * math.tanh(softplus(x))),
    "pow": ((3.0,), lambda x, n: x**n),
    "selu": ((), lambda x: 1.0507009873554805 * elu(x, 1.6732632423543772)),
    "sin": ((), math.sin),
    "softplus": ((2.0, 20.0), softplus),
    "softshrink": ((0.25,), lambda x, b: math.copysign(max(abs(x) - b, 0.0), x)),
    "softsign": ((), lambda x: x / (1.0 + abs(x))),
    "square": ((), lambda x: x * x),
    "tanhshrink": ((), lambda x: x - math.tanh(x)),
    "threshold": ((0.3, -1.0), lambda x, at, value: x if x > at else value),
}
INPUTS = {"around 0": qparams(4 / 128, 0), "mostly below": qparams(0.05, 90), "coarse": qparams(0.9, -3)}


def oracle(graph: IntGraph, op: FunctionOp, ins: list[np.ndarray], _: Arithmetic) -> np.ndarray:
    """From the formulas above, value by value."""
    x, y = graph.qparams(op.input), graph.qparams(op.output)

    def code(q: int) -> int:
        real = BY_HAND[op.function][1](x.scale * (q - x.zero_point), *op.numbers) / y.scale
        return int(np.clip(math.copysign(math.floor(abs(real) + 0.5), real) + y.zero_point, -128, 127))

    return np.vectorize(code)(ins[0]).astype(np.int64)


ORACLES[FunctionOp] = oracle


def graph_of(function: str, x: QuantParams, shape: tuple[int, int, int] = (1, 16, 16)) -> IntGraph:
    """The output's quantization is what its values over the inputs' codes would give, with a little cut off."""
    numbers = BY_HAND[function][0]
    values = real_values(function, numbers, x.scale * (np.arange(-128.0, 128.0) - x.zero_point))[0]
    low, high = np.quantile(values, [0.02, 0.98])
    y = qparams(max(high - low, 1e-3) / 255, int(np.clip(-128 - low / max(high - low, 1e-3) * 255, -128, 127)))
    table = function_table(values, y)
    g = GraphBuilder(shape, x)
    return g.graph(g.apply("function", "x", "y", y, function=function, numbers=numbers, table=table))


def test_every_function_is_tested() -> None:
    assert set(BY_HAND) == set(FUNCTIONS)


PAIRS = [(f, s) for f in BY_HAND for s in INPUTS if (f, s) != ("exp", "coarse")]  # e**100 is beyond every scale


@pytest.mark.parametrize("function, source", PAIRS)
def test_all_codes(function: str, source: str) -> None:
    values = assert_equal_everywhere(graph_of(function, INPUTS[source]), EVERY)
    assert len(np.unique(values["y"])) > (2 if source == "coarse" else 8), "a constant shows nothing"


@pytest.mark.parametrize("batch, shape", [(1, (5, 3, 7)), (3, (2, 1, 9))])
def test_shapes(batch: int, shape: tuple[int, int, int]) -> None:
    codes = np.random.default_rng(0).integers(-128, 128, (batch, *shape)).astype(np.int8)
    assert_equal_everywhere(graph_of("mish", INPUTS["around 0"], shape), codes)


@pytest.mark.parametrize("function", BY_HAND)
def test_values_and_slopes(function: str) -> None:
    """Values are the formula's, slopes those of finite differences."""
    numbers, by_hand = BY_HAND[function]
    x = np.linspace(-3.01, 2.97, 100)
    values, slopes = real_values(function, numbers, x)
    assert np.allclose(values, [by_hand(v, *numbers) for v in x], atol=1e-6, rtol=1e-9)
    h = 1e-5
    differences = [(by_hand(v + h, *numbers) - by_hand(v - h, *numbers)) / (2 * h) for v in x]
    assert np.allclose(slopes, differences, atol=1e-4, rtol=1e-4)


def test_training_gives_the_codes_that_ship_and_the_real_slope() -> None:
    x, y = qparams(0.25, 0), qparams(0.5, 0)
    codes = torch.tensor([-4.0, 0.0, 4.0, 127.0]).view(1, 1, 1, 4)
    made = run_form("function", [codes], [x], y, function="square", numbers=())
    assert made.flatten().tolist() == [2.0, 0.0, 2.0, 127.0]
    (grad,) = gradient_of("function", [codes], [x], y, function="square", numbers=())
    assert grad.flatten().tolist() == [-1.0, 0.0, 1.0, 0.0]  # 2 x Sx / Sy; nothing beyond the clamp


def test_a_graph_with_an_impossible_table_is_refused() -> None:
    g = GraphBuilder((1, 4, 4), qparams(0.1))
    g.apply("function", "x", "y", qparams(0.1), function="mish", numbers=(), table=np.zeros(255, np.int8))
    with pytest.raises(UserError, match=r"table of \(255,\) int8; allowed: \(256,\) int8"):
        g.graph("y")
    g = GraphBuilder((1, 4, 4), qparams(0.1))
    g.apply("function", "x", "y", qparams(0.1), function="mash", numbers=(), table=np.zeros(256, np.int8))
    with pytest.raises(UserError, match="the function 'mash'; allowed: abs, celu"):
        g.graph("y")


@pytest.mark.parametrize(
    "module",
    [
        nn.CELU(0.7), nn.ELU(1.5), nn.GELU(), nn.GELU("tanh"), nn.Hardshrink(0.4), nn.LogSigmoid(), nn.Mish(),
        nn.SELU(), nn.Softplus(2.0, 10.0), nn.Softshrink(0.3), nn.Softsign(), nn.Tanhshrink(), nn.Threshold(0.1, -2.0),
    ],
)  # fmt: skip
def test_modules_are_their_functions(module: nn.Module) -> None:
    from hatdet.quantization.operators.table import form_of

    form = form_of(module)
    assert form is not None
    form.check(module)
    ((_, made),) = form.canonical(module)
    x = torch.linspace(-4.0, 4.0, 201)
    assert torch.equal(made(x), module(x))
