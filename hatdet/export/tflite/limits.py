"""What a ``.tflite`` file can carry, and the kernels of the graph's profile can compute with: checked before writing.

A refusal is a :class:`~hatdet.utils.errors.UserError` with the operator's name, what was found and what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hatdet.export.forms import check_ends
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.pairs.sub import SubOp
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.activation_codes import FIXED_OUTPUTS, FUNCTIONS
from hatdet.integer.operators.pointwise.clamp import ClampOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.operators.windows.conv_transpose import ConvTransposeOp
from hatdet.integer.operators.windows.weighted import WeightedOp
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError


def check_graph(graph: IntGraph) -> None:
    """Check every operator; the first one that the file cannot carry exactly is refused."""
    check_ends(graph)
    for op in graph.ops:
        if type(op) in CHECKS:
            CHECKS[type(op)](graph, op)
        graph.profile.check(op, graph.qparams)


def _check_conv(graph: IntGraph, op: WeightedOp) -> None:
    x = graph.qparams(op.input)
    if op.weight.min() < -127:
        raise UserError(
            f"convolution {op.name!r} has a weight of -128; the int8 format allows [-127, 127]: "
            "quantize weights symmetrically"
        )
    _check_limits(graph, op)
    for scale in op.weight_scale:
        if not (np.isfinite(scale) and scale > 0):
            raise UserError(
                f"convolution {op.name!r} has the weight scale {scale}; scales are positive and finite: "
                "train or calibrate the model again"
            )
    if not np.all(bias_scale(x.scale, op.weight_scale) > 0):
        raise UserError(
            f"convolution {op.name!r}: input scale times weight scale underflows float32; are its weights all 0?"
        )


def bias_scale(input_scale: float, weight_scale: np.ndarray) -> np.ndarray:
    """Scales of the int32 bias, Sx * Sw_c rounded to float32 as the file stores them. Shape (O,)."""
    return (np.float32(input_scale) * weight_scale.astype(np.float32)).astype(np.float32)


def _check_activation(graph: IntGraph, op: ActivationOp) -> None:
    if op.function not in FUNCTIONS:
        raise UserError(f"operator {op.name!r}: unknown activation {op.function!r}; use one of {', '.join(FUNCTIONS)}")
    if op.function in FIXED_OUTPUTS:
        _check_fixed_output(op, graph.qparams(op.output))


def _check_fixed_output(op: ActivationOp, y: QuantParams) -> None:
    if y != (demanded := FIXED_OUTPUTS[op.function]):
        raise UserError(f"{op.function} {op.name!r}: its output must be quantized with {demanded}, got {y}")


def _check_limits(graph: IntGraph, op: WeightedOp | AddOp | SubOp | ClampOp) -> None:
    """A file names an activation; the runtime derives the limits. They must be the graph's."""
    y = graph.qparams(op.output)
    derived = graph.profile.limits(op.activation, y)
    if derived != (op.lo, op.hi):
        raise UserError(
            f"operator {op.name!r} clamps its codes to {(op.lo, op.hi)}, but activation {op.activation!r} with {y} "
            f"means {derived}: build the graph with QAT2Int again"
        )


CHECKS: dict[type, Callable[[IntGraph, Any], None]] = {
    ActivationOp: _check_activation,
    AddOp: _check_limits,
    ClampOp: _check_limits,
    ConvOp: _check_conv,
    ConvTransposeOp: _check_conv,
    SubOp: _check_limits,
}
"""By operator: what a file can say. Of those that copy, compare or average codes that is anything."""
