"""What such a decoder has to know of a model, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hatdet.export.arithmetic import named
from hatdet.export.decoder.input import checked_input

HIGHEST = 127


def tabled_model(metadata: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the numpy decoder and the C header need.

    Args:
        metadata: of an exported model, with ``decoding``: what the head says of itself
            (``hatdet/models/mmdet/heads/coding.py``).
        overrides: ``score_thr``, ``nms_pre``, ``max_per_img`` that a device wants otherwise.

    Raises:
        UserError: an input of another type or size.
    """
    decoding = {**metadata["decoding"], **{name: value for name, value in overrides.items() if value is not None}}
    image, count = checked_input(metadata), int(metadata["num_classes"])
    classes = [str(name) for name in metadata.get("classes") or range(count)]
    if len(classes) != count:  # proposals: boxes of all classes are objects
        classes = ["object"] if count == 1 else [str(number) for number in range(count)]
    model = {
        "tabled": True,
        "detector": metadata["detector"],
        **named(metadata),
        "classes": classes,
        "num_classes": count,
        "input": image,
        "outputs": [_output(entry) for entry in metadata["outputs"]],
        **{name: value for name, value in decoding.items() if name != "levels"},
        "levels": [_level(level, decoding, (image["height"], image["width"])) for level in decoding["levels"]],
    }
    model["ordered"] = bool(model["vote"] or model["soft"])
    model["num_anchors"] = max(len(level["anchors"]) for level in model["levels"])
    if any(len(level["anchors"]) != model["num_anchors"] for level in model["levels"]):
        model["num_anchors"] = 0  # levels say their own
    return model


def _output(entry: Mapping[str, Any]) -> dict[str, Any]:
    _, height, width, channels = entry["shape"]
    known = {"name": entry["name"], "height": int(height), "width": int(width), "channels": int(channels)}
    return {**known, "dtype": entry["dtype"], "scale": float(entry["scale"]), "zero_point": int(entry["zero_point"])}


def _level(level: Mapping[str, Any], decoding: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """With the smallest class code that can pass the threshold: where a factor comes first, the one of factor 1."""
    found = dict(level)
    if decoding["peaks"]:  # places are shares of the picture
        found["stride"] = [size[1] / level["width"], size[0] / level["height"]]
    if not decoding["softmax"]:
        scores = np.asarray(level["scores"], np.float32)
        threshold = np.float32(decoding["score_thr"])
        highest = np.sqrt(scores) if decoding["root"] else scores  # of a factor of 1
        passing = highest >= threshold if decoding["reaches"] else highest > threshold
        found["threshold"] = HIGHEST + 1 - int(passing.sum())
    return found


def candidates_of(model: Mapping[str, Any]) -> int:
    """The most candidates that an image can have."""
    sizes = [level["height"] * level["width"] * len(level["anchors"]) for level in model["levels"]]
    if model["by_prior"]:
        return int(sum(min(size, model["nms_pre"]) * model["num_classes"] for size in sizes))
    pairs = [size * (model["num_classes"] if model["multi_label"] else 1) for size in sizes]
    if model["whole"]:
        return int(min(sum(pairs), model["nms_pre"]))
    return int(sum(min(count, model["nms_pre"]) for count in pairs))
