"""Gradients of the integer operators in training, and the quantizers and observers: each number by hand.

A gradient with respect to a code is its scale times the one with respect to the real value; rounding passes it on, a
clamp stops it.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hatdet.integer.arithmetic import prepare_requantization
from hatdet.integer.kernels import TensorRequantization
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.operators.base import Step
from hatdet.quantization.operators.layout.resize_bilinear import IntegerBilinear
from hatdet.quantization.operators.pairs.mul import IntegerMul
from hatdet.quantization.operators.pairs.sums import IntegerSum, centred_table
from hatdet.quantization.operators.pointwise.limits import limited_range
from hatdet.quantization.operators.pointwise.lookup import IntegerLookup
from hatdet.quantization.operators.table import FORMS
from hatdet.quantization.operators.windows.average_pool import IntegerAveragePool
from hatdet.quantization.operators.windows.global_average_pool import IntegerMean
from hatdet.quantization.operators.windows.weighted import Call, IntegerSums
from hatdet.quantization.qat import observers
from hatdet.quantization.qat.fake_quant import ActivationFakeQuantize, WeightFakeQuantize, bits_of
from hatdet.quantization.qat.observers import (
    CLIPPERS,
    OBSERVERS,
    RangeObserver,
    clip_kl,
    clip_min_max,
    clip_mix,
    clip_mse,
    clip_percentile,
    quantization_error,
)
from hatdet.utils.errors import UserError
from tests.helpers.forms import gradient_of, run_form


def codes(*values: float, shape: tuple[int, ...] | None = None) -> Tensor:
    x = (
        torch.tensor(values, dtype=torch.float32)
        .view(shape or (1, 1, 1, -1))
        .contiguous(memory_format=torch.channels_last)
    )
    return x.requires_grad_()


def gradient(y: Tensor, *inputs: Tensor, grad: list[float] | None = None) -> list[Any]:
    given = torch.ones_like(y) if grad is None else torch.tensor(grad).view_as(y)
    return [g.flatten().tolist() for g in torch.autograd.grad(y, inputs, given)]


# -------------------------------------------------------------------------------------------- gradients
@pytest.mark.parametrize("sign", [1, -1])
def test_gradient_of_a_sum(sign: int) -> None:
    """S1 = 0.5, S2 = 1, Sy = 2: a code of the first moves the output by a quarter, of the second by a half."""
    p1, p2, py = QuantParams(0.5, 10), QuantParams(1.0, -20), QuantParams(2.0, 3)
    table = centred_table(PROFILES["tflite_ref"], p1, p2, py, 3, 23, sign)  # between 0 and 20 after the zero point
    x1, x2 = codes(16, -4, 40, 100), codes(sign * 4, 0, sign * 20, sign * -10)
    y = IntegerSum.apply(x1, x2, table, (10, -20), (0.25, sign * 0.5), (0, 20))
    assert y.flatten().tolist() == [6, 0, 20, 20]  # 16 / 4 + 4 / 2; -1 and 20, 20 are at the limits: 10 + 10, 25 - 5
    first, second = gradient(y, x1, x2, grad=[1, 1, 1, 2])
    assert first == [0.25, 0, 0, 0] and second == [sign * 0.5, 0, 0, 0]


def test_gradient_of_a_product() -> None:
    """S1 = S2 = 0.5, Sy = 0.25: the product of codes is the output's."""
    requantization = TensorRequantization(prepare_requantization(np.array([1.0]), np.array([255.0**2])))
    x1, x2 = codes(3, -5, 40, 7), codes(2, 4, 50, -1)
    y = IntegerMul.apply(x1, x2, requantization, 1.0, -100, 127)
    assert y.flatten().tolist() == [6, -20, 127, -7]
    first, second = gradient(y, x1, x2, grad=[1, 2, 1, -1])
    assert first == [2, 8, 0, 1] and second == [3, -10, 0, -7]


def test_gradient_of_a_product_with_one_factor_a_channel() -> None:
    requantization = TensorRequantization(prepare_requantization(np.array([0.5, 0.5]), np.full(2, 255.0**2)))
    x1, x2 = codes(2, 4, 6, 8, 10, 12, 14, 300, shape=(1, 2, 2, 2)), codes(3, 5, shape=(1, 2, 1, 1))
    y = IntegerMul.apply(x1, x2, requantization, 0.5, -128, 127)
    assert y.flatten().tolist() == [3, 6, 9, 12, 25, 30, 35, 127]
    first, second = gradient(y, x1, x2)
    assert first == [1.5] * 4 + [2.5] * 3 + [0] and second == [0.5 * 20, 0.5 * 36]


def test_gradient_of_a_table() -> None:
    table, slopes = torch.arange(256).float() * 3, torch.arange(256).float() / 4
    x = codes(-118, 10, 0)  # zero point -10: codes -128, 0, -10
    y = IntegerLookup.apply(x, table, slopes, -10)
    assert y.flatten().tolist() == [0, 384, 354]
    assert gradient(y, x, grad=[1, 2, 4]) == [[0, 64, 118]]


def test_gradient_of_means() -> None:
    x = codes(*range(8), shape=(1, 2, 2, 2))
    mean = IntegerMean.apply(x, 0, (1, 1))
    assert mean.flatten().tolist() == [2, 6]  # 1.5 and 5.5, away from zero
    assert gradient(mean, x, grad=[4, 8]) == [[1] * 4 + [2] * 4]
    wide = codes(*range(12), shape=(1, 1, 3, 4))
    pooled = IntegerAveragePool.apply(wide, (2, 2), (1, 2), (0, 0), 0)
    assert pooled.flatten().tolist() == [3, 5, 7, 9]  # 2.5, 4.5, 6.5, 8.5
    assert gradient(pooled, wide, grad=[4, 8, 12, 16]) == [[1, 1, 2, 2, 4, 4, 6, 6, 3, 3, 4, 4]]


@pytest.mark.parametrize("factor", [2, 4])
def test_gradient_of_a_bilinear_enlargement_is_torchs(factor: int) -> None:
    x = torch.randint(-99, 99, (2, 3, 4, 5), generator=torch.Generator().manual_seed(0)).float().requires_grad_()
    y = IntegerBilinear.apply(x, factor, 0, PROFILES["tflite_ref"])
    smooth = torch.nn.functional.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
    assert y.shape == smooth.shape and (y - smooth).abs().max() <= 0.5 + 1e-4
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    (found,), (wanted,) = (torch.autograd.grad(v, x, grad) for v in (y, smooth))
    assert torch.allclose(found, wanted, atol=1e-5)


def sums_call(limit: Tensor | None, observed: list[Tensor]) -> Call:
    """Two channels of 2 x 2 weights, multipliers 0.5 and 0.25; weights in steps of 2 and 4, biases of 8 and 16."""
    weight = torch.tensor([[1.0, -2, 3, 0], [2, 2, -1, 1]]).view(2, 1, 2, 2)
    geometry = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    step = Step("conv", "c", ("x",), "y", None, geometry)
    form: Any = FORMS["conv"]
    requantization = TensorRequantization(prepare_requantization(np.array([0.5, 0.25]), np.full(2, 2.0**16)))
    return Call(
        weight, lambda x: torch.nn.functional.conv2d(x, weight), form.gradients(step), requantization, -100, 120,
        torch.tensor([2.0, 4.0]), torch.tensor([8.0, 16.0]), limit, torch.ones(2), observed.append,
    )  # fmt: skip


@pytest.mark.parametrize("frozen", ["none", "weight", "bias", "input"])
def test_gradient_of_a_convolution(frozen: str) -> None:
    observed: list[Tensor] = []
    x = codes(10, 20, 30, 40, 2, 4, shape=(1, 1, 2, 3))
    weight = torch.tensor([[9.0, 0, 0, 0], [0, 0, 0, 9.5]]).view(2, 1, 2, 2).requires_grad_()
    bias = torch.zeros(2, requires_grad=True)
    for name, leaf in (("input", x), ("weight", weight), ("bias", bias)):
        leaf.requires_grad_(name != frozen)
    y = IntegerSums.apply(x, weight, bias, None, None, sums_call(torch.tensor([9.0, 9.0]), observed))
    # 10 - 40 + 120 = 90, 20 - 60 + 6 = -34; 20 + 40 - 40 + 2 = 22, 40 + 60 - 2 + 4 = 102: halves and quarters.
    assert observed[0].flatten().tolist() == [90, -34, 22, 102] and y.flatten().tolist() == [45, -17, 6, 26]
    y.backward(torch.tensor([1.0, 2, 4, 8]).view_as(y))
    if frozen != "input":
        # 0.5 * (1 * w + 2 * w one to the right) + 0.25 * (4 * v + 8 * v one to the right)
        assert x.grad.flatten().tolist() == [0.5 + 2, -1 + 1 + 2 + 4, -2 + 4, 1.5 - 1, 3 + 1 - 2, 2]  # type: ignore[union-attr]
    if frozen != "weight":
        # Inputs under the window, times the gradient, times multiplier / weight scale; 9.5 is beyond the limit of 9.
        first = [10 + 2 * 20, 20 + 2 * 30, 40 + 2 * 2, 2 + 2 * 4]
        second = [4 * 10 + 8 * 20, 4 * 20 + 8 * 30, 4 * 40 + 8 * 2, 0]
        assert weight.grad.flatten().tolist() == [v / 4 for v in first] + [v / 16 for v in second]  # type: ignore[union-attr]
    if frozen != "bias":
        assert bias.grad.tolist() == [3 * 0.5 / 8, 12 * 0.25 / 16]  # type: ignore[union-attr]


def test_gradient_of_a_learned_step() -> None:
    """Weights 2.5 and 10 steps of 2, 2 and beyond 3 steps of 4, Q = 3: the slopes are -0.5, 3, 0 and 3 of the first
    weights' gradients above, over the root of 4 * 3, over 2."""
    weight = torch.tensor([[5.0, 20, 4, 0], [8, 99, 0, 0]]).view(2, 1, 2, 2).requires_grad_()
    codes_ = torch.tensor([[2.0, 3, 2, 0], [2, 3, 0, 0]]).view(2, 1, 2, 2)
    step = torch.tensor([4.0, 8.0], requires_grad=True)
    held = torch.tensor([False, True])
    call = replace(sums_call(None, []), weight=codes_, limit=3, held=held)
    x = codes(10, 20, 30, 40, 2, 4, shape=(1, 1, 2, 3))
    y = IntegerSums.apply(x, weight, torch.zeros(2), None, step, call)
    y.backward(torch.tensor([1.0, 2, 4, 8]).view_as(y))
    gradient = [v / 4 for v in (10 + 2 * 20, 20 + 2 * 30, 40 + 2 * 2, 2 + 2 * 4)]
    slopes = (-0.5, 3.0, 0.0, 0.0)
    expected = sum(g * s for g, s in zip(gradient, slopes, strict=True)) / math.sqrt(4 * 3) / 2
    assert step.grad is not None and step.grad.tolist() == pytest.approx([expected, 0.0])


@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
def test_gradients_of_convolutions_are_torchs(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(shape, generator=generator).requires_grad_() for shape in ((2, 4, 6, 7), (6, 2, 3, 2)))
    settings: dict[str, Any] = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
    if kind == "conv_transpose":
        w = torch.randn(6, 4, 3, 2, generator=generator).requires_grad_()
        settings = {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2)}
        y = torch.nn.functional.conv_transpose2d(x, w.transpose(0, 1), None, *settings.values())
    else:
        y = torch.nn.functional.conv2d(x, w, None, *settings.values())
    g = torch.randn(y.shape, generator=generator)
    form: Any = FORMS[kind]
    found = form.gradients(Step(kind, "c", ("x",), "y", None, settings))(g, x, w, [True, True, True])
    wanted = (*torch.autograd.grad(y, (x, w), g), g.sum((0, 2, 3)))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, wanted, strict=True))


def seen(kind: str, x: QuantParams, *maps: list[float], other: QuantParams | None = None, **settings: Any) -> Any:
    """The range that an operator observes for its output; ``maps`` are int8 codes."""
    ranges: list[tuple[float, float]] = []
    inputs = [torch.tensor(values).view(1, 1, 1, -1).float() for values in maps]
    y = QuantParams(1 / 256, -128) if settings.get("function") == "sigmoid" else QuantParams(0.5, 0)
    run_form(kind, inputs, [x, other or x][: len(maps)], y, ranges, **settings)
    assert len(ranges) == 1
    return pytest.approx(ranges[0])


def test_ranges_that_operators_observe() -> None:
    """Of the values that came, not of all codes: S = 0.5, Z = 10, codes -3, 0 and 7 are -6.5, -5 and -1.5."""
    x, half = QuantParams(0.5, 10), QuantParams(0.25, 0)
    assert seen("requantize", x, [-3, 7, 0]) == (-6.5, -1.5)
    assert seen("requantize", x, [-3]) == (-6.5, -6.5) and seen("requantize", x, [-128, 127]) == (-69.0, 58.5)
    assert seen("leaky_relu", x, [-3, 14, 0], slope=0.25) == (-6.5 / 4, 2.0)
    assert (1 / (1 + math.exp(6.5)), 1 / (1 + math.exp(-2.0))) == seen("activation", x, [-3, 14], function="sigmoid")
    assert seen("add", x, [-3, 7], [8, -4], other=half, activation="none") == (-6.5 + 2.0, -1.5 - 1.0)
    assert seen("add", x, [-3, 11], [8, 2], other=half, activation="relu") == (0.0, 1.0)
    assert seen("sub", x, [-3, 7], [8, -4], other=half, activation="none") == (-6.5 - 2.0, -1.5 + 1.0)
    assert seen("mul", x, [-3, 7], [8, -4], other=half) == (-13.0, 1.5)


def test_slopes_of_a_leaky_relu() -> None:
    codes = torch.tensor([-8.0, -1, 0, 1, 4, 100, -100]).view(1, 1, 1, -1)
    (found,) = gradient_of("leaky_relu", [codes], [QuantParams(0.5, 0)], QuantParams(0.25, 20), slope=0.25)
    assert found.flatten().tolist() == [0.5, 0.5, 2, 2, 2, 0, 0.5]  # 100 is clamped: 200 + 20
    (found,) = gradient_of("requantize", [codes], [QuantParams(0.5, 0)], QuantParams(0.25, 20))
    assert found.flatten().tolist() == [2, 2, 2, 2, 2, 0, 0]


def test_a_gradient_ends_half_a_code_beyond_the_last() -> None:
    """Sy = 2 Sx: the centred codes 254 and 255 are 127 and 127.5, and half a code beyond 127 it is clamped."""
    codes = torch.tensor([127.0, 126, 125, -128, -127]).view(1, 1, 1, -1)
    (found,) = gradient_of("requantize", [codes], [QuantParams(1.0, -128)], QuantParams(2.0, 0))
    assert found.flatten().tolist() == [0, 0.5, 0.5, 0.5, 0.5]
    (found,) = gradient_of("requantize", [codes], [QuantParams(1.0, -128)], QuantParams(1.0, 0))
    assert found.flatten().tolist() == [0, 0, 0, 1, 1]
    (found,) = gradient_of("requantize", [codes], [QuantParams(1.0, 127)], QuantParams(1.0, 0))
    assert found.flatten().tolist() == [1, 1, 1, 0, 0]


def test_ranges_after_limits() -> None:
    assert limited_range(-2.0, 3.0, "none") == (-2, 3) and limited_range(-2.0, -1.0, "none") == (-2, -1)
    assert limited_range(-2.0, 3.0, "relu") == (0, 3) and limited_range(-2.0, -1.0, "relu") == (0, 0)
    assert limited_range(-1.0, 9.0, "relu6") == (0, 6) and limited_range(-3.0, 5.0, "relu6") == (0, 5)
    assert limited_range(-3.0, -1.0, "relu6") == (0, 0)


# -------------------------------------------------------------------------------------------- observers
def test_defaults_of_quantizers() -> None:
    def defaults(kind: Any) -> dict[str, Any]:
        parameters = inspect.signature(kind).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}

    assert defaults(RangeObserver) == {"method": "moving_average", "averaging_constant": 0.01}
    assert defaults(ActivationFakeQuantize) == {"observer": "moving_average", "averaging_constant": 0.01}
    assert defaults(clip_percentile) == {"share": 0.9999}
    assert OBSERVERS == ("min_max", "moving_average", "percentile", "mse", "kl", "mix")


def test_at_most_65536_values_are_looked_at_evenly() -> None:
    for count, step in ((65_536, 1), (131_071, 1), (131_072, 2), (200_000, 3)):
        x = torch.arange(count).view(1, -1)
        found = observers._sample(x)
        assert found.dtype == torch.float32 and torch.equal(found, torch.arange(0, count, step).float())


def test_percentiles_by_place() -> None:
    """10 001 values: the outermost at each side is left out; of 101 values none is."""
    x = torch.arange(10_001).float().flip(0)
    assert clip_percentile(x) == (1.0, 9_999.0) and clip_percentile(x[:101]) == (9_900.0, 10_000.0)
    assert clip_percentile(torch.arange(101).float(), 0.9) == (10.0, 90.0)
    assert clip_min_max(x) == (0.0, 10_000.0)


def test_the_error_of_eight_bits_by_hand() -> None:
    """Range 0 to 2.55, steps of 0.01: 0.013 is 0.003 off, 3.0 is cut to 2.55. Below zero the range is widened to it."""
    assert quantization_error(torch.tensor([0.0, 0.013]), 0.0, 2.55) == pytest.approx(0.003**2 / 2, rel=1e-3)
    assert quantization_error(torch.tensor([3.0]), 0.0, 2.55) == pytest.approx(0.45**2, rel=1e-4)
    assert quantization_error(torch.tensor([0.004, 2.0]), 1.0, 2.55) == pytest.approx(0.004**2 / 2, rel=1e-3)
    assert quantization_error(torch.tensor([-0.004, -2.0]), -2.55, -1.0) == pytest.approx(0.004**2 / 2, rel=1e-3)
    assert quantization_error(torch.tensor([-1.28, 1.27, -1.3]), -1.28, 1.27) == pytest.approx(0.02**2 / 3, rel=1e-3)
    assert quantization_error(torch.zeros(3), 0.0, 0.0) == 0


def test_the_shrunken_range_with_the_least_error() -> None:
    """Values at 0 and at the ends of 50 to 100 % in steps of 2.5 %; the outlier decides how much is cut."""
    even = torch.linspace(0, 255, 256)
    assert clip_mse(even) == (0.0, 255.0)  # exact as it is
    crowd = torch.cat([torch.linspace(0, 128, 20_000), torch.tensor([256.0])])
    low, high = clip_mse(crowd)
    shares = [1 - 0.025 * i for i in range(21)]
    errors = [quantization_error(crowd, 0.0, 256 * share) for share in shares]
    assert low == 0 and high == 256 * shares[int(np.argmin(errors))]
    many = torch.cat([torch.linspace(0, 1, 60_000), torch.tensor([2.0])])
    assert clip_mse(many)[1] in [2 * share for share in shares] and clip_mse(-many)[0] == -clip_mse(many)[1]


def test_ranges_shrink_from_100_to_50_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are tried, as long as what is cut off is less than the least error so far."""
    tried: list[tuple[float, float]] = []

    def error(x: Tensor, low: float, high: float, scratch: Tensor) -> float:
        tried.append((low, high))
        return 1e5 + abs(high - 240.0)

    monkeypatch.setattr(observers, "quantization_error", error)
    assert clip_mse(torch.tensor([-80.0, 400.0])) == (-80 * (1 - 0.025 * 16), 400 * (1 - 0.025 * 16))
    assert tried == [(-80 * (1 - 0.025 * i), 400 * (1 - 0.025 * i)) for i in range(21)]


def test_shrinking_ends_where_what_is_cut_off_alone_is_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 0 and 400 a share of 0.95 cuts 20, less a quantization step of 1.49: 18.51**2 / 2 = 171; 0.925: 407."""
    tried: list[float] = []

    def error(x: Tensor, low: float, high: float, scratch: Tensor) -> float:
        tried.append(high)
        return 200.0 - 0.1 * len(tried)

    monkeypatch.setattr(observers, "quantization_error", error)
    assert clip_mse(torch.tensor([0.0, 400.0])) == (0, 380) and tried == [400, 390, 380]


def kl(x: Tensor) -> tuple[float, float]:
    """Migacz's search, value by value: 2048 bins, thresholds from the number of levels on in quarters of it."""
    low, high = float(x.min()), float(x.max())
    top, levels = max(abs(low), abs(high)), 256 if low >= 0 else 128
    magnitudes = x.abs().double().numpy()
    counts, _ = np.histogram(magnitudes[magnitudes > 0], 2048, (0, np.float64(np.float32(top))))
    best = (math.inf, 2048)
    for bins in range(levels, 2049, levels // 4):
        p = counts[:bins].astype(float)
        q = np.zeros(bins)
        for level in range(levels):
            members = [b for b in range(bins) if b * levels // bins == level and counts[b]]
            for b in members:
                q[b] = sum(counts[m] for m in members) / len(members)
        p[-1] += counts[bins:].sum()
        p, q = p / p.sum(), q / max(q.sum(), 1e-12)
        some = p > 0
        divergence = float((p[some] * np.log(p[some] / np.maximum(q[some], 1e-9))).sum())
        best = min(best, (divergence, bins), key=lambda pair: pair[0])
    limit = top * best[1] / 2048
    return max(low, -limit), min(high, limit)


@pytest.mark.parametrize("signed", [False, True])
def test_the_threshold_of_least_divergence(signed: bool) -> None:
    """Values on which another number of levels, or steps twice as wide, find another threshold."""
    x = torch.randn(8_000, generator=torch.Generator().manual_seed(5)) ** 3
    x = torch.cat([x if signed else x.abs(), torch.zeros(5_000)])
    found, wanted = clip_kl(x), kl(x)
    assert found == pytest.approx(wanted, rel=1e-6) and found[1] < float(x.max())


def test_values_that_are_spread_evenly_are_not_clipped() -> None:
    assert clip_kl(torch.linspace(0, 1, 50_000)) == (0.0, 1.0) and clip_kl(torch.linspace(-1, 1, 50_000)) == (-1.0, 1.0)


def test_divergence_by_hand() -> None:
    """Four bins 1 3 0 4 and two beyond, 2 2, in two levels: (1 + 3) / 2 each, and 4 in the only one that holds any."""
    histogram = np.array([1.0, 3, 0, 4, 2, 2])
    p, q = [1 / 12, 3 / 12, 8 / 12], [2 / 8, 2 / 8, 4 / 8]
    assert observers._divergence(histogram, 4, 2) == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q)))
    assert observers._divergence(np.array([0.0, 0, 5]), 2, 2) == pytest.approx(math.log(1e9))


def test_too_few_values_for_a_distribution_are_taken_whole() -> None:
    values = (torch.randn(2_047, generator=torch.Generator().manual_seed(5)) ** 3).abs()
    enough = torch.cat([values, torch.tensor([900.0]), torch.zeros(3_000)])
    assert clip_kl(enough[1:]) == (0.0, 900.0) and clip_kl(enough)[1] < 900  # 2047 and 2048 that are not 0
    assert clip_kl(torch.zeros(5_000)) == (0.0, 0.0)


def test_mix_takes_the_method_of_least_error() -> None:
    x = torch.randn(30_000, generator=torch.Generator().manual_seed(4)) ** 5
    ranges = [CLIPPERS[name](x) for name in ("min_max", "percentile", "mse", "kl")]
    errors = [quantization_error(x, *limits) for limits in ranges]
    assert clip_mix(x) == ranges[int(np.argmin(errors))] and np.argmin(errors) > 0


def observed(method: str, *steps: tuple[float, float], constant: float = 0.25) -> tuple[float, float, int]:
    observer = RangeObserver(method, constant)
    for low, high in steps:
        observer.add_range(low, high)
        observer.commit()
    return float(observer.min_val), float(observer.max_val), int(observer.count)


def test_steps_are_united_or_averaged() -> None:
    steps = ((-1.0, 4.0), (-5.0, 8.0), (-3.0, 6.0))
    assert observed("min_max", *steps) == (-5, 8, 3)
    assert observed("moving_average", *steps) == (-2.25, 5.25, 3)  # -1 -> -2 -> -2.25; 4 -> 5 -> 5.25
    assert observed("mse", *steps) == (-3, 6, 3)  # the mean
    observer = RangeObserver("percentile")
    observer.add_range(-1.0, 2.0)
    observer.add_range(-3.0, 1.0)
    assert observer.commit() and (float(observer.min_val), float(observer.max_val)) == (-3, 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_step_that_is_not_finite_does_not_count(value: float) -> None:
    observer = RangeObserver("min_max")
    for low, high in ((value, 1.0), (0.0, value)):
        observer.add_range(0.0, 1.0)
        observer.add_range(low, high)
        assert observer.not_finite and not observer.commit() and not observer.not_finite
    observer(torch.tensor([0.0, value]))
    assert not observer.commit() and int(observer.count) == 0
    observer(torch.tensor([0.0, 1.0]))
    assert observer.commit() and int(observer.count) == 1


def qparams(low: float, high: float, bits: int = 8) -> tuple[float, int]:
    observer = RangeObserver("min_max")
    observer.bits = bits
    observer.add_range(low, high)
    observer.commit()
    scale, zero = observer.calculate_qparams()
    assert scale.dtype == torch.float32 and zero.dtype == torch.int32
    return float(scale), int(zero)


def test_scales_and_zero_points_by_hand() -> None:
    assert qparams(0.0, 255.0) == (1.0, -128) and qparams(-255.0, 0.0) == (1.0, 127)
    assert qparams(-128.0, 127.0) == (1.0, 0) and qparams(-100.0, 155.0) == (1.0, -28)
    assert qparams(10.0, 255.0) == (1.0, -128) and qparams(-255.0, -10.0) == (1.0, 127)  # zero is among them
    assert qparams(0.0, 1e-9) == (2.0**-16, -128)
    assert qparams(-32767.0, 5.0, 16) == (1.0, 0) and qparams(-5.0, 65534.0, 16) == (2.0, 0)
    assert qparams(0.0, 1e-9, 16) == (2.0**-28, 0)


def test_sixteen_bits_take_the_whole_range() -> None:
    """They have codes enough for every value: nothing is clipped."""
    x = torch.cat([torch.randn(60_000, generator=torch.Generator().manual_seed(1)), torch.tensor([1000.0])])
    for bits, whole in ((16, True), (8, False)):
        observer = RangeObserver("percentile")
        observer.bits = bits
        observer(x)
        observer.commit()
        assert (float(observer.max_val) == 1000) == whole


# ------------------------------------------------------------------------------------------- quantizers
def test_an_activation_is_observed_then_quantized() -> None:
    quantizer = ActivationFakeQuantize("min_max")
    assert (quantizer.quant_min, quantizer.quant_max, quantizer.bits) == (-128, 127, 8)
    assert quantizer.observing and not quantizer.calibrated
    quantizer(torch.tensor([0.0, 25.5]))
    assert float(quantizer.scale) == 1 and not quantizer.calibrated  # nothing moves within a step
    quantizer.commit()
    assert float(quantizer.scale) == pytest.approx(0.1) and int(quantizer.zero_point) == -128 and quantizer.calibrated
    quantizer.disable_observer()
    assert quantizer(torch.tensor([0.04, 0.06, 99.0, -1.0])).tolist() == pytest.approx([0, 0.1, 25.5, 0])
    quantizer.commit()
    assert float(quantizer.activation_post_process.max_val) == 25.5 and not quantizer.observing
    quantizer.disable_fake_quant()
    assert quantizer(torch.tensor([0.04])).tolist() == pytest.approx([0.04])
    wide = ActivationFakeQuantize()
    wide.widen()
    assert (wide.quant_min, wide.quant_max, wide.bits) == (-32768, 32767, 16)
    wide.copy_quantization(quantizer)
    assert float(wide.scale) == float(quantizer.scale) and int(wide.zero_point) == -128
    assert int(wide.activation_post_process.count) == 1 and float(wide.activation_post_process.max_val) == 25.5


def state(scale: float, low: float, high: float, count: int = 1) -> dict[str, Tensor]:
    values = {"scale": scale, "activation_post_process.min_val": low, "activation_post_process.max_val": high}
    found = {f"q.{name}": torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    return found | {"q.activation_post_process.count": torch.tensor(count)}


@pytest.mark.parametrize(
    ("scale", "low", "high", "bits"),
    [
        (1.0, 0.0, 255.0, 8), (1.0, -500.0, 500.0, 8), (1.0, -500.0, 500.5, 16), (1.0, 600.0, 1000.5, 16),
        (1.0, -1000.5, -600.0, 16), (2.0**-16, 0.0, 0.0, 8), (2.0**-17, 0.0, 0.0, 16),
    ],
)  # fmt: skip
def test_bits_are_told_by_the_codes_that_a_range_takes(scale: float, low: float, high: float, bits: int) -> None:
    assert bits_of(state(scale, low, high), "q.") == bits
    assert bits_of(state(scale, low, high, 0), "q.") is None and bits_of({}, "q.") is None
    less = state(scale, low, high)
    del less["q.scale"]
    assert bits_of(less, "q.") is None


def test_a_quantization_of_other_bits_is_refused() -> None:
    quantizer, wide = ActivationFakeQuantize("min_max"), ActivationFakeQuantize("min_max")
    wide.widen()
    for q in (quantizer, wide):
        q(torch.tensor([0.0, 25.5]))
        q.commit()
    with pytest.raises(UserError, match=r"outputs have 16 bits, this config's have 8: set int16_output=True"):
        quantizer.load_state_dict(wide.state_dict())
    with pytest.raises(UserError, match=r"outputs have 8 bits, this config's have 16: set int16_output=False"):
        wide.load_state_dict(quantizer.state_dict())
    quantizer.fixed = True
    quantizer.load_state_dict(wide.state_dict())


def test_scales_of_weights() -> None:
    quantizer = WeightFakeQuantize()
    assert (quantizer.quant_min, quantizer.quant_max, quantizer.ch_axis) == (-127, 127, 0)
    quantizer.allocate(3, torch.device("cpu"))
    assert quantizer.scale.tolist() == [1, 1, 1] and quantizer.zero_point.tolist() == [0, 0, 0]
    weight = torch.tensor([[127.0, -254.0], [0.5, 0.25], [0.0, 0.0]])
    quantizer.observe(weight, torch.tensor([3.0, 2.0**14, 0.0]))
    assert quantizer.scale.tolist() == [2.0, 1.0, 2.0**-24]  # by the weights, by the bias, the least
    quantizer.observe(weight, None)
    assert quantizer.scale.tolist() == pytest.approx([2.0, 0.5 / 127, 2.0**-24])
    assert quantizer.codes(torch.tensor([[255.0, -300.0], [0.5, 0.0], [0.0, 0.0]])).tolist()[0] == [127, -127]
    quantizer.disable_observer()
    quantizer.observe(weight * 9, None)
    assert quantizer.scale[0] == 2
    assert quantizer(torch.tensor([[3.1, 999.0], [0.0, 0], [0, 0]]))[0].tolist() == [4.0, 254.0]
    twin = quantizer.like()
    twin.scale.fill_(7.0)
    assert quantizer.scale[0] == 2
    quantizer.disable_fake_quant()
    assert quantizer(weight) is weight
