"""Writing a config as a Python file that gives the same config when it is loaded, shared dicts included."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import keyword
import math
import operator
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from hatdet.config.source import RESOLVED
from hatdet.utils.errors import ConfigError

_WIDTH = 100
_PLAIN = (bool, int, str, bytes, complex, range, slice)
_HEADER = '''"""The resolved config {name}: inheritance and options applied, every constant written out."""'''


def dump(values: Mapping[str, Any], name: str, aliases: Mapping[str, str], strict: bool = True) -> str:
    """A config's names with their values as runnable Python source.

    A dict or list that stands in several places is written once, as a variable, and referred to; so the
    file builds the same shared instances.

    Args:
        values: what :class:`hatdet.config.config.Config` holds. name: of the config. aliases: its ``_aliases_``.
        strict: refuse values that source cannot express. Otherwise they are written as text in angle
            brackets, and the file is for reading only.

    Raises:
        ConfigError: a value that cannot be written (a lambda, a class or function defined in the config
            file, an object), with its path.
    """
    return _Writer(values, strict).write(name, aliases)


class _Writer:
    def __init__(self, config: Mapping[str, Any], strict: bool) -> None:
        self.config, self.strict = config, strict
        self.imports: set[str] = set()
        self.lines: list[str] = []
        self.variables: dict[int, str] = {}  # id of a container -> the variable that will hold it
        self.written: set[str] = set()
        self._name_shared()

    def write(self, config_name: str, config_aliases: Mapping[str, str]) -> str:
        for name in sorted(self.config, key=lambda name: name != "work_dir"):  # others are written with it
            self._write_name(name)
        head = [_HEADER.format(name=config_name)]
        imports = sorted(f"import {module}" for module in self.imports)
        aliases = [f"_aliases_ = {dict(config_aliases)!r}"] if config_aliases else []
        mark = [f"{RESOLVED} = True  # an option for a constant is refused: nothing is computed from it here"]
        blocks = [head, imports, aliases, mark, self.lines]
        return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"

    def _name_shared(self) -> None:
        """Choose a variable for every container met more than once; a name of the config is preferred."""
        for name, value in self.config.items():
            if isinstance(value, (dict, list)):
                self.variables.setdefault(id(value), name)
        counts: dict[int, int] = {}
        taken = set(self.config)

        def visit(value: Any, hint: str) -> None:
            if not isinstance(value, (dict, list, tuple)):
                return
            if not isinstance(value, tuple):
                counts[id(value)] = counts.get(id(value), 0) + 1
                if counts[id(value)] == 2 and id(value) not in self.variables:
                    # An underscore keeps it out of the names of the config.
                    number = next(i for i in range(1, 10**9) if f"_{hint}_{i}" not in taken)
                    self.variables[id(value)] = f"_{hint}_{number}"
                    taken.add(f"_{hint}_{number}")
                if counts[id(value)] > 1:
                    return
            items = value.items() if isinstance(value, dict) else ((hint, item) for item in value)
            for key, item in items:
                visit(item, str(key) if str(key).isidentifier() else hint)

        for name, value in self.config.items():
            visit(value, name)

    def _write_name(self, name: str) -> None:
        if name in self.written:
            return
        value = self.config[name]
        variable = self.variables.get(id(value), name)
        if variable != name:  # a second name for the same object
            self._write_variable(variable, value, name)
            self._assign(name, variable)
        else:
            self._write_variable(name, value, name)

    def _write_variable(self, variable: str, value: Any, path: str) -> None:
        if variable in self.written:
            return
        self.written.add(variable)
        self._assign(variable, self._format(value, 0, path, top=True))

    def _assign(self, name: str, text: str) -> None:
        self.written.add(name)
        self.lines.append(f"{name} = {text}")

    def _format(self, value: Any, indent: int, path: str, top: bool = False) -> str:
        if isinstance(value, (dict, list)) and not top and id(value) in self.variables:
            variable = self.variables[id(value)]
            self._write_variable(variable, value, path)
            return variable
        if isinstance(value, dict):
            return self._format_dict(value, indent, path)
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            items = [self._format(item, indent + 4, f"{path}.{index}") for index, item in enumerate(value)]
            if isinstance(value, list):
                return _join("[", items, "]", indent)
            return _join("(", items, ")", indent) if len(items) != 1 else f"({items[0]},)"
        return self._format_leaf(value, indent, path)

    def _format_dict(self, value: dict[Any, Any], indent: int, path: str) -> str:
        as_call = all(isinstance(key, str) and key.isidentifier() for key in value)
        as_call = as_call and not any(map(keyword.iskeyword, value))
        items = []
        for key, item in value.items():
            text = self._format(item, indent + 4, f"{path}.{key}")
            left = f"{key}=" if as_call else f"{self._format(key, indent, path)}: "
            items.append(left + text)
        return _join("dict(", items, ")", indent) if as_call else _join("{", items, "}", indent)

    def _format_leaf(self, value: Any, indent: int, path: str) -> str:
        if type(value) is str and self._below_work_dir(value, path):
            rest = value[len(self.config["work_dir"]) :]
            return f"work_dir + {rest!r}" if rest else "work_dir"
        if value is None or value is Ellipsis or type(value) in _PLAIN:
            return repr(value)
        if type(value) is float:
            return repr(value) if math.isfinite(value) else f'float("{value}")'
        if isinstance(value, (set, frozenset)):
            items = sorted(self._format(item, indent, path) for item in value)
            inner = f"{{{', '.join(items)}}}" if items else ""
            return f"{type(value).__name__}({inner})" if isinstance(value, frozenset) or not items else inner
        if isinstance(value, enum.Enum):
            return f"{self._reference(type(value), path)}.{value.name}"
        if isinstance(value, pathlib.PurePath):
            self.imports.add("pathlib")
            return f"pathlib.Path({str(value)!r})"
        if isinstance(value, functools.partial):
            self.imports.add("functools")
            parts = [self._format(part, indent, path) for part in (value.func, *value.args)]
            parts += [f"{key}={self._format(item, indent, path)}" for key, item in value.keywords.items()]
            return f"functools.partial({', '.join(parts)})"
        if inspect.isclass(value) or inspect.isroutine(value):
            return self._reference(value, path)
        return self._format_object(value, indent, path)

    def _below_work_dir(self, value: str, path: str) -> bool:
        """Whether a text is the work dir or a path in it: it follows ``--work-dir``, lest a run of the file writes over
        the results of the run that it was written for."""
        work_dir = self.config.get("work_dir")
        if not isinstance(work_dir, str) or not work_dir.strip("./") or path == "work_dir":
            return False
        return value == work_dir or value.startswith(work_dir + "/")

    def _format_object(self, value: Any, indent: int, path: str) -> str:
        kind = type(value)
        names = getattr(value, "_fields", ())  # a named tuple
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value) if field.init]
        if names:
            items = [f"{name}={self._format(getattr(value, name), indent + 4, path)}" for name in names]
            return _join(f"{self._reference(kind, path)}(", items, ")", indent)
        if kind.__module__ == "torch" and kind.__name__ in ("dtype", "memory_format", "layout"):
            self.imports.add("torch")
            return str(value)
        if kind.__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
            return self._format(value.item(), indent, path)
        return self._refuse(value, path)

    def _reference(self, target: Any, path: str) -> str:
        module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", "<")
        if module == "builtins":
            return str(name)
        loaded = sys.modules.get(module or "")
        top = (module or "").split(".")[0]
        # Bound methods are made anew on each access: equal, not identical.
        same = operator.eq if inspect.ismethod(target) else operator.is_
        if loaded is None or not same(_get(loaded, name), target) or top in self.config:
            return self._refuse(target, path)
        # The shortest public place: torch.optim.AdamW, not torch.optim.adamw.AdamW.
        parts = str(module).split(".")
        for length in range(1, len(parts) + 1):
            public = ".".join(parts[:length])
            if public in sys.modules and same(_get(sys.modules[public], name), target):
                self.imports.add(public)
                return f"{public}.{name}"
        return self._refuse(target, path)

    def _refuse(self, value: Any, path: str) -> str:
        if not self.strict:
            return repr(f"<{value!r}>")
        raise ConfigError(
            f"{path}: {value!r} cannot be written to a file;"
            " put the class or function into a module and import it"
        )


def _get(module: Any, qualname: str) -> Any:
    found = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _join(opening: str, items: list[str], closing: str, indent: int) -> str:
    """The items on one line where they fit, else one on each line."""
    line = opening + ", ".join(items) + closing
    if len(line) + indent <= _WIDTH and "\n" not in line:
        return line
    margin = " " * (indent + 4)
    return opening + "".join(f"\n{margin}{item}," for item in items) + "\n" + " " * indent + closing
