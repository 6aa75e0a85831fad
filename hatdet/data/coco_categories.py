"""The categories of a COCO json: which are classes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatdet.data.coco_entries import MAX_ID, Category
from hatdet.data.coco_json import as_int, object_with_id, text
from hatdet.data.report import Report
from hatdet.utils.class_names import folded, placeholders
from hatdet.utils.errors import UserError


def category_id_of(value: Any) -> int | None:
    """An id: a whole number, also written as a string of digits; None for everything else."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,16}\s*", value):
        return int(value)
    return as_int(value)


def read_categories(
    path: Path, entries: list[Any], annotations: list[Any], report: Report
) -> tuple[list[Category], list[Category]]:
    """The classes in ascending id, and the placeholders that are none.

    Raises:
        UserError: no usable list; two categories of one id or name.
    """
    if not entries:
        raise UserError(
            f"{path}: 'categories' is empty: there are no classes: "
            "add them, and give every annotation a category_id"
        )
    found: dict[int, Category] = {}
    for position, entry in enumerate(entries):
        category = _category(path, entry, f"categories[{position}]", report)
        if category.id in found:
            raise UserError(
                f"{path}: two categories have the id {category.id}: {found[category.id].name!r} and {category.name!r}; "
                "give each a number of its own"
            )
        found[category.id] = category
    ordered = [found[key] for key in sorted(found)]
    used = {category_id_of(a.get("category_id")) for a in annotations if isinstance(a, dict)}
    dropped = placeholders([(c.id, c.name, c.supercategory) for c in ordered], used)
    kept = [category for category in ordered if category.id not in dropped]
    _check_names(path, kept, report)
    left_out = [category for category in ordered if category.id in dropped]
    for category in left_out:
        report.add("placeholder category (id 0, no box, only the parent of others) left out", repr(category.name))
    return kept, left_out


def _category(path: Path, item: Any, where: str, report: Report) -> Category:
    entry = object_with_id(path, item, where, "name", "category")
    category_id = category_id_of(entry["id"])
    if category_id is None or abs(category_id) > MAX_ID:
        raise UserError(f"{path}: {where}: 'id' must be a whole number up to 2^53, got {entry['id']!r}")
    if isinstance(entry["id"], str):
        report.add("category 'id' given as a string, converted", f"{where}: id {entry['id']!r}")
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        report.add("category without a 'name', named by its id", f"category id {category_id}")
        name = f"category_{category_id}"
    parent = entry.get("supercategory")
    return Category(category_id, text(name), text(parent) if isinstance(parent, str) else "")


def _check_names(path: Path, categories: list[Category], report: Report) -> None:
    names: dict[str, Category] = {}
    alike: dict[str, Category] = {}
    for category in categories:
        if category.name in names:
            raise UserError(
                f"{path}: the categories {names[category.name].id} and {category.id} have the same name "
                f"{category.name!r}; merge or rename them"
            )
        other = alike.setdefault(folded(category.name), category)
        if other is not category:
            report.add(
                "two classes whose names differ only in case or spaces: are they one?",
                f"{other.name!r} (id {other.id}) and {category.name!r} (id {category.id})",
            )
        names[category.name] = category
