"""The float ``.tflite`` file that is being written, with float32 or float16 weights. Activations are NHWC, weights
OHWI, depthwise 1HWC."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

import hatdet
from hatdet.export.float_graph import INPUT_NAME, FloatGraph, FloatOp
from hatdet.export.tflite.options import pad_amounts
from hatdet.export.tflite.padding import PaddingPlan
from hatdet.export.tflite.writer import TfliteWriter
from hatdet.integer.arithmetic import limits_of
from hatdet.utils.errors import UserError

VERSIONS = {"DEPTHWISE_CONV_2D": 2, "DEQUANTIZE": 3, "TRANSPOSE_CONV": 3}  # dilation; float16 input; bias. Others: 1
FLOAT16_MAX = 65504
LOWEST = float(np.finfo(np.float32).min)


class BeyondHalf(UserError):
    """A weight that float16 cannot hold."""


def survives_half(value: NDArray[np.float32]) -> bool:
    """Whether a weight (O, ...) or a bias (O,) keeps some 10 bits in float16: not where a channel of the weight, or the
    whole bias, is so small that its numbers are subnormal there or 0."""
    rows = value.reshape(len(value), -1) if value.ndim > 1 else value.reshape(1, -1)
    with np.errstate(over="ignore"):  # beyond float16: refused by name
        error = np.abs(rows - rows.astype(np.float16).astype(np.float32)).max(1)
    return bool(np.all(error <= np.abs(rows).max(1) * 2.0**-10))


class FloatWriter(TfliteWriter):
    """One graph on its way into a file."""

    def __init__(self, graph: FloatGraph, half: bool) -> None:
        names = {name: name for name in graph.shapes}
        if graph.decoding is None:
            names.update(zip(graph.outputs, graph.output_names, strict=True))
        names[graph.input] = INPUT_NAME
        kind = "float16 weights" if half else "float32"
        super().__init__(f"hatdet {hatdet.__version__}, {kind}", graph.shapes, names)
        self.half = half
        self._dequantized: dict[int, int] = {}
        self.value(graph.input)

    def version(self, code: str) -> int:
        return VERSIONS.get(code, 1)

    def tensor(self, name: str, shape: tuple[int, ...]) -> int:
        """Make a tensor of the shape that is stored (NHWC)."""
        return self.model.tensor(name, shape, "FLOAT32")

    def like_output(self, op: FloatOp, what: str) -> int:
        """Make another tensor of the output's shape, named after it."""
        c, h, w = self.shapes[op.output]
        return self.tensor(f"{self.names[op.output]}/{what}", (1, h, w, c))

    def value(self, name: str) -> int:
        c, h, w = self.shapes[name]
        self.index[name] = self.tensor(self.names[name], (1, h, w, c))
        return self.index[name]

    def number(self, name: str, value: float) -> int:
        """A constant of one float32."""
        return self.model.constant(name, np.array([value], np.float32), "FLOAT32")

    def linear(self, op: FloatOp) -> int:
        self.value(op.output)
        return self.like_output(op, "linear")

    def activation(self, op: FloatOp, source: int) -> None:
        if op.activation == "hardsigmoid":
            self.hardsigmoid(op, source, self.index[op.output])
        else:
            self.limit(op, source, self.index[op.output], *limits_of(op.activation))

    def limit(self, op: FloatOp, source: int, output: int, low: float, high: float) -> None:
        """Limit values to [low, high]."""
        limits = [(code, v) for code, v in (("MAXIMUM", low), ("MINIMUM", high)) if math.isfinite(v)]
        for number, (code, value) in enumerate(limits, 1):
            last = output if number == len(limits) else self.like_output(op, "limited")
            source = self.step(code, [source, self.number(f"{op.name}/{code.lower()}", value)], last)

    def hardsigmoid(self, op: FloatOp, source: int, output: int) -> None:
        """relu6(x + 3) / 6."""
        ramp = self.like_output(op, "ramp")
        self.step("ADD", [source, self.number("three", 3.0)], ramp, fusedActivationFunction="relu6")
        self.step("MUL", [ramp, self.number("sixth", 1.0 / 6.0)], output)

    def parameter(self, name: str, value: NDArray[np.float32], keep: bool = False) -> int:
        """A weight or bias in its storage type; a small one, or with ``keep``, stays float32."""
        if self.half and float(np.abs(value).max()) > FLOAT16_MAX:
            raise BeyondHalf(
                f"{name} reaches {np.abs(value).max():.6g}; float16 ends at {FLOAT16_MAX}: use the float32 or int8 file"
            )
        if keep or not self.half:
            return self.model.constant(name, value, "FLOAT32")
        stored = self.model.constant(name, value.astype(np.float16), "FLOAT16")
        if stored not in self._dequantized:
            self._dequantized[stored] = self.step("DEQUANTIZE", [stored], self.tensor(f"{name}/float32", value.shape))
        return self._dequantized[stored]

    def padded(self, name: str, plan: PaddingPlan, fill: str) -> int:
        if not plan.needs_pad:
            return self.index[name]
        (top, bottom), (left, right) = plan.pad
        c, h, w = self.shapes[name]
        label = f"{self.names[name]}/pad_{fill}_{top}_{bottom}_{left}_{right}"
        if label not in self.index:
            self.index[label] = self.tensor(label, (1, h + top + bottom, w + left + right, c))
            self.pad(self.index[name], self.index[label], (top, bottom, left, right), fill)
        return self.index[label]

    def pad(self, source: int, output: int, sides: tuple[int, int, int, int], fill: str = "zero") -> None:
        """Put rows and columns around a tensor."""
        inputs = [source, self.integers("pad_{}_{}_{}_{}".format(*sides), pad_amounts(*sides))]
        if fill == "lowest":
            inputs.append(self.number("lowest", LOWEST))
        self.step("PAD" if fill == "zero" else "PADV2", inputs, output)
