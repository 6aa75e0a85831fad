"""Boxes and scores inside a float ``.tflite`` file."""

from __future__ import annotations

import math

import numpy as np

from hatdet.export.float_graph import Decoding
from hatdet.export.tflite.float_writer import FloatWriter


def decoded(
    writer: FloatWriter, maps: list[int], decoding: Decoding, outputs: tuple[tuple[str, tuple[int, ...]], ...]
) -> list[int]:
    """The tensors of boxes and scores; ``outputs``: their names and shapes."""
    (boxes_name, boxes_shape), (scores_name, scores_shape) = outputs
    levels = len(maps) // len(decoding.rule.columns)
    logits = _flat(writer, maps[:levels], "logits", scores_shape)
    scores = writer.tensor(scores_name, scores_shape)
    if decoding.rule.score_factor:
        shape = (*scores_shape[:2], 1)
        factors = _flat(writer, maps[2 * levels :], "factors", shape)
        classes = writer.step("LOGISTIC", [logits], writer.tensor("logits/score", scores_shape))
        writer.step("MUL", [classes, writer.step("LOGISTIC", [factors], writer.tensor("factors/score", shape))], scores)
    else:
        writer.step("LOGISTIC", [logits], scores)
    distances = _flat(writer, maps[levels : 2 * levels], "distances", boxes_shape)
    if decoding.exp:
        distances = writer.step("EXP", [distances], writer.tensor("distances/exp", boxes_shape))
    scaled = writer.tensor("distances/pixels", boxes_shape)
    writer.step("MUL", [distances, writer.model.constant("strides", decoding.scale, "FLOAT32")], scaled)
    boxes = writer.tensor(boxes_name, boxes_shape)
    writer.step("ADD", [scaled, writer.model.constant("points", decoding.points, "FLOAT32")], boxes)
    return [boxes, scores]


def _flat(writer: FloatWriter, maps: list[int], name: str, shape: tuple[int, ...]) -> int:
    """Maps (1, h, w, A * c) of all levels as one (1, P, c)."""
    rows = []
    for number, index in enumerate(maps):
        new = (1, math.prod(int(n) for n in writer.model.tensors[index].shape) // shape[2], shape[2])
        row, size = writer.tensor(f"{name}/{number}", new), np.array(new, np.int32)
        inputs = [index, writer.integers(f"{name}/{number}/shape", size)]
        rows.append(writer.step("RESHAPE", inputs, row, newShape=size))
    return writer.step("CONCATENATION", rows, writer.tensor(name, shape), axis=1)
