"""Facts about the objects of a packed set that a training should know before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from hatdet.data.packers.store.lmdb_format import Store
from hatdet.data.transforms.apply import apply
from hatdet.data.transforms.sample import Context, Sample, Source, Tile, Transform
from hatdet.data.transforms.tensor import ToTensor
from hatdet.utils.errors import UserError


def object_table(
    store: Store, positions: Sequence[int] | NDArray[np.int64], relabel: NDArray[np.int32] | None
) -> NDArray[np.float32]:
    """(n, 5): width and height of each object, height and width of its picture, and the picture's number; no crowds."""
    positions = np.asarray(positions, np.int64)
    found = [np.zeros((0, 4), np.float32)]
    for position in positions.tolist():
        record = store.boxes(position)
        keep = ~record.iscrowd if relabel is None else ~record.iscrowd & (relabel[record.labels] >= 0)
        found.append(record.boxes[keep])
    boxes = np.concatenate(found)
    pictures = np.column_stack([store.index.sizes[positions], np.arange(len(positions))]).astype(np.float32)
    counts = [len(kept) for kept in found[1:]]
    return np.concatenate([boxes[:, 2:] - boxes[:, :2], np.repeat(pictures, counts, axis=0)], axis=1)


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


def shrunk_warning(store: Store, pipeline: Sequence[Transform]) -> str:
    """What an evaluation on pictures that were stored smaller than their files has to know; empty: there are none."""
    count = int(store.header.get("shrunk_images", 0))
    if not count:
        return ""
    side = int(store.header["max_side"])
    text = (
        f"{store.path}: {count} pictures were shrunk to {side} px when they were packed: scores are not those of whole "
        "pictures, which a device sees: pack validation data without --max-side (max_side)"
    )
    result = input_scale(pipeline, (side, side))
    if result is not None and max(result[0]) > 1:
        text += f"; the transforms enlarge them again: the network takes {max(result[1])} px"
    return text


class _NoPartners:
    """A picture that is alone."""

    indices: tuple[int, ...] = ()

    def load(self, index: int) -> Sample:
        raise UserError("there is no other picture")
