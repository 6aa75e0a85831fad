"""The ``model`` of a config as a dict of hatdet's parts under MMDetection's names: nearly the identity."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatdet.config.mmdetection.network.pretrained import start_from, take_pretrained
from hatdet.config.mmdetection.network.version2 import upgraded
from hatdet.registry import in_scope, registered_names, scoped, shipped_names
from hatdet.utils.errors import ConfigError, did_you_mean

SCOPE = "mmdet"
AS_WRITTEN = ("test_cfg", "init_cfg")
"""Keys whose values are no parts."""
_SPECS = ("norm_cfg", "conv_cfg", "act_cfg", "upsample_cfg", "plugins", "dcn", "batch_augments", *AS_WRITTEN)
"""Keys in which names of layers stand that are not registered."""
_MAIN = ("data_preprocessor", "backbone", "neck", "bbox_head", "rpn_head")
_DETECTORS = "hatdet.models.mmdet.detectors"


@dataclass(frozen=True)
class ModelParts:
    """What the model of a config becomes.

    Attributes:
        model: hatdet's dict.
        start: what loads the weights that training begins with; none where the config names none.
        batch_augments: of the data_preprocessor, as written.
        pad_size_divisor: of the data_preprocessor.
    """

    model: dict[str, Any]
    start: tuple[dict[str, Any], ...]
    batch_augments: tuple[dict[str, Any], ...]
    pad_size_divisor: int


def translate_model(
    values: Mapping[str, Any], version: int, pixels: Mapping[str, Any], classes: Sequence[str] | None = None
) -> ModelParts:
    """The model of a config of version 2 or 3.

    Args:
        values: all names of the config.
        pixels: of a version 2 pipeline: ``mean``, ``std``, ``bgr_to_rgb``.
        classes: names by label; None: not known before the data are read.

    Raises:
        ConfigError: a detector or a part that is not there, with its path.
    """
    model = upgraded(values, pixels) if version == 2 else copy.deepcopy(dict(values["model"]))
    check_detector(model)
    teacher = model.pop("teacher_config", None)
    start = [(checkpoint, key) for checkpoint, key in take_pretrained(model) if not key.startswith("model.teacher_")]
    preprocessor = model.get("data_preprocessor") or {"type": "DetDataPreprocessor"}
    if not isinstance(preprocessor, dict):
        raise ConfigError(f"model.data_preprocessor: expected a dict, got {preprocessor!r}")
    model["data_preprocessor"] = preprocessor
    if isinstance(model.get("neck"), (list, tuple)):
        model["neck"] = {"type": "NeckSequence", "necks": list(model["neck"])}
    augments = [dict(augment) for augment in preprocessor.get("batch_augments") or ()]
    model = in_scope(model, SCOPE, AS_WRITTEN)
    _check_parts(model, "model", frozenset(shipped_names()))
    for key in _MAIN:
        _check_known(model.get(key), f"model.{key}")
    if teacher is not None:
        model["teacher_config"] = _teacher(teacher, version, pixels)
    if classes:
        model["classes"] = list(classes)
    return ModelParts(
        model=model,
        start=tuple(start_from(checkpoint, key) for checkpoint, key in start if isinstance(checkpoint, str)),
        batch_augments=tuple(augments),
        pad_size_divisor=int(preprocessor.get("pad_size_divisor") or 1),
    )


def _teacher(written: Any, version: int, pixels: Mapping[str, Any]) -> Any:
    """``teacher_config`` in hatdet's words; a path stays."""
    if not isinstance(written, Mapping):
        return written
    try:
        return {"model": translate_model({"model": written.get("model", written)}, version, pixels).model}
    except ConfigError as error:
        raise ConfigError(f"model.teacher_config: {error}") from error


def detectors() -> list[str]:
    """Names of the detectors that a config may ask for."""
    return sorted(name.removeprefix(f"{SCOPE}.") for name in shipped_names(_DETECTORS))


def check_detector(model: Any) -> None:
    """Refuse a detector that is not there.

    Raises:
        ConfigError: with its name.
    """
    kind = model.get("type") if isinstance(model, Mapping) else model
    if not isinstance(kind, str):
        raise ConfigError(f"model.type: expected the name of a detector, got {kind!r}; write type='RetinaNet'")
    name = kind.removeprefix(f"{SCOPE}.")
    if name in detectors():
        return
    names = registered_names()
    if scoped(name, SCOPE) in names or (name in names and name not in shipped_names()):  # the user's own
        return
    raise ConfigError(
        f"model.type: {name!r} is not supported{did_you_mean(name, detectors())}; of MMDetection's detectors there "
        f"are the dense ones: {', '.join(detectors())}"
    )


def _check_known(part: Any, path: str) -> None:
    """Refuse a main part of which nobody knows the name."""
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind not in registered_names():
        known = [name.removeprefix(f"{SCOPE}.") for name in shipped_names("hatdet.models.mmdet")]
        raise ConfigError(
            f"{path}.type: {kind!r} is not here{did_you_mean(kind, known)}; take another, or register a part of that "
            "name (hatdet.registry.register) in a module that custom_imports names"
        )


def _check_parts(value: Any, path: str, shipped: frozenset[str]) -> None:
    """Refuse a part of MMDetection that is not here, lest hatdet's own of the same name takes its place."""
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_parts(item, f"{path}.{index}", shipped)
    if not isinstance(value, dict):
        return
    kind = value.get("type")
    if isinstance(kind, str) and kind in shipped and not kind.startswith(f"{SCOPE}."):
        known = [name.removeprefix(f"{SCOPE}.") for name in shipped if name.startswith(f"{SCOPE}.")]
        raise ConfigError(f"{path}.type: MMDetection's {kind!r} is not here{did_you_mean(kind, known)}; take another")
    for key, item in value.items():
        if key not in _SPECS:
            _check_parts(item, f"{path}.{key}", shipped)
