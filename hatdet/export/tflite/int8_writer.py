"""The int8 ``.tflite`` file that is being written. Activations are NHWC, weights OHWI (quantized dimension 0),
depthwise 1HWC (dimension 3), a bias is int32 with the scale Sx * Sw_c."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import hatdet
from hatdet.export.metadata import file_names
from hatdet.export.tflite.limits import bias_scale
from hatdet.export.tflite.options import StoredWeight, pad_amounts
from hatdet.export.tflite.padding import PaddingPlan, enlarged_kernel, plan_padding
from hatdet.export.tflite.writer import Shape, TfliteWriter
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.tensors import QuantParams


class Int8Writer(TfliteWriter):
    """One graph on its way into a file.

    Args:
        packs: weights of four bits become INT4 tensors, where kernels take them.
        enlarges: kernels with rows and columns of zeros stand for paddings that SAME does not say.
    """

    def __init__(self, graph: IntGraph, packs: bool = False, enlarges: bool = False) -> None:
        shapes = {name: info.shape for name, info in graph.tensors.items()}
        super().__init__(f"hatdet {hatdet.__version__}, profile {graph.metadata['profile']}", shapes, file_names(graph))
        self.graph, self.packs, self.enlarges = graph, packs, enlarges
        self._padded: dict[tuple[str, PaddingPlan, str], int] = {}
        self._widened: dict[int, int] = {}
        self.value(graph.inputs[0])

    def qparams(self, name: str) -> QuantParams:
        """How the graph's tensor ``name`` is quantized."""
        return self.graph.qparams(name)

    def tensor(self, name: str, shape: Shape, q: QuantParams) -> int:
        """Make a tensor; ``shape`` is (C, H, W)."""
        c, h, w = shape
        return self.model.tensor(name, (1, h, w, c), q.dtype.upper(), _scale(q.scale), q.zero_point)

    def value(self, name: str) -> int:
        self.index[name] = self.tensor(self.names[name], self.shapes[name], self.qparams(name))
        return self.index[name]

    def like_output(self, op: Operator, what: str, q: QuantParams) -> int:
        """Make another tensor of the output's shape, named after it."""
        return self.tensor(f"{self.names[op.output]}/{what}", self.shapes[op.output], q)

    def codes(self, name: str, codes: NDArray[Any], q: QuantParams) -> int:
        """A constant of codes, stored in the shape that it has."""
        return self.model.constant(name, codes, q.dtype.upper(), _scale(q.scale), q.zero_point)

    def weight(self, name: str, stored: StoredWeight, scales: NDArray[np.float32], packed: bool = False) -> int:
        """The weight of the operator ``name``, with a scale for each output channel; ``packed``: two codes a byte."""
        dtype = "INT4" if packed else "INT8"
        return self.model.constant(f"{name}/weight", stored.data, dtype, scales, 0, stored.dimension)

    def bias(self, name: str, values: NDArray[np.int32], input_scale: float, scales: NDArray[np.float32],
             wide: bool = False) -> int:  # fmt: skip
        """The bias of the operator ``name``; ``wide``: in int64, for an output of 16 bits."""
        dtype = "int64" if wide else "int32"
        return self.model.constant(f"{name}/bias", values.astype(dtype), dtype.upper(), bias_scale(input_scale, scales))

    def placed(self, op: ConvOp, size: tuple[int, int]) -> tuple[NDArray[np.int8], PaddingPlan]:
        """The weight (O, I / groups, kh, kw) as the file has it, and how it is padded on maps of ``size``."""
        window = op.weight.shape[2:], op.stride, op.padding, op.dilation
        plan = plan_padding(size, *window)
        larger = enlarged_kernel(size, *window) if self.enlarges and plan.needs_pad else None
        if larger is None:
            return op.weight, plan
        more = [(0, after - now) for after, now in zip(larger, op.weight.shape[2:], strict=True)]
        return np.pad(op.weight, [(0, 0), (0, 0), *more]), PaddingPlan("SAME")

    def padded(self, name: str, plan: PaddingPlan, fill: str) -> int:
        if not plan.needs_pad:
            return self.index[name]
        q, label = self.qparams(name), self.names[name]
        if q.zero_point == -128:
            fill = "zero"  # real 0 is the lowest code
        key = (name, plan, fill)
        if key in self._padded:
            return self._padded[key]
        (top, bottom), (left, right) = plan.pad
        c, h, w = self.shapes[name]
        inputs = [self.index[name], self.integers(f"{label}/paddings", pad_amounts(top, bottom, left, right))]
        if fill == "lowest":
            inputs.append(self.codes(f"{label}/lowest", np.array([-128], np.int8), q))
        out = f"{label}/pad_{top}_{bottom}_{left}_{right}" + ("" if fill == "zero" else "_lowest")
        output = self.tensor(out, (c, h + top + bottom, w + left + right), q)
        self._padded[key] = self.step("PAD" if fill == "zero" else "PADV2", inputs, output)
        return output

    def limits(self, op: Any) -> list[tuple[str, int]]:
        """The operators that clamp codes to the limits of ``op``, each with its number; not where a type ends there."""
        q = self.qparams(op.output)
        limits = ("MAXIMUM", op.lo, q.lowest), ("MINIMUM", op.hi, q.highest)
        return [(code, limit) for code, limit, end in limits if limit != end]

    def linear(self, op: Any) -> int:
        return self.like_output(op, "linear", self.qparams(op.output)) if self.limits(op) else self.value(op.output)

    def activation(self, op: Any, source: int) -> None:
        q, limits = self.qparams(op.output), self.limits(op)
        for number, (code, limit) in enumerate(limits, 1):
            constant = self.codes(f"{op.name}/{code.lower()}", np.array([limit], q.dtype), q)
            last = self.value(op.output) if number == len(limits) else self.like_output(op, "limited", q)
            source = self.step(code, [source, constant], last)

    def widened(self, source: int, name: str) -> int:
        """An int8 tensor in 16 bits, for a convolution to 16 bits: the same scale, zero point 0, so x - Z exactly."""
        if source not in self._widened:
            tensor = self.model.tensors[source]
            shape = tuple(int(n) for n in tensor.shape)
            output = self.model.tensor(f"{tensor.name}/int16", shape, "INT16", _scale(self.qparams(name).scale))
            self._widened[source] = self.step("QUANTIZE", [source], output)
        return self._widened[source]


def _scale(value: float) -> NDArray[np.float32]:
    return np.array([value], dtype=np.float32)
