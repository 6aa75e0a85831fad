"""Forms that the int8 and the float ``.tflite`` file share: operators without numbers of their own.

``op`` is an integer operator or a float one: their settings have the same names.
"""

from __future__ import annotations

from hatdet.export.float_graph import FloatOp
from hatdet.export.tflite.flatbuffer import HALF_PIXEL_VERSION
from hatdet.export.tflite.options import pool_settings
from hatdet.export.tflite.padding import plan_padding
from hatdet.export.tflite.writer import TfliteWriter
from hatdet.integer.operators.layout.concat import ConcatOp
from hatdet.integer.operators.layout.resize_bilinear import ResizeBilinearOp
from hatdet.integer.operators.layout.resize_nearest import ResizeNearestOp
from hatdet.integer.operators.layout.resizing import factor_of
from hatdet.integer.operators.layout.slice import SliceOp, slices
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.pairs.maximum import MaximumOp
from hatdet.integer.operators.pairs.minimum import MinimumOp
from hatdet.integer.operators.pairs.mul import MulOp
from hatdet.integer.operators.pairs.sub import SubOp
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.leaky_relu import LeakyReluOp
from hatdet.integer.operators.windows.average_pool import AveragePoolOp
from hatdet.integer.operators.windows.global_average_pool import GlobalAveragePoolOp
from hatdet.integer.operators.windows.global_max_pool import GlobalMaxPoolOp
from hatdet.integer.operators.windows.max_pool import MaxPoolOp
from hatdet.integer.operators.windows.window import Pair, block_of


def add(writer: TfliteWriter, op: AddOp | FloatOp) -> None:
    writer.emit("ADD", op, fusedActivationFunction=op.activation)


def sub(writer: TfliteWriter, op: SubOp | FloatOp) -> None:
    writer.emit("SUB", op, fusedActivationFunction=op.activation)


def minimum(writer: TfliteWriter, op: MinimumOp | FloatOp) -> None:
    writer.emit("MINIMUM", op)


def maximum(writer: TfliteWriter, op: MaximumOp | FloatOp) -> None:
    writer.emit("MAXIMUM", op)


def mul(writer: TfliteWriter, op: MulOp | FloatOp) -> None:
    writer.emit("MUL", op)


def concat(writer: TfliteWriter, op: ConcatOp | FloatOp) -> None:
    writer.emit("CONCATENATION", op, axis=3)


def max_pool(writer: TfliteWriter, op: MaxPoolOp | FloatOp) -> None:
    plan = plan_padding(writer.shapes[op.inputs[0]][1:], op.kernel, op.stride, op.padding)
    source = writer.padded(op.inputs[0], plan, "lowest")
    writer.emit("MAX_POOL_2D", op, [source], **pool_settings(op.kernel, op.stride, plan.mode))


def average_pool(writer: TfliteWriter, op: AveragePoolOp | FloatOp) -> None:
    writer.emit("AVERAGE_POOL_2D", op, **pool_settings(op.kernel, op.stride, "SAME" if any(op.padding) else "VALID"))


def global_average_pool(writer: TfliteWriter, op: GlobalAveragePoolOp | FloatOp) -> None:
    block = block_of(writer.shapes[op.inputs[0]], op.size)
    writer.emit("AVERAGE_POOL_2D", op, **pool_settings(block, _between(block, op.size)))


def global_max_pool(writer: TfliteWriter, op: GlobalMaxPoolOp | FloatOp) -> None:
    block = block_of(writer.shapes[op.inputs[0]], op.size)
    writer.emit("MAX_POOL_2D", op, **pool_settings(block, _between(block, op.size)))


def _between(block: Pair, count: Pair) -> Pair:
    """The stride from block to block; where there is one, any will do: the least, which all targets have."""
    rows, columns = (b if n > 1 else 1 for b, n in zip(block, count, strict=True))
    return rows, columns


def resize_nearest(writer: TfliteWriter, op: ResizeNearestOp | FloatOp) -> None:
    """The kernel multiplies by the float32 ratio 1 / factor: exact for powers of two; others keep off integers."""
    factor = factor_of(writer.shapes[op.inputs[0]], op.factor, op.size)
    inexact = factor & (factor - 1) != 0
    version = HALF_PIXEL_VERSION if inexact else None
    writer.emit("RESIZE_NEAREST_NEIGHBOR", op, _with_size(writer, op), version, halfPixelCenters=inexact)


def resize_bilinear(writer: TfliteWriter, op: ResizeBilinearOp | FloatOp) -> None:
    """Half pixel centres, as torch has them with align_corners=False."""
    writer.emit("RESIZE_BILINEAR", op, _with_size(writer, op), HALF_PIXEL_VERSION, halfPixelCenters=True)


def _with_size(writer: TfliteWriter, op: ResizeNearestOp | ResizeBilinearOp | FloatOp) -> list[int]:
    return [*writer.sources(op), writer.integers(f"{op.name}/size", writer.shapes[op.output][1:])]


def slice_(writer: TfliteWriter, op: SliceOp | FloatOp) -> None:
    channels, rows, columns = slices(writer.shapes[op.inputs[0]], op.begin, op.end, op.stride)
    axes = [slice(0, 1), rows, columns, channels]
    names = ("begin", "end", "strides")
    values = ([a.start for a in axes], [a.stop for a in axes], [1, *op.stride, 1])
    numbers = [writer.integers(f"{op.name}/{name}", value) for name, value in zip(names, values, strict=True)]
    writer.emit("STRIDED_SLICE", op, [*writer.sources(op), *numbers])


def hardswish(writer: TfliteWriter, op: ActivationOp | FloatOp) -> None:
    writer.emit("HARD_SWISH", op)


def leaky_relu(writer: TfliteWriter, op: LeakyReluOp | FloatOp) -> None:
    writer.emit("LEAKY_RELU", op, alpha=op.slope)
