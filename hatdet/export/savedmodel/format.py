"""``--format savedmodel``: the float network as a TensorFlow SavedModel, written by tensorflow where it is installed.

The signature ``serving_default`` takes ``images`` (1, h, w, 3) float32, normalized, and gives the outputs by name. The
metadata lies in ``assets.extra/hatdet.json``, a folder that the format keeps for such files.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hatdet.export.files import sidecar, write_atomic
from hatdet.export.float_files import checked, metadata
from hatdet.export.float_graph import INPUT_NAME, Decoding, FloatGraph, FloatOp, trace_float
from hatdet.export.formats import ExportJob, FileRecord
from hatdet.export.metadata import to_json
from hatdet.export.runtimes.floating import METADATA_FILE, SavedModelFolder, load_tensorflow
from hatdet.utils.errors import UserError


def require(job: ExportJob) -> None:
    """Refuse quantized weights, and where tensorflow is missing."""
    _ = job.detector
    load_tensorflow("--format savedmodel")


def export(job: ExportJob) -> list[FileRecord]:
    """Write ``<stem>_saved_model/``.

    Raises:
        UserError: tensorflow is not installed, or an operator has no form there.
    """
    tf = load_tensorflow("--format savedmodel")
    graph = trace_float(job.detector, job.image_size, job.options.decode)
    path = job.path("_saved_model")
    text = to_json(metadata(job, "savedmodel float32", graph.file_outputs, "NHWC"))
    write_saved_model(tf, graph, path, text)
    write_atomic(sidecar(path), text.encode("utf-8"))
    return [checked(job, path, "savedmodel float32", partial(SavedModelFolder, path))]


def write_saved_model(tf: Any, graph: FloatGraph, path: Path, text: str) -> None:
    """Write the folder whole or not at all; an earlier SavedModel there is replaced.

    Raises:
        UserError: something else stands there.
    """
    if path.exists() and not (path / "saved_model.pb").is_file():
        raise UserError(f"{path} is there and is no SavedModel: move it away, or choose another --out-dir")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}", suffix=".part"))
    try:
        module = tf.Module()
        h, w = graph.image_size
        signature = [tf.TensorSpec((1, h, w, graph.shapes[graph.input][0]), tf.float32, name=INPUT_NAME)]
        module.serve = tf.function(lambda images: TensorFlowNetwork(tf, graph)(images), input_signature=signature)
        tf.saved_model.save(module, str(temporary), signatures={"serving_default": module.serve})
        write_atomic(temporary / "assets.extra" / METADATA_FILE, text.encode("utf-8"))
        os.chmod(temporary, 0o755)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class TensorFlowNetwork:
    """The graph as calls of tensorflow's operators, NHWC; called with images it gives the outputs by name.

    Args:
        tf: the tensorflow module.
    """

    def __init__(self, tf: Any, graph: FloatGraph) -> None:
        self.tf, self.graph = tf, graph

    def __call__(self, images: Any) -> dict[str, Any]:
        values = {self.graph.input: images}
        for op in self.graph.ops:
            rule: Callable[[FloatOp, list[Any]], Any] | None = getattr(self, f"_{op.kind}", None)
            if rule is None:
                raise UserError(
                    f"operator {op.name!r} of kind {op.kind!r} has no form in a SavedModel yet; "
                    "use --format onnx, or another layer"
                )
            values[op.output] = rule(op, [values[name] for name in op.inputs])
        maps = [values[name] for name in self.graph.outputs]
        names = [name for name, _ in self.graph.file_outputs]
        outputs = self._decoded(maps, self.graph.decoding) if self.graph.decoding is not None else maps
        return {name: self.tf.identity(value, name=name) for name, value in zip(names, outputs, strict=True)}

    def _limited(self, value: Any, name: str) -> Any:
        """A fused activation."""
        nn = self.tf.nn
        if name == "hardsigmoid":
            return nn.relu6(value + 3.0) * np.float32(1.0 / 6.0)
        return {"none": lambda x: x, "relu": nn.relu, "relu6": nn.relu6}[name](value)

    def _padded(self, value: Any, padding: tuple[int, int], constant: float = 0.0) -> Any:
        (rows, columns) = padding
        if padding == (0, 0):
            return value
        return self.tf.pad(value, [[0, 0], [rows, rows], [columns, columns], [0, 0]], constant_values=constant)

    def _conv(self, op: FloatOp, inputs: list[Any]) -> Any:
        assert op.weight is not None and op.bias is not None
        source = self._padded(inputs[0], op.arguments["padding"])
        stride, dilation, groups = (op.arguments[key] for key in ("stride", "dilation", "groups"))
        channels = int(source.shape[3])
        weight = np.ascontiguousarray(op.weight.transpose(2, 3, 1, 0))  # (kh, kw, I / groups, O)
        if groups == channels and groups > 1 and stride[0] == stride[1]:
            kh, kw, _, out = weight.shape
            kernel = weight.reshape(kh, kw, channels, out // channels)
            result = self.tf.nn.depthwise_conv2d(source, kernel, (1, *stride, 1), "VALID", dilations=dilation)
        else:  # tensorflow's CPU kernels have no groups: one convolution each
            parts = self.tf.split(source, groups, axis=3) if groups > 1 else [source]
            kernels = np.split(weight, groups, axis=3)
            results = [
                self.tf.nn.conv2d(part, kernel, (1, *stride, 1), "VALID", dilations=(1, *dilation, 1))
                for part, kernel in zip(parts, kernels, strict=True)
            ]
            result = self.tf.concat(results, axis=3) if groups > 1 else results[0]
        return self._limited(self.tf.nn.bias_add(result, op.bias), op.arguments["activation"])

    def _add(self, op: FloatOp, inputs: list[Any]) -> Any:
        return self._limited(inputs[0] + inputs[1], op.arguments.get("activation", "none"))

    def _mul(self, op: FloatOp, inputs: list[Any]) -> Any:
        return inputs[0] * inputs[1]

    def _concat(self, op: FloatOp, inputs: list[Any]) -> Any:
        return self.tf.concat(inputs, axis=3)

    def _max_pool(self, op: FloatOp, inputs: list[Any]) -> Any:
        lowest = float(np.finfo(np.float32).min)
        source = self._padded(inputs[0], op.arguments["padding"], lowest)
        return self.tf.nn.max_pool2d(source, op.arguments["kernel"], op.arguments["stride"], "VALID")

    def _average_pool(self, op: FloatOp, inputs: list[Any]) -> Any:
        return self.tf.nn.avg_pool2d(inputs[0], op.arguments["kernel"], op.arguments["stride"], "VALID")

    def _global_average_pool(self, op: FloatOp, inputs: list[Any]) -> Any:
        return self.tf.reduce_mean(inputs[0], axis=(1, 2), keepdims=True)

    def _resize_nearest(self, op: FloatOp, inputs: list[Any]) -> Any:
        factor = op.arguments["factor"]
        return self.tf.repeat(self.tf.repeat(inputs[0], factor, axis=1), factor, axis=2)

    def _resize_bilinear(self, op: FloatOp, inputs: list[Any]) -> Any:
        _, h, w = self.graph.shapes[op.output]
        resize = self.tf.raw_ops.ResizeBilinear
        return resize(images=inputs[0], size=[h, w], align_corners=False, half_pixel_centers=True)

    def _pad(self, op: FloatOp, inputs: list[Any]) -> Any:
        top, bottom, left, right = op.arguments["padding"]
        return self.tf.pad(inputs[0], [[0, 0], [top, bottom], [left, right], [0, 0]])

    def _clamp(self, op: FloatOp, inputs: list[Any]) -> Any:
        return self._limited(inputs[0], op.arguments["activation"])

    def _activation(self, op: FloatOp, inputs: list[Any]) -> Any:
        (x,), function, tf = inputs, op.arguments["function"], self.tf
        if function == "hardswish":
            return x * self._limited(x, "hardsigmoid")
        if function == "hardsigmoid":
            return self._limited(x, function)
        if function == "sigmoid":
            return tf.sigmoid(x)
        if function == "silu":
            return x * tf.sigmoid(x)
        raise UserError(
            f"operator {op.name!r}: the activation {function!r} has no form in a SavedModel yet; "
            "use --format onnx, or another activation"
        )

    def _decoded(self, maps: list[Any], decoding: Decoding) -> list[Any]:
        tf, levels = self.tf, len(maps) // 2
        flat = [tf.reshape(m, (1, int(m.shape[1]) * int(m.shape[2]), int(m.shape[3]))) for m in maps]
        distances = tf.concat(flat[levels:], axis=1)
        if decoding.exp_on_reg:
            distances = tf.exp(distances)
        boxes = distances * decoding.scale + decoding.points
        return [boxes, tf.sigmoid(tf.concat(flat[:levels], axis=1))]
