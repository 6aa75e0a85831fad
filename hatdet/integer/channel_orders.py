"""Orders of channels that cost nothing: gone into the weights of the convolutions before or behind them.

A convolution makes its outputs in any order, and reads its inputs in any order, when its weights are put in that order;
what treats all channels alike may stand between. The integers are the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.layout.channel_order import ChannelOrderOp
from hatdet.integer.tensors import TensorInfo

Changes = dict[str, Operator]
"""Operators that take the place of others, by what these make."""


def fold_orders(graph: IntGraph) -> IntGraph:
    """The same network without the orders of channels that convolutions can take in; outputs keep their names."""
    for order in graph.ops:
        if isinstance(order, ChannelOrderOp):
            folding = _Folding(graph, order)
            if (folded := folding.before() or folding.behind()) is not None:
                return fold_orders(folded)
    return graph


@dataclass
class _Folding:
    graph: IntGraph
    order: ChannelOrderOp

    def readers(self, tensor: str) -> list[Operator]:
        return [op for op in self.graph.ops if tensor in op.inputs]

    def before(self) -> IntGraph | None:
        """With the order taken in by the operator that makes its input, or by one further up."""
        made = {op.output: op for op in self.graph.ops}
        changes: Changes = {}
        channels, tensor = self.order.channels, self.order.input
        while True:
            source = made.get(tensor)
            if source is None or tensor in self.graph.outputs or len(self.readers(tensor)) > 1:
                return None
            if (last := source.with_outputs(channels)) is not None:
                changes[tensor] = last
                break
            if (between := source.reordered(channels)) is None:
                return None
            changes[tensor], tensor = between, source.inputs[0]
        tensors = {name: self._resized(info, name in changes) for name, info in self.graph.tensors.items()}
        first = self.order.input
        changes[first] = _with(changes[first], output=self.order.output)
        return self._changed(changes, tensors, first)

    def behind(self) -> IntGraph | None:
        """With the order taken in by all that reads its output, or by what reads that."""
        channels, output = self.order.channels, self.order.output
        if sorted(channels) != list(range(self.graph.tensors[self.order.input].shape[0])):
            return None
        changes = self._taken_in(output, channels, sorted(range(len(channels)), key=channels.__getitem__))
        if changes is None:
            return None
        for reader in self.readers(output):
            changes[reader.output] = _with(changes[reader.output], input=self.order.input)
        return self._changed(changes, dict(self.graph.tensors), output)

    def _taken_in(self, tensor: str, channels: Sequence[int], back: Sequence[int]) -> Changes | None:
        """What reads ``tensor``, for a tensor whose channels are not yet in the order; ``back`` undoes it."""
        if tensor in self.graph.outputs:
            return None
        changes: Changes = {}
        for reader in self.readers(tensor):
            if (last := reader.with_inputs(channels)) is not None:
                changes[reader.output] = last
                continue
            if (between := reader.reordered(back)) is None:
                return None
            if (behind := self._taken_in(reader.output, channels, back)) is None:
                return None
            changes |= {reader.output: between, **behind}
        return changes

    def _resized(self, info: TensorInfo, changes: bool) -> TensorInfo:
        shape = (len(self.order.channels), *info.shape[1:]) if changes else info.shape
        return replace(info, shape=shape)

    def _changed(self, changes: Changes, tensors: dict[str, TensorInfo], gone: str) -> IntGraph:
        del tensors[gone]
        ops = [changes.get(op.output, op) for op in self.graph.ops if op is not self.order]
        return IntGraph(tensors, ops, self.graph.inputs, self.graph.outputs, self.graph.metadata)


def _with(op: Operator, **names: str) -> Operator:
    changed: Any = op
    made: Operator = replace(changed, **names)
    return made
