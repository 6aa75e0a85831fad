"""From the quantized network to the integer graph: the last step in which a float weight exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.table import OP_TYPES
from hatdet.integer.operators.windows.weighted import WeightedOp
from hatdet.integer.tensors import Shape, TensorInfo
from hatdet.quantization.operators.table import FORMS
from hatdet.quantization.qat.agreeing_weights import follow_activations
from hatdet.quantization.qat.fx_adapter import Plan, QuantizedConv2d, Step
from hatdet.quantization.qat.islands import float_operator
from hatdet.quantization.qat.kernel_scales import bound_scales
from hatdet.quantization.qat.network import QuantizedNetwork, quant_params
from hatdet.utils.errors import UserError
from hatdet.utils.finite import refuse_not_finite
from hatdet.utils.input_format import channels_of

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
    bound_scales(network_plan, network.arithmetic)  # the weights may have changed since the last observation
    if network.arithmetic.second is not None:
        follow_activations(network_plan)
    quantizers = network_plan.quantizers
    rename = {network_plan.input: INPUT_NAME}
    if output_names is not None:
        if len(output_names) != len(network_plan.outputs):
            raise ValueError(f"{len(output_names)} output names for {len(network_plan.outputs)} outputs")
        rename.update(zip(network_plan.outputs, output_names, strict=True))
    given = set(rename.values())
    for value in (step.output for step in network_plan.steps):
        if value in given and value not in rename:  # a layer that is called as an output is
            rename[value] = f"{value}@inside"
    tensors: dict[str, TensorInfo] = {}

    def declare(value: str, shape: Shape) -> str:
        name = rename.get(value, value)
        tensors[name] = TensorInfo(name, shape, quant_params(quantizers[value]))
        return name

    first = next(s for s in network_plan.steps if network_plan.input in s.inputs)
    channels = channels_of(str((metadata or {}).get("input_color", "bgr")))
    channels = first.module.in_channels if isinstance(first.module, QuantizedConv2d) else channels
    declare(network_plan.input, (channels, *image_size))
    ops: list[Operator] = []
    arrays: dict[tuple[Any, ...], Array] = {}
    for step in network_plan.steps:
        inputs = [tensors[rename.get(v, v)] for v in step.inputs]
        output = declare(step.output, _shape(step, [t.shape for t in inputs]))
        if step.output in network.islands:
            ops.append(float_operator(step, [t.name for t in inputs], output))
        else:
            ops.append(FORMS[step.kind].lower(step, inputs, tensors[output], arrays, network.profile))
    outputs = tuple(rename.get(v, v) for v in network_plan.outputs)
    known = {"output_names": list(outputs), **(metadata or {}), "profile": network.profile.name}
    if network.arithmetic.second is not None:
        known["second_profile"] = network.arithmetic.second.name
    return IntGraph(tensors, ops, (INPUT_NAME,), outputs, known)


def _shape(step: Step, shapes: list[Shape]) -> Shape:
    try:
        return OP_TYPES[step.kind].shape_of(shapes, step.arguments)
    except ValueError as error:
        raise UserError(f"{step.name}: {error}") from error


def tensor_names(plan: Plan, graph: IntGraph) -> dict[str, str]:
    """The graph's tensor of every value: both are in the order of the steps."""
    return dict(zip([plan.input, *(step.output for step in plan.steps)], graph.tensors, strict=True))


def assert_same_scales(network: QuantizedNetwork, graph: IntGraph) -> int:
    """Check that the graph's scales are the simulation's, bit for bit; returns how many were compared.

    Raises:
        AssertionError: a scale or zero point differs (a fault of hatdet, never of the user).
    """
    for value, name in tensor_names(network.plan, graph).items():
        info, quantizer = graph.tensors[name], network.plan.quantizers[value]
        assert info.qparams == quant_params(quantizer), f"{name}: {info.qparams} is not {quant_params(quantizer)}"
    convs = {s.name: s.module for s in network.plan.steps if isinstance(s.module, QuantizedConv2d)}
    for op in graph.ops:
        if isinstance(op, WeightedOp):
            simulated = convs[op.name].integer_scale().cpu().numpy()
            assert np.array_equal(simulated, op.weight_scale), f"{op.name}: weight scales differ"
    return len(graph.tensors) + len(convs)
