"""Constants that a map is multiplied with or added to, put into the weights around it.

``conv(x) * a + b`` is a convolution with other weights, and so is ``conv(x * a)``. What is left is a convolution of
single pixels, channel by channel. Learned constants become weights by it, and train as such.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, fx, nn

from hatdet.quantization.tracing.refusals import pair
from hatdet.quantization.tracing.rewriting.constants import ChannelAffine

SCALED_ALIKE = (nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample)
"""Modules m with m(a * x) = a * m(x) for every a > 0."""


class Graph:
    """A canonical network that is being rewritten.

    Args:
        as_module: puts a call of a module in the place of that of a function.
    """

    def __init__(self, traced: fx.GraphModule, as_module: Callable[[fx.Node, nn.Module], fx.Node]) -> None:
        self.traced, self.as_module = traced, as_module

    def nodes(self) -> list[fx.Node]:
        """Those whose module is a :class:`ChannelAffine`."""
        return [node for node in self.traced.graph.nodes if self.affine(node) is not None]

    def module(self, node: object) -> nn.Module | None:
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return None
        return self.traced.get_submodule(str(node.target))

    def affine(self, node: object) -> ChannelAffine | None:
        module = self.module(node)
        return module if isinstance(module, ChannelAffine) else None

    def put(self, node: fx.Node, module: nn.Module) -> None:
        """Let ``node``, the only caller of its module, call another one under the same path."""
        parent, _, name = str(node.target).rpartition(".")
        setattr(self.traced.get_submodule(parent), name, module)

    def bypass(self, node: fx.Node) -> None:
        """Let the readers of ``node`` read what it reads."""
        node.replace_all_uses_with(cast(fx.Node, node.args[0]))
        self.erase(node)

    def replace(self, node: fx.Node, module: nn.Module, x: fx.Node) -> None:
        """Let ``module`` of ``x`` take the place of ``node``, and erase what led there from ``x`` and nothing reads."""
        before = list(node.all_input_nodes)
        node.args = (x,)
        if node.op == "call_module":
            self.put(node, module)
        else:
            self.as_module(node, module)
        while before:
            unread = before.pop()
            if unread is not x and not unread.users:
                inputs = list(unread.all_input_nodes)
                self.erase(unread)
                before = [n for n in (*before, *inputs) if n is not unread]

    def erase(self, node: fx.Node) -> None:
        self.traced.graph.erase_node(node)
        if node.op == "call_module":
            self.traced.delete_submodule(str(node.target))


def join_affines(graph: Graph) -> None:
    """One behind another becomes one."""
    for node in graph.nodes():
        source, second = node.args[0], graph.affine(node)
        first = graph.affine(source)
        if first is not None and second is not None and len(cast(fx.Node, source).users) == 1:
            factor, offset = second.factor, second.offset
            made = ChannelAffine(factor * first.factor, factor * first.offset + offset, first.in_channels)
            graph.put(node, made)
            graph.bypass(cast(fx.Node, source))


def settle_affines(graph: Graph, fold: bool, device: torch.device) -> None:
    """Fold them where that is the same, and make convolutions of the others.

    Args:
        fold: False: none is folded, and the constants do not train.
    """
    for node in graph.nodes():
        module = graph.affine(node)
        assert module is not None
        module.to(device)
        if not fold or not (_fold_before(graph, node, module) or _fold_behind(graph, node, module)):
            graph.put(node, _depthwise(module, fold))


def _fold_before(graph: Graph, node: fx.Node, module: ChannelAffine) -> bool:
    """Into the convolution whose output it is applied to."""
    source = cast(fx.Node, node.args[0])
    homogeneous = bool((module.factor > 0).all()) and not bool(module.offset.any())
    while type(graph.module(source)) in SCALED_ALIKE and homogeneous and len(source.users) == 1:
        source = cast(fx.Node, source.args[0])
    conv = graph.module(source)
    if type(conv) is not nn.Conv2d or len(source.users) != 1 or module.in_channels != module.out_channels:
        return False
    factor, offset = module.factor, module.offset
    graph.put(source, _changed(conv, lambda w, b: (w * factor.view(-1, 1, 1, 1), b * factor + offset)))
    graph.bypass(node)
    return True


def _fold_behind(graph: Graph, node: fx.Node, module: ChannelAffine) -> bool:
    """Into the convolutions that read it; zeros that they pad with would be another number where one is added."""
    readers = {reader: graph.module(reader) for reader in node.users}
    added = bool(module.offset.any())
    for conv in readers.values():
        if type(conv) is not nn.Conv2d or (added and pair(conv.padding) != (0, 0)):
            return False
    if not readers or module.in_channels != module.out_channels:
        return False
    for reader, conv in readers.items():
        assert isinstance(conv, nn.Conv2d)
        graph.put(reader, _changed(conv, partial(_of_changed_input, module, conv)))
    graph.bypass(node)
    return True


def _of_changed_input(module: ChannelAffine, conv: nn.Conv2d, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    factor, offset = (_of_inputs(values, conv) for values in (module.factor, module.offset))
    return w * factor, b + (w * offset).sum((1, 2, 3))


def _of_inputs(values: Tensor, conv: nn.Conv2d) -> Tensor:
    """Numbers (I,) of the input channels, for each weight (O, I / groups, 1, 1)."""
    by_group = values.view(conv.groups, -1)
    return by_group.repeat_interleave(conv.out_channels // conv.groups, 0)[:, :, None, None]


@torch.no_grad()
def _changed(conv: nn.Conv2d, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> nn.Conv2d:
    """A convolution with other weights; ``change`` gets weight and bias in float64."""
    made = _like(conv)
    bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
    weight, bias = change(conv.weight.double(), bias.double())
    made.weight, made.bias = (nn.Parameter(value.to(conv.weight.dtype)) for value in (weight, bias))
    for parameter in made.parameters():
        parameter.folded_version = parameter._version  # type: ignore[attr-defined]
    return made.train(conv.training)


def _like(conv: nn.Conv2d) -> nn.Conv2d:
    geometry = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    return nn.Conv2d(*geometry, conv.groups, bias=True, device="meta")  # type: ignore[arg-type]


def _depthwise(module: ChannelAffine, trains: bool) -> nn.Conv2d:
    made = _changed(module, lambda w, b: (module.factor.view(-1, 1, 1, 1), module.offset))
    return made.requires_grad_(trains)


def is_as_folded(parameter: Tensor) -> bool:
    """Whether folding made this parameter, and nothing has changed it since."""
    return getattr(parameter, "folded_version", None) == parameter._version
