"""Which classes of a packed set are used, and which label each of them has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.utils.class_names import find, quoted
from hatdet.utils.errors import UserError, did_you_mean


@dataclass(frozen=True)
class ClassChoice:
    """Names and category ids by label.

    ``relabel``: from the store's labels to these (-1: not used); None: they are the same. ``absent``: names that the
    file does not list: classes without a box here, with ids that no category of the file has. ``unused``: what the file
    lists and the choice leaves out.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    relabel: NDArray[np.int32] | None
    absent: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def choose_classes(
    header: Mapping[str, Any], classes: Sequence[str] | None, among: Sequence[str] | None = None
) -> ClassChoice:
    """The labels of ``classes``: names of the file's categories, or of classes that it does not list.

    Args:
        header: of the packed set.
        classes: None: all of the file, in ascending category id.
        among: only these names of the file are looked at; None: all.

    Raises:
        UserError: no names, the same twice, or one that looks like a misspelt name of the file.
    """
    rows = [(int(category_id), str(name)) for category_id, name, _ in header["classes"]]
    own = [name for _, name in rows]
    if classes is None or (tuple(classes) == tuple(own) and among is None):
        return ClassChoice(tuple(own), tuple(category_id for category_id, _ in rows), None)
    if isinstance(classes, str):
        raise UserError(f"classes is {classes!r}; it is a list of names, also of a single one: classes=({classes!r},)")
    if not classes or len(set(classes)) != len(classes):
        raise UserError(f"classes: expected different names, got {list(classes)!r}")
    usable = own if among is None else [name for name in own if name in set(among)]
    places = find(usable, classes)
    unused = [name for name, place in zip(usable, places, strict=True) if place is None]
    absent = [name for label, name in enumerate(classes) if label not in places]
    for name in absent:
        hint = did_you_mean(name, unused)
        if hint:
            raise UserError(f"classes: the data set has no {name!r}{hint}; it has {own}")
    if len(absent) == len(classes):
        raise UserError(f"classes: the data set has none of {quoted(list(classes))}; it has {own}")
    label_of = {name: place for name, place in zip(usable, places, strict=True) if place is not None}
    table = np.array([label_of.get(name, -1) for name in own], np.int32)
    dropped = {str(name): int(category_id) for category_id, name, _ in header.get("placeholders", ())}
    next_id = max([category_id for category_id, _ in rows] + list(dropped.values())) + 1
    ids: list[int] = []
    for label, name in enumerate(classes):
        known = next((category_id for category_id, n in rows if label_of.get(n) == label), dropped.get(name))
        ids.append(next_id if known is None else known)
        next_id += known is None
    same = table.tolist() == list(range(len(own)))
    return ClassChoice(tuple(classes), tuple(ids), None if same else table, tuple(absent), tuple(unused))


def as_one(choice: ClassChoice, name: str) -> ClassChoice:
    """The same objects as objects of one class."""
    relabel = np.zeros(len(choice.names), np.int32) if choice.relabel is None else np.minimum(choice.relabel, 0)
    return ClassChoice((name,), (1,), relabel.astype(np.int32))


def with_placeholders(header: Mapping[str, Any]) -> tuple[str, ...]:
    """All names that the file lists, in ascending category id: also a placeholder, which another split may use."""
    rows = [*header["classes"], *header.get("placeholders", ())]
    return tuple(str(name) for _, name, _ in sorted(rows, key=lambda row: int(row[0])))
