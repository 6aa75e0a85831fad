"""Chains of views, of which it is known what they do (:mod:`~.movements`), as operators that have integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import fx, nn

from hatdet.integer.operators.layout.slice import FIRST, LAST, Places
from hatdet.quantization.operators.layout.channel_order import ChannelOrder
from hatdet.quantization.operators.layout.depth_to_space import DepthToSpace
from hatdet.quantization.operators.layout.slice import SliceMap
from hatdet.quantization.tracing.recorded import Call, Input, recorded, shapes_of
from hatdet.quantization.tracing.rewriting.movements import Movement, Order, Part, Pool, Shuffle, Unshuffle, fit


class Writer:
    """Writes operators before a node, and lets them take its place.

    Args:
        add: adds a module under a path, and returns the path that it got.
    """

    def __init__(self, traced: fx.GraphModule, node: fx.Node, add: Callable[[str, nn.Module], str]) -> None:
        self.traced, self.node, self.add = traced, node, add
        owners = [str(name) for name in node.meta.get("nn_module_stack") or {}]
        if node.op == "call_module":
            self.path = str(node.target)
        else:
            self.path = f"{owners[-1]}.{node.name}" if owners else node.name

    def write(self, sources: Sequence[fx.Node], seen: Sequence[Movement]) -> fx.Node:
        """What takes the place of the node: a movement, ``seen`` for each of the images."""
        source = sources[0] if len(sources) == 1 else self._joined(list(sources), "_concat")
        movement = seen[0]
        if isinstance(movement, Part):
            made = self._part(source, cast(Sequence[Part], seen))
        elif isinstance(movement, Order):
            made = self._ordered(source, movement.channels, "")
        elif isinstance(movement, Pool):
            mean = movement.function == "mean"
            made = self._module(source, nn.AdaptiveAvgPool2d(1) if mean else nn.AdaptiveMaxPool2d(1), "")
        elif isinstance(movement, Unshuffle):
            made = self._unshuffled(source, movement)
        else:
            made = self._shuffled(source, movement)
        if made is None:
            return self.node
        self.node.replace_all_uses_with(made)
        return made

    def write_gate(self, source: fx.Node) -> None:
        """The first half of the channels times the sigmoid of the second takes the place of the node."""
        half, (begin, end) = (0, 1, shapes_of(source)[0][1] // 2), (FIRST, LAST)
        value = self._slice(source, (FIRST, begin, begin), (half, end, end), (1, 1), "_value")
        gate = self._slice(source, (half, begin, begin), (LAST, end, end), (1, 1), "_gate_input")
        gate = self._module(gate, nn.Sigmoid(), "_gate")
        with self.traced.graph.inserting_before(self.node):
            made = self.traced.graph.create_node("call_function", recorded, (value, gate), name=self.node.name)
        self.node.replace_all_uses_with(self._noted(made, Call("mul", (Input(0), Input(1)), {}), shapes_of(value)))

    def _part(self, source: fx.Node, seen: Sequence[Part]) -> fx.Node | None:
        axes = [fit([part.axes[axis] for part in seen]) for axis in range(3)]
        if None in axes:
            return None
        begin, end, (_, *stride) = zip(*cast(list[tuple[object, object, int]], axes), strict=True)
        return self._slice(source, cast(Places, begin), cast(Places, end), (stride[0], stride[1]), "")

    def _slice(self, source: fx.Node, begin: Places, end: Places, stride: tuple[int, int], what: str) -> fx.Node:
        if (begin, end, stride) == ((FIRST,) * 3, (LAST,) * 3, (1, 1)):
            return source
        return self._module(source, SliceMap(begin, end, stride), what)

    def _ordered(self, source: fx.Node, channels: Sequence[int], what: str) -> fx.Node:
        if list(channels) == list(range(shapes_of(source)[0][1])):
            return source
        return self._module(source, ChannelOrder(channels), what)

    def _unshuffled(self, source: fx.Node, movement: Unshuffle) -> fx.Node:
        """One part for each pixel of the blocks, joined: every target has these operators."""
        places = list(dict.fromkeys((i, k) for _, i, k in movement.pixels))
        parts = [
            self._slice(
                source, (FIRST, (0, 1, i), (0, 1, k)), (LAST, LAST, LAST), movement.block, f"_pixel_{i}_{k}"
            )
            for i, k in places
        ]
        channels = shapes_of(source)[0][1]
        order = [places.index((i, k)) * channels + c for c, i, k in movement.pixels]
        return self._ordered(self._joined(parts, "_concat") if len(parts) > 1 else parts[0], order, "")

    def _shuffled(self, source: fx.Node, movement: Shuffle) -> fx.Node | None:
        height, width = movement.block
        if height != width:
            return None
        order = [channel for line in movement.channels for listed in line for channel in listed]
        return self._module(self._ordered(source, order, "_order"), DepthToSpace(height), "")

    def _module(self, source: fx.Node, module: nn.Module, what: str) -> fx.Node:
        if not what and self.node.op == "call_module":
            self.traced.delete_submodule(self.path)
        with self.traced.graph.inserting_before(self.node):
            made = self.traced.graph.call_module(self.add(f"{self.path}{what}", module), (source,))
        call = Call(type(module).__name__, (Input(0),), {})
        shapes = tuple(tuple(module(torch.empty(shape, device="meta")).shape) for shape in shapes_of(source))
        return self._noted(made, call, shapes)

    def _joined(self, parts: list[fx.Node], what: str) -> fx.Node:
        with self.traced.graph.inserting_before(self.node):
            made = self.traced.graph.create_node(
                "call_function", recorded, tuple(parts), name=f"{self.node.name}{what}"
            )
        call = Call("cat", ([Input(i) for i in range(len(parts))], 1), {})
        columns = zip(*(shapes_of(part) for part in parts), strict=True)
        shapes = tuple((s[0][0], sum(shape[1] for shape in s), *s[0][2:]) for s in columns)
        return self._noted(made, call, shapes)

    def _noted(self, made: fx.Node, call: Call, shapes: tuple[tuple[int, ...], ...]) -> fx.Node:
        made.meta.update(self.node.meta, call=call, shapes=shapes)
        return made
