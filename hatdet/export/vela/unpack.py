"""Vela (5.2) takes no INT4 constants: it is given a file's 4-bit weights as the same codes in int8, which its
compression of weights makes small again."""

from __future__ import annotations

import json
import math

import numpy as np

from hatdet.export.metadata import METADATA_NAME, to_json
from hatdet.export.tflite.flatbuffer import IDENTIFIER, OPERATOR_VERSIONS, load_schema
from hatdet.export.tflite.int4 import INT4_VERSIONS, unpack


def with_int8_weights(model: bytes) -> bytes:
    """A ``.tflite`` file whose INT4 constants are INT8 ones of the same codes; without any, the file itself."""
    import flatbuffers

    schema = load_schema()
    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    types = schema.TensorType
    narrow = [tensor for graph in content.subgraphs for tensor in graph.tensors if tensor.type == types.INT4]
    if not narrow:
        return model
    made: dict[int, int] = {}
    for tensor in narrow:
        if tensor.buffer not in made:
            buffer = schema.BufferT()
            packed = bytes(np.asarray(content.buffers[tensor.buffer].data, np.uint8))
            buffer.data = unpack(packed, math.prod(int(n) for n in tensor.shape)).view(np.uint8)
            made[tensor.buffer] = len(content.buffers)
            content.buffers.append(buffer)
        tensor.type, tensor.buffer = types.INT8, made[tensor.buffer]
    for old in made:
        content.buffers[old].data = None
    usual = {(getattr(schema.BuiltinOperator, n), v): OPERATOR_VERSIONS[n] for n, v in INT4_VERSIONS.items()}
    for code in content.operatorCodes:
        code.version = usual.get((code.builtinCode, code.version), code.version)
    for entry in content.metadata or []:
        if entry.name == METADATA_NAME.encode():
            text = json.loads(bytes(np.asarray(content.buffers[entry.buffer].data, np.uint8)))
            told = to_json({**text, "weights_as": "int8"}).encode("utf-8")
            content.buffers[entry.buffer].data = np.frombuffer(told, np.uint8)
    builder = flatbuffers.Builder(2 * len(model))
    builder.Finish(content.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())
