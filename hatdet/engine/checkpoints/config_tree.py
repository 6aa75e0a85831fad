"""Comparing parts of a config as plain trees (``checkpoints.provenance.described``), across versions of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from hatdet.engine.checkpoints.provenance import described
from hatdet.registry import constructor
from hatdet.utils.annotations import signature_of
from hatdet.utils.errors import RegistryError

_NO_DEFAULT = object()


def aligned(there: Any, here: Any) -> tuple[Any, Any]:
    """Two trees without what one side writes out and the other leaves to the default.

    A config that says more than it did (a new key with the value that it always had) means the same. A default of None
    is the constructor's own choice, which cannot be seen from here.
    """
    if isinstance(there, dict) and isinstance(here, dict):
        pairs = {}
        for key in {**there, **here}:
            if key in there and key in here:
                pairs[key] = aligned(there[key], here[key])
            elif there.get("type") != here.get("type"):
                pairs[key] = (there.get(key), here.get(key))
            else:
                default = _default(here.get("type"), key)
                if default is not None and default is not _NO_DEFAULT:
                    pairs[key] = (there.get(key, default), here.get(key, default))
                elif default is _NO_DEFAULT and key in here:  # it takes the key, and needs it
                    pairs[key] = (None, here[key])
        return {key: pair[0] for key, pair in pairs.items()}, {key: pair[1] for key, pair in pairs.items()}
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        items = [aligned(*pair) for pair in zip(there, here, strict=True)]
        return [item[0] for item in items], [item[1] for item in items]
    return there, here


def differences(there: Any, here: Any, path: str = "") -> Iterable[tuple[str, Any, Any]]:
    """Leaves of two trees that differ: path, value there, value here."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**there, **here}:
            name = f"{path}.{key}" if path else key
            yield from differences(there.get(key), here.get(key), name)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for index, pair in enumerate(zip(there, here, strict=True)):
            yield from differences(*pair, f"{path}.{index}")
    elif there != here:
        yield path, there, here


def _default(type_: Any, key: str) -> Any:
    """The default of an argument as a tree; None too where the argument is not known, :data:`_NO_DEFAULT` where it has
    none."""
    try:
        parameter = signature_of(constructor(type_)).parameters.get(key)
    except (RegistryError, ImportError, TypeError):
        return None
    if parameter is None:
        return None
    return _NO_DEFAULT if parameter.default is inspect.Parameter.empty else described(parameter.default)
