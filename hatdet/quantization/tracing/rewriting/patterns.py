"""Chains of views as the operators that they are: a forward writes ``x.view(...).transpose(1, 2).reshape(...)``, and
means a shuffle of channels.

A chain begins at maps and ends at maps; what is no map in between belongs to it. What it does is seen by running it on
numbers (:mod:`~.movements`), not by its spelling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, fx, nn

from hatdet.quantization.tracing.applied import Sized
from hatdet.quantization.tracing.passing import reaches_beyond
from hatdet.quantization.tracing.recorded import Call, Input, as_map, drop_unread, shapes_of
from hatdet.quantization.tracing.rewriting.movements import Movement, Part, movement_of, pooling_of
from hatdet.quantization.tracing.rewriting.moving import Writer

MOVES = frozenset(
    "view view_as reshape reshape_as flatten unflatten transpose permute swapaxes swapdims movedim moveaxis squeeze "
    "unsqueeze getitem chunk unsafe_chunk split unsafe_split split_with_sizes unsafe_split_with_sizes tensor_split "
    "narrow select unbind contiguous clone index_select stack flip roll pixel_shuffle pixel_unshuffle channel_shuffle "
    "native_channel_shuffle PixelShuffle PixelUnshuffle ChannelShuffle Flatten Unflatten repeat tile "
    "repeat_interleave hsplit dsplit unfold fold Unfold Fold".split()
)
"""What only moves values."""

REDUCTIONS = frozenset(
    "mean amax max adaptive_avg_pool1d adaptive_max_pool1d AdaptiveAvgPool1d AdaptiveMaxPool1d avg_pool1d "
    "max_pool1d".split()
)
"""What may be a step on the way to the mean or the maximum of whole maps."""

_COPYING = {"view": Tensor.reshape, "view_as": Tensor.reshape_as}
"""For what wants memory in some order, which the numbers that are moved here have not."""

Add = Callable[[str, nn.Module], str]
Values = dict[fx.Node, Any]


class _Unclear(Exception):
    """A chain that holds for the images that were seen, and maybe for no others."""


@dataclass(frozen=True)
class Chain:
    """What leads from ``sources``, maps of one size, to the maps that ``end`` makes.

    Attributes:
        modules: those of the nodes that are modules.
    """

    end: fx.Node
    sources: tuple[fx.Node, ...]
    modules: dict[fx.Node, nn.Module]

    def movement(self, image: int) -> Movement | None:
        """What it does to the maps that one of the images gave, the sources one behind the other along channels."""
        shapes = [shapes_of(source)[image] for source in self.sources]
        first, channels = shapes[0], [shape[1] for shape in shapes]
        if any((shape[0], *shape[2:]) != (first[0], *first[2:]) for shape in shapes):
            return None

        def run(x: Tensor) -> Tensor:
            parts = zip(self.sources, x.split(channels, 1), strict=True)
            values: Values = {source: part.reshape(source.meta["shapes"][image]) for source, part in parts}
            made = cast(Tensor, self._value(self.end, image, values))
            return made.reshape(as_map(made.shape))

        read = pooling_of if self.reduces else movement_of
        try:
            return read(run, (first[0], sum(channels), *first[2:]))
        except (_Unclear, IndexError, RuntimeError, TypeError, ValueError):  # what no numbers of ours go through
            return None

    @property
    def reduces(self) -> bool:
        """Whether it does more than move values."""
        waiting, reduces = [self.end], False
        while waiting:
            node = waiting.pop()
            reduces |= node.meta["call"].op in REDUCTIONS
            waiting += [cast(fx.Node, n) for n in node.args if n not in self.sources]
        return reduces

    def _value(self, node: fx.Node, image: int, known: Values) -> Any:
        if node not in known:
            inputs = [self._value(cast(fx.Node, n), image, known) for n in node.args]
            call: Call = node.meta["call"]
            args, kwargs = (_filled(part, inputs, image) for part in (call.args, call.kwargs))
            if reaches_beyond(call.op, args):
                raise _Unclear
            function = self.modules[node] if node in self.modules else _COPYING.get(call.op, call.function)
            known[node] = function(*args, **kwargs)
        return known[node]


def _filled(value: Any, inputs: list[Any], image: int) -> Any:
    """An argument as it was for one of the images."""
    if isinstance(value, Input):
        return inputs[value.index]
    if isinstance(value, Sized):
        return value.seen[image]
    if isinstance(value, dict):
        return {key: _filled(v, inputs, image) for key, v in value.items()}
    if isinstance(value, (tuple, list)):
        made = [_filled(v, inputs, image) for v in value]
        return made if isinstance(value, list) else tuple(made)
    return value


def recognise(traced: fx.GraphModule, add: Add) -> None:
    """Put operators in the place of chains of views that are such; others stay, and are refused by name.

    Args:
        add: adds a module under a path, and returns the path that it got.
    """
    moving = {node for node in traced.graph.nodes if _moves(node)}
    modules = {node: traced.get_submodule(str(node.target)) for node in moving if node.op == "call_module"}
    found: dict[fx.Node, tuple[Chain, list[Movement]]] = {}
    for end in traced.graph.nodes:
        if end in moving and _is_map(end):
            understood = _understood(end, moving, modules, set(found))
            if understood is not None:
                found[end] = understood
    instead: dict[fx.Node, fx.Node] = {}
    for chain, movements in found.values():
        sources = [instead.get(source, source) for source in chain.sources]
        instead[chain.end] = Writer(traced, chain.end, add).write(sources, movements)
    if found:
        drop_unread(traced.graph)


def _understood(
    end: fx.Node, moving: set[fx.Node], modules: dict[fx.Node, nn.Module], known: set[fx.Node]
) -> tuple[Chain, list[Movement]] | None:
    """The shortest chain to ``end`` of which it is known what it does, and that for each of the images; one with one
    source is better. It begins at maps that are ``known`` themselves, or that others make."""
    found: tuple[Chain, list[Movement]] | None = None
    sources = _behind([end], moving)
    while sources:
        chain = Chain(end, tuple(sources), modules)
        begins = not (moving - known).intersection(sources)
        seen = [chain.movement(image) for image in range(len(shapes_of(end)))] if begins else [None]
        if None not in seen and (all(m == seen[0] for m in seen) or all(isinstance(m, Part) for m in seen)):
            found = found or (chain, cast(list[Movement], seen))
            if len(sources) == 1:
                return chain, cast(list[Movement], seen)
        sources = _behind(sources, moving)
    return found


def _behind(nodes: list[fx.Node], moving: set[fx.Node]) -> list[fx.Node]:
    """The maps that the nodes are made of where they move values; []: no more is known."""
    if not moving.intersection(nodes):
        return []
    found: dict[fx.Node, None] = {}
    waiting = [n for node in nodes for n in (node.args if node in moving else (node,))]
    while waiting:
        node = cast(fx.Node, waiting.pop(0))
        if _is_map(node):
            found[node] = None
        elif node in moving:
            waiting[:0] = node.args
        else:
            return []
    return list(found)


def _moves(node: fx.Node) -> bool:
    return "call" in node.meta and node.meta["call"].op in MOVES | REDUCTIONS


def _is_map(node: fx.Node) -> bool:
    shapes = shapes_of(node)
    return bool(shapes) and all(len(shape) == 4 for shape in shapes)
