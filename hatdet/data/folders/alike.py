"""Pictures that are the same, or nearly: frames of one scene, copies in another size or compression."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from hatdet.data.folders.look import Look

MAX_BITS = 10
"""Bits of 64 by which the hashes of two pictures that look alike may differ."""
LIKENESS = 0.9
"""Least correlation of their small gray pictures: hashes of smooth pictures meet by chance. With both, what is found in
sets of street and laboratory photographs is the same scene a moment later, cropped, or in another size."""
BLOCK = 512
"""Pictures that are compared with all others at a time."""
MAX_OF_ONE = 200
"""Pairs kept of one picture: a set of one scene has all of them. Half are with the next pictures, half with the last
ones of the data set, which are of another split."""


def same_pictures(looks: Sequence[Look]) -> list[list[int]]:
    """Positions of files that are byte for byte the same, two or more a group."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, look in enumerate(looks):
        if not look.error:
            found[look.checksum].append(position)
    return [group for group in found.values() if len(group) > 1]


def alike_pairs(looks: Sequence[Look], likeness: float = LIKENESS, max_bits: int = MAX_BITS) -> list[tuple[int, int]]:
    """Pairs of positions, the lower one first, whose pictures look alike; the same files are among them.

    Every picture is compared with every other: exact, and 10 000 pictures take two seconds.
    """
    pairs = {pair for group in same_pictures(looks) for pair in pairwise(group)}
    fields = {place: look.small for place, look in enumerate(looks) if look.small is not None and look.small.any()}
    if not fields:
        return sorted(pairs)
    usable, small = list(fields), np.stack(list(fields.values()))
    for start in range(0, len(usable), BLOCK):
        alike = small[start : start + BLOCK] @ small[start:].T >= likeness
        for row in np.flatnonzero(alike.sum(axis=1) > 1).tolist():  # each is like itself
            columns = row + 1 + np.flatnonzero(alike[row, row + 1 :])
            if len(columns) > MAX_OF_ONE:
                columns = np.concatenate([columns[: MAX_OF_ONE // 2], columns[-MAX_OF_ONE // 2 :]])
            first = usable[start + row]
            for second in (usable[start + column] for column in columns.tolist()):
                if (looks[first].hash ^ looks[second].hash).bit_count() <= max_bits:
                    pairs.add((first, second))
    return sorted(pairs)


def groups(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """All positions, in groups: what is connected by pairs stays together, in the order of the first of each."""
    parent = list(range(count))

    def find(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    for first, second in pairs:
        a, b = find(first), find(second)
        parent[max(a, b)] = min(a, b)
    found: dict[int, list[int]] = defaultdict(list)
    for position in range(count):
        found[find(position)].append(position)
    return list(found.values())
