"""What operators of two maps have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, fx, nn

from hatdet.quantization.operators.base import Form
from hatdet.quantization.tracing.applied import Applied
from hatdet.quantization.tracing.recorded import Call, Input, shapes_of
from hatdet.quantization.tracing.refusals import NoMap, NoModule


class PairForm(Form):
    """``word``: what it is called."""

    word: ClassVar[str]

    def alone(self, applied: Applied) -> nn.Module | None:
        values = self.values(applied.call)
        constants = [name for name in ("input", "other") if not isinstance(values.get(name), Input)]
        return self.with_constant(applied, values, constants[0]) if constants else None

    @abstractmethod
    def with_constant(self, applied: Applied, values: dict[str, Any], constant: str) -> nn.Module:
        """The module of a call with a map and a constant; ``constant`` is the latter's name in ``values``."""

    def rewrite(self, node: fx.Node, call: Call) -> None:
        values = self.values(call)
        if (alpha := values.pop("alpha", 1)) != 1:
            raise NoModule(f"{self.word} with alpha={alpha}", "write the factor as a product of its own")
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
