"""Merging of dicts in place, so that every object that shares the dict sees the result."""

from __future__ import annotations

from typing import Any

DELETE = "_delete_"
"""Key of a dict that replaces what it would otherwise be merged into."""


def merge(base: dict[Any, Any], new: dict[Any, Any]) -> dict[Any, Any]:
    """Merge ``new`` into ``base`` recursively and return the result.

    ``base`` itself is changed and returned, except where ``new`` holds ``base`` somewhere inside (a wrapper
    around what was inherited): then ``new`` is returned as it is. Lists and other values replace the old
    ones.
    """
    if base is new:
        return base
    if contains(new, base):
        return new
    if new.get(DELETE):
        base.clear()
    for key, value in new.items():
        if key == DELETE:
            continue
        old = base.get(key)
        base[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return base


def contains(value: Any, wanted: object, seen: set[int] | None = None) -> bool:
    """Whether ``wanted`` is one of the objects that the containers in ``value`` hold."""
    seen = set() if seen is None else seen
    if not isinstance(value, (dict, list, tuple)) or id(value) in seen:
        return False
    seen.add(id(value))
    items = value.values() if isinstance(value, dict) else value
    return any(item is wanted or contains(item, wanted, seen) for item in items)


def strip_marks(value: Any, seen: set[int] | None = None) -> None:
    """Remove the ``_delete_`` keys that are left where there was nothing to replace."""
    seen = set() if seen is None else seen
    if not isinstance(value, (dict, list, tuple)) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, dict):
        value.pop(DELETE, None)
    for item in value.values() if isinstance(value, dict) else value:
        strip_marks(item, seen)
