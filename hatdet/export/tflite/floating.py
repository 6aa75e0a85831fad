"""The float ``.tflite`` writer: a :class:`~hatdet.export.float_graph.FloatGraph` with float32 or float16 weights.

Float16 halves the file: weights are stored in 16 bits behind a DEQUANTIZE each, as TensorFlow Lite's own converter
does it, and everything is computed in float32. A tensor too small for that (:func:`survives_half`) stays as it is.
Activations are NHWC, weights OHWI, depthwise 1HWC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hatdet
from hatdet.export.float_graph import INPUT_NAME, Decoding, FloatGraph, FloatOp
from hatdet.export.metadata import METADATA_NAME
from hatdet.export.tflite.flatbuffer import FlatbufferModel
from hatdet.export.tflite.options import ACTIVATIONS, OperatorOptions, pad_amounts, store_weight
from hatdet.export.tflite.padding import PaddingPlan, plan_padding
from hatdet.utils.errors import UserError

VERSIONS = {"DEPTHWISE_CONV_2D": 2, "DEQUANTIZE": 3}  # dilation; float16 input. All others: 1
FLOAT16_MAX = 65504
FUSED = {"none": "none", "relu": "relu", "relu6": "relu6", "hardsigmoid": "none"}


class BeyondHalf(UserError):
    """A weight that float16 cannot hold."""


def write_float(graph: FloatGraph, metadata: str, half: bool = False) -> bytes:
    """The bytes of the file; the same graph always gives the same ones.

    Args:
        metadata: the text to carry inside.
        half: weights as float16.

    Raises:
        UserError: an operator has no form in the file, or ai-edge-litert is not installed.
    """
    return _FloatWriter(graph, half).run(metadata)


def survives_half(value: NDArray[np.float32]) -> bool:
    """Whether a weight (O, ...) or a bias (O,) keeps some 10 bits in float16: not where a channel of the weight, or the
    whole bias, is so small that its numbers are subnormal there or 0."""
    rows = value.reshape(len(value), -1) if value.ndim > 1 else value.reshape(1, -1)
    with np.errstate(over="ignore"):  # beyond float16: refused by name
        error = np.abs(rows - rows.astype(np.float16).astype(np.float32)).max(1)
    return bool(np.all(error <= np.abs(rows).max(1) * 2.0**-10))


def stored_half(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """A weight (O, ...) or a bias (O,) as a float16 file computes with it."""
    return value.astype(np.float16).astype(np.float32) if survives_half(value) else value


class _FloatWriter:
    """Translates one graph, operator by operator."""

    def __init__(self, graph: FloatGraph, half: bool) -> None:
        self.graph, self.half = graph, half
        self.model = FlatbufferModel(f"hatdet {hatdet.__version__}, {'float16 weights' if half else 'float32'}")
        self.schema = self.model.schema
        self.options = OperatorOptions(self.schema)
        self.names = {name: name for name in graph.shapes}
        if graph.decoding is None:
            self.names.update(zip(graph.outputs, graph.output_names, strict=True))
        self.names[graph.input] = INPUT_NAME
        self.index: dict[str, int] = {}
        self._constants: dict[int, int] = {}

    def run(self, metadata: str) -> bytes:
        self._value(self.graph.input)
        for op in self.graph.ops:
            translate: Callable[[FloatOp], None] | None = getattr(self, f"_{op.kind}", None)
            if translate is None:
                raise UserError(
                    f"operator {op.name!r} of kind {op.kind!r} has no float .tflite form yet; "
                    "use --format onnx, or another layer"
                )
            translate(op)
        self.model.add_metadata(METADATA_NAME, metadata)
        return self.model.finish({INPUT_NAME: self.index[self.graph.input]}, self._outputs())

    def _outputs(self) -> dict[str, int]:
        maps = [self.index[name] for name in self.graph.outputs]
        if self.graph.decoding is not None:
            return self._decoded(maps, self.graph.decoding)
        return dict(zip(self.graph.output_names, maps, strict=True))

    # ---- pieces

    def _value(self, name: str) -> int:
        c, h, w = self.graph.shapes[name]
        self.index[name] = self._tensor(self.names[name], (1, h, w, c))
        return self.index[name]

    def _tensor(self, name: str, shape: tuple[int, ...]) -> int:
        return self.model.tensor(name, shape, "FLOAT32")

    def _add_operator(
        self, code: str, inputs: list[int], output: int, options: Any = None, version: int | None = None
    ) -> None:
        self.model.operator(code, inputs, output, options, version or VERSIONS.get(code, 1))

    def _emit(self, code: str, op: FloatOp, inputs: list[int], options: Any = None, version: int | None = None) -> None:
        """The operator that makes ``op.output``; a hard sigmoid is behind it, since none is built in."""
        output = self._value(op.output)
        if op.arguments.get("activation") != "hardsigmoid":
            return self._add_operator(code, inputs, output, options, version)
        c, h, w = self.graph.shapes[op.output]
        linear = self._tensor(f"{self.names[op.output]}/linear", (1, h, w, c))
        self._add_operator(code, inputs, linear, options, version)
        self._hard_sigmoid(linear, output, self.names[op.output], (1, h, w, c))

    def _hard_sigmoid(self, source: int, output: int, name: str, shape: tuple[int, ...]) -> None:
        """relu6(x + 3) / 6."""
        clamped = self._tensor(f"{name}/ramp", shape)
        options = self.options.add("relu6")
        three, sixth = (np.array([v], np.float32) for v in (3.0, 1.0 / 6.0))
        self._add_operator("ADD", [source, self.model.constant("three", three, "FLOAT32")], clamped, options)
        inputs = [clamped, self.model.constant("sixth", sixth, "FLOAT32")]
        self._add_operator("MUL", inputs, output, self.schema.MulOptionsT())

    def _parameter(self, name: str, value: NDArray[np.float32], half: bool) -> int:
        """A weight or bias in its storage type."""
        if self.half and float(np.abs(value).max()) > FLOAT16_MAX:
            raise BeyondHalf(
                f"{name} reaches {np.abs(value).max():.6g}; float16 ends at {FLOAT16_MAX}: use the float32 or int8 file"
            )
        if not half:
            return self.model.constant(name, value, "FLOAT32")
        stored = self.model.constant(name, value.astype(np.float16), "FLOAT16")
        if stored not in self._constants:
            self._constants[stored] = self._tensor(f"{name}/float32", value.shape)
            self._add_operator("DEQUANTIZE", [stored], self._constants[stored], self.schema.DequantizeOptionsT())
        return self._constants[stored]

    def _padded(self, name: str, plan: PaddingPlan, value: float) -> int:
        """The input of a window operator, padded where SAME does not pad as torch does."""
        if not plan.needs_pad:
            return self.index[name]
        (top, bottom), (left, right) = plan.pad
        c, h, w = self.graph.shapes[name]
        kind = "zero" if value == 0 else "lowest"
        label = f"{self.names[name]}/pad_{kind}_{top}_{bottom}_{left}_{right}"
        if label not in self.index:
            self.index[label] = self._tensor(label, (1, h + top + bottom, w + left + right, c))
            self._pad_into(self.index[name], self.index[label], (top, bottom, left, right), value)
        return self.index[label]

    def _pad_into(self, source: int, output: int, sides: tuple[int, int, int, int], value: float) -> None:
        top, bottom, left, right = sides
        amounts = pad_amounts(top, bottom, left, right)
        inputs = [source, self.model.constant(f"pad_{top}_{bottom}_{left}_{right}", amounts, "INT32")]
        if value == 0:
            return self._add_operator("PAD", inputs, output, self.schema.PadOptionsT())
        inputs.append(self.model.constant("lowest", np.array([value], np.float32), "FLOAT32"))
        self._add_operator("PADV2", inputs, output, self.schema.PadV2OptionsT())

    # ---- operators, by kind

    def _conv(self, op: FloatOp) -> None:
        assert op.weight is not None and op.bias is not None
        arguments = op.arguments
        c, h, w = self.graph.shapes[op.inputs[0]]
        stride, dilation = arguments["stride"], arguments["dilation"]
        plan = plan_padding((h, w), op.weight.shape[2:], stride, arguments["padding"], dilation)
        source = self._padded(op.inputs[0], plan, 0.0)
        stored = store_weight(op.weight, arguments["groups"], c)
        options = self.options.conv(stored, plan.mode, stride, dilation, FUSED[arguments["activation"]])
        inputs = [
            source,
            self._parameter(f"{op.name}/weight", stored.data, self.half and survives_half(op.weight)),
            self._parameter(f"{op.name}/bias", op.bias, self.half and survives_half(op.bias)),
        ]
        self._emit(stored.code, op, inputs, options, stored.version)

    def _add(self, op: FloatOp) -> None:
        options = self.options.add(FUSED[op.arguments.get("activation", "none")])
        self._emit("ADD", op, [self.index[name] for name in op.inputs], options)

    def _mul(self, op: FloatOp) -> None:
        self._emit("MUL", op, [self.index[name] for name in op.inputs], self.schema.MulOptionsT())

    def _concat(self, op: FloatOp) -> None:
        self._emit("CONCATENATION", op, [self.index[name] for name in op.inputs], self.options.concat())

    def _max_pool(self, op: FloatOp) -> None:
        _, h, w = self.graph.shapes[op.inputs[0]]
        kernel, stride = op.arguments["kernel"], op.arguments["stride"]
        plan = plan_padding((h, w), kernel, stride, op.arguments["padding"])
        source = self._padded(op.inputs[0], plan, float(np.finfo(np.float32).min))
        self._emit("MAX_POOL_2D", op, [source], self.options.pool(kernel, stride, plan.mode))

    def _average_pool(self, op: FloatOp) -> None:
        options = self.options.pool(op.arguments["kernel"], op.arguments["stride"])
        self._emit("AVERAGE_POOL_2D", op, [self.index[op.inputs[0]]], options)

    def _global_average_pool(self, op: FloatOp) -> None:
        _, h, w = self.graph.shapes[op.inputs[0]]
        self._emit("AVERAGE_POOL_2D", op, [self.index[op.inputs[0]]], self.options.pool((h, w)))

    def _resize_nearest(self, op: FloatOp) -> None:
        self._resize("RESIZE_NEAREST_NEIGHBOR", op, *self.options.resize_nearest(op.arguments["factor"]))

    def _resize_bilinear(self, op: FloatOp) -> None:
        self._resize("RESIZE_BILINEAR", op, *self.options.resize_bilinear())

    def _resize(self, code: str, op: FloatOp, options: Any, version: int | None) -> None:
        size = np.array(self.graph.shapes[op.output][1:], np.int32)
        inputs = [self.index[op.inputs[0]], self.model.constant(f"{op.name}/size", size, "INT32")]
        self._emit(code, op, inputs, options, version)

    def _pad(self, op: FloatOp) -> None:
        self._pad_into(self.index[op.inputs[0]], self._value(op.output), op.arguments["padding"], 0.0)

    def _clamp(self, op: FloatOp) -> None:
        self._emit(ACTIVATIONS[op.arguments["activation"]], op, [self.index[op.inputs[0]]])

    def _activation(self, op: FloatOp) -> None:
        source, function = self.index[op.inputs[0]], op.arguments["function"]
        c, h, w = self.graph.shapes[op.output]
        if function == "hardswish":
            self._emit("HARD_SWISH", op, [source], self.schema.HardSwishOptionsT())
        elif function == "hardsigmoid":
            self._hard_sigmoid(source, self._value(op.output), self.names[op.output], (1, h, w, c))
        elif function == "sigmoid":
            self._emit("LOGISTIC", op, [source])
        elif function == "silu":
            gate = self._tensor(f"{self.names[op.output]}/sigmoid", (1, h, w, c))
            self._add_operator("LOGISTIC", [source], gate)
            self._emit("MUL", op, [source, gate], self.schema.MulOptionsT())
        else:
            raise UserError(
                f"operator {op.name!r}: the activation {function!r} has no float .tflite form yet; "
                "use --format onnx, or another activation"
            )

    # ---- boxes and scores

    def _decoded(self, maps: list[int], decoding: Decoding) -> dict[str, int]:
        (boxes_name, boxes_shape), (scores_name, scores_shape) = self.graph.file_outputs
        levels = len(maps) // 2
        logits = self._flat(maps[:levels], "logits", scores_shape)
        scores = self._tensor(scores_name, scores_shape)
        self._add_operator("LOGISTIC", [logits], scores)
        distances = self._flat(maps[levels:], "distances", boxes_shape)
        if decoding.exp_on_reg:
            source, distances = distances, self._tensor("distances/exp", boxes_shape)
            self._add_operator("EXP", [source], distances, self.schema.ExpOptionsT())
        scaled = self._tensor("distances/pixels", boxes_shape)
        scale = self.model.constant("strides", decoding.scale, "FLOAT32")
        self._add_operator("MUL", [distances, scale], scaled, self.schema.MulOptionsT())
        boxes = self._tensor(boxes_name, boxes_shape)
        points = self.model.constant("points", decoding.points, "FLOAT32")
        self._add_operator("ADD", [scaled, points], boxes, self.schema.AddOptionsT())
        return {boxes_name: boxes, scores_name: scores}

    def _flat(self, maps: list[int], name: str, shape: tuple[int, ...]) -> int:
        """Maps (1, h, w, c) of all levels as one (1, P, c)."""
        rows = []
        for number, index in enumerate(maps):
            _, h, w, c = (int(n) for n in self.model.tensors[index].shape)
            options = self.schema.ReshapeOptionsT()
            options.newShape = np.array([1, h * w, c], np.int32)
            rows.append(self._tensor(f"{name}/{number}", (1, h * w, c)))
            size = self.model.constant(f"{name}/{number}/shape", options.newShape, "INT32")
            self._add_operator("RESHAPE", [index, size], rows[-1], options)
        joined = self._tensor(name, shape)
        self._add_operator("CONCATENATION", rows, joined, self.options.concat(axis=1))
        return joined
