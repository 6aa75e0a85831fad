"""The int8 ``.tflite`` writer: an :class:`~hatdet.integer.graph.IntGraph` as a TensorFlow Lite flatbuffer.

Nothing is re-derived: codes, scales and zero points go into the file as the graph holds them, so the file's reference
arithmetic is the graph's. Quantization scheme: "TensorFlow Lite 8-bit quantization specification". How each operator is
said: :mod:`hatdet.export.tflite.operators.int8`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hatdet.export.files import sidecar, write_atomic
from hatdet.export.forms import translate
from hatdet.export.metadata import INPUT_NAME, METADATA_NAME, build_metadata, output_names, to_json
from hatdet.export.seal import damaged
from hatdet.export.tflite.consistency import check_file
from hatdet.export.tflite.flatbuffer import load_schema
from hatdet.export.tflite.int4 import narrow_layers, packs_weights
from hatdet.export.tflite.int8_writer import Int8Writer
from hatdet.export.tflite.limits import check_graph
from hatdet.export.tflite.operators.int8 import FORMS
from hatdet.export.tflite.padding import pads_in_kernels
from hatdet.integer.graph import IntGraph
from hatdet.utils.errors import UserError


def write(
    graph: IntGraph,
    path: str | os.PathLike[str] | None = None,
    metadata: dict[str, Any] | None = None,
    weights_as: str | None = None,
    padding_as: str | None = None,
) -> bytes:
    """Write ``graph`` as an int8 ``.tflite`` model; the same graph always gives the same bytes.

    Args:
        graph: the integer model; one input, batch 1 in the file.
        path: where to write the model (atomically) and, beside it, ``<stem>.json`` with the metadata. None: bytes only.
        metadata: the detector's own facts (classes, strides, input mean and std); they are added to the graph's.
        weights_as: how 4-bit weights are stored, ``int4`` or ``int8``; None: ``int4`` where the kernels of the
            arithmetic take it (:mod:`hatdet.export.tflite.int4`).
        padding_as: how paddings of convolutions that SAME does not say are stored, by an ``operator`` (PAD; None too)
            or in a larger ``kernel`` (:mod:`hatdet.export.tflite.padding`): less memory, more multiplications.

    Returns:
        The bytes of the model.

    Raises:
        UserError: the format or the arithmetic's kernels cannot carry the graph exactly (the operator is named), or
            ai-edge-litert is not installed.
    """
    graph.refuse_islands("a .tflite file")
    check_graph(graph)
    packs = packs_weights(graph, weights_as)
    enlarges = pads_in_kernels(padding_as)
    form = {"weights_as": "int4" if packs else "int8"} if narrow_layers(graph) else {}
    if enlarges:
        form["padding_as"] = "kernel"
    text = to_json(build_metadata(graph, {**(metadata or {}), **form}))
    writer = Int8Writer(graph, packs, enlarges)
    translate(writer, graph.ops, FORMS)
    outputs = {name: writer.index[tensor] for name, tensor in zip(output_names(graph), graph.outputs, strict=True)}
    writer.model.add_metadata(METADATA_NAME, text)
    data = writer.model.finish({INPUT_NAME: 0}, outputs)
    if path is not None:
        write_atomic(Path(path), data)
        write_atomic(sidecar(Path(path)), text.encode("utf-8"))
    return data


def read_metadata(model: bytes | str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata that :func:`write` put inside a model (bytes or a path).

    Raises:
        UserError: not a TensorFlow Lite model, a damaged one, or one without hatdet's metadata.
    """
    data = model if isinstance(model, bytes) else Path(model).read_bytes()
    check_file(data)
    root = load_schema().Model.GetRootAsModel(data, 0)
    for i in range(root.MetadataLength()):
        entry = root.Metadata(i)
        if entry.Name() == METADATA_NAME.encode():
            content = root.Buffers(entry.Buffer())
            return _parse(content.DataAsNumpy().tobytes() if content.DataLength() else b"")
    raise UserError("the model carries no hatdet metadata; export it with tools/export.py")


def _parse(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise damaged("its metadata cannot be read")
    return found
