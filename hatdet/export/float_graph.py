"""The float network as plain data: what the float .tflite and the SavedModel are written from.

It is read from the same trace as the integer model (batch normalization folded, activations fused), so every operator
that lowers to integers has a float form too. Shapes are (C, H, W), one image.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx
from torch.fx.passes.shape_prop import ShapeProp

from hatdet.integer.operators.pointwise.requantize import RequantizeOp
from hatdet.models.task_modules.coders import DistancePointBBoxCoder
from hatdet.models.task_modules.decoding import DecodeRule
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.operators.table import FORMS
from hatdet.quantization.qat import fx_adapter
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import input_channels

Shape = tuple[int, int, int]
INPUT_NAME = "images"
ONLY_SCALES = (RequantizeOp.kind,)
"""Operators that change no real number: a float graph has none of them."""


@dataclass(frozen=True, eq=False)
class FloatOp:
    """An operator. Its ``arguments`` (stride, padding, factor, activation, ...) are attributes too, named as the fields
    of the integer operator of that ``kind``.

    ``weight`` (O, I / groups, kh, kw) and ``bias`` (O,) are float32, of operators that have such.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    output: str
    arguments: dict[str, Any] = field(default_factory=dict)
    weight: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self.arguments:
            raise AttributeError(f"{self.kind} {self.name} has no {name}")
        return self.arguments[name]


@dataclass(frozen=True)
class Decoding:
    """Boxes and scores from the raw maps, inside a file, where boxes are distances from points.

    Attributes:
        rule: of the detector: logits, distances (left, top, right, bottom), perhaps factors of the scores.
        exp: distances are logarithms.
        priors: float32 (P, 4): x, y, stride, stride of every position, level after level.
    """

    rule: DecodeRule
    exp: bool
    in_strides: bool
    priors: NDArray[np.float32]

    @property
    def scale(self) -> NDArray[np.float32]:
        """(1, P, 4): what the distances are multiplied by: -stride, -stride, stride, stride (in pixels -1 and 1)."""
        signs = np.array([-1.0, -1.0, 1.0, 1.0], np.float32)
        strides = self.priors[None, :, 2:3] if self.in_strides else np.ones_like(self.priors[None, :, 2:3])
        return (strides * signs).astype(np.float32)

    @property
    def points(self) -> NDArray[np.float32]:
        """(1, P, 4): x, y, x, y of the points."""
        return np.ascontiguousarray(self.priors[None][..., [0, 1, 0, 1]])


@dataclass(frozen=True)
class FloatGraph:
    """``ops`` in execution order from ``input`` to ``outputs``, whose names in a file are ``output_names``.

    With ``decoding`` a file's outputs are ``boxes`` and ``scores`` instead.
    """

    input: str
    outputs: tuple[str, ...]
    output_names: tuple[str, ...]
    ops: tuple[FloatOp, ...]
    shapes: dict[str, Shape]
    decoding: Decoding | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        return self.shapes[self.input][1:]

    @property
    def file_outputs(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """(name, shape of one image's tensor) of each output of a file, channels last."""
        if self.decoding is not None:
            positions, classes = len(self.decoding.priors), self.decoding.rule.num_classes
            return ("boxes", (1, positions, 4)), ("scores", (1, positions, classes))
        shapes = [self.shapes[name] for name in self.outputs]
        return tuple((name, (1, h, w, c)) for name, (c, h, w) in zip(self.output_names, shapes, strict=True))


def trace_float(detector: Any, image_size: tuple[int, int], decode: bool = False) -> FloatGraph:
    """The float network of a detector for images of ``image_size`` (h, w); the detector stays as it is.

    Args:
        decode: with boxes and scores as outputs.

    Raises:
        UserError: an operator has no form in these files (named with its module path), or the detector's decoding.
    """
    folded = copy.deepcopy(detector).eval()
    fuse_bn(folded)
    channels = input_channels(detector)
    try:
        prepared = fx_adapter.prepare(folded.network(), "min_max", 0.01, torch.zeros(1, channels, 64, 64))
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error
    plan = fx_adapter.plan(prepared)
    shapes = _shapes(prepared, image_size, channels)
    alias: dict[str, str] = {}
    ops: list[FloatOp] = []
    for step in plan.steps:
        inputs = tuple(alias.get(name, name) for name in step.inputs)
        if step.kind in ONLY_SCALES:
            alias[step.output] = inputs[0]
        else:
            ops.append(_operator(step, inputs))
    outputs = tuple(alias.get(name, name) for name in plan.outputs)
    decoding = _decoding(detector, image_size) if decode else None
    return FloatGraph(plan.input, outputs, tuple(detector.output_names), tuple(ops), shapes, decoding)


def _operator(step: fx_adapter.Step, inputs: Sequence[str]) -> FloatOp:
    parameters = FORMS[step.kind].parameters(step.module)
    weight, bias = (p if p is None else p.detach().cpu().numpy().astype(np.float32) for p in parameters)
    return FloatOp(step.kind, step.name, tuple(inputs), step.output, dict(step.arguments), weight, bias)


def _shapes(prepared: fx.GraphModule, image_size: tuple[int, int], channels: int) -> dict[str, Shape]:
    """(C, H, W) of every value, by running the network once."""
    prepared.eval()
    with torch.no_grad():
        ShapeProp(prepared).propagate(torch.zeros(1, channels, *image_size))
    found: dict[str, Shape] = {}
    for node in prepared.graph.nodes:
        shape = getattr(node.meta.get("tensor_meta"), "shape", None)
        if shape is not None and len(shape) == 4:
            found[node.name] = (int(shape[1]), int(shape[2]), int(shape[3]))
    return found


def _decoding(detector: Any, image_size: tuple[int, int]) -> Decoding:
    module = detector.decoding(image_size)
    rule = getattr(module, "rule", None)
    if not isinstance(rule, DecodeRule) or type(rule.coder) is not DistancePointBBoxCoder:
        raise UserError(
            f"--decode: {type(detector).__name__}'s decoding has no form in this file; export its raw maps, or use "
            "--format onnx or torchscript"
        )
    priors = module.priors.detach().cpu().numpy().astype(np.float32)
    return Decoding(rule, rule.coder.exp, rule.coder.in_strides, priors)
