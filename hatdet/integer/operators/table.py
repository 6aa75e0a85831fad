"""All operators by kind: the files in this folder are the list."""

from __future__ import annotations

import importlib
import pkgutil

from hatdet.integer import operators
from hatdet.integer.operators.base import Operator


def _found() -> dict[str, type[Operator]]:
    kinds: dict[str, type[Operator]] = {}
    for module in pkgutil.walk_packages(operators.__path__, f"{operators.__name__}."):
        if module.ispkg or module.name == __name__:
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Operator) and value.__module__ == module.name:
                if kind := value.__dict__.get("kind"):
                    assert kind not in kinds, kind
                    kinds[kind] = value
    return kinds


OP_TYPES = _found()
