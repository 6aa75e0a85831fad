"""Changes of quantization, put where operators cannot agree on one."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx, nn

from hatdet.integer.operators.pointwise.activation_codes import UNIT_INTERVAL
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.operators.base import Form
from hatdet.quantization.operators.pointwise.requantize import Requantize
from hatdet.quantization.operators.table import FUNCTIONS, form_of

Add = Callable[[str, nn.Module], str]


def requantize_fixed(traced: fx.GraphModule, add: Add) -> None:
    """Put a :class:`Requantize` where a fixed quantization does not suit its reader.

    Sigmoids' outputs and the network's input have fixed ones; the inputs of a concatenation have to share one, and some
    operators must not read a sigmoid's (``Form.refuses_fixed``).

    Args:
        add: adds a module under a path, and returns the path that it got.
    """

    def requantize(reader: fx.Node, source: fx.Node) -> None:
        _requantize(traced, add, reader, source)

    fixed: dict[fx.Node, QuantParams | str | None] = {}
    for node in list(traced.graph.nodes):
        operator, form = _form(traced, node)
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


def requantize_gated(traced: fx.GraphModule, add: Add) -> int:
    """Put a :class:`Requantize` in front of what is multiplied by a gate, where the product is to share its scale.

    Such a product (its output is pooled, concatenated or compared with x in ``x * sigmoid(...)``) has the multiplier
    2**-8 whatever the scales are: ties only, which kernels round in different ways. With a scale of its own, x has
    another one. For arithmetics that do not take the former (``Arithmetic.takes_equal_gates``).

    Returns:
        How many were put.
    """
    group = _groups(traced)
    gates = {group[n] for n in traced.graph.nodes if (f := _fixed(traced, n)) is not None and f == UNIT_INTERVAL}
    made = 0
    for node in list(traced.graph.nodes):
        _, form = _form(traced, node)
        sources = node.all_input_nodes
        gated = form is not None and form.gate_inside(_form(traced, node)[0])
        for source in sources if form is not None and form.kind in ("mul", "activation") else ():
            others = [n for n in sources if n is not source]
            if group[source] == group[node] and (gated or any(group[n] in gates for n in others)):
                _requantize(traced, add, node, source, gated=True)
                made += 1
    return made


def _groups(traced: fx.GraphModule) -> dict[fx.Node, fx.Node]:
    """A representative of the values that share a quantization, of each."""
    parent = {node: node for node in traced.graph.nodes}

    def root(node: fx.Node) -> fx.Node:
        while parent[node] is not node:
            node = parent[node]
        return node

    for node in traced.graph.nodes:
        _, form = _form(traced, node)
        if form is not None and form.op.shares_scale:
            for source in node.all_input_nodes:
                parent[root(source)] = root(node)
    return {node: root(node) for node in parent}


def _form(traced: fx.GraphModule, node: fx.Node) -> tuple[nn.Module | None, Form | None]:
    module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
    return module, FUNCTIONS.get(node.target) if module is None else form_of(module)


def _fixed(traced: fx.GraphModule, node: fx.Node) -> QuantParams | None:
    module, form = _form(traced, node)
    return form.fixed_output(module) if form is not None else None


def _requantize(traced: fx.GraphModule, add: Add, reader: fx.Node, source: fx.Node, gated: bool = False) -> None:
    path = add(f"{reader.name}_requantize", Requantize(gated))
    with traced.graph.inserting_before(reader):
        reader.replace_input_with(source, traced.graph.call_module(path, (source,)))
