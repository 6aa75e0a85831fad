"""What operators of two maps have in common."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, fx

from hatdet.quantization.operators.base import Form
from hatdet.quantization.tracing.recorded import Call, Input, shapes_of
from hatdet.quantization.tracing.refusals import NoMap, NoModule


class PairForm(Form):
    """``word``: what it is called."""

    expands = True
    word: ClassVar[str]

    def rewrite(self, node: fx.Node, call: Call) -> None:
        values = self.values(call)
        if (alpha := values.pop("alpha", 1)) != 1:
            instead = "multiply the weights of the convolution before it instead"
            raise NoModule(f"{self.word} with alpha={alpha}", instead)
        if len(values) != 2 or not all(isinstance(value, Input) for value in values.values()):
            raise NoModule(f"{self.word} with a constant", "fold it into the convolution before it")
        node.args = tuple(node.args[values[name].index] for name in ("input", "other"))
        if any(len(shape) != 4 for n in node.all_input_nodes for shape in shapes_of(n)):
            raise NoMap(f"{self.word} of something that is no map", "apply it to (B, C, H, W) tensors")
        node.target = self.functions[0]

    def values(self, call: Call) -> dict[str, Any]:
        """The arguments of a call by name: ``input`` and ``other``, in the order of the operator."""
        return {**dict(zip(("input", "other"), call.args, strict=False)), **call.kwargs}

    def inputs(self, node: fx.Node) -> tuple[fx.Node, ...]:
        return cast(tuple[fx.Node, ...], node.args)


def as_input(gradient: Tensor, shape: torch.Size) -> Tensor:
    """The gradient of an input of ``shape``, whose sizes of 1 stood for all positions."""
    return gradient if gradient.shape == shape else gradient.sum_to_size(shape)
