"""Reading a foreign config dict key by key, so that nothing in it is overlooked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hatdet.utils.errors import ConfigError, did_you_mean

_REQUIRED = object()


class Reader:
    """Takes keys out of a dict; :meth:`finish` refuses what nobody took.

    Args:
        values: the dict; it is emptied.
        path: where it stands in the config, for messages.
    """

    def __init__(self, values: dict[str, Any], path: str) -> None:
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: expected a dict, got {values!r}")
        self.values, self.path = values, path
        self._known: list[str] = []

    def take(self, key: str, kind: Any, default: Any = _REQUIRED) -> Any:
        """The value of ``key``, of type ``kind`` (a class or a tuple of them).

        Raises:
            ConfigError: it is missing and has no default, or of another type.
        """
        self._known.append(key)
        if key not in self.values:
            if default is _REQUIRED:
                near = did_you_mean(key, self.values)
                raise ConfigError(f"{self.path}.{key} is missing{near and ': ' + near.strip(' ;')}; add it")
            return default
        value = self.values.pop(key)
        if value is default:
            return value
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wrong = isinstance(value, bool) and bool not in kinds and object not in kinds
        if wrong or not isinstance(value, kinds):
            names = " or ".join(k.__name__ for k in kinds)
            raise ConfigError(f"{self.path}.{key}: expected {names}, got {value!r}")
        return value

    def one_of(self, key: str, allowed: Sequence[Any], default: Any = _REQUIRED) -> Any:
        """The value of ``key``, which must be one of ``allowed``."""
        value = self.take(key, object, default)
        if value not in allowed:
            near = did_you_mean(str(value), [str(a) for a in allowed])
            raise ConfigError(
                f"{self.path}.{key}: {value!r} has no counterpart{near}; allowed: {', '.join(map(repr, allowed))}"
            )
        return value

    def reader(self, key: str, default: dict[str, Any] | None = None) -> Reader:
        """A reader of the dict under ``key``."""
        value = self.take(key, dict, _REQUIRED if default is None else default)
        return Reader(dict(value), f"{self.path}.{key}")

    def ignore_all(self) -> None:
        """Take what is left without looking at it."""
        self.values.clear()

    def finish(self) -> None:
        """Refuse keys that nobody took.

        Raises:
            ConfigError: with the nearest known name.
        """
        for key in self.values:
            near = did_you_mean(key, self._known)
            raise ConfigError(f"{self.path}: unknown key {key!r}{near}; known: {', '.join(dict.fromkeys(self._known))}")
