"""A sample after each of its transforms, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hatdet.data.datasets.drawing import drawn, plain_ref
from hatdet.data.samplers import SampleRef
from hatdet.data.transforms.apply import apply
from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Context, Image, Sample


@dataclass
class Step:
    """The sample after the transform ``name``: BGR or gray pixels, boxes (n, 4) xyxy, labels (n,)."""

    name: str
    image: Image
    boxes: np.ndarray
    labels: np.ndarray


def draw_steps(owner: Any, ref: SampleRef | int, late: bool = False) -> list[Step]:
    """The picture as it is in the file, then after each transform up to the tensor: what ``owner[ref]`` goes through.

    Args:
        owner: the data set that ``ref`` counts in, as for :func:`~hatdet.data.datasets.drawing.draw`.
        late: by its ``late_transforms``.
    """
    ref = ref if isinstance(ref, SampleRef) else plain_ref(owner, int(ref))
    ref = ref._replace(pipeline=1) if late else ref
    return drawn(owner, ref, _steps)[1]


def _steps(pipeline: Sequence[Any], sample: Sample, ctx: Context) -> list[Step] | None:
    steps = [_step("file", sample)]
    for transform in pipeline:
        result = apply([transform], sample, ctx)
        if result is None:
            return None
        sample = result
        if sample.tensor is None:
            steps.append(_step(type(transform).__name__, sample))
    return steps


def _step(name: str, sample: Sample) -> Step:
    """Drawn from a copy: a picture that is drawn early would be resampled once more by the next transform."""
    copy = replace(sample, tiles=[replace(tile) for tile in sample.tiles])
    image = np.array(render(copy))
    return Step(name, image, np.array(sample.boxes, np.float32), np.array(sample.labels, np.int64))
