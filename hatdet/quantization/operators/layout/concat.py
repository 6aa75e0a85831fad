"""Concatenation."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, fx

from hatdet.integer.operators.layout.concat import ConcatOp
from hatdet.quantization.operators.base import Form, Run
from hatdet.quantization.tracing.recorded import Call, Input, shapes_of
from hatdet.quantization.tracing.refusals import NoModule


class Concat(Form):
    op = ConcatOp
    functions = (torch.cat,)
    calls = frozenset(["cat", "concat", "concatenate"])

    def rewrite(self, node: fx.Node, call: Call) -> None:
        a = {**dict(zip(("tensors", "dim"), call.args, strict=False)), **call.kwargs}
        dim = a.get("dim", a.get("axis", 0))
        if dim not in (1, -3) or any(len(s) != 4 for n in node.all_input_nodes for s in shapes_of(n)):
            raise NoModule(f"a concatenation along dim={dim}", "only channels (dim=1) can be concatenated")
        if not isinstance(a["tensors"], (tuple, list)) or not all(isinstance(n, Input) for n in a["tensors"]):
            raise NoModule("a concatenation with a constant", "concatenate computed tensors only")
        node.target, node.args, node.kwargs = torch.cat, (list(node.args),), {"dim": 1}

    def inputs(self, node: fx.Node) -> tuple[fx.Node, ...]:
        return tuple(cast(Any, node.args[0]))

    def run(self, run: Run) -> Tensor:
        return torch.cat(run.inputs, 1)
