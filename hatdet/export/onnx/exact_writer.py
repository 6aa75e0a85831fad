"""The ONNX file of explicit integers that is being written: accumulators, exact rounding, tables of codes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.export.onnx.integer_writer import IntegerWriter
from hatdet.integer.arithmetic import Requantization, multiply_rounding_once
from hatdet.integer.graph import IntGraph
from hatdet.integer.kernels import TensorRequantization
from hatdet.integer.operators.base import Operator
from hatdet.integer.profile import Profile, WeightedSums
from hatdet.integer.single_multiply import FloatRequantization
from hatdet.utils.errors import UserError


class ExactWriter(IntegerWriter):
    """One graph on its way into a file."""

    def __init__(self, graph: IntGraph, opset: int) -> None:
        super().__init__(graph, opset)
        self._centred: dict[str, str] = {}

    def codes(self, tensor: str, dtype: str) -> str:
        """The codes (+128) of a tensor in another type."""
        return self.out.cast(self.names[tensor], dtype, self.name(tensor, dtype))

    def centred(self, tensor: str) -> str:
        """Codes minus the zero point, float32; made once."""
        if tensor not in self._centred:
            zero = self.constant(tensor, "zero", self.qparams(tensor).zero_point + 128, "float32")
            self._centred[tensor] = self.node("Sub", [self.codes(tensor, "float32"), zero], tensor, "centred")
        return self._centred[tensor]

    def weight(self, tensor: str, value: NDArray[np.int8]) -> str:
        """int8 in the file, float32 in the graph."""
        stored = self.constant(tensor, "weight", value, "int8")
        return self.out.cast(stored, "float32", self.name(tensor, "weight_float"))

    def accumulators(
        self, kind: str, op: Operator, parts: list[tuple[int, NDArray[np.int8]]], bias: NDArray[np.int32],
        **attributes: Any,
    ) -> str:  # fmt: skip
        """int32 accumulators as float64: one ``kind`` (Conv, ...) of ``op``'s only input, or the weighted sum of one
        for each digit of the weights."""
        y, x = op.output, self.centred(op.inputs[0])
        real = bias.astype(np.float64)
        if len(parts) == 1:
            inputs = [x, self.weight(y, parts[0][1]), self.constant(y, "bias", real, "float32")]
            acc = self.node(kind, inputs, y, "acc", **attributes)
            return self.out.cast(acc, "float64", self.name(y, "acc64"))
        total = self.constant(y, "bias", real.reshape(1, -1, 1, 1), "float64")
        for place, digit in parts:
            acc = self.node(kind, [x, self.weight(y, digit)], y, "acc", **attributes)
            acc = self.out.cast(acc, "float64", self.name(y, "acc64"))
            if place != 1:
                acc = self.node("Mul", [acc, self.constant(y, "place", place, "float64")], y, "digit")
            total = self.node("Add", [acc, total], y, "sum")
        return total

    def requantized(self, acc: str, op: Any, bounds: NDArray[np.float64]) -> None:
        """Make what ``op`` makes of accumulators (float64), clamped to the operator's limits.

        Args:
            bounds: how large the accumulators of each channel can get.
        """
        y, q, offset = op.output, self.qparams(op.output), self.offset(op.output)
        sums = WeightedSums(self.qparams(op.input).scale, op.weight_scale, q, bounds)
        requantizer = self.graph.profile.sums(sums)
        if isinstance(requantizer, FloatRequantization):
            return self._multiplied_once(acc, op, requantizer, q.zero_point + offset)
        if not isinstance(requantizer, TensorRequantization):
            raise self.refusal(self.graph.profile)
        req = requantizer.req
        form = self._rounded_float64 if bool(req.exact.all()) else self._rounded_literally
        shifted = form(y, acc, req, q.zero_point + offset)
        low, high = (self.constant(y, w, v + offset, "float64") for w, v in (("lo", op.lo), ("hi", op.hi)))
        self.finish(self.node("Clip", [shifted, low, high], y, "clipped"), op)

    def _multiplied_once(self, acc: str, op: Any, requantizer: FloatRequantization, zero: int) -> None:
        """round(float32(acc) * scale), half to even as the operator has it; then the zero point and the limits."""
        y, offset = op.output, self.offset(op.output)
        node = partial(self.node, tensor=y)
        scale = self.constant(y, "scale", requantizer.scale.numpy().reshape(1, -1, 1, 1), "float32")
        whole = node("Round", [node("Mul", [self.out.cast(acc, "float32", self.name(y, "acc32")), scale])])
        shifted = node("Add", [whole, self.constant(y, "zero", zero, "float32")], what="shifted")
        low, high = (self.constant(y, w, v + offset, "float32") for w, v in (("lo", op.lo), ("hi", op.hi)))
        self.finish(node("Clip", [shifted, low, high], what="clipped"), op)

    @staticmethod
    def refusal(profile: Profile) -> UserError:
        """Of an arithmetic that this file's operators do not say."""
        return UserError(
            f"the exact ONNX form has no operators for the arithmetic {profile.name!r}: leave the format out "
            "(--format tflite)"
        )

    def _rounded_float64(self, y: str, acc: str, req: Requantization, zero: int) -> str:
        """floor(acc * a + 1/2 + delta * sign) + zero, float64."""
        shape = (1, -1, 1, 1)
        scaled = self.node("Mul", [acc, self.constant(y, "a", req.a.reshape(shape), "float64")], y, "p")
        half = self.constant(y, "half", 0.5, "float64")
        if np.any(req.delta):
            sign = self.node("Sign", [acc], y)
            tie = self.node("Mul", [sign, self.constant(y, "delta", req.delta.reshape(shape), "float64")], y, "tie")
            scaled = self.node("Add", [scaled, tie], y, "p")
        scaled = self.node("Add", [scaled, half], y, "p")
        return self._shifted(y, self.node("Floor", [scaled], y, "whole"), zero)

    def _rounded_literally(self, y: str, acc: str, req: Requantization, zero: int) -> str:
        """``Requantization.multiply`` word for word in int64, for multipliers that the float64 form does not cover;
        float64 codes (+128)."""

        def integers(what: str, value: np.ndarray) -> str:
            return self.constant(y, what, value.reshape(1, -1, 1, 1), "int64")

        def halves(product: str, nudge: str, unit: str) -> str:
            """floor((product + nudge) / unit): Mod has the sign of the divisor, subtracting it leaves the multiple."""
            product = node("Add", [product, nudge])
            return node("Div", [node("Sub", [product, node("Mod", [product, unit])]), unit])

        node = partial(self.node, tensor=y)
        whole = self.out.cast(acc, "int64", self.name(y, "acc_int"))
        if req.multiply is multiply_rounding_once:
            nudge, unit = (np.int64(1) << (shift - req.e) for shift in (30, 31))
            once = halves(node("Mul", [whole, integers("m", req.m)]), integers("half", nudge), integers("unit", unit))
            return self._shifted(y, self.out.cast(once, "float64", self.name(y, "rounded")), zero)
        left = integers("left", req.m << np.maximum(req.e, 0))  # x << e, times m
        right, high = np.int64(1) << np.maximum(-req.e, 0), self.constant(y, "high", 1 << 31, "int64")
        high_part = halves(node("Mul", [whole, left]), self.constant(y, "nudge", 1 << 30, "int64"), high)
        nudged = node("Add", [node("Abs", [high_part]), integers("half", right // 2)])
        rounded = node("Mul", [node("Sign", [high_part]), node("Div", [nudged, integers("right", right)])])
        return self._shifted(y, self.out.cast(rounded, "float64", self.name(y, "rounded")), zero)

    def _shifted(self, y: str, value: str, zero: int) -> str:
        return self.node("Add", [value, self.constant(y, "zero", zero, "float64")], y, "shifted")

    def mean(self, total: str, op: Operator, n: int | NDArray[np.int64]) -> None:
        """Make what ``op`` makes of sums s of n codes, or of other numbers of codes at every place: sign(s) * ((abs(s)
        + n // 2) // n), in int64; ``total`` sums codes + 128."""
        y = op.output
        node = partial(self.node, tensor=y)
        total = node("Sub", [total, self.constant(y, "offset", 128 * n, "int64")])
        nudged = node("Add", [node("Abs", [total]), self.constant(y, "half", n // 2, "int64")])
        mean = node("Mul", [node("Sign", [total]), node("Div", [nudged, self.constant(y, "count", n, "int64")])])
        self.finish(node("Add", [mean, self.constant(y, "shift", 128, "int64")]), op)

    def lookup(self, op: Operator, table: NDArray[np.int8], index: str = "") -> None:
        """Make what ``op`` makes by a table of codes; ``index``: of the input's codes, unless another is given."""
        index = index or self.codes(op.inputs[0], "int32")
        codes = (table.astype(np.int16) + 128).astype(np.uint8).ravel()
        self.emit("Gather", [self.constant(op.output, "table", codes, "uint8"), index], op, axis=0)

    def lookup_pairs(self, op: Operator, table: NDArray[np.int8]) -> None:
        """The same by a table (256, 256) of pairs of codes."""
        y, (first, second) = op.output, op.inputs
        rows = self.constant(y, "rows", 256, "int32")
        row = self.node("Mul", [self.codes(first, "int32"), rows], y, "row")
        self.lookup(op, table, self.node("Add", [row, self.codes(second, "int32")], y, "index"))
