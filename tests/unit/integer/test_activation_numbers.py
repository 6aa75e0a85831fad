"""Activations of the integer model and scales on which kernels agree: real functions, limits and searches by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hatdet.integer.operators.pairs import mul
from hatdet.integer.operators.pairs.mul import agreeing_output_scale, mul_kernels_agree, mul_multiplier, mul_table
from hatdet.integer.operators.pointwise import activation_codes as activations
from hatdet.integer.operators.pointwise.activation_codes import (
    GATE_INPUT,
    HARDSIGMOID_WEIGHT_SCALE,
    SIGNED_UNIT_INTERVAL,
    UNIT_INTERVAL,
    activation_table,
    agreeing_input_scale,
    gate_input,
    hardsigmoid_bias,
    hardswish_multipliers,
    kernels_agree,
    real_function,
)
from hatdet.integer.operators.windows.window import mean_of_codes, window_size, window_sizes
from hatdet.integer.tensors import QuantParams


def test_constants() -> None:
    assert QuantParams(1 / 128, 0) == SIGNED_UNIT_INTERVAL
    assert QuantParams(1 / 256, -128) == UNIT_INTERVAL and QuantParams(1 / 16, 0) == GATE_INPUT
    assert np.float32(1 / 762) == HARDSIGMOID_WEIGHT_SCALE


def test_real_functions_and_slopes_by_hand() -> None:
    x = np.array([-4.0, -3.0, -2.8125, -1.5, 0.0, 1.5, 2.8125, 3.0, 4.0])  # sixths of these are whole in binary
    y, slope = real_function("hardswish", x)
    assert y.tolist() == [0, 0, -2.8125 * 0.03125, -0.375, 0, 1.125, 2.8125 * 0.96875, 3, 4]
    assert slope.tolist() == [0, 0, -0.4375, 0, 0.5, 1, 1.4375, 1, 1]
    y, slope = real_function("hardsigmoid", x)
    assert y.tolist() == [0, 0, 0.03125, 0.25, 0.5, 0.75, 0.96875, 1, 1]
    assert slope.tolist() == [0, 0, *[1 / 6] * 5, 0, 0]
    y, slope = real_function("requantize", x)
    assert y.tolist() == x.tolist() and slope.tolist() == [1] * 9
    with pytest.raises(ValueError, match="unknown activation 'mish'; use one of hardswish, sigmoid, silu"):
        real_function("mish", x)


@pytest.mark.parametrize(
    ("name", "function"),
    [("sigmoid", torch.sigmoid), ("tanh", torch.tanh), ("silu", torch.nn.functional.silu), ("hardswish", None)],
)
def test_real_functions_are_torchs(name: str, function: object) -> None:
    function = function or torch.nn.functional.hardswish
    point = torch.linspace(-20, 20, 161, dtype=torch.float64).add_(0.01).requires_grad_()
    wanted = function(point)  # type: ignore[operator]
    (gradient,) = torch.autograd.grad(wanted.sum(), point)
    y, slope = real_function(name, point.detach().numpy())
    assert np.allclose(y, wanted.detach(), rtol=1e-12) and np.allclose(slope, gradient, rtol=1e-12)
    if name == "sigmoid":
        extreme = real_function(name, np.array([-1e4, 1e4]))[0]
        assert extreme[0] < 1e-300 and extreme[1] == 1


def test_a_hardsigmoid_by_hand() -> None:
    """Sx = 1/8: codes -24 and 24 are -3 and 3; 0 is one half; 12 is 1.5: 3/4."""
    x = QuantParams(1 / 8, 0)
    table = activation_table("hardsigmoid", x, UNIT_INTERVAL).astype(int)
    assert [table[128 + code] + 128 for code in (-128, -25, -24, 0, 12, -12, 24, 127)] == [
        0,
        0,
        0,
        128,
        192,
        64,
        255,
        255,
    ]
    assert hardsigmoid_bias(x) == round(0.5 * 8 * 762) and hardsigmoid_bias(QuantParams(1.0, 3)) == 381


def test_a_sigmoid_of_a_coarse_input_reads_another() -> None:
    """From a scale of 2 on a kernel takes 3 codes and more for saturated; sigmoid(6) is not."""
    fine, coarse = QuantParams(1.9375, 5), QuantParams(2.0, 5)
    assert gate_input(fine) == fine and gate_input(coarse) == GATE_INPUT
    assert gate_input(QuantParams(2.0**-30, 5)) == QuantParams(2.0**-30, 5)
    table = activation_table("sigmoid", coarse, UNIT_INTERVAL).astype(int)
    real = 256 / (1 + np.exp(-2.0 * np.arange(-3, 4)))
    assert table[128 + 5 - 3 : 128 + 5 + 4].tolist() == np.clip(np.round(real) - 128, -128, 127).astype(int).tolist()
    assert table[0] == -128 and table[255] == 127


def test_multipliers_of_a_hardswish_by_hand() -> None:
    """Sx = 1/8, Sy = 1/16: Sx / 128 / Sy = 2**-6, and in units of 3 / 2**15: 10.67 = 0.6667 * 2**4."""
    out, out_exponent, ramp, exponent = hardswish_multipliers(QuantParams(1 / 8, 0), QuantParams(1 / 16, 0))
    assert (out, out_exponent) == (2**14, -5) and (ramp, exponent) == (round(2 / 3 * 2**15), 4)
    assert activations._to_int16(2**31 - 1) == 2**15 - 1 and activations._to_int16(3 << 15) == 2
    assert activations._to_int16((3 << 15) - 1) == 1


def test_sixteen_bit_steps_by_hand() -> None:
    x = np.array([3, -3, 1, -1, 2**15, -(2**15) - 5, 6])
    assert activations._saturate16(x).tolist() == [3, -3, 1, -1, 2**15 - 1, -(2**15), 6]
    assert activations._rounding_high_multiply(x[:4], 2**14).tolist() == [2, -1, 1, 0]  # halves: ties up
    assert activations._divide_by_power_of_two(np.array([3, -3, 1, -1, 2, 5]), 1).tolist() == [2, -2, 1, -1, 1, 3]
    assert activations._divide_by_power_of_two(np.array([3, -3]), 0).tolist() == [3, -3]


def test_where_kernels_agree_and_the_next_scale_that_does() -> None:
    x, y = QuantParams(float(np.float32(0.028354830186997713)), 13), UNIT_INTERVAL
    assert not kernels_agree("sigmoid", x, y) and not kernels_agree("silu", x, QuantParams(2.0**-7, 0))
    assert kernels_agree("hardsigmoid", x, y)
    scale = agreeing_input_scale("sigmoid", x, y)
    steps = round(np.log2(scale / x.scale) / np.log2(1 + 2.0**-20))
    assert 0 < steps < 4096 and kernels_agree("sigmoid", QuantParams(scale, 13), y)
    below = float(np.float32(scale / (1 + 2.0**-20)))
    assert not kernels_agree("sigmoid", QuantParams(below, 13), y)
    assert agreeing_input_scale("sigmoid", QuantParams(2.0**-5, 0), y) == 2.0**-5


def test_no_scale_is_searched_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []
    monkeypatch.setattr(activations, "kernels_agree", lambda function, x, y: tried.append(x.scale) or False)
    with pytest.raises(ValueError, match=r"no input scale near 0\.0625 suits the kernels of sigmoid"):
        agreeing_input_scale("sigmoid", QuantParams(0.0625, 0), UNIT_INTERVAL)
    assert len(tried) == 4096 and tried[0] == 0.0625 and 1.0039 < tried[-1] / tried[0] < 1.0040
    asked: list[float] = []
    monkeypatch.setattr(mul, "mul_kernels_agree", lambda a, b, y, _: asked.append(y) or len(asked) > 2)
    assert agreeing_output_scale([(0.5, 0.25)], 1.0) == 1 + 2 * 2.0**-23 == asked[-1]  # the float32 after the next
    monkeypatch.setattr(mul, "mul_kernels_agree", lambda *_: False)
    with pytest.raises(ValueError, match="no output scale near 1.0 suits the products"):
        agreeing_output_scale([(0.5, 0.25)], 1.0)


def test_products_by_hand() -> None:
    assert mul_multiplier(0.5, 0.25, 2.0) == 0.0625
    table = mul_table((0.5, 0.5, 1.0), (10, -20, 30)).astype(int)

    def product(q1: int, q2: int) -> int:
        return int(table[q1 + 128, q2 + 128])

    assert product(12, -16) == 32 and product(12, -20) == 30 and product(9, -19) == 30  # 2 * 4 / 4; 0; -1 / 4
    assert product(127, 127) == 127 and product(-128, 127) == -128 and product(13, -18) == 32  # 6 / 4 = 1.5
    assert mul_kernels_agree(0.5, 0.25, 1.0)
    rng = np.random.default_rng(0)
    for s1, s2, sy in rng.uniform(0.003, 0.1, (300, 3)).astype(np.float32).tolist():
        single = mul.mul_multiplier(s1, s2, sy)
        exact = np.float64(s1) * np.float64(s2) / np.float64(sy)
        products = np.arange(-255 * 255, 255 * 255 + 1)
        first, second = (
            mul.multiply_by_quantized_multiplier(products, *mul.quantize_multiplier(m)) for m in (single, exact)
        )
        inside = np.abs(first) <= 255
        if mul_kernels_agree(s1, s2, sy):
            assert np.array_equal(first[inside], second[inside]), (s1, s2, sy)
        else:
            assert not np.array_equal(first, second), (s1, s2, sy)


def test_windows_by_hand() -> None:
    assert [window_size(8, 3, 2, 1), window_size(9, 3, 2, 1), window_size(8, 3, 1, 1), window_size(8, 2, 2, 0)] == [
        4,
        5,
        8,
        4,
    ]
    assert window_size(9, 3, 1, 0, dilation=2) == 5 and window_size(5, 3, 3, 2, dilation=2) == 2
    assert window_sizes((7, 8, 9), (3, 2), (2, 3), (1, 0), (1, 2)) == (4, 3) and window_sizes(
        (7, 8, 9), (3, 2), (1, 2)
    ) == (6, 4)
    sums = torch.tensor([3.0, -3.0, 2.0, -2.0, 0.0, 1.0, -1.0, 6.0])
    assert mean_of_codes(sums, 4).tolist() == [1, -1, 1, -1, 0, 0, 0, 2]  # halves away from zero
    assert (
        mean_of_codes(sums, 3).tolist() == [1, -1, 1, -1, 0, 0, 0, 2]
        and mean_of_codes(sums, 1).tolist() == sums.tolist()
    )
