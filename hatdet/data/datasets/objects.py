"""Facts about the objects of a packed set that a training should know before it starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from hatdet.data.packers.lmdb_format import Store
from hatdet.data.transforms.apply import apply
from hatdet.data.transforms.sample import Context, Sample, Source, Tile, Transform
from hatdet.data.transforms.tensor import ToTensor
from hatdet.utils.errors import UserError


def object_table(
    store: Store, positions: Iterable[int], relabel: NDArray[np.int32] | None
) -> NDArray[np.float32]:
    """(n, 5): width and height of each object, height and width of its picture, and the picture's number; no crowds."""
    rows = [np.zeros((0, 5), np.float32)]
    for number, position in enumerate(map(int, positions)):
        record = store.boxes(position)
        labels = record.labels if relabel is None else relabel[record.labels]
        boxes = record.boxes[~record.iscrowd & (labels >= 0)]
        if len(boxes):
            height, width = store.index.sizes[position]
            picture = np.tile(np.array([height, width, number], np.float32), (len(boxes), 1))
            rows.append(np.concatenate([boxes[:, 2:] - boxes[:, :2], picture], axis=1))
    return np.concatenate(rows)


def input_scale(
    pipeline: Sequence[Transform], size: tuple[int, int]
) -> tuple[tuple[float, float], tuple[int, int]] | None:
    """What transforms do to a picture of ``size`` (h, w): (sx, sy), and the (h, w) that comes out.

    None: they need more than the picture's size (other pictures, its pixels, objects).
    """
    height, width = size

    def no_pixels() -> NDArray[np.uint8]:
        raise UserError("a transform looks at pixels")

    tile = Tile(Source(size, no_pixels), 1.0, 1.0, 0.0, 0.0, (0.0, 0.0, float(width), float(height)))
    sample = Sample(
        index=0, img_id=0, file_name="", orig_size=size, tiles=[tile], canvas=size,
        boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64), img_size=size,
    )  # fmt: skip
    ctx = Context(np.random.Generator(np.random.Philox(key=[0, 0])), _NoPartners(), must_keep=True)
    try:
        result = apply(list(takewhile(lambda t: not isinstance(t, ToTensor), pipeline)), sample, ctx)
    except UserError:
        return None
    return None if result is None else (result.scale, result.canvas)


class _NoPartners:
    """A picture that is alone."""

    indices: tuple[int, ...] = ()

    def load(self, index: int) -> Sample:
        raise UserError("there is no other picture")
