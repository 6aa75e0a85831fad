"""The pictures that a person should look at first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hatdet.data.folders.alike import same_pictures
from hatdet.data.folders.check import LEAST_SIDE, OVERHANG, UNIFORM, in_one_place
from hatdet.data.folders.dataset import DataSet, Picture
from hatdet.data.folders.look import Look
from hatdet.data.folders.statistics import BoxTable

OUTLIER = 6.0
"""Robust standard deviations (1.4826 times the median deviation) from which a number is odd."""
LONGEST = 15.0
"""Width by height, or the reverse, from which a box is odd."""
MOST = 10.0
"""What all outliers of one kind in a picture weigh at most."""


@dataclass
class Suspicion:
    """A picture's position in the data set, what is odd in it, and how odd: the sum of the reasons' weights."""

    position: int
    score: float
    reasons: list[str]


def suspicious(
    dataset: DataSet, looks: Sequence[Look], table: BoxTable, pairs: Sequence[tuple[int, int]], most: int = 10
) -> list[Suspicion]:
    """The oddest pictures first; none that has nothing odd.

    Args:
        pairs: positions of pictures that look alike.
    """
    found: dict[int, dict[str, float]] = defaultdict(dict)
    for position, (picture, look) in enumerate(zip(dataset.pictures, looks)):
        for weight, reason in _of_one(picture, look):
            found[position][reason] = weight
    for group in same_pictures(looks):
        boxes = {tuple(sorted((b.label, b.bbox) for b in dataset.pictures[i].boxes)) for i in group}
        for position in group if len(boxes) > 1 else ():
            found[position]["a copy of it has other boxes"] = 5.0
    for first, second in pairs:
        a, b = dataset.pictures[first], dataset.pictures[second]
        if a.split != b.split:
            found[first][f"looks like {b}"] = found[second][f"looks like {a}"] = 3.0
    for position, weight, reason in _outliers(dataset, table):
        found[position][reason] = weight
    ranked = [Suspicion(position, sum(why.values()), list(why)) for position, why in found.items()]
    return sorted(ranked, key=lambda one: (-one.score, one.position))[:most]


def _of_one(picture: Picture, look: Look) -> list[tuple[float, str]]:
    if look.error:
        return [(8.0, f"cannot be used: {look.error}")]
    width, height = picture.width or look.size[0], picture.height or look.size[1]
    outside = thin = long = 0
    for box in picture.boxes:
        x, y, w, h = box.bbox
        outside += max(-x, -y, x + w - width, y + h - height) >= OVERHANG
        thin += min(w, h) < LEAST_SIDE
        long += max(w / h, h / w) > LONGEST
    twice = [first.label == second.label for first, second in in_one_place(picture)]
    counted = [
        (4.0, outside, "outside the picture"),
        (4.0, sum(twice), "marked twice"),
        (3.0, len(twice) - sum(twice), "of two classes in one place"),
        (2.0, thin, "less than a pixel wide or high"),
        (1.5, long, "very long and thin"),
    ]
    reasons = [(min(weight * count, MOST), f"{_boxes(count)} {what}") for weight, count, what in counted if count]
    if look.deviation < UNIFORM:
        reasons.append((4.0, "of one colour"))
    return reasons


def _boxes(count: int) -> str:
    return f"{count} box" if count == 1 else f"{count} boxes"


def _outliers(dataset: DataSet, table: BoxTable) -> list[tuple[int, float, str]]:
    """Pictures with far more boxes than others, and boxes far larger or smaller than others of their class."""
    reasons = []
    counts = np.array([len(picture.boxes) for picture in dataset.pictures], np.float64)
    for position in np.flatnonzero(_deviations(counts, least=2.0) > OUTLIER).tolist():
        text = f"{int(counts[position])} boxes, half of the pictures have up to {np.median(counts):g}"
        reasons.append((position, 1.5, text))
    for label, category in enumerate(dataset.classes):
        chosen = np.flatnonzero(table.label == label)
        if len(chosen) < 20:
            continue
        logs = np.log(np.maximum(table.share[chosen, 2] * table.share[chosen, 3], 1e-12))
        deviations = _deviations(logs, least=0.3)
        for sign, word in ((1, "larger"), (-1, "smaller")):
            odd = table.picture[chosen[sign * deviations > OUTLIER]].tolist()
            for position in sorted(set(odd)):
                reasons.append((position, 2.0, f"a {category.name} far {word} than the others"))
    return reasons


def _deviations(values: np.ndarray, least: float) -> np.ndarray:
    """How many robust standard deviations above (or below, negative) the median; one is ``least`` or more."""
    if not len(values):
        return values
    middle = np.median(values)
    return np.asarray((values - middle) / max(1.4826 * float(np.median(np.abs(values - middle))), least))
