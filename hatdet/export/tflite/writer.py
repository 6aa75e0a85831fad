"""What the int8 and the float ``.tflite`` writer have in common: tensors by name, operators one after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hatdet.export.tflite.flatbuffer import FlatbufferModel
from hatdet.export.tflite.options import ACTIVATIONS, operator_options
from hatdet.export.tflite.padding import PaddingPlan

Shape = tuple[int, int, int]


class TfliteWriter(ABC):
    """A file of one subgraph that is being written; its first tensor is the input.

    Attributes:
        shapes: (C, H, W) of every tensor of the network, by its name there; names: its name in the file; index: its
            number in the file, as soon as it is made.
    """

    def __init__(self, description: str, shapes: Mapping[str, Shape], names: Mapping[str, str]) -> None:
        self.model = FlatbufferModel(description)
        self.shapes, self.names = shapes, names
        self.index: dict[str, int] = {}

    @abstractmethod
    def value(self, name: str) -> int:
        """Make the network's tensor ``name``."""

    @abstractmethod
    def linear(self, op: Any) -> int:
        """Make a tensor for what ``op`` makes before its activation."""

    @abstractmethod
    def activation(self, op: Any, source: int) -> None:
        """Make what ``op`` makes of that: by its activation, which cannot be fused."""

    @abstractmethod
    def padded(self, name: str, plan: PaddingPlan, fill: str) -> int:
        """The tensor ``name``, padded where the plan says so. ``fill``: ``zero`` (real 0) or ``lowest``."""

    def version(self, code: str) -> int | None:
        """Of an operator whose form asks for none; None: the first that takes int8."""
        return None

    def sources(self, op: Any) -> list[int]:
        """The operator's inputs."""
        return [self.index[name] for name in op.inputs]

    def integers(self, name: str, values: Any) -> int:
        """A constant of int32."""
        return self.model.constant(name, np.asarray(values, np.int32), "INT32")

    def step(self, code: str, inputs: Sequence[int], output: int, version: int | None = None, **settings: Any) -> int:
        """Add an operator that makes the tensor ``output``, which is given back. ``settings``: its options' fields."""
        options = operator_options(self.model.schema, code, settings)
        self.model.operator(code, list(inputs), output, options, version or self.version(code))
        return output

    def emit(
        self, code: str, op: Any, inputs: Sequence[int] | None = None, version: int | None = None, **settings: Any
    ) -> None:
        """Add the operator that makes what ``op`` makes; of ``op``'s inputs, unless others are given. An activation
        that cannot be fused stands behind it."""
        inputs = self.sources(op) if inputs is None else inputs
        fused = "fusedActivationFunction"
        if settings.get(fused, getattr(op, "activation", "none")) in ACTIVATIONS:
            self.step(code, inputs, self.value(op.output), version, **settings)
            return
        settings.update({fused: "none"} if fused in settings else {})
        self.activation(op, self.step(code, inputs, self.linear(op), version, **settings))
