"""The integer model as an ONNX graph of float operators between QuantizeLinear and DequantizeLinear: the form that
runtimes turn into their fast int8 kernels. Each rounds in its own way, so the numbers are close to the integer model's,
not equal: the difference is measured and said (:mod:`hatdet.export.onnx.compare`).

Scales and zero points are 0-d tensors: onnxruntime does not fuse those of shape (1,). Operators and quantization: the
ONNX operator specification (QuantizeLinear, DequantizeLinear, opset 13).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from hatdet.export.onnx.file import DEFAULT_OPSET, finish
from hatdet.export.onnx.integer_writer import IntegerWriter, integer_metadata
from hatdet.export.tflite.limits import bias_scale
from hatdet.integer.activations import UNIT_INTERVAL
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.layout.concat import ConcatOp
from hatdet.integer.operators.layout.pad import PadOp
from hatdet.integer.operators.layout.resize_bilinear import ResizeBilinearOp
from hatdet.integer.operators.layout.resize_nearest import ResizeNearestOp
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.pairs.mul import MulOp
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.clamp import ClampOp
from hatdet.integer.operators.pointwise.requantize import RequantizeOp
from hatdet.integer.operators.windows.average_pool import AveragePoolOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.operators.windows.global_average_pool import GlobalAveragePoolOp
from hatdet.integer.operators.windows.max_pool import MaxPoolOp
from hatdet.integer.tensors import QuantParams

FORMAT = "onnx uint8 qdq"
PROFILE = "qdq"
"""The runtime's own rounding."""


def write_qdq(
    graph: IntGraph,
    path: str | os.PathLike[str] | None = None,
    metadata: dict[str, Any] | None = None,
    opset: int = DEFAULT_OPSET,
) -> bytes:
    """Write ``graph`` in QDQ form; batch 1, NCHW, uint8 codes (+128) in and out, int8 weights, int32 biases.

    Args:
        path: where to write the model and its metadata; None: bytes only.
        metadata: the detector's facts, added to the graph's.

    Returns:
        The bytes of the model.

    Raises:
        UserError: an operator that has no such form (it is named), an opset out of range, or no onnx installed.
    """
    return finish(_Writer(graph, opset).model(), integer_metadata(graph, metadata, FORMAT, PROFILE), path)


class _Writer(IntegerWriter):
    """Translates one graph, operator by operator."""

    form = "QDQ"

    @property
    def translations(self) -> dict[type, Callable[[Any], None]]:
        return {
            ConvOp: self._conv,
            AddOp: lambda op: self._elementwise("Add", op),
            MulOp: lambda op: self._elementwise("Mul", op),
            ActivationOp: self._activation,
            RequantizeOp: lambda op: self._quantize(self._real(op.input), op),
            ConcatOp: self._concat,
            MaxPoolOp: self._max_pool,
            ResizeNearestOp: self._resize,
            ResizeBilinearOp: self._resize,
            AveragePoolOp: self._average_pool,
            PadOp: self._pad,
            ClampOp: lambda op: self._clip(self.names[op.input], op, op.lo, op.hi),
            GlobalAveragePoolOp: self._global_average_pool,
        }

    def _params(self, name: str, q: QuantParams) -> list[str]:
        scale = self.out.constant(f"{name}/scale", np.array(q.scale, np.float32))
        return [scale, self.out.constant(f"{name}/zero_point", np.array(q.zero_point + 128, np.uint8))]

    def _real(self, tensor: str) -> str:
        """The dequantized tensor, for one reader: fusion wants a DequantizeLinear of its own for each."""
        name = self.names[tensor]
        params = self._params(name, self.graph.qparams(tensor))
        return self.out.node("DequantizeLinear", [name, *params], f"{name}/real")

    def _quantize(self, real: str, op: Operator, lo: int = -128, hi: int = 127) -> None:
        """The tensor that ``op`` makes, of real values; codes are clamped to [lo, hi]."""
        name = self.names[op.output]
        inputs = [real, *self._params(name, self.graph.qparams(op.output))]
        if (lo, hi) == (-128, 127):
            self._emit("QuantizeLinear", inputs, op.output)
            return
        codes = self.out.node("QuantizeLinear", inputs, f"{name}/codes")
        self._clip(codes, op, lo, hi)

    def _clip(self, codes: str, op: Operator, lo: int, hi: int) -> None:
        low, high = (self._const(op.output, what, code + 128, "uint8") for what, code in (("lo", lo), ("hi", hi)))
        self._emit("Clip", [codes, low, high], op.output)

    def _apply(self, kind: str, inputs: list[str], op: Operator, **attributes: Any) -> str:
        return self.out.node(kind, inputs, self._name(op.output, kind.lower()), **attributes)

    def _conv(self, op: ConvOp) -> None:
        y = op.output
        zeros = self._const(y, "weight_zero_point", np.zeros(len(op.weight_scale)), "int8")
        weight = self._const(y, "weight", op.weight, "int8")
        scale = self._const(y, "weight_scale", op.weight_scale, "float32")
        weight = self.out.node("DequantizeLinear", [weight, scale, zeros], self._name(y, "weight_real"), axis=0)
        bias = self._const(y, "bias", op.bias, "int32")
        scale = self._const(y, "bias_scale", bias_scale(self.graph.qparams(op.input).scale, op.weight_scale), "float32")
        bias = self.out.node("DequantizeLinear", [bias, scale], self._name(y, "bias_real"), axis=0)
        real = self._apply(
            "Conv",
            [self._real(op.input), weight, bias],
            op,
            kernel_shape=list(op.weight.shape[2:]),
            strides=list(op.stride),
            pads=[*op.padding, *op.padding],
            dilations=list(op.dilation),
            group=op.groups,
        )
        if self.graph.qparams(op.output).bits == 16:
            self._quantize16(real, op)
        else:
            self._quantize(real, op, op.lo, op.hi)

    def _quantize16(self, real: str, op: ConvOp) -> None:
        """As QuantizeLinear would to int16, which older runtimes do not have: round(real / scale), clamped."""
        scale = self._const(op.output, "scale", self.graph.qparams(op.output).scale, "float32")
        low, high = (self._const(op.output, what, v, "float32") for what, v in (("lo", op.lo), ("hi", op.hi)))
        rounded = self._apply("Round", [self._apply("Div", [real, scale], op)], op)
        codes = self._apply("Clip", [rounded, low, high], op)
        self.out.cast(codes, "int16", self.names[op.output], exact=True)

    def _elementwise(self, kind: str, op: AddOp | MulOp) -> None:
        real = self._apply(kind, [self._real(op.input1), self._real(op.input2)], op)
        limits = (op.lo, op.hi) if isinstance(op, AddOp) else ()
        self._quantize(real, op, *limits)

    def _activation(self, op: ActivationOp) -> None:
        x = self._real(op.input)
        if op.function == "hardswish":
            gate = self._apply("HardSigmoid", [x], op, alpha=1.0 / 6.0, beta=0.5)
            self._quantize(self._apply("Mul", [x, gate], op), op)
            return
        if op.function == "hardsigmoid":
            self._quantize(self._apply("HardSigmoid", [x], op, alpha=1.0 / 6.0, beta=0.5), op)
            return
        gate = self._apply("Sigmoid", [x], op)
        if op.function == "sigmoid":
            self._quantize(gate, op)
            return
        assert op.function == "silu", op
        params = self._params(self._name(op.output, "sigmoid"), UNIT_INTERVAL)
        codes = self.out.node("QuantizeLinear", [gate, *params], self._name(op.output, "sigmoid_codes"))
        gate = self.out.node("DequantizeLinear", [codes, *params], self._name(op.output, "sigmoid_real"))
        self._quantize(self._apply("Mul", [self._real(op.input), gate], op), op)

    def _concat(self, op: ConcatOp) -> None:
        self._quantize(self._apply("Concat", [self._real(n) for n in op.input_names], op, axis=1), op)

    def _max_pool(self, op: MaxPoolOp) -> None:
        pads = [*op.padding, *op.padding]
        kernel, stride = list(op.kernel), list(op.stride)
        real = self._apply("MaxPool", [self._real(op.input)], op, kernel_shape=kernel, strides=stride, pads=pads)
        self._quantize(real, op)

    def _resize(self, op: ResizeNearestOp | ResizeBilinearOp) -> None:
        scales = self._const(op.output, "scales", [1, 1, op.factor, op.factor], "float32")
        mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        if isinstance(op, ResizeBilinearOp):
            mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        self._quantize(self._apply("Resize", [self._real(op.input), "", scales], op, **mode), op)

    def _average_pool(self, op: AveragePoolOp) -> None:
        kernel, stride = list(op.kernel), list(op.stride)
        self._quantize(self._apply("AveragePool", [self._real(op.input)], op, kernel_shape=kernel, strides=stride), op)

    def _pad(self, op: PadOp) -> None:
        top, bottom, left, right = op.padding
        pads = self._const(op.output, "pads", [0, 0, top, left, 0, 0, bottom, right], "int64")
        zero = self._const(op.output, "padding", 0.0, "float32")
        self._quantize(self._apply("Pad", [self._real(op.input), pads, zero], op, mode="constant"), op)

    def _global_average_pool(self, op: GlobalAveragePoolOp) -> None:
        self._quantize(self._apply("GlobalAveragePool", [self._real(op.input)], op), op)
