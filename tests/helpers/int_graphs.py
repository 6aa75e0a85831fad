"""Integer graphs made by hand for tests: one operator at a time, and a small network that uses them all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hatdet.integer.arithmetic import activation_limits
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.base import ManyInputs, Operator
from hatdet.integer.operators.layout.concat import ConcatOp
from hatdet.integer.operators.layout.pad import PadOp
from hatdet.integer.operators.layout.resize_bilinear import ResizeBilinearOp
from hatdet.integer.operators.layout.resize_nearest import ResizeNearestOp
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.pairs.mul import MulOp, agreeing_output_scale
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.activation_codes import UNIT_INTERVAL, kernels_agree
from hatdet.integer.operators.pointwise.clamp import ClampOp
from hatdet.integer.operators.pointwise.requantize import RequantizeOp
from hatdet.integer.operators.table import OP_TYPES
from hatdet.integer.operators.windows.average_pool import AveragePoolOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.operators.windows.global_average_pool import GlobalAveragePoolOp
from hatdet.integer.operators.windows.max_pool import MaxPoolOp
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.tensors import QuantParams, TensorInfo

Pair = tuple[int, int]


def qparams(scale: float, zero_point: int = 0) -> QuantParams:
    """Quantization with ``scale`` rounded to float32."""
    return QuantParams(float(np.float32(scale)), zero_point)


def wide(scale: float) -> QuantParams:
    """Quantization with 16 bits."""
    return QuantParams(float(np.float32(scale)), 0, 16)


class GraphBuilder:
    """Adds operators one by one, inferring shapes; tensors are named by the caller."""

    def __init__(self, shape: tuple[int, int, int], q: QuantParams, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors = {"x": TensorInfo("x", shape, q)}
        self.ops: list[Operator] = []

    def _tensor(self, name: str, shape: tuple[int, ...], q: QuantParams) -> None:
        self.tensors[name] = TensorInfo(name, (shape[0], shape[1], shape[2]), q)

    def conv(
        self,
        source: str,
        out: str,
        channels: int,
        kernel: Pair = (3, 3),
        stride: Pair = (1, 1),
        padding: Pair = (1, 1),
        dilation: Pair = (1, 1),
        groups: int = 1,
        activation: str = "relu6",
        q: QuantParams | None = None,
        weight: np.ndarray | None = None,
        bias: np.ndarray | None = None,
        weight_scale: np.ndarray | None = None,
    ) -> str:
        c, h, w = self.tensors[source].shape
        shape = (channels, c // groups, *kernel)
        if weight is None:
            weight = self.rng.integers(-127, 128, shape).astype(np.int8)
        if weight_scale is None:
            typical = 0.6 / np.sqrt(np.prod(shape[1:])) / 64
            weight_scale = (typical * self.rng.uniform(0.3, 1.7, channels)).astype(np.float32)
        if bias is None:
            unit = self.tensors[source].qparams.scale * weight_scale
            bias = np.round(self.rng.normal(0.5, 1.0, channels) / unit).astype(np.int32)
        if q is None:
            q = qparams(6 / 255, -128) if activation != "none" else qparams(0.043, -11)
        size = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip((h, w), kernel, stride, padding, dilation, strict=True)
        ]
        self._tensor(out, (channels, *size), q)
        lo, hi = activation_limits(activation, q.scale, q.zero_point, q.bits)
        args = (weight, bias, weight_scale, stride, padding, dilation, groups, activation, lo, hi)
        self.ops.append(ConvOp(f"{out}_conv", source, out, *args))
        return out

    def add(self, a: str, b: str, out: str, q: QuantParams, activation: str = "none") -> str:
        self._tensor(out, self.tensors[a].shape, q)
        lo, hi = activation_limits(activation, q.scale, q.zero_point)
        self.ops.append(AddOp(f"{out}_add", a, b, out, activation, lo, hi))
        return out

    def sub(self, a: str, b: str, out: str, q: QuantParams, activation: str = "none") -> str:
        lo, hi = activation_limits(activation, q.scale, q.zero_point)
        return self.apply("sub", [a, b], out, q, activation=activation, lo=lo, hi=hi)

    def max_pool(self, source: str, out: str, kernel: Pair, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> str:
        c, h, w = self.tensors[source].shape
        size = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip((h, w), kernel, stride, padding, strict=True)]
        self._tensor(out, (c, *size), self.tensors[source].qparams)
        self.ops.append(MaxPoolOp(f"{out}_pool", source, out, kernel, stride, padding))
        return out

    def average_pool(self, source: str, out: str, kernel: Pair, stride: Pair = (1, 1)) -> str:
        c, h, w = self.tensors[source].shape
        size = [(n - k) // s + 1 for n, k, s in zip((h, w), kernel, stride, strict=True)]
        self._tensor(out, (c, *size), self.tensors[source].qparams)
        self.ops.append(AveragePoolOp(f"{out}_pool", source, out, kernel, stride))
        return out

    def pad(self, source: str, out: str, padding: tuple[int, int, int, int]) -> str:
        c, h, w = self.tensors[source].shape
        top, bottom, left, right = padding
        self._tensor(out, (c, h + top + bottom, w + left + right), self.tensors[source].qparams)
        self.ops.append(PadOp(f"{out}_pad", source, out, padding))
        return out

    def clamp(self, source: str, out: str, activation: str) -> str:
        info = self.tensors[source]
        self._tensor(out, info.shape, info.qparams)
        limits = activation_limits(activation, info.qparams.scale, info.qparams.zero_point)
        self.ops.append(ClampOp(f"{out}_{activation}", source, out, activation, *limits))
        return out

    def concat(self, sources: list[str], out: str) -> str:
        shapes = [self.tensors[s].shape for s in sources]
        self._tensor(out, (sum(s[0] for s in shapes), *shapes[0][1:]), self.tensors[sources[0]].qparams)
        self.ops.append(ConcatOp(f"{out}_concat", tuple(sources), out))
        return out

    def resize(self, source: str, out: str, factor: int = 2) -> str:
        c, h, w = self.tensors[source].shape
        self._tensor(out, (c, h * factor, w * factor), self.tensors[source].qparams)
        self.ops.append(ResizeNearestOp(f"{out}_resize", source, out, factor))
        return out

    def bilinear(self, source: str, out: str, factor: int = 2) -> str:
        c, h, w = self.tensors[source].shape
        self._tensor(out, (c, h * factor, w * factor), self.tensors[source].qparams)
        self.ops.append(ResizeBilinearOp(f"{out}_bilinear", source, out, factor))
        return out

    def requantize(self, source: str, out: str, q: QuantParams) -> str:
        self._tensor(out, self.tensors[source].shape, q)
        self.ops.append(RequantizeOp(f"{out}_requantize", source, out))
        return out

    def average(self, source: str, out: str) -> str:
        info = self.tensors[source]
        self._tensor(out, (info.shape[0], 1, 1), info.qparams)
        self.ops.append(GlobalAveragePoolOp(f"{out}_mean", source, out))
        return out

    def mul(self, a: str, b: str, out: str, q: QuantParams) -> str:
        self._tensor(out, self.tensors[a].shape, q)
        self.ops.append(MulOp(f"{out}_mul", a, b, out))
        return out

    def activation(self, source: str, out: str, function: str, q: QuantParams) -> str:
        self._tensor(out, self.tensors[source].shape, q)
        self.ops.append(ActivationOp(f"{out}_{function}", source, out, function))
        return out

    def apply(self, kind: str, sources: str | list[str], out: str, q: QuantParams | None = None, **fields: Any) -> str:
        """Add any operator by its kind; ``q`` is by default that of the first source."""
        names = [sources] if isinstance(sources, str) else sources
        cls: Any = OP_TYPES[kind]
        inputs = [tuple(names)] if issubclass(cls, ManyInputs) else names
        op = cls(f"{out}_{kind}", *inputs, output=out, **fields)
        shape = op.shape_of([self.tensors[name].shape for name in names], op.settings)
        self._tensor(out, shape, q or self.tensors[names[0]].qparams)
        self.ops.append(op)
        return out

    def graph(self, *outputs: str, **metadata: object) -> IntGraph:
        return IntGraph(self.tensors, self.ops, ("x",), outputs, dict(metadata))


def in_profile(graph: IntGraph, name: str) -> IntGraph:
    """The graph in an arithmetic, with its limits of fused activations."""
    profile, ops = PROFILES[name], list(graph.ops)
    for number, op in enumerate(ops):
        data: Any = op
        if hasattr(data, "lo"):
            lo, hi = profile.limits(data.activation, graph.qparams(data.output))
            ops[number] = replace(data, lo=lo, hi=hi)
    return replace(graph, ops=ops, metadata={**graph.metadata, "profile": name})


def random_codes(shape: tuple[int, ...], seed: int = 0, low: int = -128, high: int = 127) -> np.ndarray:
    """Uniform int8 codes in [low, high]."""
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(np.int8)


def small_network(height: int = 32, width: int = 48, seed: int = 0) -> IntGraph:
    """A detector in miniature with every operator: depthwise, residual, pooling pyramid, upsampling, two outputs."""
    g = GraphBuilder((3, height, width), qparams(1 / 255, -128), seed)
    g.conv("x", "stem", 8, stride=(2, 2))
    g.conv("stem", "dw", 8, kernel=(5, 5), padding=(2, 2), groups=8)
    g.conv("dw", "pw", 8, kernel=(1, 1), padding=(0, 0))
    g.add("stem", "pw", "sum", qparams(8 / 255, -128))
    g.conv("sum", "down", 16, stride=(2, 2))
    pools = ["down"] + [g.max_pool("down", f"pool{k}", (k, k), padding=(k // 2, k // 2)) for k in (5, 9)]
    g.concat(pools, "spp")
    g.conv("spp", "mixed", 8, kernel=(1, 1), padding=(0, 0))
    g.resize("mixed", "up")
    g.requantize("sum", "sum_shared", qparams(6 / 255, -128))
    g.concat(["up", "sum_shared"], "merged")
    g.conv("merged", "head", 8, groups=4)
    g.conv("head", "cls", 3, kernel=(1, 1), padding=(0, 0), activation="none")
    g.conv("mixed", "reg", 4, kernel=(3, 3), activation="relu", q=qparams(0.031, -128))
    return g.graph("cls", "reg", output_names=("cls_8", "reg_8"))


def random_network(seed: int) -> IntGraph:
    """A random graph of 12 to 20 operators of all kinds on odd, non-square maps, made so that tensors use many codes.

    The same seed gives the same graph. Scales follow the ranges that the tensors roughly have.
    """
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(5, 15)), int(rng.integers(5, 15)))
    g = GraphBuilder((int(rng.integers(1, 5)), *size), _random_params(rng), seed)
    names = ["x"]
    for number in range(int(rng.integers(12, 21))):
        source = names[int(rng.integers(max(0, len(names) - 4), len(names)))]
        made = _random_operator(g, rng, source, names, f"t{number}")
        if made is not None:
            names.append(made)
    used = {name for op in g.ops for name in op.inputs}
    outputs = [op.output for op in g.ops if op.output not in used]
    return g.graph(*outputs)


def _random_params(rng: np.random.Generator) -> QuantParams:
    return qparams(float(rng.uniform(0.01, 0.06)), int(rng.choice([-128, 127, int(rng.integers(-128, 128)), 0])))


def _random_operator(g: GraphBuilder, rng: np.random.Generator, source: str, names: list[str], out: str) -> str | None:
    """Add one operator that fits; None where the drawn one does not."""
    info = g.tensors[source]
    channels, height, width = info.shape
    small, large = min(height, width), max(height, width)
    kind = str(rng.choice(_RANDOM_KINDS))
    if kind == "conv":
        return _random_conv(g, rng, source, out)
    if kind == "conv_transpose":
        return _random_transposed(g, rng, source, out) if large <= 9 else None
    if kind in ("add", "mul", "concat"):
        alike = [n for n in names if g.tensors[n].shape[1:] == info.shape[1:]]
        if kind == "concat":
            picked = [str(n) for n in rng.choice(alike, int(rng.integers(1, 4)))]
            parts = [n if g.tensors[n].qparams == info.qparams else g.requantize(n, f"{out}_{i}", info.qparams)
                     for i, n in enumerate([source, *picked])]  # fmt: skip
            return g.concat(parts, out) if sum(g.tensors[n].shape[0] for n in parts) <= 24 else None
        other = str(rng.choice([n for n in alike if g.tensors[n].shape == info.shape]))
        if kind == "add":
            q = qparams((info.qparams.scale + g.tensors[other].qparams.scale) * rng.uniform(0.5, 1.0), _zero(rng))
            return g.add(source, other, out, q, str(rng.choice(["none", "relu", "relu6"])))
        if rng.integers(2):
            other = g.average(source, f"{out}_mean")
        scales = info.qparams.scale, g.tensors[other].qparams.scale
        scale = agreeing_output_scale([scales], float(np.float32(scales[0] * scales[1] * rng.uniform(20, 130))))
        return g.mul(source, other, out, qparams(scale, _zero(rng)))
    if kind in ("sub", "minimum", "maximum"):
        other = str(rng.choice([n for n in names if g.tensors[n].shape == info.shape]))
        other = g.average(other, f"{out}_mean") if rng.integers(2) else other
        if kind == "sub":
            q = qparams((info.qparams.scale + g.tensors[other].qparams.scale) * rng.uniform(0.5, 1.0), _zero(rng))
            return g.sub(source, other, out, q, str(rng.choice(["none", "relu", "relu6"])))
        same = g.tensors[other].qparams == info.qparams
        return g.apply(kind, [source, other if same else g.requantize(other, f"{out}_same", info.qparams)], out)
    if kind == "activation":
        function = str(rng.choice(["hardswish", "sigmoid", "silu", "hardsigmoid"]))
        target = UNIT_INTERVAL if "sigmoid" in function else qparams(info.qparams.scale * 0.9, _zero(rng))
        if function == "silu":
            target = qparams(
                agreeing_output_scale([(info.qparams.scale, UNIT_INTERVAL.scale)], target.scale), target.zero_point
            )
        return g.activation(source, out, function, target) if kernels_agree(function, info.qparams, target) else None
    if kind == "max_pool":
        k = int(rng.choice([2, 3, 5]))
        return g.max_pool(source, out, (k, k), (int(rng.integers(1, 3)),) * 2, (k // 2,) * 2) if small >= k else None
    if kind == "average_pool":
        k = int(rng.integers(1, 4))
        if k == 3 and rng.integers(2):
            return g.apply(kind, source, out, kernel=(3, 3), stride=(1, 1), padding=(1, 1))
        return g.average_pool(source, out, (k, k), (int(rng.integers(1, 3)),) * 2) if small >= k + 2 else None
    if kind == "resize":
        if large > 12:
            return None
        return g.bilinear(source, out) if rng.integers(2) else g.resize(source, out)
    if kind == "pad":
        return g.pad(source, out, tuple(int(n) for n in rng.integers(0, 3, 4)))  # type: ignore[arg-type]
    if kind == "slice":
        begin = [(0, 1, int(rng.integers(0, n))) if rng.integers(2) else (1, 2, 0) for n in info.shape]
        stride = tuple(rng.integers(1, 3, 2).tolist())
        return g.apply(kind, source, out, begin=tuple(begin), end=((1, 1, 0),) * 3, stride=stride)
    if kind == "global_max_pool":
        return g.apply(kind, source, out, size=(1, width if rng.integers(2) else 1)) if small > 2 else None
    if kind == "depth_to_space":
        return g.apply(kind, source, out, block=2) if channels % 4 == 0 and large <= 12 else None
    if kind == "channel_order":
        return g.apply(kind, source, out, channels=tuple(rng.integers(0, channels, int(rng.integers(1, 9))).tolist()))
    if kind == "clamp":
        return g.clamp(source, out, str(rng.choice(["relu", "relu6"])))
    return g.requantize(source, out, _random_params(rng))


_RANDOM_KINDS = (
    ["conv"] * 6 + ["add", "mul", "concat", "activation", "requantize"] * 2
    + ["max_pool", "average_pool", "resize", "pad", "clamp", "slice", "channel_order", "depth_to_space"]
    + ["global_max_pool", "sub", "minimum", "maximum", "conv_transpose"]
)  # fmt: skip


def _zero(rng: np.random.Generator) -> int:
    return int(rng.integers(-128, 60))


def _random_conv(g: GraphBuilder, rng: np.random.Generator, source: str, out: str) -> str:
    channels, height, width = g.tensors[source].shape
    kernel = (int(rng.choice([1, 3, 3, 5])), int(rng.choice([1, 3, 3, 5])))
    stride = int(rng.integers(1, 3)) if min(height, width) > 4 else 1
    dilation = int(rng.choice([1, 1, 1, 2]))
    padding = tuple(dilation * (k // 2) for k in kernel)
    groups = int(rng.choice([d for d in range(1, channels + 1) if channels % d == 0]))
    outputs = groups * int(rng.integers(1, max(2, 13 // groups)))
    scale = g.tensors[source].qparams.scale
    typical = 0.5 / np.sqrt(channels // groups * kernel[0] * kernel[1]) / 64 * (0.04 / scale)
    activation = str(rng.choice(["none", "relu", "relu6"]))
    return g.conv(
        source, out, outputs, kernel, (stride, stride), (padding[0], padding[1]), (dilation, dilation), groups,
        activation, weight_scale=(typical * rng.uniform(0.3, 1.7, outputs)).astype(np.float32),
        q=qparams(6 / 255, -128) if activation == "relu6" else qparams(float(rng.uniform(0.02, 0.06)), _zero(rng)),
    )  # fmt: skip


def _random_transposed(g: GraphBuilder, rng: np.random.Generator, source: str, out: str) -> str:
    """All of the result, or cropped on both axes."""
    channels, scale = g.tensors[source].shape[0], g.tensors[source].qparams.scale
    kernel, stride = ((int(a), int(b)) for a, b in (rng.integers(2, 5, 2), rng.integers(1, 3, 2)))
    padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
    more = tuple(int(rng.integers(0, s)) for s in stride)
    outputs, activation = int(rng.integers(1, 9)), str(rng.choice(["none", "relu"]))
    q = qparams(float(rng.uniform(0.02, 0.06)), _zero(rng))
    lo, hi = activation_limits(activation, q.scale, q.zero_point)
    typical = 0.6 / np.sqrt(channels * kernel[0] * kernel[1]) / 64 * (0.04 / scale)
    weight = rng.integers(-127, 128, (outputs, channels, *kernel)).astype(np.int8)
    return g.apply(
        "conv_transpose", source, out, q, weight=weight, bias=rng.integers(-2000, 2000, outputs).astype(np.int32),
        weight_scale=(typical * rng.uniform(0.3, 1.7, outputs)).astype(np.float32), stride=stride, padding=padding,
        output_padding=more, activation=activation, lo=lo, hi=hi,
    )  # fmt: skip
