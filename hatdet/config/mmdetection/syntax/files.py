"""Reading a config file with its bases, as MMEngine does: each file by itself, its dicts merged into its bases'.

A file in the old style names its bases in ``_base_`` and sees their values as ``_base_.name``. One in the new style
imports them inside ``with read_base():`` and goes on with their names; the classes that it imports besides are known by
name only (:class:`~hatdet.config.mmdetection.syntax.values.Name`).
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import json
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hatdet.config import source as src
from hatdet.config.mmdetection.syntax.modules import base_imports, is_new_style, without_imports
from hatdet.config.mmdetection.syntax.text import BaseReferences, substitute
from hatdet.config.mmdetection.syntax.values import Values, merge, plain, strip, wrapped
from hatdet.utils.errors import ConfigError, UserError, did_you_mean

BASE = "_base_"


def read(path: Path, rebound: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All names of a config file and its bases, as plain dicts, lists and values.

    Args:
        rebound: values that take the place of constants which the files assign, wherever they do.

    Raises:
        ConfigError: a file is missing or fails, with file and line; a name that two bases have.
    """
    values = plain(_values(path.absolute(), dict(rebound or {}), ()))
    strip(values)
    return {key: value for key, value in values.items() if not key.startswith("__")}


def parse(path: Path, chain: tuple[Path, ...] = ()) -> ast.Module:
    """The file as a syntax tree, with what stands in double braces resolved."""
    text = substitute(src.text_of(path, chain), path)
    try:
        return BaseReferences().visit(ast.parse(text, filename=str(path)))  # type: ignore[no-any-return]
    except SyntaxError as error:
        where = src.shown(path) if error.lineno is None else f"{src.shown(path)}, line {error.lineno}"
        raise ConfigError(f"{where}: {error.msg}") from error


def base_files(path: Path, tree: ast.Module) -> list[Path]:
    """The files that ``_base_`` of a file in the old style names."""
    for statement in reversed(tree.body):
        if isinstance(statement, ast.Assign) and BASE in {getattr(t, "id", None) for t in statement.targets}:
            try:
                found = ast.literal_eval(statement.value)
            except ValueError:
                found = None
            names = [found] if isinstance(found, str) else found
            if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
                raise ConfigError(
                    f"{src.shown(path)}, line {statement.lineno}: _base_ must be a file name or a list of them, "
                    "written out; it is read before the file runs"
                )
            return [_base_path(path, name) for name in names]
    return []


def _base_path(path: Path, name: str) -> Path:
    """The file that a name in ``_base_`` stands for: beside it, of hatdet, or ``mmdet::x/y.py`` of a package."""
    package, colons, inside = name.partition("::")
    return official(path, package, inside) if colons else src.base_path(path, name)


def official(path: Path, package: str, inside: str) -> Path:
    """``inside`` of the configs that come with ``package``, which is looked for but not imported.

    It is taken from the installed package, or from a folder named ``configs`` that ``path`` lies in.
    """
    places = [folder for folder in path.parents if folder.name == "configs"]
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is not None and spec.submodule_search_locations:
        places[:0] = [Path(spec.submodule_search_locations[0]) / ".mim" / "configs"]
    for place in places:
        if (place / inside).is_file():
            return place / inside
    raise ConfigError(
        f"{src.shown(path)}: {package}::{inside} is neither in an installed package {package} nor in a folder named "
        "configs above this file; put the files there, or write the path of the base"
    )


def _values(path: Path, rebound: dict[str, Any], chain: tuple[Path, ...]) -> Values:
    if path in chain:
        cycle = " -> ".join(src.shown(part) for part in (*chain[chain.index(path) :], path))
        raise ConfigError(f"the _base_ of a config leads back to itself: {cycle}; take one of these _base_ entries out")
    if path.suffix in (".json", ".yaml", ".yml"):
        return _of_data(path, rebound, chain)
    tree, chain = parse(path, chain), (*chain, path)
    if is_new_style(tree):
        return _new_style(path, tree, rebound, chain)
    bases = [_values(base.resolve(), rebound, chain) for base in base_files(path, tree)]
    inherited = _together(path, bases)
    tree.body = [statement for statement in tree.body if BASE not in src.targets(statement)]
    namespace = _run(path, tree, {BASE: inherited}, rebound)
    return merge(_own(namespace, {BASE}), inherited)


def _new_style(path: Path, tree: ast.Module, rebound: dict[str, Any], chain: tuple[Path, ...]) -> Values:
    namespace: dict[str, Any] = {}
    for statement in base_imports(path, tree):
        values = _values(statement.file(official), rebound, chain)
        missing = [name for name in statement.names if name != "*" and name not in values]
        if missing:
            near = did_you_mean(missing[0], values)
            raise ConfigError(
                f"{src.shown(path)}: {src.shown(statement.file(official))} has no {missing[0]!r}{near}; import a name "
                "that it assigns"
            )
        taken = values if "*" in statement.names else {name: values[name] for name in statement.names}
        namespace.update({statement.names.get(name) or name: value for name, value in taken.items()})
    tree, imported = without_imports(tree)
    known = set(imported)
    namespace = _run(path, tree, {**namespace, **imported}, rebound)
    own = {key: value for key, value in namespace.items() if key not in known or value is not imported[key]}
    return wrapped(_own(own, ()))  # type: ignore[no-any-return]


def _of_data(path: Path, rebound: Mapping[str, Any], chain: tuple[Path, ...]) -> Values:
    """A config of JSON or YAML."""
    text = substitute(src.text_of(path, chain), path)
    try:
        if path.suffix == ".json":
            values = json.loads(text)
        else:
            import yaml

            values = yaml.safe_load(text)
    except ImportError as error:
        raise ConfigError(f"{src.shown(path)}: YAML is read by PyYAML; pip install pyyaml") from error
    except ValueError as error:
        raise ConfigError(f"{src.shown(path)}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{src.shown(path)}: expected names and values, got {type(values).__name__}")
    names = values.pop(BASE, [])
    files = [_base_path(path, name) for name in ([names] if isinstance(names, str) else names)]
    bases = [_values(base.resolve(), dict(rebound), (*chain, path)) for base in files]
    values.update({key: value for key, value in rebound.items() if key in values})
    return merge(values, _together(path, bases))


def _together(path: Path, bases: Iterable[Values]) -> Values:
    found = Values()
    for base in bases:
        twice = sorted(found.keys() & base.keys())
        if twice:
            raise ConfigError(f"{src.shown(path)}: two of its _base_ files have {twice[0]!r}; take one of them out")
        found.update(base)
    return found


def _run(path: Path, tree: ast.Module, namespace: dict[str, Any], rebound: Mapping[str, Any]) -> dict[str, Any]:
    """Execute a file; ``namespace`` is what it finds."""
    tree = src.rebind(tree, rebound, ())
    names = {"__builtins__": builtins, "__name__": "__config__", "__file__": str(path), src.REBOUND: dict(rebound)}
    namespace = {**names, **namespace}
    src.execute(tree, path, namespace)
    return {key: value for key, value in namespace.items() if key not in names}


def _own(namespace: Mapping[str, Any], inherited: Iterable[str]) -> dict[str, Any]:
    skipped = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
    return {
        key: value
        for key, value in namespace.items()
        if key not in inherited and not key.startswith("__") and not isinstance(value, skipped)
    }


def assigned(path: Path) -> set[str]:
    """Names that a file and its bases assign; what cannot be read says nothing."""
    return _names(path, ())[0]


def used(path: Path) -> set[str]:
    """Names that the expressions of a file and its bases read."""
    return _names(path, ())[1]


def _names(path: Path, chain: tuple[Path, ...]) -> tuple[set[str], set[str]]:
    """Names that are assigned, and names that are read."""
    try:
        if path.suffix in (".json", ".yaml", ".yml"):
            return set(_values(path, {}, chain)), set()
        tree = parse(path, chain)
        if is_new_style(tree):
            files = [statement.file(official) for statement in base_imports(path, tree)]
        else:
            files = base_files(path, tree)
    except UserError:
        return set(), set()
    found = {name for statement in src.statements(tree.body) for name in src.targets(statement)}
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}  # _base_.name
    for file in files:
        if file.resolve() not in (*chain, path):
            more, also = _names(file.resolve(), (*chain, path))
            found, read = found | more, read | also
    return found, read
