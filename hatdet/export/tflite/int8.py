"""The int8 ``.tflite`` writer: an :class:`~hatdet.integer.graph.IntGraph` as a TensorFlow Lite flatbuffer.

Nothing is re-derived: codes, scales and zero points go into the file as the graph holds them, so the file's reference
arithmetic is the graph's. What a kernel could not compute with is said in another way that gives the same codes:
``arithmetic.stored_weight_scale``, ``activations.gate_input``. Layouts: activations NHWC, weights OHWI (quantized
dimension 0), depthwise 1HWC (dimension 3), bias int32 with the scale Sx * Sw_c. Quantization scheme: "TensorFlow Lite
8-bit quantization specification".
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import hatdet
from hatdet.export.files import sidecar, write_atomic
from hatdet.export.metadata import INPUT_NAME, METADATA_NAME, build_metadata, file_names, output_names, to_json
from hatdet.export.seal import damaged
from hatdet.export.tflite.consistency import check_file
from hatdet.export.tflite.flatbuffer import INT16_VERSIONS, FlatbufferModel, load_schema
from hatdet.export.tflite.limits import bias_scale, check_graph
from hatdet.export.tflite.options import OperatorOptions, pad_amounts, store_weight
from hatdet.export.tflite.padding import PaddingPlan, plan_padding
from hatdet.integer.activations import (
    HARDSIGMOID_WEIGHT,
    HARDSIGMOID_WEIGHT_SCALE,
    UNIT_INTERVAL,
    gate_input,
    hardsigmoid_bias,
)
from hatdet.integer.arithmetic import stored_weight_scale
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
from hatdet.utils.errors import UserError


def write(graph: IntGraph, path: str | os.PathLike[str] | None = None, metadata: dict[str, Any] | None = None) -> bytes:
    """Write ``graph`` as an int8 ``.tflite`` model; the same graph always gives the same bytes.

    Args:
        graph: the integer model; one input, batch 1 in the file.
        path: where to write the model (atomically) and, beside it, ``<stem>.json`` with the metadata. None: bytes only.
        metadata: the detector's own facts (classes, strides, input mean and std); they are added to the graph's.

    Returns:
        The bytes of the model.

    Raises:
        UserError: the format or the reference kernels cannot carry the graph exactly (the operator is named), or
            ai-edge-litert is not installed.
    """
    graph.refuse_islands("a .tflite file")
    check_graph(graph)
    text = to_json(build_metadata(graph, metadata))
    data = _Writer(graph).run(text)
    if path is not None:
        write_atomic(Path(path), data)
        write_atomic(sidecar(Path(path)), text.encode("utf-8"))
    return data


def read_metadata(model: bytes | str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata that :func:`write` put inside a model (bytes or a path).

    Raises:
        UserError: not a TensorFlow Lite model, a damaged one, or one without hatdet's metadata.
    """
    data = model if isinstance(model, bytes) else Path(model).read_bytes()
    check_file(data)
    root = load_schema().Model.GetRootAsModel(data, 0)
    for i in range(root.MetadataLength()):
        entry = root.Metadata(i)
        if entry.Name() == METADATA_NAME.encode():
            content = root.Buffers(entry.Buffer())
            return _parse(content.DataAsNumpy().tobytes() if content.DataLength() else b"")
    raise UserError("the model carries no hatdet metadata; export it with tools/export.py")


def _parse(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise damaged("its metadata cannot be read")
    return found


class _Writer:
    """Translates one graph, operator by operator."""

    def __init__(self, graph: IntGraph) -> None:
        self.graph = graph
        self.model = FlatbufferModel(f"hatdet {hatdet.__version__}, profile {graph.metadata['profile']}")
        self.schema = self.model.schema
        self.options = OperatorOptions(self.schema)
        self.names = file_names(graph)
        self.index: dict[str, int] = {}
        self._padded: dict[tuple[str, PaddingPlan, str], int] = {}
        self._widened: dict[int, int] = {}

    def run(self, metadata: str) -> bytes:
        translate: dict[type, Callable[[Any], None]] = {
            ConvOp: self._conv,
            AddOp: self._add,
            MaxPoolOp: self._max_pool,
            ConcatOp: self._concat,
            ResizeNearestOp: self._resize,
            RequantizeOp: self._requantize,
            GlobalAveragePoolOp: self._global_average_pool,
            MulOp: self._mul,
            ActivationOp: self._activation_function,
            AveragePoolOp: self._average_pool,
            ClampOp: self._clamp,
            PadOp: self._pad_op,
            ResizeBilinearOp: self._resize_bilinear,
        }
        self._activation_tensor(self.graph.inputs[0])
        for op in self.graph.ops:
            if type(op) not in translate:
                raise UserError(f"{op.name!r}: the kind {op.kind!r} has no .tflite form; write one in {__name__}")
            translate[type(op)](op)
        self.model.add_metadata(METADATA_NAME, metadata)
        outputs = {
            name: self.index[tensor] for name, tensor in zip(output_names(self.graph), self.graph.outputs, strict=True)
        }
        return self.model.finish({INPUT_NAME: self.index[self.graph.inputs[0]]}, outputs)

    def _activation_tensor(self, name: str) -> int:
        info = self.graph.tensors[name]
        c, h, w = info.shape
        q, dtype = info.qparams, info.qparams.dtype.upper()
        self.index[name] = self.model.tensor(self.names[name], (1, h, w, c), dtype, _scale(q.scale), q.zero_point)
        return self.index[name]

    def _emit(self, code: str, op: Operator, inputs: list[int], options: Any, version: int | None = None) -> None:
        self.model.operator(code, inputs, self._activation_tensor(op.output), options, version)

    def _pad(self, name: str, plan: PaddingPlan, fill: str) -> int:
        """The tensor ``name``, padded where the plan says so. ``fill``: ``zero`` (real 0) or ``lowest`` (code -128)."""
        if not plan.needs_pad:
            return self.index[name]
        info = self.graph.tensors[name]
        if info.qparams.zero_point == -128:
            fill = "zero"  # real 0 is the lowest code
        key = (name, plan, fill)
        if key in self._padded:
            return self._padded[key]
        (top, bottom), (left, right) = plan.pad
        c, h, w = info.shape
        amounts = pad_amounts(top, bottom, left, right)
        inputs = [self.index[name], self.model.constant(f"{self.names[name]}/paddings", amounts, "INT32")]
        scale, zero = _scale(info.qparams.scale), info.qparams.zero_point
        if fill == "lowest":
            lowest = np.array([-128], dtype=np.int8)
            inputs.append(self.model.constant(f"{self.names[name]}/lowest", lowest, "INT8", scale, zero))
        label = f"{self.names[name]}/pad_{top}_{bottom}_{left}_{right}" + ("" if fill == "zero" else "_lowest")
        out = self.model.tensor(label, (1, h + top + bottom, w + left + right, c), "INT8", scale, zero)
        if fill == "zero":
            self.model.operator("PAD", inputs, out, self.schema.PadOptionsT())
        else:
            self.model.operator("PADV2", inputs, out, self.schema.PadV2OptionsT())
        self._padded[key] = out
        return out

    def _conv(self, op: ConvOp) -> None:
        channels, height, width = self.graph.tensors[op.input].shape
        kernel = (op.weight.shape[2], op.weight.shape[3])
        plan = plan_padding((height, width), kernel, op.stride, op.padding, op.dilation)
        source = self._pad(op.input, plan, "zero")
        stored = store_weight(op.weight, op.groups, channels)
        options = self.options.conv(stored, plan.mode, op.stride, op.dilation, op.activation)
        x, y = self.graph.qparams(op.input), self.graph.qparams(op.output)
        scales = op.weight_scale if y.bits == 16 else stored_weight_scale(x.scale, op.weight_scale, y.scale)
        w = self.model.constant(f"{op.name}/weight", stored.data, "INT8", scales, 0, stored.dimension)
        scale = bias_scale(x.scale, scales)
        version = stored.version
        if y.bits == 16:
            source, version = self._widen(source, op.input), version or INT16_VERSIONS[stored.code]
            b = self.model.constant(f"{op.name}/bias", op.bias.astype(np.int64), "INT64", scale)
        else:
            b = self.model.constant(f"{op.name}/bias", op.bias.astype(np.int32), "INT32", scale)
        self._emit(stored.code, op, [source, w, b], options, version)

    def _widen(self, source: int, name: str) -> int:
        """An int8 tensor in 16 bits, for a convolution to 16 bits: the same scale, zero point 0, so x - Z exactly."""
        if source not in self._widened:
            tensor = self.model.tensors[source]
            scale, shape = _scale(self.graph.qparams(name).scale), tuple(int(n) for n in tensor.shape)
            self._widened[source] = self.model.tensor(f"{tensor.name}/int16", shape, "INT16", scale)
            self.model.operator("QUANTIZE", [source], self._widened[source], self.schema.QuantizeOptionsT())
        return self._widened[source]

    def _add(self, op: AddOp) -> None:
        self._emit("ADD", op, [self.index[op.input1], self.index[op.input2]], self.options.add(op.activation))

    def _max_pool(self, op: MaxPoolOp) -> None:
        _, height, width = self.graph.tensors[op.input].shape
        plan = plan_padding((height, width), op.kernel, op.stride, op.padding)
        options = self.options.pool(op.kernel, op.stride, plan.mode)
        self._emit("MAX_POOL_2D", op, [self._pad(op.input, plan, "lowest")], options)

    def _clamp(self, op: ClampOp) -> None:
        """A pool of single pixels, whose fused activation both reference runtimes compute alike; RELU6 they do not."""
        options = self.options.pool((1, 1), activation=op.activation)
        self._emit("MAX_POOL_2D", op, [self.index[op.input]], options)

    def _average_pool(self, op: AveragePoolOp) -> None:
        self._emit("AVERAGE_POOL_2D", op, [self.index[op.input]], self.options.pool(op.kernel, op.stride))

    def _pad_op(self, op: PadOp) -> None:
        amounts = self.model.constant(f"{op.name}/paddings", pad_amounts(*op.padding), "INT32")
        self._emit("PAD", op, [self.index[op.input], amounts], self.schema.PadOptionsT())

    def _concat(self, op: ConcatOp) -> None:
        self._emit("CONCATENATION", op, [self.index[n] for n in op.input_names], self.options.concat())

    def _resize(self, op: ResizeNearestOp) -> None:
        options, version = self.options.resize_nearest(op.factor)
        self._emit("RESIZE_NEAREST_NEIGHBOR", op, self._with_size(op), options, version)

    def _resize_bilinear(self, op: ResizeBilinearOp) -> None:
        options, version = self.options.resize_bilinear()
        self._emit("RESIZE_BILINEAR", op, self._with_size(op), options, version)

    def _with_size(self, op: ResizeNearestOp | ResizeBilinearOp) -> list[int]:
        size = np.array(self.graph.tensors[op.output].shape[1:], dtype=np.int32)
        return [self.index[op.input], self.model.constant(f"{op.name}/size", size, "INT32")]

    def _requantize(self, op: RequantizeOp) -> None:
        self._emit("QUANTIZE", op, [self.index[op.input]], self.schema.QuantizeOptionsT())

    def _global_average_pool(self, op: GlobalAveragePoolOp) -> None:
        _, height, width = self.graph.tensors[op.input].shape
        self._emit("AVERAGE_POOL_2D", op, [self.index[op.input]], self.options.pool((height, width)))

    def _mul(self, op: MulOp) -> None:
        self._emit("MUL", op, [self.index[op.input1], self.index[op.input2]], self.schema.MulOptionsT())

    def _activation_function(self, op: ActivationOp) -> None:
        source = self.index[op.input]
        if op.function == "hardswish":
            self._emit("HARD_SWISH", op, [source], self.schema.HardSwishOptionsT())
            return
        if op.function == "hardsigmoid":
            self._hardsigmoid(op)
            return
        x = self.graph.qparams(op.input)
        read = source if gate_input(x) == x else self._requantized(op, gate_input(x))
        if op.function == "sigmoid":
            self._emit("LOGISTIC", op, [read], None)
        else:
            gate = self._like_input(op, "sigmoid", UNIT_INTERVAL)
            self.model.operator("LOGISTIC", [read], gate, None)
            self._emit("MUL", op, [source, gate], self.schema.MulOptionsT())

    def _like_input(self, op: ActivationOp, what: str, q: QuantParams) -> int:
        """Another tensor of the input's shape, named after the output."""
        c, h, w = self.graph.tensors[op.input].shape
        return self.model.tensor(f"{self.names[op.output]}/{what}", (1, h, w, c), "INT8", _scale(q.scale), q.zero_point)

    def _requantized(self, op: ActivationOp, q: QuantParams) -> int:
        """The input in another quantization, which the kernel of a gate can compute with."""
        out = self._like_input(op, "gate_input", q)
        self.model.operator("QUANTIZE", [self.index[op.input]], out, self.schema.QuantizeOptionsT())
        return out

    def _hardsigmoid(self, op: ActivationOp) -> None:
        """x / 6 + 1/2 as a depthwise convolution; its output saturates at 0 and 255/256."""
        x = self.graph.tensors[op.input]
        channels = x.shape[0]
        scale = np.full(channels, HARDSIGMOID_WEIGHT_SCALE, dtype=np.float32)
        scale = stored_weight_scale(x.qparams.scale, scale, UNIT_INTERVAL.scale)
        weight = np.full((channels, 1, 1, 1), HARDSIGMOID_WEIGHT, dtype=np.int8)
        stored = store_weight(weight, channels, channels)
        bias = np.full(channels, hardsigmoid_bias(x.qparams), dtype=np.int32)
        w = self.model.constant(f"{op.name}/weight", stored.data, "INT8", scale, 0, stored.dimension)
        b = self.model.constant(f"{op.name}/bias", bias, "INT32", bias_scale(x.qparams.scale, scale))
        options = self.options.conv(stored, "VALID", (1, 1), (1, 1), "none")
        self._emit(stored.code, op, [self.index[op.input], w, b], options)


def _scale(value: float) -> np.ndarray:
    return np.array([value], dtype=np.float32)
