"""Graphs of one operator, and the codes to run them on: where a wrong formula shows.

Accumulators at every rounding threshold, all 256 codes, all 65 536 pairs, scales at the ends of what kernels take;
random tensors catch few mistakes, so scales are powers of two, or next to ties. The tests of the profile ``xnnpack``
run them here, ``make arm`` on emulated ARM cores, in both arithmetics, ``make conformance`` in ``tflite_single``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hatdet.integer import xnnpack as formulas
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pointwise.activation_codes import FIXED_OUTPUTS
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.tensors import QuantParams
from tests.helpers.int_graphs import (
    GraphBuilder,
    in_profile,
    qparams,
    random_codes,
    random_network,
    small_network,
    wide,
)
from tests.helpers.literal_integer import Arithmetic
from tests.unit.integer.test_against_runtimes import ADDITIONS, CONVOLUTIONS, POOLS, identity, threshold_graph

Made = tuple[IntGraph, np.ndarray]
EVERY = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)
PAIRS = np.stack(np.meshgrid(EVERY.ravel(), EVERY.ravel(), indexing="ij"))[None]
PIXELS, SIGNED = qparams(1 / 255, -128), qparams(0.021, 7)
SUMS = {
    "ratios of powers of two": (0.5, 0.25, 1.0),
    "multipliers that differ in float64": (1 / 255, 6 / 255, 2 / 3),
    "one third": (1 / 255, 0.05, 1 / 3),
    "output as inputs": (0.03, 0.03, 0.03),
    "largest ratio": (0.1 * 255.9, 0.02, 0.1),
    "least ratio": (2.0**-10, 0.7, 1.0),
    "one below the least ratio": (1e-4, 0.7, 1.0),
    "both below": (2e-4, 5e-4, 1.0),
    "far apart": (1e-3, 3.0, 0.9),
}
PRODUCTS = {
    "random": (0.0231, 0.0417, 0.0613),
    "gate": (0.031, 1 / 256, 0.031),
    "all ties": (0.5, 1 / 256, 0.5),
    "powers of two": (0.5, 0.25, 1.0),
    "multiplier of almost 256": (1.0, 25.5, 0.1),
    "least multiplier": (2.0**-8, 2.0**-8, 0.99),
    "thirds": (1 / 3, 1 / 3, 1 / 3),
}
SQUARES = [(0.02, 0.02, 3), (0.05, 0.02, -128), (2.0**-4, 2.0**-5, 0), (2.0**-6, 2.0**-5, 50), (0.011, 0.3, -77),
           (1.0, 2.0**8, -128), (0.1, 0.5, -1)]  # fmt: skip
"""Scales of a map and of it times itself, zero point of that."""
RATIOS = (2.0**-8, 0.004, 0.0613, 0.25, 0.5, 0.77, 1.0, 1.5, 3.3, 100.1, 2.0**7)
LEAKY = ((1.0, 0, 0), (0.77, -3, 20), (3.3, 90, -128), (1.0, 5, 5), (60.0, 0, 0))
"""Ratio of the scales, zero points."""
SLOPES = (0.01, 0.1, 0.2, 0.3, 1.7)
FUNCTIONS = ("sigmoid", "tanh", "hardsigmoid", "silu", "hardswish")
SCALES = (0.003, 0.02, 0.1, 0.5, 1.7, 3.0, 40.0, 1e4)
TIED_LIMITS = ((0, -5), (1, -5), (2, -5), (3, -128), (4, 0), (5, 7), (6, -60))
"""k, zero point: 6 / Sy is k + 1/2."""


def finished(g: GraphBuilder, profile: str, *outputs: str) -> IntGraph:
    """The builder's graph in a profile, with its limits of fused activations."""
    return in_profile(g.graph(*outputs), profile)


# ---- convolutions


def convolution(case: str, activation: str, profile: str = "xnnpack") -> Made:
    inputs, outputs, groups, kernel, stride, padding, dilation, size = CONVOLUTIONS[case]
    g = GraphBuilder((inputs, *size), PIXELS if activation == "relu6" else SIGNED, seed=len(case))
    g.conv("x", "y", outputs, kernel, stride, padding, dilation, groups, activation)
    return finished(g, profile, "y"), random_codes((2, inputs, *size), seed=1)


def extremes(sign: int, code: int, profile: str = "xnnpack") -> Made:
    """Constant weights and inputs: the largest accumulators."""
    weight = np.full((4, 64, 5, 5), sign, dtype=np.int8)
    g = GraphBuilder((64, 6, 7), qparams(0.02, 127 if code == -128 else -128))
    g.conv("x", "y", 4, (5, 5), padding=(2, 2), activation="none", q=qparams(60.0, 3), weight=weight)
    return finished(g, profile, "y"), np.full((1, 64, 6, 7), code, dtype=np.int8)


def thresholds(kind: str, seed: int = 0, powers: tuple[float, float] = (7.9, -22.0), profile: str = "xnnpack") -> Made:
    """Accumulators around the rounding thresholds of channels with multipliers from 2**powers[0] to 2**powers[1]."""
    x, y, rng = qparams(0.0235, 0), qparams(0.0431, 0), np.random.default_rng(seed)
    real = np.exp2(np.linspace(*powers, 24)) * rng.uniform(0.51, 0.99, 24)
    scales = (real * y.scale / x.scale).astype(np.float32)
    targets = np.arange(-126, 126, 6) + rng.integers(0, 6)
    exact = formulas.sum_multiplier(x.scale, scales, y.scale).astype(np.float64)
    bias = np.rint((targets - 0.5)[None, :] / exact[:, None]).astype(np.int64).ravel()
    scale = np.repeat(scales, len(targets))
    channels = len(bias) if kind == "depthwise" else 1
    g = GraphBuilder((channels, 4, 4), x)
    settings = dict(weight=np.ones((len(bias), 1, 1, 1), np.int8), bias=bias.astype(np.int32), weight_scale=scale)
    if kind == "transposed":
        g.apply("conv_transpose", "x", "y", y, stride=(1, 1), padding=(0, 0), output_padding=(0, 0),
                activation="none", lo=-128, hi=127, **settings)  # fmt: skip
    else:
        g.conv("x", "y", len(bias), (1, 1), padding=(0, 0), activation="none", q=y, groups=channels, **settings)  # type: ignore[arg-type]
    around = np.arange(-8, 8, dtype=np.int8).reshape(1, 1, 4, 4)
    return finished(g, profile, "y"), np.broadcast_to(around, (1, channels, 4, 4)).copy()


def reference_thresholds(profile: str = "xnnpack") -> Made:
    """Accumulators at every rounding threshold of the reference arithmetic."""
    graph, codes = threshold_graph(Arithmetic())
    return in_profile(graph, profile), codes


def ties(power: int, profile: str = "xnnpack") -> Made:
    """Multipliers that are powers of two: every other accumulator is a tie."""
    g = GraphBuilder((1, 16, 16), qparams(1.0, 0))
    g.conv("x", "y", 3, (1, 1), padding=(0, 0), activation="none", q=qparams(1.0, 1),
           weight=np.full((3, 1, 1, 1), 1, np.int8), bias=np.array([0, 1 << -min(power, 0), -77], np.int32),
           weight_scale=np.full(3, 2.0**power, np.float32))  # fmt: skip
    return finished(g, profile, "y"), EVERY


def large(multiplier: float, profile: str = "xnnpack") -> Made:
    g = GraphBuilder((1, 16, 16), qparams(1.0, 0))
    g.conv("x", "y", 1, (1, 1), padding=(0, 0), activation="none", q=qparams(1.0, 0),
           weight=np.ones((1, 1, 1, 1), np.int8), bias=np.zeros(1, np.int32),
           weight_scale=np.array([multiplier], np.float32))  # fmt: skip
    return finished(g, profile, "y"), EVERY


def wide_outputs(profile: str = "xnnpack") -> Made:
    g = GraphBuilder((5, 7, 9), SIGNED)
    g.conv("x", "y", 6, activation="relu6", q=wide(6 / 32767))
    g.conv("x", "z", 5, activation="none", groups=5, q=wide(3e-4))
    return finished(g, profile, "y", "z"), random_codes((1, 5, 7, 9))


def limited(kind: str, activation: str, k: int, zero: int, profile: str = "xnnpack") -> Made:
    """A fused limit, or one standing alone, whose code is a tie."""
    q = qparams(6 / (k + 0.5), zero)
    g = GraphBuilder((1, 16, 16), qparams(0.5, 0) if kind == "conv" else q)
    if kind == "conv":
        g.conv("x", "y", 1, (1, 1), padding=(0, 0), activation=activation, q=q, bias=np.zeros(1, np.int32),
               weight=np.ones((1, 1, 1, 1), np.int8), weight_scale=np.array([q.scale], np.float32))  # fmt: skip
    elif kind == "add":
        g.add("x", "x", "y", q, activation)
    else:
        g.clamp("x", "y", activation)
    return finished(g, profile, "y"), EVERY


# ---- pairs


def pair(
    kind: str, q1: QuantParams, q2: QuantParams, y: QuantParams, activation: str = "none", profile: str = "xnnpack"
) -> IntGraph:
    """An operator of two inputs, which are the two channels of the graph's: :data:`PAIRS` are all of their codes."""
    g = GraphBuilder((2, 256, 256), qparams(1.0, 0))
    identity(g, 0, "a", q1.scale, q1.zero_point)
    identity(g, 1, "b", q2.scale, q2.zero_point)
    for op in g.ops:
        op.bias[:] = 0  # type: ignore[attr-defined]
    if kind == "mul":
        g.mul("a", "b", "y", y)
    else:
        getattr(g, kind)("a", "b", "y", y, activation)
    return finished(g, profile, "y")


def total(
    kind: str, q1: QuantParams, q2: QuantParams, y: QuantParams, fused: str = "none", profile: str = "xnnpack"
) -> Made:
    return pair(kind, q1, q2, y, fused, profile), PAIRS


def product(case: str, zeros: tuple[int, int, int], profile: str = "xnnpack") -> Made:
    """With the next output scale on which the profile's kernels agree."""
    s1, s2, sy = (qparams(s).scale for s in PRODUCTS[case])
    scales = s1, s2, PROFILES[profile].product_scale([(s1, s2)], sy)
    q1, q2, y = (QuantParams(s, z) for s, z in zip(scales, zeros, strict=True))
    return pair("mul", q1, q2, y, profile=profile), PAIRS


def squared(x: QuantParams, y: QuantParams, profile: str = "xnnpack") -> Made:
    """A map times itself, which XNNPACK takes for another operator."""
    g = GraphBuilder((1, 16, 16), x)
    g.mul("x", "x", "y", y)
    return finished(g, profile, "y"), EVERY


def square(x_scale: float, y_scale: float, zx: int, zy: int, profile: str = "xnnpack") -> Made:
    """With the next output scale on which the profile's kernels agree."""
    arithmetic, x, scale = PROFILES[profile], qparams(x_scale, zx), 0.0
    moved = qparams(y_scale).scale
    while scale != moved:
        scale = moved
        moved = arithmetic.square_scale(x.scale, arithmetic.product_scale([(x.scale, x.scale)], scale))
    return squared(x, QuantParams(scale, zy), profile)


# ---- codes alone


def requantized(factor: float, zx: int, zy: int, profile: str = "xnnpack") -> Made:
    g = GraphBuilder((1, 16, 16), qparams(0.5, zx))
    g.requantize("x", "y", qparams(0.5 / factor, zy))
    return finished(g, profile, "y"), EVERY


def leaky(slope: float, factor: float, zx: int, zy: int, profile: str = "xnnpack") -> Made:
    slope, x, arithmetic = float(np.float32(slope)), qparams(0.03, zx), PROFILES[profile]
    y = QuantParams(arithmetic.leaky_relu_scale(x.scale, qparams(0.03 / factor).scale, slope, False), zy)
    g = GraphBuilder((1, 16, 16), x)
    g.apply("leaky_relu", "x", "y", y, slope=slope)
    return finished(g, profile, "y"), EVERY


def activation(function: str, scale: float, zero: int, profile: str = "xnnpack") -> Made:
    """All codes, at the next input scale on which the profile's kernels agree."""
    arithmetic, x = PROFILES[profile], qparams(scale, zero)
    y = FIXED_OUTPUTS.get(function) or qparams(scale * 0.9, zero)
    x = QuantParams(arithmetic.activation_scale(function, x, y), zero)
    if function == "silu":
        y = QuantParams(arithmetic.product_scale([(x.scale, 1 / 256)], y.scale), zero)
    g = GraphBuilder((1, 16, 16), x)
    g.activation("x", "y", function, y)
    return finished(g, profile, "y"), EVERY


def bilinear(factor: int, zero: int, profile: str = "xnnpack") -> Made:
    g = GraphBuilder((3, 9, 7), qparams(0.04, zero))
    g.bilinear("x", "y", factor)
    codes = np.concatenate([random_codes((2, 3, 9, 7)), random_codes((1, 3, 9, 7), low=-2, high=1)])
    return finished(g, profile, "y"), codes


# ---- copies, pools, networks


def max_pool(case: str, q: QuantParams, profile: str = "xnnpack") -> Made:
    kernel, stride, padding, size = POOLS[case]
    g = GraphBuilder((3, *size), q)
    g.max_pool("x", "y", kernel, stride, padding)
    return finished(g, profile, "y"), random_codes((2, 3, *size))


def network(seed: int, profile: str = "xnnpack") -> Made:
    """A random graph of all operators."""
    graph = in_profile(random_network(seed), profile)
    return graph, random_codes((2, *graph.tensors["x"].shape), seed)


def miniature(profile: str = "xnnpack") -> Made:
    return in_profile(small_network(), profile), random_codes((2, 3, 32, 48))


Makers = Iterator[tuple[str, Callable[[], Made]]]
Row = Callable[..., tuple[str, Callable[[], Made]]]


def files(profile: str) -> Makers:
    """All of them in a profile: family, and what makes one. Making may raise UserError or ValueError: the profile
    refuses such scales."""

    def made(family: str, make: Callable[..., Made], *arguments: object) -> tuple[str, Callable[[], Made]]:
        return family, lambda: make(*arguments, profile=profile)

    for case in CONVOLUTIONS:
        for fused in ("none", "relu6"):
            yield made("convolution", convolution, case, fused)
    for sign in (-127, 127):
        for code in (-128, 127):
            yield made("convolution, extremes", extremes, sign, code)
    for kind in ("dense", "depthwise", "transposed"):
        yield made("convolution, thresholds", thresholds, kind)
    yield made("convolution, thresholds", reference_thresholds)
    for power in range(-12, 4):
        yield made("convolution, ties", ties, power)
    for multiplier in (200.0, 255.9, 256.0, 1e4):
        yield made("convolution, large multipliers", large, multiplier)
    yield made("convolution, 16 bit outputs", wide_outputs)
    for kind in ("conv", "add", "clamp"):
        for fused in ("relu6", "relu_n1_to_1"):
            for k, zero in TIED_LIMITS:
                yield made("limits at ties", limited, kind, fused, k, zero)
    yield from _pairs(made)
    yield from _codes(made)
    for factor in (2, 4, 8):
        for zero in (-128, 0, 77):
            yield made("bilinear", bilinear, factor, zero)
    for case in POOLS:
        for q in (qparams(6 / 255, -128), qparams(0.05, 20)):
            yield made("max pool", max_pool, case, q)
    yield made("networks", miniature)
    for seed in range(24):
        yield made("networks", network, seed)


def _pairs(made: Row) -> Makers:
    sums = [*SUMS.values(), *((a[0], b[0], y[0]) for a, b, y, _ in ADDITIONS.values())]
    for kind in ("add", "sub"):
        for scales in sums:
            for z1, z2, zy, fused in ((0, 0, 0, "none"), (-128, 7, -11, "relu6")):
                params = [qparams(s, z) for s, z in zip(scales, (z1, z2, zy), strict=True)]
                yield made(f"{kind}, all pairs", total, kind, *params, fused)
    for case in PRODUCTS:
        for zeros in ((0, 0, 0), (-128, 19, -7)):
            yield made("mul, all pairs", product, case, zeros)
    for x_scale, y_scale, zy in SQUARES:
        for zx in (-128, 3, 100):
            yield made("mul, squares", square, x_scale, y_scale, zx, zy)


def _codes(made: Row) -> Makers:
    for factor in RATIOS:
        for zx, zy in ((0, 0), (-128, 5), (77, -128)):
            yield made("requantize", requantized, factor, zx, zy)
    for slope in SLOPES:
        for factor, zx, zy in LEAKY:
            yield made("leaky relu", leaky, slope, factor, zx, zy)
    for function in FUNCTIONS:
        for scale in SCALES:
            for zero in (-128, -3, 90):
                yield made(function, activation, function, scale, zero)
