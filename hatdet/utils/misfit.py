"""Parts of a model that do not fit each other: what to set, in the words of the user's config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatdet.utils.errors import UserError

_ABSENT = object()


class MisfitError(UserError):
    """Two parts do not fit each other.

    Args:
        problem: both sides.
        settings: what to set so that they do: keys of the config of the whole (``neck.in_channels``) and values.
        otherwise: what may be done instead.
        every: all of ``settings`` are needed, not any of them.
    """

    def __init__(
        self, problem: str, settings: Mapping[str, Any], otherwise: str = "", every: bool = False
    ) -> None:
        self.problem, self.settings, self.otherwise, self.every = problem, dict(settings), otherwise, every
        super().__init__(self._text(self.settings))

    def in_config(self, cfg: Mapping[str, Any], path: str, names: Mapping[str, Any]) -> str:
        """The message for the user of a config.

        Args:
            cfg: of the whole; path: where it stands; names: the config's own, options among them.
        """
        last = path.rsplit(".", 1)[-1]
        if last in names and names[last] == cfg:  # float_trainer.model is model
            path = last
        return self._text({_option(cfg, path, names, key): value for key, value in self.settings.items()})

    def _text(self, settings: Mapping[str, Any]) -> str:
        written = (" and " if self.every else " or ").join(f"{key}={value!r}" for key, value in settings.items())
        advice = ", ".join(part for part in (written and f"set {written}", self.otherwise) if part)
        return f"{self.problem}: {advice}"


def _option(cfg: Mapping[str, Any], path: str, names: Mapping[str, Any], key: str) -> str:
    """The option of the config that ``key`` takes its value from; its path where there is none."""
    value: Any = cfg
    for part in key.split("."):
        value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    leaf = key.rsplit(".", 1)[-1]
    found = [name for name, known in names.items() if not name.startswith("_") and _same(known, value)]
    close = [name for name in found if leaf in name] or [name for name in found if leaf.split("_")[-1] in name]
    dotted = f"{path}.{key}" if path else key
    return close[0] if len(close) == 1 else dotted


def _same(known: Any, value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return isinstance(known, (list, tuple)) and list(known) == list(value)
    return type(known) is type(value) and isinstance(value, (int, str)) and bool(known == value)
