"""The loaded config: its module-level names, readable as attributes and as items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hatdet.config.check import Problem, check_all
from hatdet.config.dump import dump
from hatdet.utils.errors import ConfigError, did_you_mean


class MissingNameError(ConfigError, KeyError, AttributeError):
    """The config has no such name."""

    __str__ = Exception.__str__  # KeyError would print the message quoted


class Config(Mapping[str, Any]):
    """The names of a config file with their values.

    Attributes:
        path: the file that the user named.
        name: its stem.
        options: what the user set besides the file: names, dotted keys, and their values, under present names.
        literals: names whose value the files write out or the options give; the others are computed.
        changed: names that were assigned after loading.
        unread: names that the files assign and nothing reads, with what :meth:`validate` says of them.
        recipes: what the name ``recipe`` may be besides "auto" (:mod:`hatdet.config.recipes`).

    ``config.model`` and ``config["model"]`` are the same; a name of the file that this class uses itself
    (``path``, ``name``, ``get``, ...) is reachable as an item only. ``config["name"] = value`` adds or
    replaces one.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        path: str | Path = "<config>",
        aliases: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
        literals: Iterable[str] = (),
    ) -> None:
        self._values = dict(values)
        self.path = Path(path)
        self.name = self.path.stem
        self.aliases = dict(aliases or {})
        self.options = dict(options or {})
        self.literals = frozenset(literals)
        self.changed: set[str] = set()
        self.unread: dict[str, str] = {}
        self.recipes: tuple[str, ...] = ()

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise MissingNameError(f"{self.path} has no {key!r}{did_you_mean(key, self._values)}")
        return self._values[key]

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):  # copy and pickle look for such names before __init__ has run
            raise AttributeError(key)
        return self[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[key] = value
        self.changed.add(key)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._values]

    def __repr__(self) -> str:
        return f"Config({str(self.path)!r}: {', '.join(self._values)})"

    def validate(self, *names: str) -> None:
        """Check that everything under ``names`` (all names where none is given) can be built; build nothing.

        Raises:
            ConfigError: with one line for each problem found: names that nothing reads, unknown and missing
                arguments, wrong types, unknown types, at any depth.
        """
        problems = [Problem(name, text) for name, text in self.unread.items()]
        roots = {}
        for name in names or self._values:
            if name in self._values:
                roots[name] = self._values[name]
            else:
                problems.append(
                    Problem(name, f"the config has no such name{did_you_mean(name, self._values)}")
                )
        problems += check_all(roots)
        if len(problems) == 1:
            raise ConfigError(f"{self.path}: {problems[0]}")
        if problems:
            lines = "".join(f"\n  {problem}" for problem in problems)
            raise ConfigError(f"{self.path}: {len(problems)} problems:{lines}")

    def dump(self, strict: bool = True) -> str:
        """The config as a runnable Python file; see :func:`hatdet.config.dump.dump`."""
        return dump(self, self.name, self.aliases, strict)
