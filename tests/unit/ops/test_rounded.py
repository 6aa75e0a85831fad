"""Functions whose result is that of float64, rounded once."""

from __future__ import annotations

import numpy as np
import torch

from hatdet.ops import rounded


def test_sigmoid_and_exp_are_the_rounded_float64_ones() -> None:
    x = torch.linspace(-30, 30, 10007)
    wide = x.double().numpy()
    with np.errstate(over="ignore"):
        assert np.array_equal(rounded.sigmoid(x).numpy(), (1 / (1 + np.exp(-wide))).astype(np.float32))
        assert np.array_equal(rounded.exp(x).numpy(), np.exp(wide).astype(np.float32))


def test_the_position_of_a_value_does_not_matter() -> None:
    x = torch.linspace(-3, 3, 37)
    for function in (rounded.sigmoid, rounded.exp):
        alone = torch.cat([function(value[None]) for value in x])
        assert torch.equal(function(x), alone) and function(x).dtype == torch.float32


def test_extremes_and_the_input_stays() -> None:
    x = torch.tensor([-1000.0, 0.0, 1000.0])
    assert rounded.sigmoid(x).tolist() == [0.0, 0.5, 1.0]
    assert rounded.exp(x).tolist() == [0.0, 1.0, float("inf")]
    assert x.tolist() == [-1000.0, 0.0, 1000.0] and rounded.sigmoid(x[:0]).shape == (0,)
