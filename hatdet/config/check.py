"""Validation of a config before anything is built: every problem, each with the path of its key."""

from __future__ import annotations

import dataclasses
import inspect
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from hatdet.building import Factory, iterate_children, join
from hatdet.registry import constructor, resolve
from hatdet.utils.annotations import (
    Signature,
    alternatives,
    field_annotations,
    fits,
    is_as_written,
    late_arguments,
    shown,
    signature_of,
)
from hatdet.utils.errors import RegistryError, did_you_mean, nearest


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong, at ``path`` (``"float_trainer.model.bbox_head.num_classes"``)."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def check(cfg: Any, path: str = "") -> list[Problem]:
    """All problems in ``cfg`` and everything inside it; nothing is built, but the modules named are imported.

    Found are: unknown ``type``, unknown and missing arguments, values that do not fit the annotation of their
    parameter. A dict that stands in several places is reported once, under its shortest path.
    """
    return check_all({path: cfg})


def check_all(roots: Mapping[str, Any]) -> list[Problem]:
    """:func:`check` for several values at once; a dict that they share is reported once."""
    problems: list[Problem] = []
    seen: set[tuple[int, tuple[str, ...], tuple[str, ...]]] = set()
    # Breadth first, so that a shared dict is met under its shortest path first.
    queue: deque[tuple[str, Any, tuple[str, ...], tuple[str, ...]]] = deque(
        (path, value, (), ()) for path, value in roots.items()
    )
    while queue:
        path, value, late, completed = queue.popleft()
        if not isinstance(value, (dict, list, tuple)) or (id(value), late, completed) in seen:
            continue
        seen.add((id(value), late, completed))
        signature, parts = None, dict[str, Any]()
        if isinstance(value, dict) and "type" in value:
            signature, found = _check_component(value, path, late, completed)
            problems += found
            parts = getattr(signature.returns, "completed", {}) if signature else {}
        for key, child in iterate_children(value):
            if signature and is_as_written(signature.annotation(key)):
                continue  # who gets it builds and checks it
            given_later = late_arguments(signature.annotation(key), Factory) if signature else None
            queue.append((join(path, key), child, given_later or (), tuple(parts.get(key, ()))))
    return problems


def _check_component(
    cfg: dict[str, Any], path: str, late: tuple[str, ...], completed: tuple[str, ...]
) -> tuple[Signature | None, list[Problem]]:
    try:
        name = _name(resolve(cfg["type"]))
        signature = signature_of(constructor(cfg["type"]))
    except RegistryError as error:
        return None, [Problem(join(path, "type"), str(error))]
    except ImportError as error:
        return None, [Problem(join(path, "type"), f"{cfg['type']!r} cannot be imported: {error}")]
    problems = []
    optional = {name.removesuffix("?") for name in late if name.endswith("?")}
    for key, value in cfg.items():
        if key == "type" or key in optional:
            continue
        if key in late:
            problems.append(Problem(join(path, key), "is filled in later; remove it"))
        elif key in signature.parameters:
            if value is not None or key not in completed:  # None: as if it were left out
                problems += _check_value(value, signature.annotation(key), join(path, key))
        elif not signature.takes_any_keyword:
            allowed = [known for known in [*signature.parameters, *sorted(optional)] if known not in late]
            problems.append(Problem(join(path, str(key)), f"unknown argument of {name}{_hint(key, allowed)}"))
    given = {*cfg, *late, *optional, *completed}
    missing = [key for key in signature.required if key not in given]
    problems += [Problem(join(path, key), f"missing; {name} needs it") for key in missing]
    return signature, problems


def _check_value(value: Any, annotation: Any, path: str) -> list[Problem]:
    as_written = is_as_written(annotation)
    is_component = isinstance(value, dict) and "type" in value and not as_written
    if is_component and late_arguments(annotation, Factory) is not None:
        return []
    fields = field_annotations(annotation) if isinstance(value, dict) and not is_component else None
    if fields is not None and not any(part in (dict, Any) for part in alternatives(annotation)):
        return _check_fields(value, *fields, path)
    if fits(value, annotation, _unbuilt if as_written else _product):
        return []
    items = _misfits(value, annotation, path)
    if items:
        return items
    literals = [part for part in alternatives(annotation) if get_origin(part) is Literal]
    allowed = [item for part in literals for item in get_args(part)]
    hint = did_you_mean(value, map(str, allowed)) if isinstance(value, str) else ""
    expected = "a dict with a type" if annotation is Factory else shown(annotation)
    return [Problem(path, f"expected {expected}, got {_describe(value)}{hint}")]


def _misfits(value: Any, annotation: Any, path: str) -> list[Problem]:
    """The problems of single items, where ``value`` is a list and its annotation a list of one kind of thing."""
    if not isinstance(value, (list, tuple)):
        return []
    kinds = [part for part in alternatives(annotation) if get_origin(part) in (list, Sequence)]
    if len(kinds) != 1 or len(get_args(kinds[0])) != 1:
        return []
    inner = get_args(kinds[0])[0]
    return [p for index, item in enumerate(value) for p in _check_value(item, inner, join(path, str(index)))]


def _check_fields(
    value: dict[str, Any], fields: dict[str, Any], required: set[str], path: str
) -> list[Problem]:
    problems = []
    for key, item in value.items():
        if key in fields:
            problems += _check_value(item, fields[key], join(path, key))
        else:
            problems.append(Problem(join(path, str(key)), f"unknown key{_hint(str(key), list(fields))}"))
    absent = [key for key in fields if key in required and key not in value]
    return problems + [Problem(join(path, key), "missing") for key in absent]


def _product(cfg: dict[str, Any]) -> type | None:
    """The class that a dict with a ``type`` builds; None where it is not known."""
    try:
        target = resolve(cfg["type"])
    except (RegistryError, ImportError):  # reported where the dict itself is checked
        return None
    made = target if inspect.isclass(target) else signature_of(target).returns
    made = get_origin(made) or made
    return made if inspect.isclass(made) else None


def _unbuilt(cfg: dict[str, Any]) -> type:
    return type(cfg)


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        if "type" not in value:
            return f"a dict without a type ({', '.join(map(str, value)) or 'empty'})"
        type_ = value["type"]
        return f"dict(type={type_ if isinstance(type_, str) else _name(type_)})"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _name(target: Any) -> str:
    return getattr(target, "__qualname__", None) or repr(target)


def _hint(key: str, allowed: list[str]) -> str:
    if nearest(key, allowed):
        return did_you_mean(key, allowed)
    return f"; it takes {', '.join(dict.fromkeys(allowed))}" if allowed else "; it takes none"
