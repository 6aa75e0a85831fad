"""``expand_as`` and the like in front of operators of two maps, which expand by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import fx

from hatdet.integer.operators.pairs.pair import joint_shape
from hatdet.quantization.operators.pairs.pair import PairForm
from hatdet.quantization.operators.table import CALLS
from hatdet.quantization.tracing.recorded import shapes_of

EXPANSIONS = frozenset(["expand", "expand_as", "broadcast_to"])


def read_through(traced: fx.GraphModule) -> None:
    """Let operators of two maps read what is expanded, where their results are the same."""
    for node in list(traced.graph.nodes):
        call = node.meta.get("call")
        if call is None or call.op not in EXPANSIONS:
            continue
        source = cast(fx.Node, node.args[0])
        for reader in list(node.users):
            inputs = [source if n is node else cast(fx.Node, n) for n in reader.args]
            if isinstance(CALLS.get(getattr(reader.meta.get("call"), "op", "")), PairForm) and _gives(reader, inputs):
                reader.args = tuple(inputs)
        if not node.users:
            traced.graph.erase_node(node)


def _gives(reader: fx.Node, inputs: Sequence[fx.Node]) -> bool:
    """Whether two maps of these sizes give what ``reader`` gives, for each of the images."""
    if len(inputs) != 2:
        return False
    shapes = zip(shapes_of(reader), *map(shapes_of, inputs), strict=True)
    return all(joint_shape(first, second) == result for result, first, second in shapes)
