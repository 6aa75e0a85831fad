"""Signatures of constructors, with their annotations evaluated."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Union, get_args, get_origin


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a constructor accepts by keyword."""

    parameters: dict[str, inspect.Parameter]
    annotations: dict[str, Any]
    takes_any_keyword: bool
    """It has ``**kwargs`` (or no readable signature): any key is accepted."""

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
        TypeError: an annotation that mentions ``Factory`` cannot be evaluated. Any other that cannot be (a name
            imported for type checkers only) counts as ``Any``.
    """
    try:
        parameters = inspect.signature(target).parameters.values()
    except (ValueError, TypeError):  # some builtins have none
        return Signature({}, {}, takes_any_keyword=True)
    by_keyword = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    namespace = _namespace(target)
    return Signature(
        by_keyword,
        {name: _evaluate(p.annotation, namespace, target, name) for name, p in by_keyword.items()},
        takes_any_keyword=any(p.kind is p.VAR_KEYWORD for p in parameters),
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
            return typing.get_type_hints(part), set(part.__required_keys__)
    found = dataclass_of(annotation)
    if found is None:
        return None
    fields = [field for field in dataclasses.fields(found) if field.init]
    missing = dataclasses.MISSING
    hints = typing.get_type_hints(found)
    required = {f.name for f in fields if f.default is missing and f.default_factory is missing}
    return {field.name: hints[field.name] for field in fields}, required
