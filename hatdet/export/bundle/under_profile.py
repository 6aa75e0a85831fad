"""A file's graph as the kernels of another profile compute it: which codes a device gives that has other kernels.

A file is written for one profile. Runtimes with other kernels read the same file: limits that it names as an activation
they derive in their own way, limits that it holds as constants they take over, and so a gate's requantized input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hatdet.export.tflite.options import ACTIVATIONS
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.pairs.mul import MulOp
from hatdet.integer.operators.pairs.sub import SubOp
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.activation_codes import UNIT_INTERVAL
from hatdet.integer.operators.pointwise.clamp import ClampOp
from hatdet.integer.operators.pointwise.requantize import RequantizeOp
from hatdet.integer.operators.windows.conv_transpose import ConvTransposeOp
from hatdet.integer.operators.windows.weighted import WeightedOp
from hatdet.integer.profile import Profile
from hatdet.integer.tensors import QuantParams, TensorInfo
from hatdet.utils.errors import UserError

GATES = ("sigmoid", "silu", "tanh")
"""Functions whose kernel reads what ``Profile.gate_input`` says."""


def under(graph: IntGraph, profile: Profile) -> IntGraph:
    """The graph whose codes in ``profile`` are those of that profile's kernels on the file of ``graph``.

    Operators that a file says in several steps may be these steps here; all tensors of ``graph`` are there.

    Raises:
        UserError: the profile does not say what its kernels make of an operator, which is named.
    """
    tensors = dict(graph.tensors)
    ops = [_limited(step, graph, profile) for op in graph.ops for step in _said(op, graph, tensors)]
    made = IntGraph(tensors, ops, graph.inputs, graph.outputs, {**graph.metadata, "profile": profile.name})
    for op in ops:
        _check_gate(op, made, profile)
        profile.check(op, made.qparams)
    return made


def _said(op: Operator, graph: IntGraph, tensors: dict[str, TensorInfo]) -> Iterator[Operator]:
    """An operator in the steps in which the file has it, as far as another profile has them otherwise."""
    if not isinstance(op, ActivationOp) or op.function not in GATES:
        yield op
        return
    x, shape = graph.qparams(op.input), graph.tensors[op.input].shape
    read = graph.profile.gate_input(x, op.function)
    if read == x:
        yield op
        return

    def value(what: str, q: QuantParams) -> str:
        name = f"{op.output}/{what}"
        tensors[name] = TensorInfo(name, shape, q)
        return name

    yield RequantizeOp(f"{op.name}/gate_input", op.input, requantized := value("gate_input", read))
    if op.function != "silu":
        yield replace(op, input=requantized)
        return
    yield ActivationOp(f"{op.name}/sigmoid", requantized, gate := value("sigmoid", UNIT_INTERVAL), "sigmoid")
    yield MulOp(op.name, op.input, gate, op.output)


def _limited(op: Any, graph: IntGraph, profile: Profile) -> Operator:
    """An operator with the limits that the profile's kernels derive from the activation that the file names."""
    if not isinstance(op, (AddOp, ClampOp, SubOp, WeightedOp)) or op.activation not in ACTIVATIONS:
        return op  # type: ignore[no-any-return]
    y = graph.qparams(op.output)
    if isinstance(op, ConvTransposeOp) and (op.lo, op.hi) == (y.lowest, y.highest):
        return op  # its activation is an operator behind it, which the file then lacks
    lo, hi = profile.limits(op.activation, y)
    data: Any = op
    return replace(data, lo=lo, hi=hi)  # type: ignore[no-any-return]


def _check_gate(op: Operator, graph: IntGraph, profile: Profile) -> None:
    """Refuse a gate that reads what the profile would have requantized for its kernels."""
    if isinstance(op, ActivationOp) and op.function in GATES:
        x = graph.qparams(op.input)
        if profile.gate_input(x, op.function) != x:
            raise UserError(
                f"operator {op.name!r}: its {op.function} reads {x}, with which not all {profile.kernels} compute "
                f"alike; train or calibrate with arithmetic={profile.name!r}"
            )
