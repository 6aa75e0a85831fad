"""What operators of two maps have in common."""

from __future__ import annotations

from typing import ClassVar, cast

from torch import fx

from hatdet.quantization.operators.base import Form
from hatdet.quantization.tracing.recorded import Call, Input, shapes_of
from hatdet.quantization.tracing.refusals import NoModule, SizeDependent


class PairForm(Form):
    """``word``: what it is called; ``allowed``: which shapes go together."""

    word: ClassVar[str]
    allowed: ClassVar[str]

    def fits(self, first: tuple[int, ...], second: tuple[int, ...]) -> bool:
        """Whether two different shapes (B, C, H, W) go together."""
        return False

    def rewrite(self, node: fx.Node, call: Call) -> None:
        values = {**dict(zip(("input", "other"), call.args, strict=False)), **call.kwargs}
        if (alpha := values.pop("alpha", 1)) != 1:
            instead = "multiply the weights of the convolution before it instead"
            raise NoModule(f"{self.word} with alpha={alpha}", instead)
        if len(values) != 2 or not all(isinstance(value, Input) for value in values.values()):
            raise NoModule(f"{self.word} with a constant", "fold it into the convolution before it")
        for first, second in zip(*(shapes_of(cast(fx.Node, n)) for n in node.args), strict=True):
            if first != second and not self.fits(first, second):
                maps = " and ".join(" x ".join(map(str, shape[1:])) for shape in (first, second))
                raise SizeDependent(f"{self.word} of maps of {maps}", f"use {self.allowed}")
        node.target = self.functions[0]

    def inputs(self, node: fx.Node) -> tuple[fx.Node, ...]:
        return cast(tuple[fx.Node, ...], node.args)
