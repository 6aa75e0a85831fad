"""The float network as calls of tensorflow's operators, one after another. Layout: NHWC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hatdet.export.float_graph import FloatGraph, FloatOp
from hatdet.integer.arithmetic import limits_of


class TensorFlowNetwork:
    """A graph that is being called.

    Args:
        tf: the tensorflow module.
        images: the input.

    Attributes:
        values: what has been computed, by the name in the graph.
    """

    def __init__(self, tf: Any, graph: FloatGraph, images: Any) -> None:
        self.tf, self.graph = tf, graph
        self.values = {graph.input: images}

    def sources(self, op: FloatOp) -> list[Any]:
        """The operator's inputs."""
        return [self.values[name] for name in op.inputs]

    def source(self, op: FloatOp) -> Any:
        """The only one of them."""
        (value,) = self.sources(op)
        return value

    def emit(self, op: FloatOp, value: Any) -> None:
        """``value`` is what ``op`` makes, before the activation that it may have fused."""
        self.values[op.output] = self.activated(value, op.arguments.get("activation", "none"))

    def activated(self, value: Any, name: str) -> Any:
        """A fused activation."""
        nn = self.tf.nn
        functions: dict[str, Callable[[Any], Any]] = {
            "none": lambda x: x,
            "relu": nn.relu,
            "relu6": nn.relu6,
            "hardsigmoid": lambda x: nn.relu6(x + 3.0) * np.float32(1.0 / 6.0),
        }
        return functions[name](value) if name in functions else self.limited(value, *limits_of(name))

    def limited(self, value: Any, low: float, high: float) -> Any:
        """Limit values to [low, high]."""
        return self.tf.minimum(self.tf.maximum(value, np.float32(low)), np.float32(high))

    def padded(self, value: Any, sides: Sequence[int], constant: float = 0.0) -> Any:
        """Rows and columns around a map; ``sides``: top, bottom, left, right."""
        top, bottom, left, right = sides
        if not any(sides):
            return value
        return self.tf.pad(value, [[0, 0], [top, bottom], [left, right], [0, 0]], constant_values=constant)
