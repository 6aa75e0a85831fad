"""Imports in a config of the new style (``with read_base(): from .base import *``)."""

from __future__ import annotations

import ast
import dataclasses
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hatdet.config.mmdetection.syntax.values import Name
from hatdet.utils.errors import ConfigError

_BY_NAME = ("mmdet", "mmcv", "mmengine", "mmpretrain", "mmcls", "mmyolo", "mmseg", "mmpose", "mmrazor", "torch")
"""Packages of which a config needs the names only."""
_SHADOWS = ("read_base",)


@dataclasses.dataclass(frozen=True)
class BaseImport:
    """One import of a base: ``from .base import names``, with the new names."""

    config: Path
    module: str
    level: int
    names: dict[str, str | None]

    def file(self, official: Callable[[Path, str, str], Path]) -> Path:
        """The file that is imported; ``official(config, package, path)`` finds configs of a package."""
        parts = self.module.split(".") if self.module else []
        if self.level:
            return self.config.parents[self.level - 1].joinpath(*parts).with_suffix(".py").resolve()
        inside = parts[2:] if parts[1:2] == ["configs"] else parts[1:]
        return official(self.config, parts[0], "/".join(inside) + ".py").resolve()


def is_new_style(tree: ast.Module) -> bool:
    """Whether a file takes its bases, or its classes, by import."""
    for statement in tree.body:
        if _reads_base(statement):
            return True
        if isinstance(statement, ast.Assign) and "_base_" in {getattr(t, "id", None) for t in statement.targets}:
            return False
    modules = [m for statement in tree.body for m in _modules(statement)]
    return any(module.split(".")[0] in _BY_NAME and module.split(".")[0] != "torch" for module in modules)


def base_imports(path: Path, tree: ast.Module) -> Iterator[BaseImport]:
    """The imports inside ``with read_base():``.

    Raises:
        ConfigError: something else stands there.
    """
    for statement in tree.body:
        for inner in statement.body if isinstance(statement, ast.With) and _reads_base(statement) else ():
            if not isinstance(inner, ast.ImportFrom):
                raise ConfigError(
                    f"{path}, line {inner.lineno}: inside 'with read_base():' only 'from .file import names' can "
                    "stand; move the rest out of it"
                )
            names = {alias.name: alias.asname for alias in inner.names}
            yield BaseImport(path, inner.module or "", inner.level, names)


def without_imports(tree: ast.Module) -> tuple[ast.Module, dict[str, Any]]:
    """The file without the imports that only give names, and these names with what stands for them."""
    found: dict[str, Any] = {}
    body: list[ast.stmt] = []
    for statement in tree.body:
        if _reads_base(statement):
            continue
        modules = _modules(statement)
        if not modules or any(module.split(".")[0] not in _BY_NAME for module in modules):
            body.append(statement)
            continue
        for alias in statement.names:  # type: ignore[attr-defined]
            if alias.name in _SHADOWS:
                continue
            if isinstance(statement, ast.ImportFrom):
                found[alias.asname or alias.name] = Name(f"{statement.module}.{alias.name}")
            elif alias.asname:
                found[alias.asname] = Name(alias.name)
            else:
                top = alias.name.split(".")[0]
                found[top] = Name(top)
    tree.body = body
    return tree, found


def import_all(custom: Any, path: str = "custom_imports") -> list[str]:
    """Import what ``custom_imports`` names, so that its parts are registered; gives the modules that were not needed.

    Modules of MMDetection's own family are not imported: their parts are found by name here.

    Raises:
        ConfigError: a module fails, and ``allow_failed_imports`` is not set.
    """
    if not custom:
        return []
    if not isinstance(custom, dict) or "imports" not in custom:
        raise ConfigError(f"{path}: expected dict(imports=[...], allow_failed_imports=False), got {custom!r}")
    names = custom["imports"]
    names = [names] if isinstance(names, str) else names
    skipped = []
    for name in names or []:
        if not isinstance(name, str):
            raise ConfigError(f"{path}.imports: expected names of modules, got {name!r}")
        if name.split(".")[0] in _BY_NAME:
            skipped.append(name)
            continue
        try:
            importlib.import_module(name)
        except ImportError as error:
            if custom.get("allow_failed_imports"):
                skipped.append(name)
                continue
            raise ConfigError(
                f"{path}: {name!r} cannot be imported: {error}; put its folder into PYTHONPATH, and register its "
                "parts with hatdet.registry.register"
            ) from error
    return skipped


def _reads_base(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.With):
        return False
    calls = [item.context_expr for item in statement.items]
    return any(isinstance(call, ast.Call) and ast.unparse(call.func).endswith("read_base") for call in calls)


def _modules(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.ImportFrom) and not statement.level:
        return [statement.module or ""]
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    return []
