"""From the quantized network to the integer graph: the last step in which a float weight exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer.arithmetic import activation_limits
from hatdet.integer.graph import (
    ActivationOp,
    AddOp,
    AveragePoolOp,
    ClampOp,
    ConcatOp,
    ConvOp,
    GlobalAveragePoolOp,
    IntGraph,
    IntOp,
    MaxPoolOp,
    MulOp,
    PadOp,
    RequantizeOp,
    ResizeBilinearOp,
    ResizeNearestOp,
    TensorInfo,
)
from hatdet.integer.kernels import conv_output_size
from hatdet.quantization.qat.fx_adapter import QuantizedConv2d, Step
from hatdet.quantization.qat.islands import float_operator
from hatdet.quantization.qat.kernel_scales import bound_scales
from hatdet.quantization.qat.network import QuantizedNetwork, quant_params
from hatdet.quantization.qat.quantized_conv import integer_parameters
from hatdet.utils.errors import UserError
from hatdet.utils.finite import refuse_not_finite
from hatdet.utils.input_format import channels_of

Shape = tuple[int, int, int]
Array = NDArray[Any]
INPUT_NAME = "images"


def lower(
    network: QuantizedNetwork,
    image_size: tuple[int, int],
    output_names: Sequence[str] | None = None,
    metadata: dict[str, Any] | None = None,
) -> IntGraph:
    """Lower a calibrated network for images of ``image_size`` (h, w). The convolution that reads the image says how
    many channels that has; where none does, ``input_color`` in the metadata.

    Args:
        output_names: names of the outputs, in order; by default the network's own.
        metadata: goes into ``IntGraph.metadata`` beside the profile.

    Raises:
        ValueError: the network is not calibrated, or the sizes of two joined tensors differ.
    """
    if not network.calibrated:
        raise UserError("the network has no activation ranges yet: run the calibration stage (or QAT) first")
    network_plan = network.plan
    advice = "such a model has no integers; take an earlier checkpoint, or train again with a lower learning rate"
    refuse_not_finite(network.state_dict(), "weights or ranges", advice)
    bound_scales(network_plan)  # the weights may have changed since the last observation
    quantizers = network_plan.quantizers
    rename = {network_plan.input: INPUT_NAME}
    if output_names is not None:
        if len(output_names) != len(network_plan.outputs):
            raise ValueError(f"{len(output_names)} output names for {len(network_plan.outputs)} outputs")
        rename.update(zip(network_plan.outputs, output_names, strict=True))
    tensors: dict[str, TensorInfo] = {}

    def declare(value: str, shape: Shape) -> str:
        name = rename.get(value, value)
        tensors[name] = TensorInfo(name, shape, quant_params(quantizers[value]))
        return name

    first = next(s for s in network_plan.steps if network_plan.input in s.inputs)
    channels = channels_of(str((metadata or {}).get("input_color", "bgr")))
    channels = first.module.in_channels if isinstance(first.module, QuantizedConv2d) else channels
    declare(network_plan.input, (channels, *image_size))
    ops: list[IntOp] = []
    shared: dict[tuple[Any, ...], Array] = {}
    for step in network_plan.steps:
        inputs = [tensors[rename.get(v, v)] for v in step.inputs]
        output = declare(step.output, _shape(step, [t.shape for t in inputs]))
        if step.output in network.islands:
            ops.append(float_operator(step, [t.name for t in inputs], output))
        else:
            ops.append(_operator(step, inputs, tensors[output], shared))
    outputs = tuple(rename.get(v, v) for v in network_plan.outputs)
    return IntGraph(tensors, ops, (INPUT_NAME,), outputs, {"output_names": list(outputs), **(metadata or {})})


def _shape(step: Step, shapes: list[Shape]) -> Shape:
    channels, height, width = shapes[0]
    if step.kind == "conv":
        conv = step.module
        assert isinstance(conv, QuantizedConv2d)
        sizes = [
            conv_output_size(
                n, int(conv.kernel_size[i]), int(conv.stride[i]), int(conv.padding[i]), int(conv.dilation[i])
            )  # type: ignore[arg-type]
            for i, n in enumerate((height, width))
        ]
        return conv.out_channels, sizes[0], sizes[1]
    if step.kind == "concat":
        if len({s[1:] for s in shapes}) != 1:
            raise ValueError(
                f"{step.name}: tensors of sizes {[s[1:] for s in shapes]} cannot be joined; the image size must be a "
                "multiple of the largest stride"
            )
        return sum(s[0] for s in shapes), height, width
    if step.kind == "add":
        if shapes[0] != shapes[1]:
            raise ValueError(f"{step.name}: cannot add tensors of shapes {shapes[0]} and {shapes[1]}")
        return shapes[0]
    if step.kind == "max_pool":
        a = step.arguments
        sizes = [
            conv_output_size(n, a["kernel"][i], a["stride"][i], a["padding"][i]) for i, n in enumerate((height, width))
        ]
        return channels, sizes[0], sizes[1]
    if step.kind == "mul":
        large, small = sorted(shapes, key=lambda s: -s[1] * s[2])
        if small not in (large, (large[0], 1, 1)):
            raise ValueError(
                f"{step.name}: cannot multiply tensors of shapes {shapes[0]} and {shapes[1]}; use equal shapes, or one "
                "factor for each channel"
            )
        return large
    if step.kind in ("activation", "requantize", "clamp"):
        return shapes[0]
    if step.kind == "global_average_pool":
        return channels, 1, 1
    if step.kind == "average_pool":
        a = step.arguments
        sizes = [conv_output_size(n, a["kernel"][i], a["stride"][i], 0) for i, n in enumerate((height, width))]
        return channels, sizes[0], sizes[1]
    if step.kind == "pad":
        top, bottom, left, right = step.arguments["padding"]
        return channels, height + top + bottom, width + left + right
    assert step.kind in ("resize_nearest", "resize_bilinear"), step.kind
    factor = step.arguments["factor"]
    return channels, height * factor, width * factor


_UNARY: dict[str, Any] = {
    cls.kind: cls for cls in (MaxPoolOp, AveragePoolOp, GlobalAveragePoolOp, ResizeNearestOp, ResizeBilinearOp, PadOp)
}


def _conv(step: Step, x: TensorInfo, y: TensorInfo, shared: dict[tuple[Any, ...], Array]) -> ConvOp:
    """A convolution; calls of one module share their arrays, which ``shared`` holds by content."""
    conv = step.module
    assert isinstance(conv, QuantizedConv2d)
    conv.observe_weight()

    def array(value: Tensor, dtype: type[np.generic]) -> Array:
        made = value.detach().cpu().numpy().astype(dtype)
        return shared.setdefault((made.shape, dtype, made.tobytes()), made)

    weight, bias = integer_parameters(conv, x.qparams.scale)
    lo, hi = activation_limits(conv.integer_activation, y.qparams.scale, y.qparams.zero_point, y.qparams.bits)
    return ConvOp(
        step.name, x.name, y.name, array(weight, np.int8), array(bias, np.int32),
        array(conv.integer_scale(), np.float32), _pair(conv.stride), _pair(conv.padding), _pair(conv.dilation),
        conv.groups, conv.integer_activation, lo, hi,
    )  # fmt: skip


def _operator(step: Step, inputs: list[TensorInfo], output: TensorInfo, shared: dict[tuple[Any, ...], Array]) -> IntOp:
    if step.kind == "conv":
        return _conv(step, inputs[0], output, shared)
    first = inputs[0].name
    if step.kind in ("add", "clamp"):
        activation, y = step.arguments["activation"], output.qparams
        limits = activation_limits(activation, y.scale, y.zero_point)
        if step.kind == "clamp":
            return ClampOp(step.name, first, output.name, activation, *limits)
        return AddOp(step.name, first, inputs[1].name, output.name, activation, *limits)
    if step.kind == "mul":
        large, small = sorted(inputs, key=lambda t: -t.shape[1] * t.shape[2])
        return MulOp(step.name, large.name, small.name, output.name)
    if step.kind == "activation":
        return ActivationOp(step.name, first, output.name, step.arguments["function"])
    if step.kind == "requantize":
        return RequantizeOp(step.name, first, output.name)
    if step.kind == "concat":
        return ConcatOp(step.name, tuple(t.name for t in inputs), output.name)
    made: IntOp = _UNARY[step.kind](step.name, first, output.name, **step.arguments)
    return made


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[1]))


def assert_same_scales(network: QuantizedNetwork, graph: IntGraph) -> int:
    """Check that the graph's scales are the simulation's, bit for bit; returns how many were compared.

    Raises:
        AssertionError: a scale or zero point differs (a fault of hatdet, never of the user).
    """
    tensors = {INPUT_NAME: network.plan.input}
    tensors.update(zip(graph.outputs, network.plan.outputs, strict=True))
    for name, info in graph.tensors.items():
        quantizer = network.plan.quantizers[tensors.get(name, name)]
        assert info.qparams == quant_params(quantizer), f"{name}: {info.qparams} is not {quant_params(quantizer)}"
    convs = {s.name: s.module for s in network.plan.steps if isinstance(s.module, QuantizedConv2d)}
    for op in graph.ops:
        if isinstance(op, ConvOp):
            simulated = convs[op.name].integer_scale().cpu().numpy()
            assert np.array_equal(simulated, op.weight_scale), f"{op.name}: weight scales differ"
    return len(graph.tensors) + len(convs)
