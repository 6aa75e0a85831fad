"""Numbers of a data set that decide how it trains: classes, box sizes at the network's input, shapes, places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hatdet.data.folders.dataset import DataSet
from hatdet.data.folders.look import Look

SIDES = (0, 2, 4, 8, 16, 32, 64, 128, 256)
"""Edges in pixels of the network's input; the last class of sizes is open."""
SMALL = (2, 8, 16)
"""A shorter side below these: hardly a trace in the first maps; smaller than a cell of stride 8; of stride 16."""
RATIOS = (0, 0.1, 0.25, 0.5, 0.75, 1.3333, 2, 4, 10)
"""Edges of width / height; the last class is open."""
FIELDS = 16
"""Of a picture's side in the map of places."""


@dataclass
class BoxTable:
    """All boxes to learn, a row each: number of the picture, label, and size.

    Attributes:
        picture: int64 (n,), label: int64 (n,).
        share: float64 (n, 4): x, y (centre), width, height as shares of the picture.
        side: float64 (n,): the shorter side at the network's input, in pixels.
        ratio: float64 (n,): width / height.
    """

    picture: NDArray[np.int64]
    label: NDArray[np.int64]
    share: NDArray[np.float64]
    side: NDArray[np.float64]
    ratio: NDArray[np.float64]


def box_table(dataset: DataSet, looks: Sequence[Look], imgsz: tuple[int, int]) -> BoxTable:
    """The boxes of all pictures that can be used.

    Args:
        imgsz: (height, width) of the network's input, into which pictures are fitted with their aspect kept.
    """
    rows: list[tuple[float, ...]] = []
    for position, (picture, look) in enumerate(zip(dataset.pictures, looks)):
        width, height = picture.width or look.size[0], picture.height or look.size[1]
        if look.error or not width or not height:
            continue
        scale = min(imgsz[0] / height, imgsz[1] / width)
        for box in picture.boxes:
            if box.iscrowd:
                continue
            x, y, w, h = box.bbox
            shares = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
            rows.append((position, box.label, *shares, min(w, h) * scale, w / h))
    table = np.array(rows, np.float64).reshape(-1, 8)
    return BoxTable(
        table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:6], table[:, 6], table[:, 7]
    )


def histogram(values: NDArray[np.float64], edges: Sequence[float]) -> list[tuple[str, int]]:
    """Names and counts of the classes between edges (the lower one belongs to a class); the last one is open."""
    places = np.searchsorted(np.asarray(edges, np.float64), values, side="right") - 1
    counts = np.bincount(np.clip(places, 0, len(edges) - 1), minlength=len(edges))
    names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    return [*zip(names, counts[:-1].tolist()), (f"{edges[-1]:.3g} and more", int(counts[-1]))]


def small_shares(table: BoxTable) -> dict[int, float]:
    """The share of boxes whose shorter side at the network's input is below each of :data:`SMALL`."""
    return {limit: float((table.side < limit).mean()) if len(table.side) else 0.0 for limit in SMALL}


def place_map(table: BoxTable) -> NDArray[np.int64]:
    """int64 (16, 16): centres of boxes in each field of the picture, rows from the top."""
    fields = np.clip(np.floor(table.share[:, :2] * FIELDS), 0, FIELDS - 1).astype(np.int64)
    counts = np.zeros((FIELDS, FIELDS), np.int64)
    np.add.at(counts, (fields[:, 1], fields[:, 0]), 1)
    return counts


def picture_sizes(dataset: DataSet, looks: Sequence[Look], most: int = 6) -> list[tuple[str, int]]:
    """The most frequent sizes (width x height) and how many pictures have them; the rest as one."""
    counts: dict[str, int] = {}
    for picture, look in zip(dataset.pictures, looks):
        width, height = picture.width or look.size[0], picture.height or look.size[1]
        if not look.error:
            counts[f"{width}x{height}"] = counts.get(f"{width}x{height}", 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    rest = sum(count for _, count in ordered[most:])
    return ordered[:most] + ([(f"{len(ordered) - most} other sizes", rest)] if rest else [])
