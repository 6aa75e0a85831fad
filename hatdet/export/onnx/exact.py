"""The integer model as an ONNX graph of explicit integers: exactly the numbers of the profile, under any runtime.

Tensors between operators are uint8 (code + 128), outputs of 16 bits int16. A convolution is a float32 ``Conv`` on
integers, exact because every partial sum stays below 2**24 (weights are cut into digits where it would not), and its
requantization float64: ``floor(acc * a + 1/2 + delta * sign(acc))`` (see
:class:`hatdet.integer.arithmetic.Requantization`). Functions of one or two codes are tables. Several times slower than
the QDQ form: it is for verification, and where equality is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hatdet.export.onnx.digits import digits
from hatdet.export.onnx.file import DEFAULT_OPSET, finish
from hatdet.export.onnx.integer_writer import IntegerWriter, integer_metadata
from hatdet.integer.activations import activation_table
from hatdet.integer.arithmetic import Requantization, conv_multiplier, prepare_requantization, prepare_requantization16
from hatdet.integer.graph import IntGraph
from hatdet.integer.kernels import accumulator_bounds
from hatdet.integer.operators.layout.concat import ConcatOp
from hatdet.integer.operators.layout.pad import PadOp
from hatdet.integer.operators.layout.resize_bilinear import ResizeBilinearOp
from hatdet.integer.operators.layout.resize_nearest import ResizeNearestOp
from hatdet.integer.operators.pairs.add import AddOp, add_table
from hatdet.integer.operators.pairs.mul import MulOp, mul_table
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.clamp import ClampOp
from hatdet.integer.operators.pointwise.requantize import RequantizeOp, requantize_table
from hatdet.integer.operators.windows.average_pool import AveragePoolOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.operators.windows.global_average_pool import GlobalAveragePoolOp
from hatdet.integer.operators.windows.max_pool import MaxPoolOp

FORMAT = "onnx uint8 exact"


def write_exact(
    graph: IntGraph,
    path: str | os.PathLike[str] | None = None,
    metadata: dict[str, Any] | None = None,
    opset: int = DEFAULT_OPSET,
    keep_tensors: bool = False,
) -> bytes:
    """Write ``graph`` in its explicit-integer form; batch 1, NCHW, uint8 codes (+128) in and out.

    Args:
        path: where to write the model and its metadata; None: bytes only.
        metadata: the detector's facts, added to the graph's.
        keep_tensors: make every tensor of the graph an output, after the model's own: for comparisons.

    Returns:
        The bytes of the model.

    Raises:
        UserError: an operator that has no such form (it is named), an opset out of range, or no onnx installed.
    """
    return finish(
        _Writer(graph, opset).model(keep_tensors),
        integer_metadata(graph, metadata, FORMAT, graph.metadata["profile"]),
        path,
    )


class _Writer(IntegerWriter):
    """Translates one graph, operator by operator."""

    form = "explicit-integer ONNX"

    def __init__(self, graph: IntGraph, opset: int) -> None:
        super().__init__(graph, opset)
        self._centred: dict[str, str] = {}

    @property
    def translations(self) -> dict[type, Callable[[Any], None]]:
        return {
            ConvOp: self._conv,
            AddOp: self._add,
            MulOp: self._mul,
            ActivationOp: self._activation,
            RequantizeOp: self._requantize,
            ConcatOp: self._concat,
            MaxPoolOp: self._max_pool,
            ResizeNearestOp: self._resize,
            GlobalAveragePoolOp: self._global_average_pool,
            AveragePoolOp: self._average_pool,
            PadOp: self._pad,
            ClampOp: self._clamp,
            ResizeBilinearOp: self._resize_bilinear,
        }

    def _as(self, tensor: str, dtype: str) -> str:
        """The codes (+128) of a tensor in another type."""
        return self.out.cast(self.names[tensor], dtype, self._name(tensor, dtype))

    def _centre(self, tensor: str) -> str:
        """Codes minus the zero point, float32; made once."""
        if tensor not in self._centred:
            zero = self._const(tensor, "zero", self.graph.qparams(tensor).zero_point + 128, "float32")
            source = self._as(tensor, "float32")
            self._centred[tensor] = self.out.node("Sub", [source, zero], self._name(tensor, "centred"))
        return self._centred[tensor]

    def _conv(self, op: ConvOp) -> None:
        px, py = self.graph.qparams(op.input), self.graph.qparams(op.output)
        weight, bias = torch.from_numpy(op.weight).float(), torch.from_numpy(op.bias).double()
        limits = (-128 - px.zero_point, 127 - px.zero_point)
        bounds = accumulator_bounds(weight, bias, *limits)
        attributes = {
            "kernel_shape": list(op.weight.shape[2:]),
            "strides": list(op.stride),
            "pads": [*op.padding, *op.padding],
            "dilations": list(op.dilation),
            "group": op.groups,
        }
        acc = self._accumulators(op, digits(op, limits), attributes)
        prepare = prepare_requantization16 if py.bits == 16 else prepare_requantization
        req = prepare(conv_multiplier(px.scale, op.weight_scale, py.scale), bounds.numpy())
        form = self._requantize_float64 if bool(req.exact.all()) else self._requantize_literal
        offset = self.offset(op.output)
        real = form(op.output, acc, req, py.zero_point + offset)
        low, high = (self._const(op.output, w, v + offset, "float64") for w, v in (("lo", op.lo), ("hi", op.hi)))
        clipped = self.out.node("Clip", [real, low, high], self._name(op.output, "clipped"))
        self.out.cast(clipped, self.dtype(op.output), self.names[op.output], exact=True)

    def _accumulators(self, op: ConvOp, parts: list[tuple[int, np.ndarray]], attributes: dict[str, Any]) -> str:
        """int32 accumulators as float64: one Conv, or the weighted sum of one for each digit of the weights."""
        y, x = op.output, self._centre(op.input)
        bias = op.bias.astype(np.float64)
        if len(parts) == 1:
            inputs = [x, self._weight(y, parts[0][1]), self._const(y, "bias", bias, "float32")]
            acc = self.out.node("Conv", inputs, self._name(y, "acc"), **attributes)
            return self.out.cast(acc, "float64", self._name(y, "acc64"))
        total = self._const(y, "bias", bias.reshape(1, -1, 1, 1), "float64")
        for place, digit in parts:
            inputs = [x, self._weight(y, digit)]
            acc = self.out.node("Conv", inputs, self._name(y, "acc"), **attributes)
            acc = self.out.cast(acc, "float64", self._name(y, "acc64"))
            if place != 1:
                acc = self.out.node("Mul", [acc, self._const(y, "place", place, "float64")], self._name(y, "digit"))
            total = self.out.node("Add", [acc, total], self._name(y, "sum"))
        return total

    def _weight(self, y: str, value: np.ndarray) -> str:
        """int8 in the file, float32 in the graph."""
        return self.out.cast(self._const(y, "weight", value, "int8"), "float32", self._name(y, "weight_float"))

    def _requantize_float64(self, y: str, acc: str, req: Requantization, zero: int) -> str:
        """floor(acc * a + 1/2 + delta * sign) + zero, float64."""
        shape = (1, -1, 1, 1)
        scaled = self.out.node("Mul", [acc, self._const(y, "a", req.a.reshape(shape), "float64")], self._name(y, "p"))
        half = self._const(y, "half", 0.5, "float64")
        if np.any(req.delta):
            sign = self.out.node("Sign", [acc], self._name(y, "sign"))
            delta = self._const(y, "delta", req.delta.reshape(shape), "float64")
            tie = self.out.node("Mul", [sign, delta], self._name(y, "tie"))
            scaled = self.out.node("Add", [scaled, tie], self._name(y, "p"))
        scaled = self.out.node("Add", [scaled, half], self._name(y, "p"))
        whole = self.out.node("Floor", [scaled], self._name(y, "whole"))
        return self.out.node("Add", [whole, self._const(y, "zero", zero, "float64")], self._name(y, "shifted"))

    def _requantize_literal(self, y: str, acc: str, req: Requantization, zero: int) -> str:
        """MBQM word for word in int64, for multipliers that the float64 form does not cover; float64 codes (+128)."""

        def integers(what: str, value: np.ndarray) -> str:
            return self._const(y, what, value.reshape(1, -1, 1, 1), "int64")

        def node(kind: str, inputs: list[str]) -> str:
            return self.out.node(kind, inputs, self._name(y, kind.lower()))

        left = integers("left", req.m << np.maximum(req.e, 0))  # x << e, times m
        right, high = np.int64(1) << np.maximum(-req.e, 0), self._const(y, "high", 1 << 31, "int64")
        product = node("Mul", [self.out.cast(acc, "int64", self._name(y, "acc_int")), left])
        product = node("Add", [product, self._const(y, "nudge", 1 << 30, "int64")])
        # Mod has the sign of the divisor: subtracting it leaves the multiple of 2**31 below.
        high_part = node("Div", [node("Sub", [product, node("Mod", [product, high])]), high])
        nudged = node("Add", [node("Abs", [high_part]), integers("half", right // 2)])
        rounded = node("Mul", [node("Sign", [high_part]), node("Div", [nudged, integers("right", right)])])
        real = self.out.cast(rounded, "float64", self._name(y, "rounded"))
        return self.out.node("Add", [real, self._const(y, "zero", zero, "float64")], self._name(y, "shifted"))

    def _lookup(self, tensor: str, index: str, table: np.ndarray) -> None:
        codes = (table.astype(np.int16) + 128).astype(np.uint8).ravel()
        self._emit("Gather", [self._const(tensor, "table", codes, "uint8"), index], tensor, axis=0)

    def _pairs(self, op: AddOp | MulOp, table: np.ndarray) -> None:
        rows = self._const(op.output, "rows", 256, "int32")
        first = self.out.node("Mul", [self._as(op.input1, "int32"), rows], self._name(op.output, "row"))
        index = self.out.node("Add", [first, self._as(op.input2, "int32")], self._name(op.output, "index"))
        self._lookup(op.output, index, table)

    def _params(self, op: AddOp | MulOp) -> tuple[tuple[float, float, float], tuple[int, int, int]]:
        a, b, y = (self.graph.qparams(name) for name in (op.input1, op.input2, op.output))
        return (a.scale, b.scale, y.scale), (a.zero_point, b.zero_point, y.zero_point)

    def _add(self, op: AddOp) -> None:
        self._pairs(op, add_table(*self._params(op), op.lo, op.hi))

    def _mul(self, op: MulOp) -> None:
        self._pairs(op, mul_table(*self._params(op)))

    def _activation(self, op: ActivationOp) -> None:
        table = activation_table(op.function, self.graph.qparams(op.input), self.graph.qparams(op.output))
        self._lookup(op.output, self._as(op.input, "int32"), table)

    def _requantize(self, op: RequantizeOp) -> None:
        x, y = self.graph.qparams(op.input), self.graph.qparams(op.output)
        table = requantize_table(x.scale, x.zero_point, y.scale, y.zero_point)
        self._lookup(op.output, self._as(op.input, "int32"), table)

    def _concat(self, op: ConcatOp) -> None:
        self._emit("Concat", [self.names[n] for n in op.input_names], op.output, axis=1)

    def _max_pool(self, op: MaxPoolOp) -> None:
        pads = [*op.padding, *op.padding]
        self._emit("MaxPool", [self.names[op.input]], op.output,
                   kernel_shape=list(op.kernel), strides=list(op.stride), pads=pads)  # fmt: skip

    def _resize(self, op: ResizeNearestOp) -> None:
        scales = self._const(op.output, "scales", [1, 1, op.factor, op.factor], "float32")
        self._emit("Resize", [self.names[op.input], "", scales], op.output, mode="nearest",
                   coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip

    def _resize_bilinear(self, op: ResizeBilinearOp) -> None:
        """Weights are multiples of 1/256, so float32 is exact; then sign(v) * floor(abs(v) + 1/2) of the signed v."""
        y = op.output

        def node(kind: str, inputs: list[str], **attributes: Any) -> str:
            return self.out.node(kind, inputs, self._name(y, kind.lower()), **attributes)

        scales = self._const(y, "scales", [1, 1, op.factor, op.factor], "float32")
        offset = self._const(y, "offset", 128.0, "float32")
        codes = node("Sub", [self._as(op.input, "float32"), offset])
        real = node("Resize", [codes, "", scales], mode="linear", coordinate_transformation_mode="half_pixel")
        magnitude = node("Floor", [node("Add", [node("Abs", [real]), self._const(y, "half", 0.5, "float32")])])
        shifted = node("Add", [node("Mul", [node("Sign", [real]), magnitude]), offset])
        self.out.cast(shifted, "uint8", self.names[y], exact=True)

    def _pad(self, op: PadOp) -> None:
        top, bottom, left, right = op.padding
        pads = self._const(op.output, "pads", [0, 0, top, left, 0, 0, bottom, right], "int64")
        zero = self._const(op.output, "zero", self.graph.qparams(op.input).zero_point + 128, "uint8")
        self._emit("Pad", [self.names[op.input], pads, zero], op.output, mode="constant")

    def _clamp(self, op: ClampOp) -> None:
        low, high = (self._const(op.output, what, v + 128, "uint8") for what, v in (("lo", op.lo), ("hi", op.hi)))
        self._emit("Clip", [self.names[op.input], low, high], op.output)

    def _global_average_pool(self, op: GlobalAveragePoolOp) -> None:
        _, height, width = self.graph.tensors[op.input].shape
        axes = self._const(op.output, "axes", [2, 3], "int64")
        inputs = [self._as(op.input, "int64"), axes]
        total = self.out.node("ReduceSum", inputs, self._name(op.output, "sum"), keepdims=1)
        self._mean(op.output, total, height * width)

    def _average_pool(self, op: AveragePoolOp) -> None:
        """Sums of windows are a convolution with ones: of at most 64 codes, exact in float32."""
        channels = self.graph.tensors[op.input].shape[0]
        ones = self._const(op.output, "ones", np.ones((channels, 1, *op.kernel)), "float32")
        inputs = [self._as(op.input, "float32"), ones]
        attributes: dict[str, Any] = {"kernel_shape": list(op.kernel), "strides": list(op.stride), "group": channels}
        total = self.out.node("Conv", inputs, self._name(op.output, "sum"), **attributes)
        total = self.out.cast(total, "int64", self._name(op.output, "sum_int"))
        self._mean(op.output, total, op.kernel[0] * op.kernel[1])

    def _mean(self, y: str, total: str, n: int) -> None:
        """sign(s) * ((abs(s) + n // 2) // n) of sums s of n codes, in int64; ``total`` sums codes + 128."""

        def node(kind: str, inputs: list[str]) -> str:
            return self.out.node(kind, inputs, self._name(y, kind.lower()))

        total = node("Sub", [total, self._const(y, "offset", 128 * n, "int64")])
        nudged = node("Add", [node("Abs", [total]), self._const(y, "half", n // 2, "int64")])
        mean = node("Mul", [node("Sign", [total]), node("Div", [nudged, self._const(y, "count", n, "int64")])])
        shifted = node("Add", [mean, self._const(y, "shift", 128, "int64")])
        self.out.cast(shifted, "uint8", self.names[y], exact=True)
