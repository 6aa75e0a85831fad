"""What a model file needs to be run alone: the network's parts and what is done to a picture, as readable text.

Exported files carry it in their metadata (``recipe``): the assignments ``model``, ``transforms`` and ``collate`` as a
resolved config has them. It is read, never executed, and may name parts of hatdet only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from hatdet.config.dump import dump
from hatdet.config.parts import check_origin, read_parts, without_first_weights
from hatdet.engine.stages import INT_INFER_NAMES, TRAIN_STAGES, find_callback
from hatdet.utils.errors import ConfigError, UserError

KEY = "recipe"
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
