"""Multipliers and roundings against values worked out by hand and against exact rational arithmetic."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest

from hatdet.integer.arithmetic import (
    activation_limits,
    conv_multiplier,
    limits_name,
    limits_of,
    multiply_by_quantized_multiplier,
    prepare_requantization,
    quantize_multiplier,
    round_half_away,
)
from hatdet.integer.operators.pairs.add import add_table
from hatdet.integer.operators.pointwise.requantize import requantize_table


def mbqm_rational(x: int, m: int, e: int) -> int:
    """The definition, in exact fractions."""
    y1 = math.floor(Fraction(x * 2 ** max(e, 0) * m, 2**31) + Fraction(1, 2))
    value = Fraction(y1, 2 ** max(-e, 0))
    magnitude = math.floor(abs(value) + Fraction(1, 2))
    return magnitude if value >= 0 else -magnitude


def test_round_half_away_from_zero() -> None:
    assert round_half_away([0.5, 1.5, 2.5, -0.5, -2.5, 0.49999999999999994, 2.4]).tolist() == [1, 2, 3, -1, -3, 0, 2]


def test_multiplier_of_known_values() -> None:
    m, e = quantize_multiplier([0.5, 1.0, 0.25, 0.75, 0.0])
    assert m.tolist() == [2**30, 2**30, 2**30, 3 * 2**29, 0]
    assert e.tolist() == [0, 1, -1, 0, 0]
    # just below a power of two the rounded mantissa carries over
    m, e = quantize_multiplier(1.0 - 2.0**-40)
    assert (int(m), int(e)) == (2**30, 1)
    assert [int(v) for v in quantize_multiplier(2.0**-33)] == [0, 0]


def test_multiplier_refuses_what_is_not_a_scale() -> None:
    with pytest.raises(ValueError, match="finite"):
        quantize_multiplier([0.5, -0.1])


@pytest.mark.parametrize("multiplier", [0.5, 0.25, 0.125, 0.3, 1.0, 1.7, 0.0039, 2.0**-9, 3.0 * 2.0**-12])
def test_mbqm_is_its_definition(multiplier: float) -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([np.arange(-70, 71), rng.integers(-(2**24), 2**24, 300)])
    m, e = quantize_multiplier(multiplier)
    got = multiply_by_quantized_multiplier(x, m, e)
    assert got.tolist() == [mbqm_rational(int(v), int(m), int(e)) for v in x]


def thresholds(multiplier: float) -> np.ndarray:
    """Accumulators around every change of the output code in [-256, 256]."""
    centre = (np.arange(-256, 257) - 0.5) / multiplier
    return np.concatenate([np.floor(centre) + d for d in (-2, -1, 0, 1, 2)]).astype(np.int64)


def multipliers() -> list[float]:
    rng = np.random.default_rng(2)
    spread = np.exp(rng.uniform(np.log(7e-5), np.log(3.0), 150)).tolist()
    powers = [2.0**-k * f for k in range(0, 13) for f in (1.0, 1.25, 1.5, 0.75)]
    return spread + powers


def test_float64_requantization_is_mbqm_at_every_threshold() -> None:
    for multiplier in multipliers():
        m, e = quantize_multiplier(multiplier)
        req = prepare_requantization(np.array([multiplier]), np.array([2.0**24]))
        assert req.exact[0]
        acc = np.concatenate([thresholds(multiplier), [2**24 - 1, -(2**24) + 1, 0, 1, -1]])
        want = np.clip(multiply_by_quantized_multiplier(acc, m, e), -256, 255)
        v = acc * req.a[0]
        got = np.clip(np.floor(v + 0.5 + np.copysign(req.delta[0], v)), -256, 255)
        assert np.array_equal(got, want), multiplier


def single_rounding(x: np.ndarray, m: int, e: int) -> np.ndarray:
    shift = 31 - e
    return (x.astype(object) * m + (1 << (shift - 1))) >> shift


def test_mutants_are_caught() -> None:
    """Single rounding, a float32 product of scales, one ulp more in the multiplier: each changes a code somewhere."""
    caught = {"single rounding": 0, "float32 scales": 0, "one ulp": 0}
    rng = np.random.default_rng(3)
    for _ in range(200):
        sx, sw, sy = (
            np.float32(v) for v in (rng.uniform(0.005, 0.05), rng.uniform(1e-4, 0.02), rng.uniform(0.01, 0.05))
        )
        multiplier = float(conv_multiplier(float(sx), np.array([sw]), float(sy))[0])
        m, e = (int(v) for v in quantize_multiplier(multiplier))
        acc = thresholds(multiplier)
        want = multiply_by_quantized_multiplier(acc, m, e)
        caught["single rounding"] += not np.array_equal(single_rounding(acc, m, e).astype(np.int64), want)
        m32, e32 = quantize_multiplier(float(sx * sw / sy))
        caught["float32 scales"] += not np.array_equal(multiply_by_quantized_multiplier(acc, m32, e32), want)
        ulp = np.arange(2**22 - 4000, 2**22, dtype=np.int64)
        caught["one ulp"] += not np.array_equal(
            multiply_by_quantized_multiplier(ulp << 6, m + 1, 0), multiply_by_quantized_multiplier(ulp << 6, m, 0)
        )
    assert all(count > 0 for count in caught.values()), caught


def test_limits_of_fused_activations() -> None:
    scale = float(np.float32(6 / 255))
    assert activation_limits("relu6", scale, -128) == (-128, 127)
    assert activation_limits("relu6", 0.1, -128) == (-128, -68)
    assert activation_limits("relu", 0.1, -100) == (-100, 127)
    assert activation_limits("none", 0.1, 3) == (-128, 127)
    assert activation_limits("relu_n1_to_1", 0.1, 3) == (-7, 13)
    assert activation_limits("relu6", 1e-45, 3) == (3, 127), "6 / S is beyond float32"
    with pytest.raises(ValueError, match="relu6"):
        activation_limits("swish", 0.1, 0)


def test_limits_of_clamps() -> None:
    assert activation_limits("clamp(-2.0,3.0)", 0.5, 4) == (0, 10)
    assert activation_limits("clamp(-2.0,inf)", 0.5, 4) == (0, 127)
    assert activation_limits("clamp(-inf,3.0)", 0.5, 4) == (-128, 10)
    assert activation_limits("clamp(0.0,0.2)", 0.5, 4) == (4, 4)
    assert activation_limits("clamp(-20000.0,2.0)", 1.0, 0, 16) == (-20000, 2)
    # a range of 255 codes around 0 has no zero point in its middle: 127.5 codes go to the end of the codes
    assert activation_limits("clamp(-2.0,2.0)", float(np.float32(4 / 255)), -1) == (-128, 127)
    assert activation_limits("clamp(-2.0,2.0)", float(np.float32(4 / 255)), 0) == (-128, 127)
    assert activation_limits("relu_n1_to_1", float(np.float32(2 / 255)), -1) == (-128, 126), "as kernels round it"


@pytest.mark.parametrize("low, high, name", [
    (-math.inf, math.inf, "none"), (0, math.inf, "relu"), (0, 6, "relu6"), (-1, 1, "relu_n1_to_1"),
    (0, 1, "clamp(0.0,1.0)"), (-0.1, math.inf, "clamp(-0.1,inf)"), (-math.inf, 0, "clamp(-inf,0.0)"),
    (-1e-7, 1 / 3, "clamp(-1e-07,0.3333333333333333)"),
])  # fmt: skip
def test_names_of_limits(low: float, high: float, name: str) -> None:
    assert limits_name(low, high) == name and limits_of(name) == (low, high)


@pytest.mark.parametrize("name", [
    "clamp", "clamp()", "clamp(1)", "clamp(1.0,2.0)", "clamp(-2.0,-1.0)", "clamp(0.0,0.0)", "clamp(nan,1.0)",
    "clamp(-1.0,1.0)", "clamp(-2,2)", "(-2.0,2.0)",
])  # fmt: skip
def test_what_is_no_name_of_limits(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"unknown fused activation {name!r}; use 'none', 'relu'")):
        limits_of(name)


def test_add_of_equal_scales_is_a_saturating_sum() -> None:
    table = add_table((0.5, 0.5, 0.5), (0, 0, 0), -128, 127)
    q = np.arange(-128, 128)
    assert np.array_equal(table, np.clip(q[:, None] + q[None, :], -128, 127))


def test_add_halves_with_ties_away_from_zero() -> None:
    table = add_table((0.5, 0.5, 1.0), (0, 0, 0), -128, 127)
    assert table[128 + 1, 128 + 2] == 2  # (1 + 2) / 2 = 1.5 -> 2
    assert table[128 - 1, 128 - 2] == -2
    assert table[128 + 1, 128 - 2] == -1  # -0.5 -> -1


def test_requantize_table() -> None:
    table = requantize_table(0.5, 0, 1.0, 10)
    # M = 0.5 needs no shift, so only the first rounding acts, and it sends ties up: 1.5 -> 2, -1.5 -> -1
    assert [int(table[q + 128]) for q in (-4, -3, 0, 3, 4)] == [8, 9, 10, 12, 12]
