"""What a model file needs to be run alone: the network's parts and what is done to a picture, as readable text.

Exported files carry it in their metadata (``recipe``): the assignments ``model``, ``transforms`` and ``collate`` as a
resolved config has them. It is read, never executed, and may name parts of hatdet only.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from hatdet.config.dump import dump
from hatdet.config.literal import Unread, read_values
from hatdet.engine.stages import INT_INFER_NAMES, TRAIN_STAGES, find_callback
from hatdet.registry import shipped_names
from hatdet.utils.errors import ConfigError, UserError

KEY = "recipe"
ROOMS = ("hatdet.models.", "hatdet.data.transforms.", "hatdet.data.collate", "hatdet.quantization.", "hatdet.engine.",
         "torch.nn.")
"""Where the parts are defined that a text of unknown origin may name: none of them opens files by itself."""
_WEIGHTS = ("init_cfg", "pretrained", "load_from")
"""Keys of parts that say where first weights come from."""
logger = logging.getLogger("hatdet")


def recipe_of(values: Mapping[str, Any]) -> dict[str, str]:
    """``{"recipe": text}`` of a config, to be added to a file's metadata; empty where it cannot be written as text.

    A part that is defined outside hatdet cannot: such a file needs its config to be run.
    """
    model = model_of(values)
    if model is None:
        return {}
    parts = {"model": without_first_weights(model), "transforms": transforms_of(values), "collate": collate_of(values)}
    try:
        text = dump({key: value for key, value in parts.items() if value is not None}, "recipe", {}).split("\n\n")[-1]
        check_origin(read_parts(text), "the config")
    except (ConfigError, UserError) as error:
        logger.info("the file will need its config to be run alone: %s", error)
        return {}
    return {KEY: text}


def read_parts(text: str) -> dict[str, Any]:
    """:func:`~hatdet.config.literal.read_values`, with hatdet's classes by their registered names, as a config of plain
    values has them."""
    values, shipped = read_values(text), shipped_names()
    for part in _dicts(values, set()):
        path = part.get("type")
        if isinstance(path, str) and path.startswith("hatdet."):
            place, _, name = path.rpartition(".")
            same = [known for known in shipped if known.rpartition(".")[2] == name]
            same = [known for known in same if f"{shipped[known]}.".startswith(f"{place}.")]
            part["type"] = same[0] if len(same) == 1 else path
    return values


def model_of(values: Mapping[str, Any]) -> Any:
    """The detector's dict: of the integer stage, else of the last trainer, else ``model``; None where there is none."""
    names = (*INT_INFER_NAMES, *(f"{stage}_trainer" for stage in reversed(TRAIN_STAGES)))
    sections = [values[name] for name in names if isinstance(values.get(name), Mapping)]
    found = (section["model"] for section in sections if isinstance(section.get("model"), Mapping))
    return next(found, values.get("model"))


def transforms_of(values: Mapping[str, Any]) -> list[Any] | None:
    """What is done to a picture: ``infer_cfg["transforms"]``, else the validation data set's; None: it does not say."""
    settings = values.get("infer_cfg")
    if isinstance(settings, Mapping) and settings.get("transforms") is not None:
        return list(settings["transforms"])
    if isinstance(values.get("transforms"), (list, tuple)):  # of a recipe
        return list(values["transforms"])
    for loader in _loaders(values):
        dataset = loader.get("dataset")
        while isinstance(dataset, Mapping):
            if isinstance(dataset.get("transforms"), (list, tuple)):
                return list(dataset["transforms"])
            inner = dataset.get("datasets")
            dataset = inner[0] if isinstance(inner, (list, tuple)) and inner else dataset.get("dataset")
    return None


def collate_of(values: Mapping[str, Any]) -> Any:
    """How validation's pictures become a batch; None: as Collate2D does."""
    found = (loader["collate_fn"] for loader in _loaders(values) if isinstance(loader.get("collate_fn"), Mapping))
    return values["collate"] if isinstance(values.get("collate"), Mapping) else next(found, None)


def _loaders(values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Loaders of validation pictures, the config's own first."""
    names = (*INT_INFER_NAMES, *(f"{stage}_predictor" for stage in TRAIN_STAGES))
    found = [values.get("val_data_loader"), *((values.get(name) or {}).get("data_loader") for name in names)]
    for stage in TRAIN_STAGES:
        trainer = values.get(f"{stage}_trainer") or {}
        found += [trainer.get("val_data_loader"), find_callback(trainer, "Validation").get("data_loader")]
    yield from (loader for loader in found if isinstance(loader, Mapping))


def without_first_weights(model: Any) -> Any:
    """A copy of a model's dict that loads nothing when it is built; what was shared in it still is."""
    model = copy.deepcopy(model)
    for part in _dicts(model, set()):
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
    for part in _dicts(values, set()):
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


def _dicts(value: Any, seen: set[int]) -> Iterator[dict[str, Any]]:
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
            yield from _dicts(item, seen)
