"""How a SavedModel says each operator."""

from __future__ import annotations

import numpy as np

from hatdet.export.float_graph import FloatOp
from hatdet.export.forms import ISLAND, NO_SCALES, Form, Forms, Refusal, by_function
from hatdet.export.savedmodel.network import TensorFlowNetwork as Network
from hatdet.integer.operators.island import FloatOp as IslandOp
from hatdet.integer.operators.layout.channel_order import ChannelOrderOp
from hatdet.integer.operators.layout.concat import ConcatOp
from hatdet.integer.operators.layout.depth_to_space import DepthToSpaceOp
from hatdet.integer.operators.layout.pad import PadOp
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
from hatdet.integer.operators.pointwise.clamp import ClampOp
from hatdet.integer.operators.pointwise.function import FUNCTIONS as REAL_FUNCTIONS
from hatdet.integer.operators.pointwise.function import FunctionOp
from hatdet.integer.operators.pointwise.leaky_relu import LeakyReluOp
from hatdet.integer.operators.pointwise.prelu import PreluOp
from hatdet.integer.operators.pointwise.requantize import RequantizeOp
from hatdet.integer.operators.windows.average_pool import AveragePoolOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.operators.windows.conv_transpose import ConvTransposeOp
from hatdet.integer.operators.windows.global_average_pool import GlobalAveragePoolOp
from hatdet.integer.operators.windows.global_max_pool import GlobalMaxPoolOp
from hatdet.integer.operators.windows.max_pool import MaxPoolOp
from hatdet.integer.operators.windows.window import block_of

LOWEST = float(np.finfo(np.float32).min)


def conv(net: Network, op: FloatOp) -> None:
    assert op.weight is not None and op.bias is not None
    rows, columns = op.padding
    x, tf, stride, dilation, groups = net.source(op), net.tf, op.stride, op.dilation, op.groups
    source = net.padded(x, (rows, rows, columns, columns))
    channels = int(source.shape[3])
    weight = np.ascontiguousarray(op.weight.transpose(2, 3, 1, 0))  # (kh, kw, I / groups, O)
    if groups == channels and groups > 1 and stride[0] == stride[1]:
        kh, kw, _, out = weight.shape
        kernel = weight.reshape(kh, kw, channels, out // channels)
        result = tf.nn.depthwise_conv2d(source, kernel, (1, *stride, 1), "VALID", dilations=dilation)
    else:  # tensorflow's CPU kernels have no groups: one convolution each
        parts = tf.split(source, groups, axis=3) if groups > 1 else [source]
        results = [
            tf.nn.conv2d(part, kernel, (1, *stride, 1), "VALID", dilations=(1, *dilation, 1))
            for part, kernel in zip(parts, np.split(weight, groups, axis=3), strict=True)
        ]
        result = tf.concat(results, axis=3) if groups > 1 else results[0]
    net.emit(op, tf.nn.bias_add(result, op.bias))


def conv_transpose(net: Network, op: FloatOp) -> None:
    """The whole result, of which a part is taken; rows of zeros at the kernel's end make it long enough."""
    assert op.weight is not None and op.bias is not None
    x, (top, left), (rows, columns) = net.source(op), op.padding, net.graph.shapes[op.output][1:]
    zeros = [max(0, more - p) for more, p in zip(op.output_padding, op.padding, strict=True)]
    kernel = np.pad(op.weight, ((0, 0), (0, 0), (0, zeros[0]), (0, zeros[1]))).transpose(2, 3, 0, 1)
    size = [(int(x.shape[i + 1]) - 1) * op.stride[i] + kernel.shape[i] for i in (0, 1)]
    result = net.tf.nn.conv2d_transpose(x, kernel, (1, *size, len(op.bias)), (1, *op.stride, 1), "VALID")
    result = result[:, top : top + rows, left : left + columns]
    net.emit(op, net.tf.nn.bias_add(result, op.bias))


def add(net: Network, op: FloatOp) -> None:
    a, b = net.sources(op)
    net.emit(op, a + b)


def mul(net: Network, op: FloatOp) -> None:
    a, b = net.sources(op)
    net.emit(op, a * b)


def sub(net: Network, op: FloatOp) -> None:
    a, b = net.sources(op)
    net.emit(op, a - b)


def minimum(net: Network, op: FloatOp) -> None:
    net.emit(op, net.tf.minimum(*net.sources(op)))


def maximum(net: Network, op: FloatOp) -> None:
    net.emit(op, net.tf.maximum(*net.sources(op)))


def concat(net: Network, op: FloatOp) -> None:
    net.emit(op, net.tf.concat(net.sources(op), axis=3))


def slice_(net: Network, op: FloatOp) -> None:
    channels, rows, columns = slices(net.graph.shapes[op.inputs[0]], op.begin, op.end, op.stride)
    net.emit(op, net.source(op)[:, rows, columns, channels])


def depth_to_space(net: Network, op: FloatOp) -> None:
    net.emit(op, net.tf.nn.depth_to_space(net.source(op), op.block))


def channel_order(net: Network, op: FloatOp) -> None:
    net.emit(op, net.tf.gather(net.source(op), list(op.channels), axis=3))


def max_pool(net: Network, op: FloatOp) -> None:
    x, (rows, columns) = net.source(op), op.padding
    source = net.padded(x, (rows, rows, columns, columns), LOWEST)
    net.emit(op, net.tf.nn.max_pool2d(source, op.kernel, op.stride, "VALID"))


def average_pool(net: Network, op: FloatOp) -> None:
    padding = "SAME" if any(op.padding) else "VALID"
    net.emit(op, net.tf.nn.avg_pool2d(net.source(op), op.kernel, op.stride, padding))


def global_average_pool(net: Network, op: FloatOp) -> None:
    if op.size == (1, 1):
        return net.emit(op, net.tf.reduce_mean(net.source(op), axis=(1, 2), keepdims=True))
    block = block_of(net.graph.shapes[op.inputs[0]], op.size)
    return net.emit(op, net.tf.nn.avg_pool2d(net.source(op), block, block, "VALID"))


def global_max_pool(net: Network, op: FloatOp) -> None:
    block = block_of(net.graph.shapes[op.inputs[0]], op.size)
    net.emit(op, net.tf.nn.max_pool2d(net.source(op), block, block, "VALID"))


def resize_nearest(net: Network, op: FloatOp) -> None:
    factor = factor_of(net.graph.shapes[op.inputs[0]], op.factor, op.size)
    rows = net.tf.repeat(net.source(op), factor, axis=1)
    net.emit(op, net.tf.repeat(rows, factor, axis=2))


def resize_bilinear(net: Network, op: FloatOp) -> None:
    x, size = net.source(op), list(net.graph.shapes[op.output][1:])
    resize = net.tf.raw_ops.ResizeBilinear
    net.emit(op, resize(images=x, size=size, align_corners=False, half_pixel_centers=True))


def pad(net: Network, op: FloatOp) -> None:
    net.emit(op, net.padded(net.source(op), op.padding))


def clamp(net: Network, op: FloatOp) -> None:
    net.emit(op, net.source(op))


def hardswish(net: Network, op: FloatOp) -> None:
    x = net.source(op)
    net.emit(op, x * net.activated(x, "hardsigmoid"))


def hardsigmoid(net: Network, op: FloatOp) -> None:
    net.emit(op, net.activated(net.source(op), "hardsigmoid"))


def sigmoid(net: Network, op: FloatOp) -> None:
    net.emit(op, net.tf.sigmoid(net.source(op)))


def silu(net: Network, op: FloatOp) -> None:
    x = net.source(op)
    net.emit(op, x * net.tf.sigmoid(x))


def leaky_relu(net: Network, op: FloatOp) -> None:
    net.emit(op, net.tf.nn.leaky_relu(net.source(op), op.slope))


def prelu(net: Network, op: FloatOp) -> None:
    x = net.source(op)
    net.emit(op, net.tf.where(x >= 0, x, x * op.weight))


def elu(net: Network, op: FloatOp) -> None:
    x, tf = net.source(op), net.tf
    net.emit(op, tf.where(x > 0, x, op.numbers[0] * tf.math.expm1(tf.minimum(x, 0.0))))


def mish(net: Network, op: FloatOp) -> None:
    x = net.source(op)
    net.emit(op, x * net.tf.tanh(net.tf.math.softplus(x)))


NO_FUNCTION = Refusal("computes a function that SavedModels of hatdet do not have", "use --format onnx")
BY_FUNCTION: dict[str, Form[Network]] = {
    **dict.fromkeys(REAL_FUNCTIONS, NO_FUNCTION),
    "abs": lambda net, op: net.emit(op, net.tf.abs(net.source(op))),
    "clamp": lambda net, op: net.emit(op, net.limited(net.source(op), *op.numbers)),
    "cos": lambda net, op: net.emit(op, net.tf.cos(net.source(op))),
    "elu": elu,
    "erf": lambda net, op: net.emit(op, net.tf.math.erf(net.source(op))),
    "exp": lambda net, op: net.emit(op, net.tf.exp(net.source(op))),
    "gelu": lambda net, op: net.emit(op, net.tf.nn.gelu(net.source(op))),
    "gelu_tanh": lambda net, op: net.emit(op, net.tf.nn.gelu(net.source(op), approximate=True)),
    "logsigmoid": lambda net, op: net.emit(op, net.tf.math.log_sigmoid(net.source(op))),
    "mish": mish,
    "pow": lambda net, op: net.emit(op, net.tf.pow(net.source(op), op.numbers[0])),
    "selu": lambda net, op: net.emit(op, net.tf.nn.selu(net.source(op))),
    "sin": lambda net, op: net.emit(op, net.tf.sin(net.source(op))),
    "softsign": lambda net, op: net.emit(op, net.tf.nn.softsign(net.source(op))),
    "square": lambda net, op: net.emit(op, net.tf.square(net.source(op))),
}
FUNCTIONS: dict[str, Form[Network]] = {
    "hardsigmoid": hardsigmoid,
    "hardswish": hardswish,
    "sigmoid": sigmoid,
    "silu": silu,
    "tanh": lambda net, op: net.emit(op, net.tf.tanh(net.source(op))),
}

FORMS: Forms[Network] = {
    ActivationOp: by_function(FUNCTIONS),
    AddOp: add,
    AveragePoolOp: average_pool,
    ChannelOrderOp: channel_order,
    ClampOp: clamp,
    ConcatOp: concat,
    ConvOp: conv,
    ConvTransposeOp: conv_transpose,
    DepthToSpaceOp: depth_to_space,
    FunctionOp: by_function(BY_FUNCTION),
    GlobalAveragePoolOp: global_average_pool,
    GlobalMaxPoolOp: global_max_pool,
    IslandOp: ISLAND,
    LeakyReluOp: leaky_relu,
    MaxPoolOp: max_pool,
    MaximumOp: maximum,
    MinimumOp: minimum,
    MulOp: mul,
    PadOp: pad,
    PreluOp: prelu,
    RequantizeOp: NO_SCALES,
    ResizeBilinearOp: resize_bilinear,
    ResizeNearestOp: resize_nearest,
    SliceOp: slice_,
    SubOp: sub,
}
