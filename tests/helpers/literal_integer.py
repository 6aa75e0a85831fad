"""A literal evaluator of an IntGraph: int64 loops over the formulas of the profile ``tflite_ref``, and nothing clever.

Independent of the torch kernels, of the tables and of :mod:`hatdet.integer.arithmetic`: it is the third opinion between
the executor and the runtimes. ``Arithmetic`` can be replaced to make mutants, which the comparisons must catch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.layout.channel_order import ChannelOrderOp
from hatdet.integer.operators.layout.concat import ConcatOp
from hatdet.integer.operators.layout.depth_to_space import DepthToSpaceOp
from hatdet.integer.operators.layout.pad import PadOp
from hatdet.integer.operators.layout.resize_bilinear import ResizeBilinearOp
from hatdet.integer.operators.layout.resize_nearest import ResizeNearestOp
from hatdet.integer.operators.layout.slice import SliceOp
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.pairs.maximum import MaximumOp
from hatdet.integer.operators.pairs.minimum import MinimumOp
from hatdet.integer.operators.pairs.mul import MulOp
from hatdet.integer.operators.pairs.sub import SubOp
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.clamp import ClampOp
from hatdet.integer.operators.pointwise.requantize import RequantizeOp
from hatdet.integer.operators.windows.average_pool import AveragePoolOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.operators.windows.global_average_pool import GlobalAveragePoolOp
from hatdet.integer.operators.windows.global_max_pool import GlobalMaxPoolOp
from hatdet.integer.operators.windows.max_pool import MaxPoolOp
from hatdet.integer.tensors import QuantParams


class Arithmetic:
    """Multipliers from exact fractions, double rounding in Python integers turned int64."""

    bilinear_up = False

    def multiplier(self, real: float) -> tuple[int, int]:
        """(m, e): real ~ m * 2**(e - 31), m in [2**30, 2**31), rounded half away from zero."""
        if real == 0.0:
            return 0, 0
        q, e = math.frexp(real)
        exact = Fraction(q) * 2**31
        m = math.floor(exact + Fraction(1, 2))
        if m == 2**31:
            m, e = m // 2, e + 1
        return (m, e) if e >= -31 else (0, 0)

    def conv_real(self, sx: float, sw: np.float32, sy: float) -> float:
        return float(np.float64(np.float32(sx)) * np.float64(np.float32(sw)) / np.float64(np.float32(sy)))

    def mul_real(self, s1: float, s2: float, sy: float) -> float:
        return float(np.float32(s1) * np.float32(s2) / np.float32(sy))

    def scale16(self, x: np.ndarray, m: int, e: int) -> np.ndarray:
        """For 64-bit accumulators: the multiplier loses its lower 16 bits (to nearest, at most 2**15 - 1)."""
        reduced = min(math.floor(Fraction(m, 2**16) + Fraction(1, 2)), 2**15 - 1)
        unit = Fraction(reduced) / Fraction(2) ** (15 - e)
        exact = [math.floor(int(v) * unit + Fraction(1, 2)) for v in x.ravel()]
        return np.array(exact, dtype=np.int64).reshape(x.shape)

    def scale(self, x: np.ndarray, m: int, e: int) -> np.ndarray:
        x = x.astype(np.int64)
        high = ((x << max(e, 0)) * m + (1 << 30)) >> 31
        if e >= 0:
            return high
        half = 1 << (-e - 1)
        return np.where(high >= 0, (high + half) >> -e, -((-high + half) >> -e))


class SingleRounding(Arithmetic):
    """Rounds once instead of twice: the other build option of the runtimes, ``tflite_single``; else a mutant."""

    bilinear_up = True

    def scale(self, x: np.ndarray, m: int, e: int) -> np.ndarray:
        shift = 31 - e
        return (x.astype(np.int64) * m + (1 << (shift - 1))) >> shift


class Float32Scales(Arithmetic):
    """Mutant: multiplies scales in float32 instead of float64."""

    def conv_real(self, sx: float, sw: np.float32, sy: float) -> float:
        return float(np.float32(sx) * np.float32(sw) / np.float32(sy))


class OneMore(Arithmetic):
    """Mutant: every multiplier one unit in the last place too large."""

    def multiplier(self, real: float) -> tuple[int, int]:
        m, e = super().multiplier(real)
        return m + 1, e


Oracle = Callable[[IntGraph, Any, list[np.ndarray], Arithmetic], np.ndarray]
ORACLES: dict[type, Oracle] = {}
"""Operators whose own tests bring their formula: of the graph, the operator, its inputs' codes, and the arithmetic."""


def run_literal(graph: IntGraph, codes: np.ndarray, arithmetic: Arithmetic | None = None) -> dict[str, np.ndarray]:
    """All tensors by name, int8 (an output may be int16) (B, C, H, W), for input codes int8 (B, C, H, W)."""
    math_ = arithmetic or Arithmetic()
    values: dict[str, np.ndarray] = {graph.inputs[0]: codes.astype(np.int64)}
    for op in graph.ops:
        ins = [values[n] for n in op.inputs]
        if type(op) in ORACLES:
            out = ORACLES[type(op)](graph, op, ins, math_)
        elif isinstance(op, ConvOp):
            out = _conv(graph, op, ins[0], math_)
        elif isinstance(op, (AddOp, SubOp)):
            out = _sum(graph, op, ins[0], ins[1], math_)
        elif isinstance(op, MaxPoolOp):
            out = _max_pool(op, ins[0])
        elif isinstance(op, ConcatOp):
            out = np.concatenate(ins, axis=1)
        elif isinstance(op, ResizeNearestOp):
            factor = graph.tensors[op.output].shape[1] // ins[0].shape[2]
            out = ins[0].repeat(factor, axis=2).repeat(factor, axis=3)
        elif isinstance(op, AveragePoolOp):
            out = _average_pool(op, ins[0])
        elif isinstance(op, ClampOp):
            out = np.minimum(np.maximum(ins[0], op.lo), op.hi)
        elif isinstance(op, PadOp):
            top, bottom, left, right = op.padding
            zero = graph.qparams(op.input).zero_point
            out = np.pad(ins[0], ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=zero)
        elif isinstance(op, ResizeBilinearOp):
            out = _resize_bilinear(graph.tensors[op.output].shape[1] // ins[0].shape[2], ins[0], math_.bilinear_up)
        elif isinstance(op, RequantizeOp):
            x, y = graph.qparams(op.input), graph.qparams(op.output)
            scaled = math_.scale(ins[0] - x.zero_point, *math_.multiplier(x.scale / y.scale))
            out = np.clip(scaled + y.zero_point, -128, 127)
        elif isinstance(op, GlobalAveragePoolOp):
            out = _blocks(_mean, ins[0], op.size)
        elif isinstance(op, MulOp):
            params = (graph.qparams(op.input1), graph.qparams(op.input2), graph.qparams(op.output))
            out = _mul(ins[0], ins[1], *params, math_)
        elif isinstance(op, ActivationOp):
            x, y = graph.qparams(op.input), graph.qparams(op.output)
            out = _activation(op.function, ins[0], x, y, math_)
        else:
            raise TypeError(f"the literal evaluator does not know {op.kind}")
        assert out.shape[1:] == graph.tensors[op.output].shape, (op.name, out.shape)
        values[op.output] = out
    return {name: v.astype(graph.qparams(name).dtype) for name, v in values.items()}


def conv_accumulators(graph: IntGraph, op: ConvOp, codes: np.ndarray) -> np.ndarray:
    """int64 accumulators (B, O, H, W) of a convolution."""
    zero = graph.qparams(op.input).zero_point
    (ph, pw), (sh, sw), (dh, dw) = op.padding, op.stride, op.dilation
    x = np.pad(codes.astype(np.int64) - zero, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    _, out_h, out_w = graph.tensors[op.output].shape
    per_group_out, per_group_in = op.weight.shape[0] // op.groups, op.weight.shape[1]
    acc = np.zeros((len(codes), op.weight.shape[0], out_h, out_w), dtype=np.int64) + op.bias.reshape(1, -1, 1, 1)
    for o in range(op.weight.shape[0]):
        first = (o // per_group_out) * per_group_in
        for i in range(per_group_in):
            for ky in range(op.weight.shape[2]):
                for kx in range(op.weight.shape[3]):
                    top, left = ky * dh, kx * dw
                    rows = slice(top, top + (out_h - 1) * sh + 1, sh)
                    window = x[:, first + i, rows, left : left + (out_w - 1) * sw + 1 : sw]
                    acc[:, o] += int(op.weight[o, i, ky, kx]) * window
    return acc


def _conv(graph: IntGraph, op: ConvOp, codes: np.ndarray, math_: Arithmetic) -> np.ndarray:
    acc = conv_accumulators(graph, op, codes)
    x, y = graph.qparams(op.input), graph.qparams(op.output)
    out = np.empty_like(acc)
    for o in range(acc.shape[1]):
        m, e = math_.multiplier(math_.conv_real(x.scale, op.weight_scale[o], y.scale))
        scale = math_.scale16 if y.bits == 16 else math_.scale
        out[:, o] = scale(acc[:, o], m, e) + y.zero_point
    return np.clip(out, op.lo, op.hi)


def _sum(graph: IntGraph, op: AddOp | SubOp, a: np.ndarray, b: np.ndarray, math_: Arithmetic) -> np.ndarray:
    qa, qb, qy = graph.qparams(op.input1), graph.qparams(op.input2), graph.qparams(op.output)
    double = 2.0 * max(qa.scale, qb.scale)
    left = math_.scale((a - qa.zero_point) << 20, *math_.multiplier(qa.scale / double))
    right = math_.scale((b - qb.zero_point) << 20, *math_.multiplier(qb.scale / double))
    total = left + right if isinstance(op, AddOp) else left - right
    y = math_.scale(total, *math_.multiplier(double / (2.0**20 * qy.scale))) + qy.zero_point
    return np.clip(y, op.lo, op.hi)


def _max_pool(op: MaxPoolOp, codes: np.ndarray) -> np.ndarray:
    (kh, kw), (sh, sw), (ph, pw) = op.kernel, op.stride, op.padding
    x = np.pad(codes, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=-128)
    out_h, out_w = (x.shape[2] - kh) // sh + 1, (x.shape[3] - kw) // sw + 1
    windows = [
        x[:, :, ky : ky + (out_h - 1) * sh + 1 : sh, kx : kx + (out_w - 1) * sw + 1 : sw]
        for ky in range(kh)
        for kx in range(kw)
    ]
    return np.max(windows, axis=0)


def _mean(codes: np.ndarray) -> np.ndarray:
    n = codes.shape[2] * codes.shape[3]
    total = codes.sum(axis=(2, 3), keepdims=True)
    magnitude = (np.abs(total) + n // 2) // n
    return np.where(total > 0, magnitude, -magnitude)


def _average_pool(op: AveragePoolOp, codes: np.ndarray) -> np.ndarray:
    (kh, kw), (sh, sw), (ph, pw) = op.kernel, op.stride, op.padding
    out_h, out_w = (codes.shape[2] + 2 * ph - kh) // sh + 1, (codes.shape[3] + 2 * pw - kw) // sw + 1
    out = np.zeros((*codes.shape[:2], out_h, out_w), dtype=np.int64)
    for i in range(out_h):
        for j in range(out_w):
            top, left = i * sh - ph, j * sw - pw
            window = codes[:, :, max(top, 0) : top + kh, max(left, 0) : left + kw]
            out[:, :, i, j] = _mean(window)[:, :, 0, 0]
    return out


def _resize_bilinear(factor: int, codes: np.ndarray, up: bool) -> np.ndarray:
    """Row i lies at (2 i + 1 - f) / (2 f) source rows; weights in units of 1 / (2 f), so of 1 / (4 f f) for a point."""

    def taps(size: int, i: int) -> list[tuple[int, int]]:
        whole, part = divmod(2 * i + 1 - factor, 2 * factor)
        ends = (min(max(whole, 0), size - 1), min(max(whole + 1, 0), size - 1))
        return [(ends[0], 2 * factor - part), (ends[1], part)]

    height, width = codes.shape[2:]
    out = np.zeros((*codes.shape[:2], height * factor, width * factor), dtype=np.int64)
    unit = 4 * factor * factor
    for i in range(height * factor):
        for j in range(width * factor):
            total = sum(wy * wx * codes[:, :, y, x] for y, wy in taps(height, i) for x, wx in taps(width, j))
            magnitude = (np.abs(total) * 2 + unit) // (2 * unit)
            rounded = np.where(total < 0, -magnitude, magnitude)
            out[:, :, i, j] = (total * 2 + unit) // (2 * unit) if up else rounded
    return out


def _mul(
    a: np.ndarray, b: np.ndarray, qa: QuantParams, qb: QuantParams, qy: QuantParams, math_: Arithmetic
) -> np.ndarray:
    m, e = math_.multiplier(math_.mul_real(qa.scale, qb.scale, qy.scale))
    return np.clip(math_.scale((a - qa.zero_point) * (b - qb.zero_point), m, e) + qy.zero_point, -128, 127)


def _activation(function: str, codes: np.ndarray, x: QuantParams, y: QuantParams, math_: Arithmetic) -> np.ndarray:
    """One code at a time, in Python numbers."""
    table = {code: _activate(function, code, x, y, math_) for code in range(-128, 128)}
    return np.array([table[int(c)] for c in codes.ravel()], dtype=np.int64).reshape(codes.shape)


def _activate(function: str, code: int, x: QuantParams, y: QuantParams, math_: Arithmetic) -> int:
    if function == "hardswish":
        return _hardswish(code - x.zero_point, x.scale, y, math_)
    if function == "hardsigmoid":
        weight_scale = np.float32(1 / 762)  # 127 steps are 1 / 6
        unit = Fraction(x.scale) * Fraction(float(weight_scale))
        bias = math.floor(Fraction(1, 2) / unit + Fraction(1, 2))
        m, e = math_.multiplier(math_.conv_real(x.scale, weight_scale, 1 / 256))
        scaled = int(math_.scale(np.array(127 * (code - x.zero_point) + bias), m, e))
        return min(127, max(-128, scaled - 128))
    real = float(np.float32(x.scale) * np.float32(code - x.zero_point))
    if function == "tanh":
        return min(127, int(math.copysign(math.floor(abs(math.tanh(real)) * 128.0 + 0.5), real)))
    probability = 1.0 / (1.0 + math.exp(-real)) if real > -700 else 0.0
    gate = min(127, math.floor(probability * 256.0 + 0.5) - 128)
    if function == "sigmoid":
        return gate
    unit = QuantParams(1 / 256, -128)
    return int(_mul(np.array(code), np.array(gate), x, unit, y, math_))


def _hardswish(centred: int, scale: float, y: QuantParams, math_: Arithmetic) -> int:
    def int16(value: int) -> int:
        return max(-32768, min(32767, value))

    def multiplier16(real: np.float32) -> tuple[int, int]:
        m, e = math_.multiplier(float(real))
        return int16((m + 32768) // 65536), e

    def nearest(numerator: int, power: int) -> int:  # ties away from zero
        exact = Fraction(abs(numerator), 2**power)
        return int(math.copysign(math.floor(exact + Fraction(1, 2)), numerator))

    fine_scale = np.float32(scale) / np.float32(128)
    out_m, out_e = multiplier16(fine_scale / np.float32(y.scale))
    ramp_m, ramp_e = multiplier16(fine_scale / np.float32(3 / 32768))
    x = centred * 128
    on_output_scale = math.floor(Fraction(x * out_m, 32768) + Fraction(1, 2))
    ramp = int16(x << (ramp_e - 1)) if ramp_e > 0 else x
    ramp = int16(math.floor(Fraction(ramp * ramp_m, 32768) + Fraction(1, 2)))
    ramp = int16(2 * ramp) if ramp_e > 0 else nearest(ramp, -ramp_e)
    gate = (ramp + 32768) // 2
    product = int(Fraction(gate * on_output_scale, 32768))  # towards zero
    return max(-128, min(127, nearest(product, -out_e) + y.zero_point))


def _slice(graph: IntGraph, op: SliceOp, ins: list[np.ndarray], math_: Arithmetic) -> np.ndarray:
    """Channel by channel, row by row, column by column: those whose place is in the range and on the grid."""
    kept = []
    for axis, step in enumerate((1, *op.stride)):
        size = ins[0].shape[axis + 1]
        first, last = (size * n // d + k for n, d, k in (op.begin[axis], op.end[axis]))
        kept.append([i for i in range(size) if first <= i < last and (i - max(first, 0)) % step == 0])
    return np.stack([[[[image[c, i, j] for j in kept[2]] for i in kept[1]] for c in kept[0]] for image in ins[0]])


def _depth_to_space(graph: IntGraph, op: DepthToSpaceOp, ins: list[np.ndarray], math_: Arithmetic) -> np.ndarray:
    n, (batch, channels, height, width) = op.block, ins[0].shape
    out = np.zeros((batch, channels // n**2, height * n, width * n), dtype=np.int64)
    for c, y, x in np.ndindex(*out.shape[1:]):
        out[:, c, y, x] = ins[0][:, (y % n * n + x % n) * out.shape[1] + c, y // n, x // n]
    return out


def _blocks(function: Callable[[np.ndarray], np.ndarray], codes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A function of maps, of each of their blocks."""
    rows, columns = codes.shape[2] // size[0], codes.shape[3] // size[1]
    lines = [
        [function(codes[:, :, i * rows : (i + 1) * rows, k * columns : (k + 1) * columns]) for k in range(size[1])]
        for i in range(size[0])
    ]
    return np.concatenate([np.concatenate(line, 3) for line in lines], 2)


ORACLES[SliceOp] = _slice
ORACLES[GlobalMaxPoolOp] = lambda graph, op, ins, math_: _blocks(
    lambda block: block.max(axis=(2, 3), keepdims=True), ins[0], op.size
)
ORACLES[DepthToSpaceOp] = _depth_to_space
ORACLES[ChannelOrderOp] = lambda graph, op, ins, math_: np.stack([ins[0][:, c] for c in op.channels], 1)
ORACLES[MinimumOp] = lambda graph, op, ins, math_: np.where(ins[0] < ins[1], *ins)
ORACLES[MaximumOp] = lambda graph, op, ins, math_: np.where(ins[0] > ins[1], *ins)
