"""A config file as source text: its bases, its constants, and the rewriting of its assignments.

A name is *rebound* by changing the program, not its result: the value of every module-level assignment to
that name is replaced before the file runs, so that every expression derived from the name sees the new value.
"""

from __future__ import annotations

import ast
import dataclasses
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from hatdet.config import shipped
from hatdet.utils.errors import ConfigError, UserError, nearest

REBOUND = "_hatdet_rebound_"
"""Global that holds the values of rebound names while a file runs."""
RESOLVED = "_resolved_"
"""Name that a file has which was written by :func:`hatdet.config.dump.dump`."""
RECIPE = "recipe"
"""Name that chooses one of the ``_recipes_`` of a config's files."""
MERGE = "_hatdet_merge_"
"""Global function through which a file assigns a name that its bases have too."""

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclasses.dataclass(frozen=True)
class Source:
    """One parsed config file."""

    path: Path
    tree: ast.Module
    bases: tuple[Source, ...]

    def assigned(self) -> dict[str, list[ast.stmt]]:
        """Names that module-level statements assign (in ``if``, ``with``, ``try`` too), and those."""
        found: dict[str, list[ast.stmt]] = {}
        for statement in statements(self.tree.body):
            for name in targets(statement):
                found.setdefault(name, []).append(statement)
        return found

    def imported(self) -> set[str]:
        """Names that ``from module import name`` binds at module level."""
        return {name for statement in statements(self.tree.body) for name in _imported(statement)}

    def transient(self) -> set[str]:
        """Names that only loops and ``with`` bind: not part of the config."""
        found = set()
        for statement in statements(self.tree.body):
            if isinstance(statement, ast.For):
                found |= _stored(statement.target)
            elif isinstance(statement, ast.With):
                found |= {
                    name
                    for item in statement.items
                    if item.optional_vars
                    for name in _stored(item.optional_vars)
                }
        return found - set(self.assigned())

    def literals(self) -> dict[str, Any]:
        """Names assigned once, at the top level, from a literal; not dicts, for they merge."""
        found = {}
        top = {id(statement) for statement in self.tree.body}
        for name, statements in self.assigned().items():
            value = _literal(statements[0]) if len(statements) == 1 and id(statements[0]) in top else None
            if value is not None and not isinstance(value[0], dict) and not name.startswith("_"):
                found[name] = value[0]
        return found

    def aliases(self) -> dict[str, str]:
        """The literal dict ``_aliases_`` of the file: older name of an option -> name in the config."""
        value = _find_literal(self, "_aliases_", {})
        words = [word for pair in value.items() for word in pair] if isinstance(value, dict) else [None]
        if not all(isinstance(word, str) for word in words):
            raise ConfigError(f"{shown(self.path)}: _aliases_ must be a dict of names, got {value!r}")
        return value

    def recipes(self) -> dict[str, dict[str, Any]]:
        """The literal dict ``_recipes_`` of the file: by the recipe's name, values for names of it and its bases."""
        value = _find_literal(self, "_recipes_", {})
        items = value.values() if isinstance(value, dict) else [None]
        if not all(isinstance(item, dict) and all(isinstance(name, str) for name in item) for item in items):
            raise ConfigError(
                f"{shown(self.path)}: _recipes_ must be a dict of dicts, {{'small': {{'lr': 1e-3}}}}, got {value!r}"
            )
        return value

    def vocabulary(self) -> str | None:
        """The literal ``_vocabulary_`` of the file: whose words its dicts are in; None: hatdet's own.

        Raises:
            ConfigError: an unknown one.
        """
        value = _find_literal(self, "_vocabulary_", None)
        if value not in (None, "mmdetection"):
            raise ConfigError(
                f"{shown(self.path)}: _vocabulary_ is 'mmdetection' or not there, got {value!r}; "
                "leave it out for hatdet's own words"
            )
        return value  # type: ignore[no-any-return]

    def assigned_literal(self, name: str) -> Any:
        """The value that the file assigns to a name last.

        Raises:
            ConfigError: it is no literal.
        """
        return _find_literal(self, name, None)

    def every_base(self) -> Iterator[Source]:
        """All bases, their bases included; one that is reached in two ways comes twice."""
        for base in self.bases:
            yield base
            yield from base.every_base()

    def ancestors(self) -> set[Path]:
        """Paths of all bases, their bases included."""
        return {base.path for base in self.every_base()}


def read(path: str | os.PathLike[str], descendants: tuple[Path, ...] = ()) -> Source:
    """Parse a config file and its bases.

    Raises:
        ConfigError: a missing file (with near names), a syntax error (file and line), a cycle of bases.
    """
    file = Path(os.path.abspath(shipped.locate(path)))
    if file in descendants:
        cycle = " -> ".join(shown(part) for part in (*descendants[descendants.index(file) :], file))
        raise ConfigError(f"the _base_ of a config leads back to itself: {cycle}; take one of these _base_ entries out")
    text = text_of(file, descendants)
    try:
        tree = ast.parse(text, filename=str(file))
    except SyntaxError as error:
        where = shown(file) if error.lineno is None else f"{shown(file)}, line {error.lineno}"
        raise ConfigError(f"{where}: {error.msg}") from error
    except ValueError as error:  # null bytes
        raise ConfigError(f"{shown(file)}: {error}") from error
    source = Source(file, tree, ())
    names = _find_literal(source, "_base_", ())
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{shown(file)}: _base_ must be a file name or a list of them, got {names!r}")
    bases = tuple(read(base_path(file, name), (*descendants, file)) for name in names)
    return dataclasses.replace(source, bases=bases)


def base_path(file: Path, name: str) -> Path:
    """The file that a name in ``_base_`` of ``file`` stands for: relative to it, or one that hatdet ships."""
    return shipped.locate(name) if name.startswith(shipped.SCHEME) else file.parent / name


def linearize(source: Source) -> list[Source]:
    """The files in the order in which they run: bases before what is based on them, each file once."""
    order: dict[Path, Source] = {}
    for base in source.bases:
        for part in linearize(base):
            order.setdefault(part.path, part)
    order.setdefault(source.path, source)
    return list(order.values())


def rebind(tree: ast.Module, names: Collection[str], merged: Collection[str]) -> ast.Module:
    """Rewrite module-level assignments.

    Args:
        tree: the file; it is changed.
        names: names that take their value from the global dict ``REBOUND``.
        merged: names whose new value goes through the global function ``MERGE``, with the old value.
    """
    tree.body = _rewrite(tree.body, frozenset(names), frozenset(merged) - frozenset(names))
    return ast.fix_missing_locations(tree)


def execute(tree: ast.Module, path: Path, namespace: dict[str, Any]) -> None:
    """Run a file in a namespace.

    Raises:
        ConfigError: what the file raises, with its line.
    """
    try:
        exec(compile(tree, str(path), "exec", dont_inherit=True), namespace)
    except SyntaxError as error:  # what only the compiler sees: "return" outside a function
        raise ConfigError(f"{shown(path)}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        lines = []
        traceback = error.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == str(path):
                lines.append(traceback.tb_lineno)
            traceback = traceback.tb_next
        where = f"{shown(path)}, line {lines[-1]}" if lines else shown(path)
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        raise ConfigError(f"{where}: {kind}{error}") from error


def shown(path: Path) -> str:
    """A path as messages print it: relative to the current directory where it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _rewrite(body: list[ast.stmt], names: frozenset[str], merged: frozenset[str]) -> list[ast.stmt]:
    result: list[ast.stmt] = []
    for statement in body:
        stored = targets(statement)
        own = names & {*stored, *_imported(statement)}
        simple = isinstance(statement, (ast.Assign, ast.AnnAssign)) and len(stored) == 1
        if own and simple:
            statement.value = _rebound_value(stored[0], statement)  # type: ignore[attr-defined]
        elif simple and merged & set(stored):
            statement.value = _call_merge(stored[0], statement)  # type: ignore[attr-defined]
        result.append(statement)
        if own and not simple:  # a, b = ...; a += 1; from m import a: let it run, then set the name again
            result.extend(_assign(name, statement) for name in sorted(own))
        if not isinstance(statement, _SCOPES):
            for field in ("body", "orelse", "finalbody"):
                if getattr(statement, field, None):
                    setattr(statement, field, _rewrite(getattr(statement, field), names, merged))
            for handler in getattr(statement, "handlers", ()):
                handler.body = _rewrite(handler.body, names, merged)
    return result


def _rebound_value(name: str, at: ast.stmt) -> ast.expr:
    value = ast.Subscript(ast.Name(REBOUND, ast.Load()), ast.Constant(name), ast.Load())
    return ast.copy_location(value, at)


def _call_merge(name: str, statement: Any) -> ast.expr:
    call = ast.Call(ast.Name(MERGE, ast.Load()), [ast.Constant(name), statement.value], [])
    return ast.copy_location(call, statement.value)


def _assign(name: str, at: ast.stmt) -> ast.stmt:
    return ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], _rebound_value(name, at)), at)


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, and those inside their blocks; not those of functions and classes."""
    for statement in body:
        yield statement
        if not isinstance(statement, _SCOPES):
            for field in ("body", "orelse", "finalbody"):
                yield from statements(getattr(statement, field, None) or [])
            for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
                yield from statements(part.body)


def targets(statement: ast.stmt) -> list[str]:
    """Names that a statement assigns."""
    if isinstance(statement, ast.Assign):
        places: list[ast.expr] = statement.targets
    elif isinstance(statement, ast.AugAssign) or (isinstance(statement, ast.AnnAssign) and statement.value):
        places = [statement.target]
    else:
        return []
    return [name for target in places for name in sorted(_stored(target))]


def _imported(statement: ast.stmt) -> list[str]:
    if not isinstance(statement, ast.ImportFrom):
        return []
    return [alias.asname or alias.name for alias in statement.names]


def _stored(target: ast.expr) -> set[str]:
    nodes = ast.walk(target)
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _literal(statement: ast.stmt) -> tuple[Any] | None:
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or len(targets(statement)) != 1:
        return None
    try:
        return (ast.literal_eval(statement.value or ""),)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _find_literal(source: Source, name: str, default: Any) -> Any:
    statements = source.assigned().get(name)
    if not statements:
        return default
    value = _literal(statements[-1])
    if value is None:
        where = f"{shown(source.path)}, line {statements[-1].lineno}"
        raise ConfigError(f"{where}: {name} must be a literal, for it is read before the file runs")
    return value[0]


def text_of(file: Path, descendants: tuple[Path, ...]) -> str:
    """The text of a config file.

    Raises:
        ConfigError: it is missing (with near names), a directory, or no UTF-8 text.
    """
    used = f" (the _base_ of {shown(descendants[-1])})" if descendants else ""
    try:
        return file.read_text(encoding="utf-8-sig")  # some editors of Windows begin a file with a mark
    except FileNotFoundError as error:
        if not file.parent.is_dir():
            hint = f"; there is no directory {shown(file.parent)}"
        else:
            close = nearest(file.name, (other.name for other in file.parent.glob("*.py")), n=3)
            paths = " or ".join(shown(file.parent / name) for name in close)
            hint = f"; did you mean {paths}?" if close else ""
        raise ConfigError(f"no config file {shown(file)}{used}{hint}") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{shown(file)} is a directory, not a config file{used}; name the file in it") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{shown(file)} is not a Python file: byte {error.start} is not UTF-8 text{used}; save it as UTF-8"
        ) from error
