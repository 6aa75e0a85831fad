"""Parts of a resolved config that was kept as text: read without being run, and known to be of the house."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hatdet.config.literal import Unread, read_values
from hatdet.registry import shipped_names
from hatdet.utils.errors import UserError

ROOMS = ("hatdet.models.", "hatdet.data.transforms.", "hatdet.data.collate", "hatdet.quantization.", "hatdet.engine.",
         "torch.nn.")
"""Where the parts are defined that a text of unknown origin may name: none of them opens files by itself."""
_WEIGHTS = ("init_cfg", "pretrained", "load_from")
"""Keys of parts that say where first weights come from."""


def read_parts(text: str) -> dict[str, Any]:
    """:func:`~hatdet.config.literal.read_values`, with hatdet's classes by their registered names, as a config of plain
    values has them."""
    values, shipped = read_values(text), shipped_names()
    for part in dicts(values, set()):
        path = part.get("type")
        if isinstance(path, str) and path.startswith("hatdet."):
            place, _, name = path.rpartition(".")
            same = [known for known in shipped if known.rpartition(".")[2] == name]
            same = [known for known in same if f"{shipped[known]}.".startswith(f"{place}.")]
            part["type"] = same[0] if len(same) == 1 else path
    return values


def without_first_weights(model: Any) -> Any:
    """A copy of a model's dict that loads nothing when it is built; what was shared in it still is."""
    model = copy.deepcopy(model)
    for part in dicts(model, set()):
        for key in _WEIGHTS:
            part.pop(key, None)
    return model


def check_origin(values: Any, source: str) -> None:
    """Refuse a text that names what is no part of hatdet's models, transforms and converters.

    What the registry does not know is let through: it is what a part reads itself (``norm_cfg``), or fails when built.

    Raises:
        UserError: with the name.
    """
    shipped = shipped_names()
    for part in dicts(values, set()):
        kind = part.get("type")
        if isinstance(kind, str):
            module = shipped.get(kind, f"{kind}." if kind.startswith(("torch.", "hatdet.")) else "")
            if module and (kind.startswith("hatdet.") or not module.startswith(ROOMS)):
                raise UserError(
                    f"{source} is built with {kind!r}, which is no model, transform or converter of hatdet's; name its "
                    "config (config=..., --config)"
                )
        strange = next((item for item in part.values() if isinstance(item, Unread)), None)
        if strange is not None:
            raise UserError(
                f"{source} is built with {strange.text}, which cannot be read from a text; name its config "
                "(config=..., --config)"
            )


def dicts(value: Any, seen: set[int]) -> Iterator[dict[str, Any]]:
    """All dicts in a value, each once."""
    if id(value) in seen:
        return
    if isinstance(value, (dict, list, tuple)):
        seen.add(id(value))
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from dicts(item, seen)
