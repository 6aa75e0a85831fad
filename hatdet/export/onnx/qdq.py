"""The integer model as an ONNX graph of float operators between QuantizeLinear and DequantizeLinear: the form that
runtimes turn into their fast int8 kernels. Each rounds in its own way, so the numbers are close to the integer model's,
not equal: the difference is measured and said (:mod:`hatdet.export.onnx.compare`).

Operators and quantization: the ONNX operator specification (QuantizeLinear, DequantizeLinear, opset 13). How each
operator is said: :mod:`hatdet.export.onnx.operators.qdq`.
"""

from __future__ import annotations

import os
from typing import Any

from hatdet.export.forms import translate
from hatdet.export.onnx.file import DEFAULT_OPSET, finish
from hatdet.export.onnx.integer_writer import integer_metadata
from hatdet.export.onnx.operators.qdq import FORMS
from hatdet.export.onnx.qdq_writer import QdqWriter
from hatdet.integer.graph import IntGraph

FORMAT = "onnx uint8 qdq"
PROFILE = "qdq"
"""The runtime's own rounding."""


def write_qdq(
    graph: IntGraph,
    path: str | os.PathLike[str] | None = None,
    metadata: dict[str, Any] | None = None,
    opset: int = DEFAULT_OPSET,
) -> bytes:
    """Write ``graph`` in QDQ form; batch 1, NCHW, uint8 codes (+128) in and out, int8 weights, int32 biases.

    Args:
        path: where to write the model and its metadata; None: bytes only.
        metadata: the detector's facts, added to the graph's.

    Returns:
        The bytes of the model.

    Raises:
        UserError: an operator that has no such form (it is named), an opset out of range, or no onnx installed.
    """
    writer = QdqWriter(graph, opset)
    translate(writer, graph.ops, FORMS)
    return finish(writer.model(), integer_metadata(graph, metadata, FORMAT, PROFILE), path)
