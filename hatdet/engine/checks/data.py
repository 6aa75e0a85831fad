"""What a look at the data tells before anything runs: objects too small, too many, pictures in both sets.

Data sets say it by ``objects()``, ``input_scale(size)`` and ``picture_sums()`` (docs/contracts.md, section 3); of
others nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import nn

LEAST_SIDE = 2.0
"""Pixels of the network's input that an object's shorter side needs to leave a trace in the first feature map."""
LEARNT_SIDE = 1.0
"""Pixels of the picture below which a box is not learned from (the data sets leave it out), whatever the input is."""
HELPED = 0.9
"""Share of the small objects that the advised size brings above that."""
LARGEST_FACTOR = 8.0
"""Beyond so many times the present size no advice is given."""


def data_warnings(model: nn.Module, loaders: Mapping[str, Any]) -> Iterator[str]:
    """Lines on what the numbers will not show; none where all is well.

    Args:
        loaders: by title. Sizes at the network's input are those that the validation's transforms make.
    """
    found = {title: getattr(loader, "dataset", None) for title, loader in loaders.items()}
    datasets = {title: data for title, data in found.items() if data is not None}
    judge = datasets.get("validation", next(iter(datasets.values()), None))
    stride = max([32, *(int(s) for s in getattr(getattr(model, "task", model), "strides", ()))])
    limit = _detections_of(model)
    for title, data in datasets.items():
        if not callable(getattr(data, "objects", None)):
            continue
        objects = np.asarray(data.objects(), np.float64)
        if not len(objects):
            scored = "AP is not measured, and the last weights count as the best"
            yield f"{title} data: not one object: {scored if title == 'validation' else 'there is nothing to learn'}"
            continue
        fullest = np.bincount(objects[:, 4].astype(np.int64))
        lost = objects[:, :2].min(axis=1) < LEARNT_SIDE
        if title == "training" and lost.any():
            yield (
                f"training data: {lost.sum()} of {len(objects)} objects ({lost.mean():.1%}) are less than a pixel wide "
                "or high in their own pictures and are not learned: look at these annotations (are they in pixels?)"
            )
            objects = objects[~lost]
        if line := small_objects(objects, judge, stride):
            yield f"{title} data: {line}"
        if limit is not None and fullest.max() > limit:
            yield (
                f"{title} data: {_count((fullest > limit).sum(), 'picture')} with more objects (up to {fullest.max()}) "
                f"than the model gives boxes: raise max_per_img={limit} (detections_per_img) of its post_process"
            )
    if line := shared_pictures(datasets.get("training"), datasets.get("validation")):
        yield line


def small_objects(objects: np.ndarray, judge: Any, stride: int = 32) -> str:
    """One line on the objects whose shorter side is below two pixels at the network's input; empty: there are none.

    Args:
        objects: (n, 5) as a data set's ``objects()``.
        judge: a data set whose transforms are the device's.
    """
    scale_of = getattr(judge, "input_scale", None)
    if not callable(scale_of) or not len(objects):
        return ""
    sizes, size_of = np.unique(objects[:, 2] + 1j * objects[:, 3], return_inverse=True)  # pairs, sorted faster
    found = [scale_of((int(size.real), int(size.imag))) for size in sizes]
    if not all(found):
        return ""
    sides = (objects[:, :2] * np.array([scale for scale, _ in found])[size_of]).min(axis=1)
    canvas = found[-1][1]
    small = sides < LEAST_SIDE
    if not small.any():
        return ""
    text = (
        f"{small.sum()} of {len(objects)} objects ({small.mean():.1%}) are less than {LEAST_SIDE:g} pixels wide or "
        f"high at the network's input of {canvas[0]}x{canvas[1]} and can hardly be found"
    )
    factor = float(np.quantile(LEAST_SIDE / np.maximum(sides[small], 1e-9), HELPED, method="higher"))
    if factor > LARGEST_FACTOR:
        return f"{text}; no larger imgsz brings most of them above: look at these annotations, or cut the pictures up"
    height, width = (math.ceil(side * factor / stride) * stride for side in canvas)
    return f"{text}; imgsz=({height}, {width}) brings nine of ten of them above"


def shared_pictures(train: Any, val: Any) -> str:
    """One line where pictures of the validation data are in the training data too."""
    if not all(callable(getattr(data, "picture_sums", None)) for data in (train, val)):
        return ""
    ours, theirs = train.picture_sums(), val.picture_sums()
    both = len(ours & theirs)
    if not both:
        return ""
    share = "all" if both == len(theirs) else f"{both} of {len(theirs)}"
    return (
        f"{share} pictures of the validation data are in the training data too: AP says that much less about pictures "
        "that the model has not seen"
    )


def _detections_of(model: nn.Module) -> int | None:
    """How many boxes a detector gives of a picture, at most; None where it does not say."""
    owner = getattr(model, "task", model)
    for part in (getattr(owner, "post_process", None), owner):
        for name in ("max_per_img", "detections_per_img"):
            limit = getattr(part, name, None)
            if isinstance(limit, int):
                return limit
    return None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
