"""Constants that a map is multiplied with or added to, put into the weights around it.

``conv(x) * a + b`` is a convolution with other weights, and so is ``conv(x * a)``. What is left is a convolution of
single pixels, channel by channel. Learned constants become weights by it, and train as such.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor, fx, nn

from hatdet.quantization.operators.pointwise.prelu import Slopes
from hatdet.quantization.operators.windows.conv_transpose import TransposedConv2d
from hatdet.quantization.qat.fake_quant import BIAS_TO_WEIGHT
from hatdet.quantization.qat.shared_conv import FoldedLevel, share_weights
from hatdet.quantization.tracing.refusals import pair
from hatdet.quantization.tracing.rewriting.constants import ChannelAffine

SCALED_ALIKE = (nn.ReLU, nn.LeakyReLU, Slopes, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample)
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
    if fold:
        _fold_shared(graph)
    for node in graph.nodes():
        module = graph.affine(node)
        assert module is not None
        module.to(device)
        if not fold or not (_fold_before(graph, node, module) or _fold_behind(graph, node, module)):
            graph.put(node, _depthwise(module, fold))


def _convolution_before(graph: Graph, node: fx.Node, module: ChannelAffine) -> fx.Node | None:
    """The convolution into which a :class:`ChannelAffine` can go: that to whose output it is applied."""
    source = cast(fx.Node, node.args[0])
    homogeneous = bool((module.factor > 0).all()) and not bool(module.offset.any())
    while type(graph.module(source)) in SCALED_ALIKE and homogeneous and len(source.users) == 1:
        source = cast(fx.Node, source.args[0])
    takes = type(graph.module(source)) in (nn.Conv2d, TransposedConv2d) and len(source.users) == 1
    return source if takes and module.in_channels == module.out_channels else None


def _fold_shared(graph: Graph) -> None:
    """A convolution that is called for several levels, each with factors of its own: the weight stays one."""
    calls: dict[int, list[fx.Node]] = {}
    for node in graph.traced.graph.nodes:
        if type(conv := graph.module(node)) is nn.Conv2d:
            calls.setdefault(id(conv.weight), []).append(node)
    behind: dict[fx.Node | None, fx.Node] = {}
    for node in graph.nodes():
        if (module := graph.affine(node)) is not None:
            behind[_convolution_before(graph, node, module)] = node
    for nodes in calls.values():
        affines = [graph.affine(behind.get(node)) for node in nodes]
        if len(nodes) > 1 and all(module is not None and bool((module.factor > 0).all()) for module in affines):
            convs = {str(node.target): cast(nn.Conv2d, graph.module(node)) for node in nodes}
            levels = [_level(conv, cast(ChannelAffine, m)) for conv, m in zip(convs.values(), affines, strict=True)]
            for node, shared in zip(nodes, share_weights(convs, levels, BIAS_TO_WEIGHT), strict=True):
                graph.put(node, _marked(shared))
                graph.bypass(behind[node])


def _level(conv: nn.Conv2d, module: ChannelAffine) -> FoldedLevel:
    factor, offset = (v.to(conv.weight.device) for v in (module.factor, module.offset))
    return FoldedLevel(factor, offset if conv.bias is None else conv.bias.detach().double() * factor + offset)


def _fold_before(graph: Graph, node: fx.Node, module: ChannelAffine) -> bool:
    """Into the convolution whose output it is applied to."""
    source = _convolution_before(graph, node, module)
    if source is None:
        return False
    conv, factor, offset = cast(nn.Conv2d, graph.module(source)), module.factor, module.offset
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
    made = copy.copy(conv)
    bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
    weight, bias = change(conv.weight.double(), bias.double())
    made._parameters = {}
    for name, value in (("weight", weight), ("bias", bias)):
        made.register_parameter(name, nn.Parameter(value.to(conv.weight.dtype)))
    return _marked(made)


def _depthwise(module: ChannelAffine, trains: bool) -> nn.Conv2d:
    inputs, outputs = module.in_channels, module.out_channels
    made = nn.Conv2d(inputs, outputs, 1, groups=inputs, device=module.weight.device, dtype=module.weight.dtype)
    return _changed(made, lambda w, b: (module.factor.view(-1, 1, 1, 1), module.offset)).requires_grad_(trains)


Conv = TypeVar("Conv", bound=nn.Conv2d)


def _marked(conv: Conv) -> Conv:
    for parameter in conv.parameters():
        parameter.folded_version = parameter._version  # type: ignore[attr-defined]
    return conv


def is_as_folded(parameter: Tensor) -> bool:
    """Whether folding made this parameter, and nothing has changed it since."""
    return getattr(parameter, "folded_version", None) == parameter._version
