"""Changes of quantization, put where operators cannot agree on one."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx, nn

from hatdet.integer.tensors import QuantParams
from hatdet.quantization.operators.pointwise.requantize import Requantize
from hatdet.quantization.operators.table import FUNCTIONS, form_of


def requantize_fixed(traced: fx.GraphModule, add: Callable[[str, nn.Module], str]) -> None:
    """Put a :class:`Requantize` where a fixed quantization does not suit its reader.

    Sigmoids' outputs and the network's input have fixed ones; the inputs of a concatenation have to share one, and some
    operators must not read a sigmoid's (``Form.refuses_fixed``).

    Args:
        add: adds a module under a path, and returns the path that it got.
    """

    def module(node: fx.Node) -> nn.Module | None:
        return traced.get_submodule(str(node.target)) if node.op == "call_module" else None

    def requantize(reader: fx.Node, source: fx.Node) -> None:
        path = add(f"{reader.name}_requantize", Requantize())
        with traced.graph.inserting_before(reader):
            reader.replace_input_with(source, traced.graph.call_module(path, (source,)))

    fixed: dict[fx.Node, QuantParams | str | None] = {}
    for node in list(traced.graph.nodes):
        operator = module(node)
        form = FUNCTIONS.get(node.target) if operator is None else form_of(operator)
        if node.op == "placeholder":
            fixed[node] = "input"
        elif form is not None and (demanded := form.fixed_output(operator)) is not None:
            fixed[node] = demanded
        elif form is not None and form.op.shares_scale:
            kinds = {fixed.get(n) for n in node.all_input_nodes}
            if len(kinds) > 1:
                for source in node.all_input_nodes:
                    if fixed.get(source) is not None:
                        requantize(node, source)
            fixed[node] = kinds.pop() if len(kinds) == 1 else None
        if form is not None and form.refuses_fixed(operator):
            if isinstance(fixed.get(node.all_input_nodes[0]), QuantParams):
                requantize(node, node.all_input_nodes[0])
