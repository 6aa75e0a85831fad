"""The import graph of a package, and whether it has a cycle."""

from __future__ import annotations

from collections.abc import Mapping

import grimp


def import_graph(package: str) -> dict[str, set[str]]:
    """Module -> modules that run with it: what it imports, at its top or in its functions, and all packages around.

    Importing ``a.b.c`` runs ``a`` and ``a.b``, so a package that imports a module inside itself is a cycle. Imports for
    type checkers alone do not count.
    """
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    found = {}
    for module in graph.modules:
        named = {module, *graph.find_modules_directly_imported_by(module)}
        found[module] = {around for name in named for around in _upwards(name)} - {module}
    return found


def _upwards(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts) + 1)}


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of a cycle, each importing the next one and the last one the first; empty where there is none."""
    left = {module: set(targets) for module, targets in graph.items()}
    while ends := {module for module, targets in left.items() if not targets}:
        left = {module: targets - ends for module, targets in left.items() if module not in ends}
    path: list[str] = []
    module = min(left, default="")
    while module and module not in path:
        path.append(module)
        module = min(left[module])
    return path[path.index(module) :] if path else []
