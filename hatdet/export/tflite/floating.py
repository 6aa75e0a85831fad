"""The float ``.tflite`` writer: a :class:`~hatdet.export.float_graph.FloatGraph` with float32 or float16 weights.

Float16 halves the file: weights are stored in 16 bits behind a DEQUANTIZE each, as TensorFlow Lite's own converter
does it, and everything is computed in float32. A tensor too small for that (:func:`survives_half`) stays as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hatdet.export.float_graph import INPUT_NAME, FloatGraph
from hatdet.export.forms import translate
from hatdet.export.metadata import METADATA_NAME
from hatdet.export.tflite.decoding import decoded
from hatdet.export.tflite.float_writer import BeyondHalf, FloatWriter, survives_half
from hatdet.export.tflite.operators.floating import FORMS

__all__ = ["BeyondHalf", "stored_half", "survives_half", "write_float"]


def write_float(graph: FloatGraph, metadata: str, half: bool = False) -> bytes:
    """The bytes of the file; the same graph always gives the same ones.

    Args:
        metadata: the text to carry inside.
        half: weights as float16.

    Raises:
        UserError: an operator has no form in the file, or ai-edge-litert is not installed.
    """
    writer = FloatWriter(graph, half)
    translate(writer, graph.ops, FORMS)
    writer.model.add_metadata(METADATA_NAME, metadata)
    outputs = [writer.index[name] for name in graph.outputs]
    if graph.decoding is not None:
        outputs = decoded(writer, outputs, graph.decoding, graph.file_outputs)
    names = [name for name, _ in graph.file_outputs]
    return writer.model.finish({INPUT_NAME: 0}, dict(zip(names, outputs, strict=True)))


def stored_half(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """A weight (O, ...) or a bias (O,) as a float16 file computes with it."""
    return value.astype(np.float16).astype(np.float32) if survives_half(value) else value
