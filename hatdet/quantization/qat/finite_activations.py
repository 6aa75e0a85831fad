"""Which layer's output was the first that is not finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from hatdet.utils.finite import NotFinite, describe


class _Finder(fx.Interpreter):
    """Runs a traced network until a value is not finite."""

    def __init__(self, trunk: fx.GraphModule, layers: Mapping[str, str]) -> None:
        super().__init__(trunk)
        self.layers = layers

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        text = describe(value) if isinstance(value, Tensor) else ""
        if text:
            layer = "the image" if n.op == "placeholder" else f"the output of {self.layers.get(n.name, n.name)}"
            raise NotFinite(
                f"{layer} has no range that calibration could find: {text}; its weights or its input are too large: "
                "take an earlier checkpoint, or train again with a lower learning rate or GradClip"
            )
        return value


@torch.no_grad()
def refuse_activations(trunk: fx.GraphModule, images: Tensor, layers: Mapping[str, str]) -> None:
    """Name the first layer, in the order of computation, whose output for these images is not finite.

    Args:
        layers: values of the network -> path of the layer that makes each.

    Raises:
        NotFinite: always, where the network gives such a value.
    """
    _Finder(trunk, layers).run(images)
