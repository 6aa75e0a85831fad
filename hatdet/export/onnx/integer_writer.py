"""What the two ONNX forms of an integer graph share: names, the walk over the operators, metadata."""

from __future__ import annotations

from typing import Any

import numpy as np

from hatdet.export.forms import check_ends
from hatdet.export.metadata import INPUT_NAME, build_metadata, file_names, output_names
from hatdet.export.onnx.file import MIN_INTEGER_OPSET, OnnxGraph, check_opset
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.base import Operator
from hatdet.integer.tensors import QuantParams


class IntegerWriter:
    """A graph on its way into a file: uint8 tensors (code + 128), NCHW, batch 1, named as in the .tflite.

    Raises:
        UserError: the graph has another number of inputs than one, an output that is the input, or an opset out of
            range.
    """

    def __init__(self, graph: IntGraph, opset: int) -> None:
        check_opset(opset, MIN_INTEGER_OPSET)
        graph.refuse_islands("an integer ONNX file")
        check_ends(graph)
        self.graph = graph
        self.out = OnnxGraph(opset)
        self.names = file_names(graph)
        self.out.reserve([*self.names.values(), *output_names(graph)])

    def model(self, keep_tensors: bool = False) -> Any:
        """The ``ModelProto``; with ``keep_tensors`` every tensor is an output, after the model's own."""
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

    def qparams(self, tensor: str) -> QuantParams:
        """How the graph's ``tensor`` is quantized."""
        return self.graph.qparams(tensor)

    def dtype(self, tensor: str) -> str:
        """``uint8`` (code + 128), or for an output of 16 bits ``int16`` (the code itself)."""
        return "uint8" if self.qparams(tensor).bits == 8 else "int16"

    def offset(self, tensor: str) -> int:
        """What is added to a code: 128, or 0 of 16 bits."""
        return 128 if self.qparams(tensor).bits == 8 else 0

    def sources(self, op: Operator) -> list[str]:
        """The operator's inputs, as they are in the file."""
        return [self.names[name] for name in op.inputs]

    def name(self, tensor: str, what: str) -> str:
        """A name for something that belongs to the graph's ``tensor``."""
        return f"{self.names[tensor]}/{what}"

    def constant(self, tensor: str, what: str, value: Any, dtype: str) -> str:
        return self.out.constant(self.name(tensor, what), np.asarray(value, dtype=dtype))

    def node(self, kind: str, inputs: list[str], tensor: str, what: str = "", **attributes: Any) -> str:
        """A node on the way to the graph's ``tensor``; what it makes is called after it, and ``what`` or ``kind``."""
        return self.out.node(kind, inputs, self.name(tensor, what or kind.lower()), **attributes)

    def emit(self, kind: str, inputs: list[str], op: Operator, **attributes: Any) -> None:
        """The node that makes what ``op`` makes."""
        self.out.node(kind, inputs, self.names[op.output], exact=True, **attributes)

    def finish(self, value: str, op: Operator) -> None:
        """Make what ``op`` makes of numbers that are its codes, in another type."""
        self.out.cast(value, self.dtype(op.output), self.names[op.output], exact=True)

    def clip(self, codes: str, op: Any) -> None:
        """Make what ``op`` makes of uint8 codes, which are clamped to the operator's limits."""
        low, high = (self.constant(op.output, w, v + 128, "uint8") for w, v in (("lo", op.lo), ("hi", op.hi)))
        self.emit("Clip", [codes, low, high], op)


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
