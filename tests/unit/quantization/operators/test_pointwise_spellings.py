"""Functions of one code in all their spellings: modules, functions, methods, in place, keyword arguments."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hatdet.integer.operators.pointwise.activation_codes import SIGNED_UNIT_INTERVAL, UNIT_INTERVAL
from tests.helpers.spellings import Spelling, check_spelling, refusal_of

LEAKY: dict[str, Spelling] = {
    "module": nn.LeakyReLU(0.1),
    "in place": nn.LeakyReLU(0.1, inplace=True),
    "function": lambda x: F.leaky_relu(x, 0.2),
    "default": F.leaky_relu,
    "keywords": lambda x: F.leaky_relu(input=x, negative_slope=0.1, inplace=True),
    "function in place": lambda x: F.leaky_relu_(x, 0.1),
    "statement": lambda x: (F.leaky_relu_(x, negative_slope=0.1), x)[1],
    "nn.RReLU": nn.RReLU(),
    "nn.RReLU in place": nn.RReLU(0.1, 0.3, inplace=True),
    "F.rrelu": F.rrelu,
    "torch.rrelu": lambda x: torch.rrelu(x, upper=0.5, lower=0.1),
    "F.rrelu in place": lambda x: F.rrelu(x, 0.1, 0.2, inplace=True),
}
TANH: dict[str, Spelling] = {
    "module": nn.Tanh(),
    "torch.tanh": torch.tanh,
    "F.tanh": F.tanh,
    "method": lambda x: x.tanh(),
    "in place": lambda x: x.tanh_(),
    "statement": lambda x: (torch.tanh_(x), x)[1],
}
LIMITS: dict[str, tuple[Spelling, str]] = {
    "nn.Hardtanh": (nn.Hardtanh(), "relu_n1_to_1"),
    "nn.Hardtanh with limits": (nn.Hardtanh(-0.5, 0.75, inplace=True), "clamp(-0.5,0.75)"),
    "F.hardtanh": (F.hardtanh, "relu_n1_to_1"),
    "F.hardtanh with limits": (lambda x: F.hardtanh(x, max_val=0.5, min_val=-0.25), "clamp(-0.25,0.5)"),
    "F.hardtanh_": (lambda x: F.hardtanh_(x, -0.5), "clamp(-0.5,1.0)"),
    "torch.clamp": (lambda x: torch.clamp(x, -1, 1), "relu_n1_to_1"),
    "x.clamp from above": (lambda x: x.clamp(max=0.5), "clamp(-inf,0.5)"),
    "x.clamp from below": (lambda x: x.clamp(min=-0.5), "clamp(-0.5,inf)"),
    "x.clip": (lambda x: x.clip(-0.5, 0.5), "clamp(-0.5,0.5)"),
    "x.clamp_": (lambda x: x.clamp_(0, 0.5), "clamp(0.0,0.5)"),
    "statement": (lambda x: (torch.clamp_max_(x, max=0.25), x)[1], "clamp(-inf,0.25)"),
    "torch.clamp_min": (lambda x: torch.clamp_min(x, -0.25), "clamp(-0.25,inf)"),
    "tensors of one number": (lambda x: x.clamp(torch.tensor(-0.5), torch.tensor([0.5])), "clamp(-0.5,0.5)"),
    "ReLU6": (lambda x: x.clamp(0, 6), "relu6"),
    "ReLU": (lambda x: x.clamp_min(0), "relu"),
    "ReLU without end": (nn.Hardtanh(0.0, float("inf")), "relu"),
}
TABLE: dict[str, Spelling] = {
    "limits without 0": lambda x: x.clamp(0.1, 0.7),
    "nn.Hardtanh without 0": nn.Hardtanh(-0.9, -0.1),
    "nn.GELU": nn.GELU(),
    "nn.GELU tanh": nn.GELU(approximate="tanh"),
    "F.gelu": F.gelu,
    "F.gelu tanh": lambda x: F.gelu(input=x, approximate="tanh"),
    "nn.Mish": nn.Mish(inplace=True),
    "F.mish": lambda x: F.mish(x, inplace=True),
    "nn.ELU": nn.ELU(0.5, inplace=True),
    "F.elu_": lambda x: F.elu_(x, 0.5),
    "F.elu": lambda x: F.elu(x, alpha=0.5),
    "nn.SELU": nn.SELU(),
    "torch.selu_": lambda x: torch.selu_(x),
    "F.celu": lambda x: F.celu(x, 2.0),
    "nn.Softplus": nn.Softplus(beta=2),
    "F.softplus": lambda x: F.softplus(x, 2, threshold=10),
    "nn.LogSigmoid": nn.LogSigmoid(),
    "F.softsign": F.softsign,
    "F.tanhshrink": F.tanhshrink,
    "nn.Softshrink": nn.Softshrink(0.25),
    "F.hardshrink": lambda x: F.hardshrink(x, lambd=0.25),
    "nn.Threshold": nn.Threshold(0.1, -1.0),
    "F.threshold": lambda x: F.threshold(x, 0.1, value=-1.0),
    "torch.abs": torch.abs,
    "x.abs_": lambda x: x.abs_(),
    "torch.exp": torch.exp,
    "torch.pow": lambda x: torch.pow(x, 3),
    "x.pow_": lambda x: x.pow_(exponent=4),
    "torch.erf": torch.erf,
    "sin": torch.sin,
    "cos": lambda x: x.cos(),
}


@pytest.mark.parametrize("name", LEAKY)
def test_leaky_relu(name: str) -> None:
    check_spelling(LEAKY[name], ["leaky_relu"])


def test_leaky_relu_without_slope_is_relu() -> None:
    graph = check_spelling(nn.LeakyReLU(0.0), [])
    assert graph.ops[0].activation == "relu"  # type: ignore[attr-defined]


def test_a_falling_leaky_relu_is_refused() -> None:
    assert "LeakyReLU with the slope -0.5; use a slope of 0 and up" in refusal_of(nn.LeakyReLU(-0.5))
    assert "RReLU with the slope -0.5; use a slope of 0 and up" in refusal_of(nn.RReLU(-0.75, -0.25))


def test_a_randomized_relu_has_the_slope_in_the_middle() -> None:
    graph = check_spelling(nn.RReLU(0.25, 0.75), ["leaky_relu"])
    assert graph.ops[1].slope == 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize("function", [nn.GLU(1), nn.GLU(-3), lambda x: F.glu(x, 1), lambda x: F.glu(x, dim=-3)])
def test_gated_linear_units(function: Spelling) -> None:
    kinds = ["slice", "slice", "activation", "mul"]
    assert check_spelling(function, kinds).tensors["out_0"].shape[0] == 4
    check_spelling(lambda x: F.glu(function(x), 1), kinds + kinds)


@pytest.mark.parametrize("function", [nn.GLU(), lambda x: F.glu(x, 2), lambda x: F.glu(x)])
def test_gated_linear_units_of_halves_of_maps_are_refused(function: Spelling) -> None:
    assert "has no integer form; halve the channels: dim=1" in refusal_of(function)


@pytest.mark.parametrize("name", TANH)
def test_tanh(name: str) -> None:
    graph = check_spelling(TANH[name], ["activation"])
    assert graph.qparams(graph.outputs[0]) == SIGNED_UNIT_INTERVAL


def test_mish_written_out() -> None:
    """One function where it is Mish; parts of it, or with another factor, are operators of their own."""
    check_spelling(lambda x: x * torch.tanh(F.softplus(x)), ["function"])
    check_spelling(lambda x: torch.tanh(F.softplus(x)), ["function", "activation"])
    check_spelling(lambda x: F.relu(x) * torch.tanh(F.softplus(x)), ["clamp", "function", "activation", "mul"])


def test_gates_behind_gates_and_beside_each_other_are_requantized() -> None:
    """Each demands its own output; what reads a fixed one gets a scale that can be moved."""
    check_spelling(lambda x: torch.tanh(torch.tanh(x)), ["activation", "requantize", "activation"])
    check_spelling(lambda x: torch.tanh(torch.sigmoid(x)), ["activation", "requantize", "activation"])
    check_spelling(lambda x: torch.sigmoid(torch.tanh(x)), ["activation", "requantize", "activation"])
    kinds = ["activation", "activation", "requantize", "requantize", "concat"]
    graph = check_spelling(lambda x: torch.cat([torch.tanh(x), torch.sigmoid(x)], 1), kinds)
    assert graph.qparams(graph.outputs[0]) not in (SIGNED_UNIT_INTERVAL, UNIT_INTERVAL)
    check_spelling(lambda x: torch.cat([torch.tanh(x), torch.tanh(F.relu(x))], 1),
                   ["activation", "clamp", "activation", "concat"])  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_limits(name: str) -> None:
    """The convolution takes them in."""
    function, activation = LIMITS[name]
    graph = check_spelling(function, [])
    assert graph.ops[0].activation == activation  # type: ignore[attr-defined]


def test_limits_behind_other_operators() -> None:
    assert check_spelling(lambda x: (x + F.relu(x)).clamp(-0.5, 0.5), ["clamp", "add"]).ops[2].activation == (  # type: ignore[attr-defined]
        "clamp(-0.5,0.5)"
    )
    graph = check_spelling(lambda x: F.hardtanh(F.max_pool2d(x, 2), -0.1, 0.2), ["max_pool", "clamp"])
    assert graph.qparams(graph.ops[2].output) == graph.qparams(graph.ops[2].inputs[0])


def test_what_limits_cannot_be() -> None:
    for low, high in ((2, 1), (0.5, 0.5), (float("nan"), 1)):
        assert "; use a lower limit below the upper one" in refusal_of(lambda x, a=low, b=high: x.clamp(a, b))


@pytest.mark.parametrize("name", TABLE)
def test_functions_by_table(name: str) -> None:
    check_spelling(TABLE[name], ["function"])


@pytest.mark.parametrize("function", [lambda x: x.square(), lambda x: x**2, lambda x: x.pow_(exponent=2), torch.square])
def test_squares_are_products(function: Spelling) -> None:
    check_spelling(function, ["mul"])


def test_odd_powers_are_refused() -> None:
    assert "a power of 0.5; use a whole exponent of 2 and up" in refusal_of(lambda x: x**0.5)


def test_a_threshold_of_zero_is_a_relu() -> None:
    for function in (nn.Threshold(0.0, 0.0), lambda x: F.threshold(x, 0, 0)):
        assert check_spelling(function, []).ops[0].activation == "relu"  # type: ignore[attr-defined]
    for function in (nn.Threshold(1.0, 1.0), nn.Threshold(0.0, -1.0), lambda x: F.threshold(x, -1.0, 0.0)):
        check_spelling(function, ["function"])
