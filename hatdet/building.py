"""The recursive build of a config: dicts with a ``type`` become objects."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from hatdet.registry import constructor, resolve
from hatdet.utils.annotations import Signature, dataclass_of, is_as_written, late_arguments, signature_of
from hatdet.utils.errors import RegistryError, UserError
from hatdet.utils.misfit import MisfitError


class Factory:
    """A component that is described but not built: the constructor that receives it gives the last arguments.

    Declare the parameter as ``Annotated[Factory, "params"]`` (the strings name the arguments given later), or
    as plain ``Factory`` where nothing is added. A string ``"params?"`` names a key that the config may have and
    that the receiver reads from :attr:`kwargs` itself; it is not passed on. Every call builds a new object; parts
    inside it that the config shares with others stay shared.
    """

    def __init__(self, builder: Builder, cfg: Mapping[str, Any], path: str = "", late: Collection[str] = ()) -> None:
        self._builder, self._cfg, self._path = builder, cfg, path
        self._own = {name.removesuffix("?") for name in late if name.endswith("?")}

    @property
    def type(self) -> Callable[..., Any]:
        """The class or function that will be called."""
        return resolve(self._cfg["type"])

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """The arguments as the config has them, not built, read-only."""
        return MappingProxyType({key: value for key, value in self._cfg.items() if key != "type"})

    def __call__(self, **given: Any) -> Any:
        """Build a new object with the arguments ``given`` (already built) added to those of the config."""
        passed = {key: value for key, value in self._cfg.items() if key not in self._own}
        return self._builder._call(passed, self._path, given)

    def __repr__(self) -> str:
        return f"Factory({getattr(self._cfg['type'], '__name__', self._cfg['type'])})"


class Builder:
    """Builds config dicts recursively; one builder is one set of shared instances.

    A dict with a ``type`` key becomes an object, inside lists, tuples and other dicts too. The same dict
    object met twice gives the same instance; a ``copy.deepcopy`` of it gives a second one. Containers are
    copied, so that no component can change the config.

    A class may complete its parts: its ``completed`` names the arguments that a part's dict may leave out, and its
    ``complete_part(key, cfg, missing, argument)`` gives them (:func:`hatdet.models.fitting.complete_part`).

    Args:
        names: those of the whole config, so that messages can name its options.
    """

    def __init__(self, names: Mapping[str, Any] | None = None) -> None:
        # id -> (source, result); the source is kept alive so that its id cannot pass to another object.
        self._built: dict[int, tuple[Any, Any]] = {}
        self._names = names or {}

    def build(self, cfg: Any, path: str = "") -> Any:
        """Build ``cfg``; ``path`` is its name in the config, for messages.

        Raises:
            RegistryError: unknown type, or arguments that the constructor refuses (ValueError, TypeError).
        """
        if isinstance(cfg, (dict, list, tuple)):
            if id(cfg) not in self._built:
                self._built[id(cfg)] = (cfg, self._build(cfg, path))
            return self._built[id(cfg)][1]
        return cfg

    def _build(self, cfg: Any, path: str) -> Any:
        if isinstance(cfg, dict):
            if "type" in cfg:
                return self._call(cfg, path, {})
            return {key: self.build(value, join(path, key)) for key, value in cfg.items()}
        items = [self.build(value, join(path, index)) for index, value in enumerate(cfg)]
        if isinstance(cfg, tuple):
            return type(cfg)(*items) if hasattr(cfg, "_fields") else tuple(items)
        return items

    def _call(self, cfg: Mapping[str, Any], path: str, given: Mapping[str, Any]) -> Any:
        where = path or "config"
        try:
            target = constructor(cfg["type"])
        except RegistryError as error:
            raise RegistryError(f"{where}: {error}") from error
        except ImportError as error:
            raise RegistryError(
                f"{where}: {cfg['type']!r} cannot be imported: {error}; correct the name, or install its package"
            ) from error
        doubled = sorted(set(cfg) & set(given))
        if doubled:
            names = ", ".join(map(repr, doubled))
            raise RegistryError(f"{where}: {names} is filled in later; remove it from the config")
        built = False
        try:
            arguments = self._arguments(target, cfg, path, given)
            built = True
            return target(**arguments)
        except MisfitError as error:
            raise RegistryError(f"{where} ({target.__name__}): {error.in_config(cfg, path, self._names)}") from error
        except UserError as error:
            if not built:  # said of the part already
                raise
            if not isinstance(error, RegistryError):
                error.add_note(f"while building {where}")
            raise
        except (ValueError, TypeError) as error:
            raise RegistryError(f"{where} ({target.__name__}): {error}") from error

    def _arguments(
        self, target: Callable[..., Any], cfg: Mapping[str, Any], path: str, given: Mapping[str, Any]
    ) -> dict[str, Any]:
        signature, arguments = signature_of(target), dict(given)
        completed = getattr(target, "completed", {})

        def argument(key: str) -> Any:
            """An argument, built on first use: a part may be completed from one that stands behind it."""
            if key in arguments or key not in cfg:
                return arguments.get(key)
            value, where = cfg[key], join(path, key)
            if key in completed and isinstance(value, dict) and id(value) not in self._built:
                added = target.complete_part(key, value, _missing(value), argument)  # type: ignore[attr-defined]
                if added:
                    told = {k: v for k, v in value.items() if k not in added}
                    self._built[id(value)] = (value, self._call(told, where, added))
            arguments[key] = self._argument(signature, key, value, where)
            return arguments[key]

        for key in sorted(cfg, key=lambda name: name != "model"):  # what its parts refuse is known before data are read
            if key != "type":
                argument(key)
        return arguments

    def _argument(self, signature: Signature, key: str, value: Any, path: str) -> Any:
        annotation = signature.annotation(key)
        if is_as_written(annotation):
            return copy.deepcopy(value)
        if isinstance(value, dict):
            late = late_arguments(annotation, Factory)
            if "type" in value and late is not None:
                return Factory(self, value, path, late)
            dataclass = dataclass_of(annotation)
            if dataclass is not None and "type" not in value:
                return dataclass(**self.build(value, path))
        return self.build(value, path)


def _missing(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, with their defaults, that the dict of a component leaves out or sets to None."""
    try:
        parameters = signature_of(constructor(cfg["type"])).parameters
    except (RegistryError, ImportError, KeyError):  # building it says so, with its path
        return {}
    return {name: p.default for name, p in parameters.items() if cfg.get(name) is None}


def join(path: str, key: object) -> str:
    """The path of ``key`` inside ``path``: ``"a.b"``, or ``"b"`` at the top."""
    return f"{path}.{key}" if path else str(key)


def iterate_children(value: Any) -> Iterator[tuple[str, Any]]:
    """The ``(key, value)`` pairs of a container of a config; nothing for anything else."""
    if isinstance(value, dict):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((str(index), item) for index, item in enumerate(value))
