"""``--cfg-options`` on the values of a config, as MMEngine applies them: keys may be new, and indices of lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatdet.config.mmdetection.syntax.values import merge
from hatdet.utils.errors import ConfigError


def apply(values: dict[str, Any], options: Mapping[str, object]) -> None:
    """Set dotted keys (``model.bbox_head.num_classes``, ``train_pipeline.0.prob``) in place.

    A dict is merged into the dict that is there; with ``_delete_`` it replaces it.

    Raises:
        ConfigError: an index that a list does not have, or a key inside of what is no container.
    """
    for key, value in options.items():
        first, *rest = key.split(".")
        values[first] = _set(values.get(first), rest, value, [first], key)


def _set(old: Any, rest: list[str], value: Any, here: list[str], key: str) -> Any:
    if not rest:
        if not isinstance(value, dict):
            return value
        return merge({key: value}, {key: old} if isinstance(old, dict) else {})[key]
    name, *rest = rest
    where = ".".join(here)
    if isinstance(old, (list, tuple)):
        if not name.isdecimal() or int(name) >= len(old):
            allowed = f"0 to {len(old) - 1}" if old else "none, it is empty"
            raise ConfigError(f"option {key}: {where} is a {type(old).__name__}; indices: {allowed}")
        items = list(old)
        items[int(name)] = _set(items[int(name)], rest, value, [*here, name], key)
        return type(old)(items)
    if old is None:
        old = {}
    if not isinstance(old, dict):
        raise ConfigError(
            f"option {key}: {where} is {old!r} ({type(old).__name__}), which has nothing inside to set; "
            f"set {where} itself"
        )
    old[name] = _set(old.get(name), rest, value, [*here, name], key)
    return old
