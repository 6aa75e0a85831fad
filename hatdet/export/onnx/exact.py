"""The integer model as an ONNX graph of explicit integers: exactly the numbers of the profile, under any runtime.

Tensors between operators are uint8 (code + 128), outputs of 16 bits int16. A convolution is a float32 ``Conv`` on
integers, exact because every partial sum stays below 2**24 (weights are cut into digits where it would not), and its
requantization float64: ``floor(acc * a + 1/2 + delta * sign(acc))`` (see
:class:`hatdet.integer.arithmetic.Requantization`). Functions of one or two codes are tables. Several times slower than
the QDQ form: it is for verification, and where equality is needed. How each operator is said:
:mod:`hatdet.export.onnx.operators.exact`.
"""

from __future__ import annotations

import os
from typing import Any

from hatdet.export.forms import translate
from hatdet.export.onnx.exact_writer import ExactWriter
from hatdet.export.onnx.file import DEFAULT_OPSET, finish
from hatdet.export.onnx.integer_writer import integer_metadata
from hatdet.export.onnx.operators.exact import FORMS
from hatdet.integer.graph import IntGraph

FORMAT = "onnx uint8 exact"


def write_exact(
    graph: IntGraph,
    path: str | os.PathLike[str] | None = None,
    metadata: dict[str, Any] | None = None,
    opset: int = DEFAULT_OPSET,
    keep_tensors: bool = False,
) -> bytes:
    """Write ``graph`` in its explicit-integer form; batch 1, NCHW, uint8 codes (+128) in and out.

    Args:
        path: where to write the model and its metadata; None: bytes only.
        metadata: the detector's facts, added to the graph's.
        keep_tensors: make every tensor of the graph an output, after the model's own: for comparisons.

    Returns:
        The bytes of the model.

    Raises:
        UserError: an operator or an arithmetic that has no such form (it is named), an opset out of range, or no onnx
            installed.
    """
    writer = ExactWriter(graph, opset)
    translate(writer, graph.ops, FORMS)
    found = integer_metadata(graph, metadata, FORMAT, graph.metadata["profile"])
    return finish(writer.model(keep_tensors), found, path)
