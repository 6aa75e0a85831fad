"""Splits in which every class has its share, and pictures that look alike are never in two of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hatdet.data.folders.alike import LIKENESS, alike_pairs, groups
from hatdet.data.folders.dataset import DataSet, Picture, class_counts
from hatdet.data.folders.look import Look
from hatdet.utils.errors import UserError

_EXPORTED = re.compile(r"(.+)\.rf\.[0-9A-Za-z]{16,}\.\w+$")
"""Roboflow's names of the augmented copies of one picture: ``street_jpg.rf.0123456789abcdef.jpg``."""


def check_shares(shares: Mapping[str, float]) -> None:
    """Refuse what is no division.

    Raises:
        UserError: a share outside 0..1, or nothing left for training.
    """
    for split, share in shares.items():
        if not 0 <= share < 1:
            raise UserError(f"--{split} {share:g}: give a share of the pictures, from 0 to less than 1 (0.2: a fifth)")
    if not 0 < sum(shares.values()) < 1:
        raise UserError(f"--val and --test are {sum(shares.values()):g} together; give more than 0 and less than 1")


def alike_groups(pictures: Sequence[Picture], looks: Sequence[Look], likeness: float = LIKENESS) -> list[list[int]]:
    """Positions in groups that must stay together: look alike, or are copies of one picture by their names."""
    pairs = alike_pairs(looks, likeness)
    first: dict[str, int] = {}
    for position, picture in enumerate(pictures):
        match = _EXPORTED.match(picture.path.name)
        if match:
            pairs.append((first.setdefault(match[1], position), position))
    return groups(len(pictures), pairs)


def split_dataset(
    dataset: DataSet,
    looks: Sequence[Look],
    shares: Mapping[str, float],
    seed: int = 0,
    keep: Sequence[str] = (),
    likeness: float | None = LIKENESS,
) -> tuple[DataSet, list[list[int]]]:
    """The same pictures with other splits.

    Args:
        looks: at each picture, in order; damaged ones are left out.
        shares: of the pictures for each split but ``train``, which gets the rest.
        seed: among divisions that are as good, chooses another.
        keep: splits whose pictures stay where they are, and count towards no share; what looks like them is put to
            them.
        likeness: see :func:`~hatdet.data.folders.alike.alike_pairs`; None: each picture for itself.

    Returns:
        the data set, and the groups (positions in it) that were kept together.

    Raises:
        UserError: there are too few pictures, or all look alike.
    """
    check_shares(shares)
    usable = [position for position, look in enumerate(looks) if not look.error]
    pictures = [dataset.pictures[position] for position in usable]
    shots = [looks[position] for position in usable]
    together = [[i] for i in range(len(pictures))] if likeness is None else alike_groups(pictures, shots, likeness)
    fixed = {number: kept for number, group in enumerate(together) if (kept := _kept(group, pictures, keep))}
    free = [number for number in range(len(together)) if number not in fixed]
    wanted = {"train": 1 - sum(shares.values()), **{split: share for split, share in shares.items() if share > 0}}
    if len(free) < len(wanted):
        raise UserError(
            f"{dataset.root}: {len(pictures)} pictures are {len(free)} groups that look alike: too few for "
            f"{len(wanted)} splits; add pictures, or allow leaks with --ungrouped"
        )
    table = np.array([_amounts(together[number], pictures, len(dataset.classes)) for number in free])
    names = list(wanted)
    chosen = assign(table, np.array([wanted[name] for name in names]), seed)
    split_of = {**fixed, **{number: names[choice] for number, choice in zip(free, chosen)}}
    result = list(pictures)
    for number, group in enumerate(together):
        for position in group:
            result[position] = replace(pictures[position], split=split_of[number])
    return replace(dataset, pictures=result, named_splits=tuple(names)), together


def _kept(group: Sequence[int], pictures: Sequence[Picture], keep: Sequence[str]) -> str:
    return next((split for split in keep if any(pictures[i].split == split for i in group)), "")


def _amounts(group: Sequence[int], pictures: Sequence[Picture], num_classes: int) -> NDArray[np.float64]:
    """What a group brings: pictures, empty pictures, then for each class pictures that have it, and boxes."""
    row = np.zeros(2 + 2 * num_classes)
    for picture in (pictures[position] for position in group):
        boxes = np.array(class_counts(picture.boxes, num_classes), np.int64)
        row += np.concatenate([[1, not boxes.any()], boxes > 0, boxes])
    return row


def assign(table: NDArray[np.float64], shares: NDArray[np.float64], seed: int) -> list[int]:
    """A split for each row so that every column is divided by the shares as nearly as a greedy way finds.

    The rows that weigh most, those with the rarest classes among them, choose first; each goes where the sum of the
    squared relative deviations grows least.

    Args:
        table: (groups, columns) of amounts >= 0. shares: (splits,), their sum is 1.
    """
    totals = np.maximum(table.sum(axis=0), 1e-9)
    relative = table / totals
    order = np.random.default_rng(seed).permutation(len(table))
    order = order[np.argsort(-relative[order].sum(axis=1), kind="stable")]
    have = np.zeros((len(shares), table.shape[1]))
    chosen = [0] * len(table)
    for place, row in enumerate(order):
        missing = [split for split in range(len(shares)) if not have[split, 0]]
        rest = len(order) - place
        options = missing if rest <= len(missing) else range(len(shares))  # no split stays empty
        before = have - shares[:, None]
        growth = ((before + relative[row]) ** 2 - before**2).sum(axis=1) / shares
        choice = min(options, key=lambda split: (growth[split], split))
        have[choice] += relative[row]
        chosen[row] = choice
    return chosen


def division_table(dataset: DataSet) -> list[list[str]]:
    """Rows for printing: split, pictures, boxes of each class; the share of all in brackets."""
    splits = dataset.splits
    rows = [["", *(split or "no split" for split in splits)]]
    counts = {split: [len(dataset.of(split)), *dataset.boxes_by_class(split)] for split in splits}
    for number, name in enumerate(["pictures", *(category.name for category in dataset.classes)]):
        whole = sum(counts[split][number] for split in splits)
        cells = [f"{counts[split][number]} ({counts[split][number] / max(1, whole):.0%})" for split in splits]
        rows.append([name, *cells])
    return rows
