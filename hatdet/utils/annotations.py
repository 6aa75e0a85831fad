"""Signatures of constructors, their annotations evaluated, and whether a value fits one."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import numbers
import pathlib
import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a constructor accepts by keyword."""

    parameters: dict[str, inspect.Parameter]
    annotations: dict[str, Any]
    takes_any_keyword: bool
    """It has ``**kwargs`` (or no readable signature): any key is accepted."""
    returns: Any = Any
    """What a function gives, ``Any`` where it does not say; for a class, the class."""

    def annotation(self, name: str) -> Any:
        """The annotation of a parameter; ``Any`` where there is none."""
        return self.annotations.get(name, Any)

    @property
    def required(self) -> list[str]:
        """Parameters without a default."""
        return [name for name, parameter in self.parameters.items() if parameter.default is parameter.empty]


@functools.cache
def signature_of(target: Callable[..., Any]) -> Signature:
    """The keyword parameters of a class (its constructor) or function.

    Raises:
        TypeError: an annotation that mentions ``Factory`` cannot be evaluated. Any other that cannot be (a
            name imported for type checkers only) counts as ``Any``.
    """
    is_class = inspect.isclass(target)
    try:
        signature = inspect.signature(target)
    except (ValueError, TypeError):  # some builtins have none
        return Signature({}, {}, takes_any_keyword=True, returns=target if is_class else Any)
    parameters = signature.parameters.values()
    by_keyword = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    namespace = _namespace(target)
    return Signature(
        by_keyword,
        {name: _evaluate(p.annotation, namespace, target, name) for name, p in by_keyword.items()},
        takes_any_keyword=any(p.kind is p.VAR_KEYWORD for p in parameters),
        returns=target if is_class else _evaluate(signature.return_annotation, namespace, target, "return"),
    )


def _namespace(target: Any) -> dict[str, Any]:
    function = target
    if inspect.isclass(target):
        function = target.__init__ if target.__init__ is not object.__init__ else target.__new__
    elif isinstance(target, functools.partial):
        function = target.func
    return getattr(inspect.unwrap(function), "__globals__", {})


def _evaluate(annotation: Any, namespace: dict[str, Any], target: Any, name: str) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, namespace)  # source text of an imported module, not user input
    except Exception as error:
        if "Factory" in annotation:  # building the part at once instead would be silently wrong
            where = f"{target.__qualname__}, argument {name!r}"
            raise TypeError(f"{where}: cannot evaluate the annotation {annotation!r}: {error}") from error
        return Any


def alternatives(annotation: Any) -> list[Any]:
    """The members of a union, nested ones too; a list of one for anything else."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for part in get_args(annotation) for member in alternatives(part)]
    return [annotation]


class AsWritten:
    """Marks, in ``Annotated[..., AsWritten]``, an argument that a constructor gets as the config has it: dicts in it
    that have a ``type`` are described parts, which the constructor builds itself."""


Spec: TypeAlias = Annotated[dict[str, Any], AsWritten]
"""A dict of a config that is not built, see :class:`AsWritten`."""


def is_as_written(annotation: Any) -> bool:
    """Whether an annotation, or one of its alternatives, is marked with :class:`AsWritten`."""
    return any(get_origin(part) is Annotated and AsWritten in get_args(part) for part in alternatives(annotation))


def late_arguments(annotation: Any, factory: type) -> tuple[str, ...] | None:
    """The names in ``Annotated[factory, "name", ...]``; empty for plain ``factory``; None for all else."""
    for part in alternatives(annotation):
        if part is factory:
            return ()
        if get_origin(part) is Annotated and get_args(part)[0] is factory:
            return tuple(name for name in get_args(part)[1:] if isinstance(name, str))
    return None


def dataclass_of(annotation: Any) -> type | None:
    """The frozen dataclass among the alternatives of an annotation: a plain dict for it holds its fields."""
    for part in alternatives(annotation):
        parameters = getattr(part, "__dataclass_params__", None) if isinstance(part, type) else None
        if parameters is not None and parameters.frozen:
            return part  # type: ignore[no-any-return]
    return None


def field_annotations(annotation: Any) -> tuple[dict[str, Any], set[str]] | None:
    """Fields and required fields of the TypedDict or frozen dataclass in an annotation; None without one."""
    for part in alternatives(annotation):
        if typing.is_typeddict(part):
            return _hints(part, part.__annotations__), set(part.__required_keys__)
    found = dataclass_of(annotation)
    if found is None:
        return None
    fields = [field for field in dataclasses.fields(found) if field.init]
    missing = dataclasses.MISSING
    hints = _hints(found, [field.name for field in fields])
    required = {f.name for f in fields if f.default is missing and f.default_factory is missing}
    return {field.name: hints[field.name] for field in fields}, required


def _hints(target: Any, names: Iterable[str]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target)
    except Exception:  # a name imported for type checkers only
        return dict.fromkeys(names, Any)


def shown(annotation: Any) -> str:
    """An annotation as messages write it: ``int``, ``list[str] | None``, ``one of 'a', 'b'``."""
    if annotation is None or annotation is type(None):
        return "None"
    origin = get_origin(annotation)
    if origin is Annotated:
        return shown(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(shown(part) for part in alternatives(annotation)))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, get_args(annotation)))
    if origin is not None:
        if origin is collections.abc.Callable:
            return "a callable"
        inner = ", ".join("..." if part is Ellipsis else shown(part) for part in get_args(annotation))
        return f"{getattr(origin, '__name__', origin)}[{inner}]"
    return getattr(annotation, "__name__", None) or str(annotation).removeprefix("typing.")


def fits(value: Any, annotation: Any, product: Callable[[dict[str, Any]], Any]) -> bool:
    """Whether a value of a config is acceptable for an annotation.

    Args:
        value: built or not; a dict with a ``type`` stands for what it builds.
        product: gives the class that a dict with a ``type`` builds, or None where that is not known.

    A list fits a tuple and a tuple a list (configs and options use them alike), an int fits float, text
    fits Path. Annotations that cannot be checked (type variables, protocols) accept everything.
    """
    if annotation is None or annotation is type(None):
        return value is None
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(fits(value, part, product) for part in arguments)
    if origin is Annotated:
        return fits(value, arguments[0], product)
    if origin is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in arguments)
    supertype = getattr(annotation, "__supertype__", None)  # NewType
    if supertype is not None:
        return fits(value, supertype, product)
    kind = origin or annotation
    if kind is Any or not inspect.isclass(kind) or kind is object or getattr(kind, "_is_protocol", False):
        return True
    if isinstance(value, dict) and "type" in value:
        made = product(value)
        return made is None or _produces(made, kind)
    return _is_a(value, kind) and _items_fit(value, kind, arguments, product)


def _produces(made: type, kind: type) -> bool:
    """Whether an instance of ``made`` will do where ``kind`` is wanted."""
    protocols = {
        collections.abc.Callable: ("__call__",),
        collections.abc.Iterable: ("__iter__", "__getitem__"),
        collections.abc.Sequence: ("__getitem__",),
        collections.abc.Mapping: ("__getitem__",),
    }
    methods = protocols.get(kind)
    if methods is None:
        return issubclass(made, kind)
    return any(name in vars(base) for base in made.__mro__ for name in methods)


def _is_a(value: Any, kind: type) -> bool:
    if kind in (int, float):
        wanted = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, wanted) and not isinstance(value, bool)
    if kind in (list, tuple, collections.abc.Sequence):
        return isinstance(value, (list, tuple, range, kind)) and not isinstance(value, (str, bytes))
    if kind in (pathlib.Path, pathlib.PurePath):
        return isinstance(value, (str, kind))
    if kind is type:
        return inspect.isclass(value)
    if typing.is_typeddict(kind):
        return isinstance(value, dict)
    if dataclass_of(kind) is not None and isinstance(value, dict):
        return True
    if kind is collections.abc.Iterable and isinstance(value, str):
        return False
    return isinstance(value, kind)


def _items_fit(value: Any, kind: type, arguments: tuple[Any, ...], product: Callable[..., Any]) -> bool:
    if not arguments:
        return True
    if kind is tuple and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(map(fits, value, arguments, [product] * len(value)))
    if kind is type:
        wanted = arguments[0]
        return not inspect.isclass(wanted) or issubclass(value, wanted)
    if isinstance(value, dict):
        return len(arguments) < 2 or all(
            fits(key, arguments[0], product) and fits(item, arguments[1], product)
            for key, item in value.items()
        )
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(fits(item, arguments[0], product) for item in value)
    return True
