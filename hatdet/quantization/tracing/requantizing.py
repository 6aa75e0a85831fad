"""Changes of quantization, put where operators cannot agree on one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import fx, nn

from hatdet.quantization.tracing.refusals import LIMITS


class Requantize(nn.Identity):
    """A change of quantization: in front of a concatenation where an input's own is fixed, for example."""


def requantize_fixed(traced: fx.GraphModule, add: Callable[[str, nn.Module], str]) -> None:
    """Put a :class:`Requantize` where a fixed quantization does not suit its reader.

    Sigmoids' outputs and the network's input have fixed ones. The inputs of a concatenation have to share one. A
    sigmoid (and the gate of a SiLU) that reads a sigmoid's needs another scale: on that one the runtimes' kernels
    differ in their rounding.

    Args:
        add: adds a module under a path, and returns the path that it got.
    """

    def module(node: fx.Node) -> nn.Module | None:
        return traced.get_submodule(str(node.target)) if node.op == "call_module" else None

    def requantize(reader: fx.Node, source: fx.Node) -> None:
        path = add(f"{reader.name}_requantize", Requantize())
        with traced.graph.inserting_before(reader):
            reader.replace_input_with(source, traced.graph.call_module(path, (source,)))

    fixed: dict[fx.Node, str | None] = {}
    for node in list(traced.graph.nodes):
        operator = module(node)
        if node.op == "placeholder":
            fixed[node] = "input"
        elif isinstance(operator, (nn.Sigmoid, nn.Hardsigmoid)):
            fixed[node] = "sigmoid"
        elif node.target is torch.cat:
            kinds = {fixed.get(n) for n in node.all_input_nodes}
            if len(kinds) > 1:
                for source in node.all_input_nodes:
                    if fixed.get(source) is not None:
                        requantize(node, source)
            fixed[node] = kinds.pop() if len(kinds) == 1 else None
        elif passes_quantization(operator):
            fixed[node] = fixed.get(node.all_input_nodes[0]) if node.all_input_nodes else None
        if isinstance(operator, (nn.Sigmoid, nn.SiLU)) and fixed.get(node.all_input_nodes[0]) == "sigmoid":
            requantize(node, node.all_input_nodes[0])


def passes_quantization(module: nn.Module | None) -> bool:
    """Whether an operator's output has the quantization of its input."""
    passing = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample, nn.ZeroPad2d)
    return isinstance(module, passing) or type(module) in LIMITS
