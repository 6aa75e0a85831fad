"""What travels with an exported model, inside the file and beside it: names, quantization, classes, preprocessing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

import hatdet
from hatdet.integer.graph import IntGraph

METADATA_NAME = "hatdet"
INPUT_NAME = "images"


def output_names(graph: IntGraph) -> tuple[str, ...]:
    """Names of the outputs in the file: ``graph.metadata["output_names"]``, else the graph's own tensor names.

    Raises:
        ValueError: their number is not that of the outputs, or one occurs twice.
    """
    names = tuple(graph.metadata.get("output_names") or graph.outputs)
    if len(names) != len(graph.outputs):
        raise ValueError(f"{len(names)} output names {names} for {len(graph.outputs)} outputs {graph.outputs}")
    if len(set(names)) != len(names) or INPUT_NAME in names:
        raise ValueError(f"output names must be unique and not {INPUT_NAME!r}, got {names}")
    return names


def file_names(graph: IntGraph) -> dict[str, str]:
    """Name in the file of every tensor of the graph: the input ``images``, outputs by name, others as they are."""
    names = {graph.inputs[0]: INPUT_NAME}
    for tensor, name in zip(graph.outputs, output_names(graph), strict=True):
        names.setdefault(tensor, name)
    taken = set(names.values())
    for op in graph.ops:
        if op.output not in names:
            candidate = op.output
            while candidate in taken:
                candidate += "_"
            names[op.output] = candidate
            taken.add(candidate)
    return names


def build_metadata(graph: IntGraph, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """Metadata of an exported graph: what the graph knows, then ``extra`` (the detector's), as plain JSON values."""
    names = output_names(graph)
    return file_metadata(
        file_format="tflite int8",
        profile=graph.metadata["profile"],
        facts={
            **graph.metadata,
            "shared_weight_bytes_saved": graph.shared_weight_bytes_saved,
            **(extra or {}),
        },
        inputs={"name": INPUT_NAME, **_describe(graph, graph.inputs[0])},
        outputs=[{"name": n, **_describe(graph, t)} for n, t in zip(names, graph.outputs, strict=True)],
    )


def file_metadata(
    *, file_format: str, profile: str, facts: dict[str, Any], inputs: dict[str, Any], outputs: list[dict[str, Any]]
) -> dict[str, Any]:
    """The metadata of any exported file, with the same keys for all formats, as plain JSON values.

    Args:
        file_format: e.g. ``tflite int8``, ``onnx float32``.
        profile: the arithmetic: a name of :mod:`hatdet.integer.profiles`, or ``float32`` for files that compute in
            float.
        facts: the detector's (classes, strides, mean and std, image_size, ...); ``normalization`` ``inside`` where the
            file takes pixels, ``decoded`` where it gives boxes and scores, ``shared_weight_bytes_saved`` where weights
            are stored once for several convolutions.
        inputs, outputs: tensors as :func:`float_tensor` describes them; integer ones have scale and zero point.
    """
    known: dict[str, Any] = {
        "decoded": False,
        "normalization": "outside",
        "shared_weight_bytes_saved": 0,
        **facts,
        "format": file_format,
        "hatdet_version": hatdet.__version__,
        "profile": profile,
        "input": inputs,
        "outputs": outputs,
        "output_names": [tensor["name"] for tensor in outputs],
    }
    return dict(plain(known))


def float_tensor(name: str, shape: tuple[int, ...], layout: str) -> dict[str, Any]:
    """The description of a float32 tensor, with the keys that integer tensors have."""
    return {
        "name": name,
        "shape": list(shape),
        "layout": layout,
        "dtype": "float32",
        "scale": None,
        "zero_point": None,
        "real": "value",
    }


def _describe(graph: IntGraph, name: str) -> dict[str, Any]:
    info = graph.tensors[name]
    channels, height, width = info.shape
    return {
        "shape": [1, height, width, channels],
        "layout": "NHWC",
        "dtype": info.qparams.dtype,
        "scale": info.qparams.scale,
        "zero_point": info.qparams.zero_point,
        "real": "scale * (code - zero_point)",
    }


def plain(value: Any) -> Any:
    """``value`` made of JSON's types only (tuples, numpy and torch values become lists and numbers).

    Raises:
        TypeError: a value that JSON cannot say.
    """
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"metadata holds a {type(value).__name__}, which JSON cannot say: {value!r}")


def to_json(metadata: dict[str, Any]) -> str:
    """The same text for the same metadata: sorted keys, floats in their shortest exact form."""
    return json.dumps(metadata, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
