"""Scales with which two arithmetics requantize alike, at every threshold of every channel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hatdet.integer.agreement.multipliers import agreeing_multiplier, agreeing_weight_scale
from hatdet.integer.operators.pairs.mul import mul_kernels_agree
from hatdet.integer.profile import WeightedSums
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.tensors import QuantParams
from hatdet.integer.xnnpack import products_agree

PAIR = PROFILES["tflite_ref"], PROFILES["xnnpack"]


def scale(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.float32(np.exp(rng.uniform(low, high))))


def differing(sx: float, weights: np.ndarray, y: QuantParams) -> np.ndarray:
    """Thresholds (C,) at which the two arithmetics differ at one of the six accumulators around."""
    steps = np.arange(-128 - y.zero_point, 127 - y.zero_point) + 0.5
    multiplier = sx * weights.astype(np.float64) / y.scale
    near = np.floor(steps / multiplier[:, None])[..., None] + np.arange(-2, 4)
    acc = torch.from_numpy(near.reshape(1, len(weights), 1, -1))
    limits = -128 - y.zero_point, 127 - y.zero_point
    bound = np.abs(near).max((1, 2))
    first, second = (p.sums(WeightedSums(sx, weights, y, bound)).centred(acc.clone(), *limits) for p in PAIR)
    return np.asarray((first != second).reshape(near.shape).any(-1).sum(-1))


@pytest.mark.parametrize("zero_point", [-128, 3])
@pytest.mark.parametrize("divisor", [1.0, 6.0])
def test_weight_scales_by_which_no_threshold_differs(divisor: float, zero_point: int) -> None:
    """Multipliers of 1/1000 to 1/20, as convolutions have them: nearly three thresholds in four differ, then none."""
    rng = np.random.default_rng(int(divisor) + abs(zero_point))
    before = after = thresholds = 0
    for _ in range(8):
        sx, y = scale(rng, -6, -2), QuantParams(scale(rng, -6, -2), zero_point)
        given = np.float32(y.scale / sx / np.exp(rng.uniform(np.log(20), np.log(1000), 128)) * divisor)
        reach = max(127 - zero_point, zero_point + 128)
        moved = agreeing_weight_scale(sx, given, y.scale, reach, divisor)
        before += differing(sx, given / np.float32(divisor), y).sum()
        after += differing(sx, moved / np.float32(divisor), y).sum()
        thresholds += 255 * len(given)
        assert np.all(moved >= given * (1 - 2.0**-20)) and np.all(moved <= given * 1.21)
        assert np.mean(moved / given) < 1.03
        again = agreeing_weight_scale(sx, moved, y.scale, reach, divisor)
        assert np.array_equal(again, moved), "what suits stays"
    assert before > 0.6 * thresholds and after == 0, (before, after, thresholds)


def test_codes_that_are_shared_move_by_less_both_ways() -> None:
    rng = np.random.default_rng(1)
    sx, y = scale(rng, -6, -2), QuantParams(scale(rng, -6, -2), -128)
    given = np.float32(y.scale / sx / np.exp(rng.uniform(np.log(100), np.log(1000), 512)))
    moved = agreeing_weight_scale(sx, given, y.scale, 255, nearest=True)
    assert np.any(moved > given) and np.any(moved < given) and np.all(np.abs(moved / given - 1) < 0.04)
    assert np.array_equal(agreeing_weight_scale(sx, moved, y.scale, 255, nearest=True), moved)
    assert differing(sx, moved, y).sum() < 0.05 * differing(sx, given, y).sum()


def test_what_cannot_agree_stays() -> None:
    """Multipliers above 1/6 have no even N below a sixth of them, and of 2**-22 and less nothing is to be had."""
    given = np.float32([0.9, 0.5, 0.3, 0.2, 2.0**-23])
    assert np.array_equal(agreeing_weight_scale(1.0, given, 1.0, 255), given)


@pytest.mark.parametrize("seed", range(2))
def test_products_by_their_multiplier_alone(seed: int) -> None:
    """True is true for every product, in each implementation; and powers of two are not taken for such."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(200):
        s1, s2 = scale(rng, -4, -2), 1 / 256 if seed else scale(rng, -4, -2)
        number = 2 * rng.integers(3, 250)
        sy = float(np.float32(s1 * s2 * number * (1 - 2.0**-22.6)))
        if agreeing_multiplier(s1, s2, sy) is not True:
            continue
        found += 1
        products = np.arange(-255.0 * 255, 255.0 * 255 + 1)
        near = np.floor((np.arange(-255, 255) + 0.5) / (s1 * s2 / sy))[:, None] + np.arange(-2, 4)
        acc = torch.from_numpy(np.float32(near[np.abs(near) <= products[-1]]).reshape(1, 1, 1, -1))
        first, second = (p.products(s1, s2, sy, 1).centred(acc.clone(), -255, 255) for p in PAIR)
        assert torch.equal(first, second) and products_agree(s1, s2, sy) and mul_kernels_agree(s1, s2, sy)
    assert found > 50
    for number in (8, 64, 128, 256, 512):
        assert agreeing_multiplier(1.0, float(np.float32((1 + 2.0**-23) / number)), 1.0) is not True
