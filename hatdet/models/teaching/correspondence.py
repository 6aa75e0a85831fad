"""Whether a student's maps and those of its teacher speak of the same positions, boxes and classes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.teaching.listening import level_sizes
from hatdet.utils.class_names import find, listed, quoted
from hatdet.utils.errors import UserError


def check_colours(student: nn.Module, teacher: nn.Module, source: str) -> None:
    """Refuse a teacher that takes pictures of other channels.

    Raises:
        UserError: with both.
    """
    own, theirs = (str(getattr(detector, "input_color", "bgr")) for detector in (student, teacher))
    if own != theirs:
        raise UserError(
            f"teacher: {source} takes {theirs} pictures, the student {own}; train both with the same input_color"
        )


def class_order(student: nn.Module, names: Sequence[str], source: str) -> Tensor:
    """Where each of the student's classes stands among the teacher's ``names``: int64 (K,).

    Raises:
        UserError: one is not among them.
    """
    own = [str(name) for name in getattr(student, "classes", ())]
    places = find(own, names)
    strange = [name for name, place in zip(own, places, strict=True) if place is None]
    if strange or not own:
        lacks = f"{quoted(strange)} is not known there" if own else "the student does not name its own"
        raise UserError(
            f"teacher: {source} knows the classes {listed(names)}: {lacks}; take a teacher of the same classes, or set "
            "teacher_class_weight and teacher_box_weight to 0 to learn of its feature maps alone"
        )
    return torch.tensor([place for place in places if place is not None])


def check_positions(
    student: Any, teacher: Any, own: Sequence[Tensor], theirs: Sequence[Tensor], size: int, source: str, advice: str
) -> None:
    """Refuse a teacher whose boxes stand at other positions, or of which more or fewer stand at one.

    Args:
        own, theirs: raw maps of an empty picture (size, size).
        advice: what to do.

    Raises:
        UserError: with both numbers.
    """
    grids = [level_sizes(maps, detector.output_names) for maps, detector in ((own, student), (theirs, teacher))]
    if grids[0] != grids[1]:
        mine, other = (tuple(size // height for height, _ in grid) for grid in grids)
        raise UserError(f"teacher: {source} has maps of strides {other}, the student of {mine}; {advice}")
    positions = sum(height * width for height, width in grids[0])
    counts = [_boxes(student, own, size) / positions, _boxes(teacher, theirs, size) / positions]
    if counts[0] != counts[1]:
        raise UserError(f"teacher: {source} has {counts[1]:g} boxes at a position, the student {counts[0]:g}; {advice}")


def _boxes(detector: Any, maps: Sequence[Tensor], size: int) -> int:
    """How many boxes raw maps of a picture (size, size) say.

    Raises:
        UserError: they say none by themselves.
    """
    decoding = getattr(detector, "decoding", None)
    if callable(decoding):
        with contextlib.suppress(UserError), torch.no_grad():
            boxes: Tensor = decoding((size, size)).to(maps[0].device)(*maps)[0]
            return boxes.shape[1]
    raise UserError(
        f"teacher: the maps of {type(detector).__name__} do not say a box at each position; set teacher_class_weight "
        "and teacher_box_weight to 0 to learn of feature maps alone"
    )


def strides_of(maps: Sequence[Tensor], size: int) -> tuple[int, ...]:
    """Strides of maps of a picture (size, size)."""
    return tuple(size // one.shape[2] for one in maps)


def other_teacher(own: Sequence[Tensor], theirs: Sequence[Tensor], size: int) -> str:
    """What to do where the boxes of two detectors do not correspond; their necks' maps may."""
    alone = "; with teacher_class_weight=0 and teacher_box_weight=0 it would be learned of its feature maps alone"
    return "take another teacher" + (alone if own and strides_of(own, size) == strides_of(theirs, size) else "")


def check_features(own: Sequence[Tensor], theirs: Sequence[Tensor], size: int, source: str) -> None:
    """Refuse a teacher whose neck gives maps of other strides.

    Args:
        own, theirs: maps of an empty picture (size, size).

    Raises:
        UserError: with both.
    """
    mine, other = strides_of(own, size), strides_of(theirs, size)
    if mine != other or not mine:
        raise UserError(
            f"teacher: the neck of {source} gives maps of strides {other}, the student's of {mine}; take another "
            "teacher, or set teacher_feature_weight to 0"
        )


def adapters_between(own: Sequence[Tensor], theirs: Sequence[Tensor]) -> nn.ModuleList:
    """A 1x1 convolution for each level, from the student's channels to the teacher's; none where all are as many."""
    widths = [(mine.shape[1], other.shape[1]) for mine, other in zip(own, theirs, strict=True)]
    if all(mine == other for mine, other in widths):
        return nn.ModuleList()
    # no bias: what is compared has mean 0
    return nn.ModuleList(nn.Conv2d(mine, other, 1, bias=False) for mine, other in widths)
