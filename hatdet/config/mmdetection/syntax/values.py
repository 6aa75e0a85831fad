"""The values of a config file: dicts whose keys are attributes too, and names of classes that are not here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from hatdet.utils.errors import ConfigError, did_you_mean

DELETE = "_delete_"
"""Key of a dict that replaces what it would otherwise be merged into."""
_TORCH = {
    "BatchNorm1d": "BN1d", "BatchNorm2d": "BN", "BatchNorm3d": "BN3d", "SyncBatchNorm": "SyncBN", "GroupNorm": "GN",
    "LayerNorm": "LN", "InstanceNorm2d": "IN", "Conv2d": "Conv2d",
}  # fmt: skip
"""Classes of torch that have another name in a config."""


class Values(dict[str, Any]):
    """A dict of a config: ``values.key`` is ``values["key"]``, in all that it holds too; updates reach into dicts."""

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value if isinstance(value, Values) else wrapped(value))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the base files have no {name!r}{did_you_mean(name, self)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def update(self, *others: Any, **named: Any) -> None:  # type: ignore[override]
        """As of a dict, but a dict that meets a dict updates it: ``loader.update(dict(dataset=dict(...)))``."""
        for name, value in dict(*others, **named).items():
            old = self.get(name)
            if isinstance(old, Values) and isinstance(value, Mapping):
                old.update(value)
            else:
                self[name] = value

    def __or__(self, other: Any) -> Values:  # type: ignore[override]
        if not isinstance(other, Mapping):
            return NotImplemented
        found = Values(wrapped(self))
        found.update(other)
        return found

    def __ior__(self, other: Any) -> Values:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        """As of a dict."""
        if name not in self:
            self[name] = default
        return self[name]

    def pop(self, name: str, default: Any = None) -> Any:
        """As of a dict; what is not there is None."""
        return super().pop(name, default)

    def copy(self) -> Values:
        """A copy whose dicts are the same ones."""
        return Values(self)

    def merge(self, other: Mapping[str, Any]) -> None:
        """Merge ``other`` into this dict; ``_delete_=True`` in a dict of it empties what it meets first."""
        merged = _merged(other, self)
        self.clear()
        self.update(merged)


def _merged(new: Any, old: Any) -> Any:
    if not isinstance(new, Mapping):
        return new
    kept = dict(old) if isinstance(old, Mapping) and not new.get(DELETE) else {}
    return {**kept, **{key: _merged(value, kept.get(key)) for key, value in new.items() if key != DELETE}}


class Name:
    """A class of a package that is not needed here, for its name only (``from mmdet.models import FPN``)."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __getattr__(self, name: str) -> Name:
        if name.startswith("__"):
            raise AttributeError(name)
        return Name(f"{self.path}.{name}")

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        raise TypeError(
            f"{self.path} is known by its name only, and cannot be called in a config; write dict(type=...) instead"
        )

    def __repr__(self) -> str:
        return self.path

    @property
    def word(self) -> str:
        """The word that stands for it in a config."""
        last = self.path.rpartition(".")[2]
        return _TORCH.get(last, last) if self.path.startswith("torch.") else last


def wrapped(value: Any) -> Any:
    """``value`` with every dict in it as :class:`Values`; a copy, down to what is no container."""
    if isinstance(value, Mapping):
        return Values((key, wrapped(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(wrapped(item) for item in value)
    return value


def plain(value: Any) -> Any:
    """``value`` of dicts, lists, tuples and leaves; names as their words; a copy."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if key != "_scope_"}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(plain(item) for item in value)
    if isinstance(value, Name):
        return value.word
    if inspect.isclass(value) and value.__module__.split(".")[0] == "torch":
        return Name(f"torch.{value.__name__}").word
    return value


def merge(new: Mapping[str, Any], old: Mapping[str, Any], path: str = "") -> Values:
    """A dict of ``old`` with ``new`` merged into it; neither is changed.

    Raises:
        ConfigError: a dict meets something else.
    """
    result = Values(old)
    for key, value in new.items():
        if key == DELETE:
            continue
        where = f"{path}.{key}" if path else str(key)
        if not isinstance(value, dict):
            result[key] = wrapped(value)
        elif value.get(DELETE) or key not in result:
            result[key] = Values((k, item) for k, item in wrapped(value).items() if k != DELETE)
        elif isinstance(result[key], dict):
            result[key] = merge(value, result[key], where)
        else:
            raise ConfigError(
                f"{where}: a dict cannot be merged into {result[key]!r} of the base files; "
                f"write {DELETE}=True into it to replace that"
            )
    return result


def strip(value: Any) -> None:
    """Remove the ``_delete_`` marks that are left where there was nothing to replace."""
    if isinstance(value, dict):
        value.pop(DELETE, None)
    if isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            strip(item)
