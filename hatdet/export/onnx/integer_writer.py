"""What the two ONNX forms of an integer graph share: names, the walk over the operators, metadata."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from hatdet.export.metadata import INPUT_NAME, build_metadata, file_names, output_names
from hatdet.export.onnx.file import MIN_INTEGER_OPSET, OnnxGraph, check_opset
from hatdet.integer.graph import IntGraph
from hatdet.utils.errors import UserError


class IntegerWriter(ABC):
    """Translates one graph, operator by operator: uint8 tensors (code + 128), NCHW, batch 1, named as in the .tflite.

    Raises:
        UserError: the graph has another number of inputs than one, an output that is the input, or an opset out of
            range.
    """

    form: ClassVar[str]

    def __init__(self, graph: IntGraph, opset: int) -> None:
        graph.refuse_islands("an integer ONNX file")
        check_opset(opset, MIN_INTEGER_OPSET)
        graph.refuse_islands("an integer ONNX file")
        if len(graph.inputs) != 1:
            raise UserError(
                f"the exported model has one input, this graph has {len(graph.inputs)}: {graph.inputs}; "
                "give the network one input"
            )
        for name in graph.outputs:
            if name in graph.inputs:
                raise UserError(f"output {name!r} is the input itself; an exported model must compute its outputs")
        self.graph = graph
        self.out = OnnxGraph(opset)
        self.names = file_names(graph)
        self.out.reserve([*self.names.values(), *output_names(graph)])

    @property
    @abstractmethod
    def translations(self) -> dict[type, Callable[[Any], None]]:
        """The method for each kind of operator."""

    def model(self, keep_tensors: bool = False) -> Any:
        """The ``ModelProto``; with ``keep_tensors`` every tensor is an output, after the model's own.

        Raises:
            UserError: an operator has no such form; it is named.
        """
        translations = self.translations
        for op in self.graph.ops:
            if type(op) not in translations:
                raise UserError(
                    f"operator {op.name!r} of kind {op.kind!r} has no {self.form} form yet; "
                    "use --format tflite, or another layer"
                )
            translations[type(op)](op)
        outputs = dict(zip(output_names(self.graph), self.graph.outputs, strict=True))
        for name, tensor in outputs.items():
            if self.names[tensor] != name:  # one tensor under two names
                self.out.node("Identity", [self.names[tensor]], name, exact=True)
        if keep_tensors:
            outputs |= {
                self.names[op.output]: op.output for op in self.graph.ops if self.names[op.output] not in outputs
            }
        source = self.graph.tensors[self.graph.inputs[0]]
        values = [self.out.value(n, self.dtype(t), (1, *self.graph.tensors[t].shape)) for n, t in outputs.items()]
        return self.out.model("hatdet", [self.out.value(INPUT_NAME, "uint8", (1, *source.shape))], values)

    def dtype(self, tensor: str) -> str:
        """``uint8`` (code + 128), or for an output of 16 bits ``int16`` (the code itself)."""
        return "uint8" if self.graph.qparams(tensor).bits == 8 else "int16"

    def offset(self, tensor: str) -> int:
        """What is added to a code: 128, or 0 of 16 bits."""
        return 128 if self.graph.qparams(tensor).bits == 8 else 0

    def _name(self, tensor: str, what: str) -> str:
        return f"{self.names[tensor]}/{what}"

    def _emit(self, kind: str, inputs: list[str], tensor: str, **attributes: Any) -> None:
        """The node that makes the graph's ``tensor``."""
        self.out.node(kind, inputs, self.names[tensor], exact=True, **attributes)

    def _const(self, tensor: str, what: str, value: Any, dtype: str) -> str:
        return self.out.constant(self._name(tensor, what), np.asarray(value, dtype=dtype))


def integer_metadata(graph: IntGraph, extra: dict[str, Any] | None, file_format: str, profile: str) -> dict[str, Any]:
    """The metadata of the ``.tflite`` with the tensors as they are here: NCHW, int8 as uint8 codes (+128)."""
    found = build_metadata(graph, extra)

    def described(tensor: dict[str, Any]) -> dict[str, Any]:
        batch, height, width, channels = tensor["shape"]
        here = {**tensor, "shape": [batch, channels, height, width], "layout": "NCHW"}
        if tensor["dtype"] == "int8":
            here |= {"dtype": "uint8", "zero_point": tensor["zero_point"] + 128}
        return here

    return {
        **found,
        "format": file_format,
        "profile": profile,
        "input": described(found["input"]),
        "outputs": [described(tensor) for tensor in found["outputs"]],
    }
