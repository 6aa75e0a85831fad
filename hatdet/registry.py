"""One registry for everything that a config can name; :mod:`hatdet.building` makes objects of dicts that name one.

A component is marked with :func:`register`. Nothing is imported to find it: the sources of the package are
scanned once as text, so that naming one transform does not import the export tools.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

from hatdet.utils.errors import RegistryError, did_you_mean
from hatdet.utils.lazy import names_of

__getattr__ = names_of("hatdet", {"building": "Builder Factory iterate_children join"})  # their place before

_T = TypeVar("_T", bound=Callable[..., Any])

_registered: dict[str, Callable[..., Any]] = {}
_builders: dict[str, Callable[..., Any]] = {}  # "module.Class" -> function that builds it

_DECORATED = re.compile(
    r"^@register\b[ \t]*(?:\((?P<arguments>[^)]*)\))?[^\n]*\n"
    r"(?:[@#][^\n]*\n(?:[ \t)][^\n]*\n)*)*"  # other decorators and comments, over several lines too
    r"(?:class|def)[ \t]+(?P<name>\w+)",
    re.MULTILINE,
)
_STRING = re.compile(r"""(?:\b(?P<option>builds|scope)\s*=\s*)?["'](?P<value>[^"']+)["']""")


@overload
def register(target: _T, /) -> _T: ...


@overload
def register(*aliases: str, builds: str | None = None, scope: str = "") -> Callable[[_T], _T]: ...


def register(*aliases: Any, builds: str | None = None, scope: str = "") -> Any:
    """Make a class or function usable as ``type="ItsName"`` in a config.

    Args:
        aliases: further names, as in ``@register("OtherName")``.
        builds: full path of a class (``"torch.utils.data.dataloader.DataLoader"``): the decorated function is
            then called for config dicts whose ``type`` is that class, in place of the class itself.
        scope: put before its names, with a dot: ``scope="mmdet"`` gives ``type="mmdet.ItsName"``.

    Raises:
        RegistryError: the name belongs to another object already.
    """
    if len(aliases) == 1 and not isinstance(aliases[0], str):
        return _add(aliases[0], (), None, "")

    def decorate(target: _T) -> _T:
        return _add(target, aliases, builds, scope)

    return decorate


def _add(target: _T, aliases: tuple[str, ...], builds: str | None, scope: str) -> _T:
    for name in (scoped(name, scope) for name in (target.__name__, *aliases)):
        known = _registered.get(name)
        # A module that is executed again (a reload, a config file loaded twice) replaces what it registered.
        if known is not None and _origin(known) != _origin(target):
            raise RegistryError(
                f"the name {name!r} is registered by {_origin(known)} and {_origin(target)}; rename one"
            )
        _registered[name] = target
    if builds is not None:
        _builders[builds] = target
    return target


def scoped(name: str, scope: str) -> str:
    """``name`` as it is registered in ``scope``."""
    return f"{scope}.{name}" if scope else name


def _origin(target: Any) -> str:
    return f"{target.__module__}.{target.__qualname__}"


def scan(root: Path, package: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Read the sources under ``root`` and find what they register, without importing anything.

    Returns:
        names -> modules that register the name (more than one is an error on use), and
        ``"module.Class"`` -> module whose function builds that class.
    """
    names: dict[str, list[str]] = {}
    builders: dict[str, str] = {}
    for file in sorted(root.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if "@register" not in text:
            continue
        parts = file.relative_to(root).with_suffix("").parts
        module = ".".join((package, *(part for part in parts if part != "__init__")))
        for match in _DECORATED.finditer(text):
            found, scope = [match["name"]], ""
            for string in _STRING.finditer(match["arguments"] or ""):
                if string["option"] == "builds":
                    builders[string["value"]] = module
                elif string["option"] == "scope":
                    scope = string["value"]
                else:
                    found.append(string["value"])
            for name in found:
                names.setdefault(scoped(name, scope), []).append(module)
    return names, builders


@functools.cache
def _index() -> tuple[dict[str, list[str]], dict[str, str]]:
    return scan(Path(__file__).parent, __package__ or "hatdet")


def registered_names() -> list[str]:
    """All names usable as ``type``, sorted."""
    return sorted({*_registered, *_index()[0]})


def shipped_names(package: str = "hatdet") -> dict[str, str]:
    """Names that the sources of ``package`` register -> the module of each."""
    found = _index()[0].items()
    return {name: modules[0] for name, modules in found if f"{modules[0]}.".startswith(f"{package}.")}


def in_scope(cfg: Any, scope: str, as_written: Collection[str] = ()) -> Any:
    """A copy of ``cfg`` with the names of types, here and inside, as ``scope`` has them: ``FPN`` -> ``mmdet.FPN``.

    A name that the scope does not have stays as it is.

    Args:
        as_written: keys whose values are copied as they are.
    """
    names = frozenset(registered_names())

    def scoped_in(value: Any) -> Any:
        if isinstance(value, Mapping):
            found = {key: copy.deepcopy(v) if key in as_written else scoped_in(v) for key, v in value.items()}
            kind = found.get("type")
            if isinstance(kind, str) and scoped(kind, scope) in names:
                found["type"] = scoped(kind, scope)
            return found
        if isinstance(value, (list, tuple)):
            return type(value)(scoped_in(item) for item in value)
        return value

    return scoped_in(cfg)


def resolve(type_: Any) -> Callable[..., Any]:
    """The callable that a config's ``type`` stands for; only the module that defines it is imported.

    Args:
        type_: a registered name, the path of a class of torch (``"torch.optim.SGD"``), or a class or callable, which
            is returned as it is.

    Raises:
        RegistryError: unknown name (the message has the nearest one), ambiguous name, or not callable.
    """
    if not isinstance(type_, str):
        if callable(type_):
            return type_  # type: ignore[no-any-return]
        got = f"{type_!r} ({type(type_).__name__})"
        raise RegistryError(f"type must be a registered name, a class or a function, got {got}")
    if type_ in _registered:
        return _registered[type_]
    if type_.startswith("torch."):
        return _of_torch(type_)
    modules = _index()[0].get(type_)
    if modules is None:
        scope = type_.rpartition(".")[0]
        if scope and not any(name.startswith(f"{scope}.") for name in registered_names()):
            hint = f"; for a class outside hatdet import it in the config and write the class: type={type_}"
        else:
            hint = did_you_mean(type_, registered_names())
        raise RegistryError(f"unknown type {type_!r}{hint}")
    if len(modules) > 1:
        raise RegistryError(f"the name {type_!r} is registered twice, in {' and '.join(modules)}; rename one")
    importlib.import_module(modules[0])
    if type_ not in _registered:
        raise RegistryError(
            f"{modules[0]} names {type_!r} but did not register it when imported; "
            "register it at the top level of the module, not inside a function"
        )
    return _registered[type_]


def _of_torch(path: str) -> Callable[..., Any]:
    """A class of torch by its path, so that a config can name it without importing torch."""
    module, _, name = path.rpartition(".")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise RegistryError(f"unknown type {path!r}: {error}; name a class of torch by its full path") from error
    if not inspect.isclass(getattr(found, name, None)):
        near = did_you_mean(name, [other for other, value in vars(found).items() if inspect.isclass(value)])
        raise RegistryError(f"unknown type {path!r}: {module} has no class {name!r}{near}; name one that it has")
    return getattr(found, name)  # type: ignore[no-any-return]


def constructor(type_: Any) -> Callable[..., Any]:
    """What is called for a dict of this ``type``: a function registered with ``builds=``, or the type."""
    target = resolve(type_)
    if not inspect.isclass(target):
        return target
    origin = _origin(target)
    if origin not in _builders:
        module = _index()[1].get(origin)
        if module is None:
            return target
        importlib.import_module(module)
    return _builders.get(origin, target)
