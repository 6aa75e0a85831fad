"""Operators of two maps in training: gradients of the real function, also where sizes of 1 stand for all positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hatdet.integer.operators.pairs.mul import agreeing_output_scale
from hatdet.integer.operators.table import OP_TYPES
from hatdet.integer.tensors import QuantParams
from tests.helpers.forms import gradient_of, run_form
from tests.helpers.int_graphs import qparams

KINDS = ("add", "sub", "mul", "minimum", "maximum")
SHAPES = [((2, 4, 3, 5), (2, 4, 3, 5)), ((2, 4, 3, 5), (2, 4, 1, 1)), ((2, 1, 3, 5), (2, 4, 3, 5)),
          ((2, 4, 1, 1), (2, 1, 3, 5)), ((2, 4, 3, 1), (2, 4, 1, 5))]  # fmt: skip


def params(kind: str) -> tuple[QuantParams, QuantParams, QuantParams]:
    if kind in ("minimum", "maximum"):
        return (qparams(0.05, 3),) * 3
    a, b = qparams(0.031, -7), qparams(0.042, 20)
    if kind == "mul":
        return a, b, qparams(agreeing_output_scale([(a.scale, b.scale)], 0.08), -3)
    return a, b, qparams(0.08, -3)


def codes(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-128, 128, shape, generator=generator).float().contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_gradients_are_those_of_the_real_function(kind: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    """Where an output is clamped the gradient is 0; minima and maxima clamp nothing."""
    a, b, y = params(kind)
    settings = {"activation": "none"} if kind in ("add", "sub") else {}
    inputs = [codes(shape, seed) for seed, shape in enumerate(shapes)]
    out = run_form(kind, inputs, [a, b], y, **settings)
    real = [((v - q.zero_point) * q.scale).requires_grad_() for v, q in zip(inputs, (a, b), strict=True)]
    exact = OP_TYPES[kind].real(settings)(list(real), None, None)
    assert out.shape == exact.shape and out.is_contiguous(memory_format=torch.channels_last)
    inside = (out > -128) & (out < 127) | (kind in ("minimum", "maximum"))
    assert float(((out - y.zero_point) * y.scale - exact.detach())[inside].abs().max()) <= 0.51 * y.scale
    (exact * inside).sum().backward()
    found = gradient_of(kind, inputs, [a, b], y, **settings)
    for got, value, q in zip(found, real, (a, b), strict=True):
        assert value.grad is not None and torch.allclose(got, value.grad * q.scale / y.scale, atol=1e-3, rtol=1e-4)


RANGES = {"none": (-7.0, 4.0), "relu": (0.0, 4.0), "relu6": (0.0, 4.0)}


@pytest.mark.parametrize("activation", RANGES)
def test_range_of_a_difference(activation: str) -> None:
    half, ranges = qparams(0.5, 0), []  # type: ignore[var-annotated]
    a, b = (torch.tensor(v).view(1, 1, 1, 3) for v in ([10.0, -4.0, 0.0], [2.0, 10.0, 0.0]))
    run_form("sub", [a, b], [half, half], half, ranges, activation=activation)
    assert ranges == [RANGES[activation]]


def test_a_limited_difference_has_no_gradient_beyond_its_limits() -> None:
    unit = qparams(1.0, 0)
    a, b = (torch.tensor(v).view(1, 1, 1, 3) for v in ([3.0, 1.0, 9.0], [1.0, 3.0, 1.0]))
    first, second = gradient_of("sub", [a, b], [unit, unit], unit, activation="relu6")
    assert first.flatten().tolist() == [1.0, 0.0, 0.0] and second.flatten().tolist() == [-1.0, 0.0, 0.0]
