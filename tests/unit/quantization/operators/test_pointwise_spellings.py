"""Functions of one code in all their spellings: modules, functions, methods, in place, keyword arguments."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.spellings import Spelling, check_spelling, refusal_of

LEAKY: dict[str, Spelling] = {
    "module": nn.LeakyReLU(0.1),
    "in place": nn.LeakyReLU(0.1, inplace=True),
    "function": lambda x: F.leaky_relu(x, 0.2),
    "default": F.leaky_relu,
    "keywords": lambda x: F.leaky_relu(input=x, negative_slope=0.1, inplace=True),
    "function in place": lambda x: F.leaky_relu_(x, 0.1),
    "statement": lambda x: (F.leaky_relu_(x, negative_slope=0.1), x)[1],
}
TABLE: dict[str, Spelling] = {
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
    "x.square": lambda x: x.square(),
    "x ** 2": lambda x: x**2,
    "torch.pow": lambda x: torch.pow(x, 3),
    "x.pow_": lambda x: x.pow_(exponent=2),
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
    assert "LeakyReLU with negative_slope=-0.5; use a slope of 0 and up" in refusal_of(nn.LeakyReLU(-0.5))


@pytest.mark.parametrize("name", TABLE)
def test_functions_by_table(name: str) -> None:
    check_spelling(TABLE[name], ["function"])


def test_odd_powers_are_refused() -> None:
    assert "a power of 0.5; use a whole exponent of 2 and up" in refusal_of(lambda x: x**0.5)
