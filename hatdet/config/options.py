"""Options from the command line: parsing, type checks against what they replace, keys inside the config."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hatdet.config.merge import merge
from hatdet.utils.errors import ConfigError, RegistryError, did_you_mean

_WORDS = {"true": True, "false": False, "none": None, "null": None}


def parse_options(words: Sequence[str]) -> dict[str, object]:
    """Parse ``["num_classes=2", "imgsz=(192,192)", "float_trainer.optimizer.lr=1e-3"]``.

    A value is a Python literal, or one of ``true``, ``false``, ``none`` in any case, or else plain text. It
    is never evaluated.

    Raises:
        ConfigError: a word without ``=``, an empty or malformed key, a key given twice with different values.
    """
    options: dict[str, object] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip()
        if not equals:
            raise ConfigError(f"option {word!r} has no '='; write name=value, without spaces around the '='")
        if not all(part.isidentifier() or part.isdecimal() for part in key.split(".")) or key[0].isdecimal():
            raise ConfigError(f"option {word!r}: {key!r} is not a name; write name=value or name.key.0=value")
        value = parse_value(text)
        if key in options and options[key] != value:
            raise ConfigError(f"option {key} is given twice, as {options[key]!r} and as {value!r}; give it once")
        options[key] = value
    return options


def parse_value(text: str) -> object:
    """The value of an option's text; see :func:`parse_options`."""
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def option_words(options: Mapping[str, Any]) -> str:
    """Options as a shell takes them after ``--cfg-options``: :func:`parse_options` of these words gives them back."""
    return " ".join(shlex.quote(f"{key}={_text(value)}") for key, value in options.items())


def _text(value: Any) -> str:
    text = str(value) if isinstance(value, (str, Path)) else repr(value).replace(", ", ",")
    if isinstance(value, (str, Path)):
        return text if parse_value(text) == text else repr(text)
    return text if parse_value(text) == value else repr(value)


BATCH_SIZES = ("batch_size", "batch_size_per_gpu")
AUTO = "auto"
"""A number of pictures a step may be this word (hatdet/engine/processes/batch_size.py)."""

OF_SEVERAL_TYPES = ("weight_bits",)
"""Names whose value may be a number, a word or a list; what reads them checks it."""


def adapt(key: str, value: Any, old: Any) -> Any:
    """``value`` in the type of ``old``, the value that it replaces.

    An int becomes a float and a list a tuple (or back) where the old value was one; ``None`` on either side
    fits anything, and so does an old value that is neither number, text nor container.

    Raises:
        ConfigError: the type does not fit.
    """
    if old is None or value is None or key.rsplit(".", 1)[-1] in OF_SEVERAL_TYPES:
        return value
    if key.rsplit(".", 1)[-1] in BATCH_SIZES and (value == AUTO or (old == AUTO and type(value) is int)):
        return value
    if isinstance(old, bool) or isinstance(value, bool):
        fits = isinstance(old, bool) and isinstance(value, bool)
    elif isinstance(old, float):
        fits = isinstance(value, (int, float))
        value = float(value) if fits else value
    elif isinstance(old, Path):
        fits = isinstance(value, str)
        value = Path(value) if fits else value
    elif isinstance(old, (list, tuple)):
        fits = isinstance(value, (list, tuple))
        value = _adapt_items(key, value, old) if fits else value
    elif isinstance(old, (int, str, dict)):
        kind = next(kind for kind in (int, str, dict) if isinstance(old, kind))
        fits = isinstance(value, kind)
    else:
        return value
    if not fits:
        hint = ""
        if isinstance(old, str):
            hint = f"; to give text that looks like a literal, quote it twice: {key}='\"...\"'"
        got = f"{value!r} ({type(value).__name__})"
        raise ConfigError(f"{key}: expected {type(old).__name__}, got {got}{hint}")
    return value


def _adapt_items(key: str, value: Sequence[Any], old: Sequence[Any]) -> Any:
    kinds = {type(item) for item in old}
    if len(kinds) == 1:
        value = [adapt(f"{key}.{index}", item, old[0]) for index, item in enumerate(value)]
    elif len(kinds) > 1 and len(value) == len(old) and kinds <= {int, float}:
        value = [adapt(f"{key}.{index}", item, 0.0) for index, item in enumerate(value)]
    return tuple(value) if isinstance(old, tuple) else list(value)


def set_inside(
    values: dict[str, Any], key: str, value: Any, accepts: Callable[[dict[str, Any]], list[str] | None]
) -> None:
    """Set a dotted key, ``"float_trainer.callbacks.2.lr"``, in place.

    Args:
        values: the config's names.
        key: at least two parts; a number is an index of a list or tuple.
        value: dicts are merged into the dict that is there.
        accepts: the arguments that the constructor of a dict with a ``type`` takes, None where it takes any.

    Raises:
        ConfigError: the key does not exist and its parent's constructor does not accept it, or the type
            does not fit.
    """
    parts = key.split(".")
    values[parts[0]] = _set(values[parts[0]], parts, 1, value, accepts)


def _set(container: Any, parts: list[str], depth: int, value: Any, accepts: Callable[..., Any]) -> Any:
    """Set the rest of the path in ``container`` and return it (a tuple is replaced by a new one)."""
    key, here = ".".join(parts), ".".join(parts[:depth])
    last = depth == len(parts) - 1
    if isinstance(container, dict):
        name: Any = parts[depth]
        if name not in container and not (last and _may_create(container, name, here, accepts)):
            known = [str(other) for other in container]
            raise ConfigError(f"option {key}: {here} has no {name!r}{_hint(name, known)}")
        old = container.get(name)
    elif isinstance(container, (list, tuple)):
        if not parts[depth].isdecimal() or int(parts[depth]) >= len(container):
            size = len(container)
            allowed = f"0 to {size - 1}" if size else "none, it is empty"
            raise ConfigError(f"option {key}: {here} is a {type(container).__name__}; indices: {allowed}")
        name = int(parts[depth])
        old = container[name]
    else:
        kind = type(container).__name__
        raise ConfigError(
            f"option {key}: {here} is {container!r} ({kind}), which has nothing inside to set; set {here} itself"
        )
    if not last:
        new = _set(old, parts, depth + 1, value, accepts)
    elif isinstance(old, dict) and isinstance(value, dict):
        new = merge(old, value)
    else:
        new = adapt(key, value, old)
    if isinstance(container, tuple):
        return (*container[:name], new, *container[name + 1 :])
    container[name] = new
    return container


def _may_create(container: dict[str, Any], name: str, here: str, accepts: Callable[..., Any]) -> bool:
    if "type" not in container:
        return False
    try:
        allowed = accepts(container)
    except RegistryError as error:
        raise ConfigError(f"{here}: {error}") from error
    if allowed is not None and name not in allowed:
        raise ConfigError(f"option {here}.{name}: {here} has no argument {name!r}{_hint(name, allowed)}")
    return True


def _hint(name: str, known: Sequence[str]) -> str:
    return did_you_mean(name, known) or (f"; it has {', '.join(known)}" if known else "; it is empty")


def resolve_aliases(options: Mapping[str, object], aliases: Mapping[str, str]) -> dict[str, object]:
    """Replace older names of options by those of the config.

    Raises:
        ConfigError: the old and the new name are both given, with different values.
    """
    result: dict[str, object] = {}
    for key, value in options.items():
        head, dot, rest = key.partition(".")
        name = aliases.get(head, head) + dot + rest
        if name in result and result[name] != value:
            raise ConfigError(f"options {key} and {name} are the same name with different values; give one of them")
        result[name] = value
    return result


def accepted(cfg: dict[str, Any]) -> list[str] | None:
    """The arguments that the constructor of a dict with a ``type`` takes; None: any."""
    from hatdet.registry import constructor
    from hatdet.utils.annotations import signature_of

    signature = signature_of(constructor(cfg["type"]))
    return None if signature.takes_any_keyword else list(signature.parameters)
