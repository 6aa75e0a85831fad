"""A model in the words of MMDetection 2 in those of version 3."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from hatdet.config.mmdetection.reader import Reader

_RENAMED = {
    "CTResNetNeck": {"in_channel": "in_channels"},
    "CenterNetHead": {"in_channel": "in_channels", "feat_channel": "feat_channels"},
}
"""Arguments that have another name in version 3, by type."""
_GONE = {"NASFPN": ("add_extra_convs",)}
"""Arguments that had no effect in version 2 and are no more in version 3."""


def upgraded(values: Mapping[str, Any], pixels: Mapping[str, Any]) -> dict[str, Any]:
    """The ``model`` of a version 2 config as version 3 writes it.

    Args:
        values: all names of the config.
        pixels: ``mean``, ``std``, ``bgr_to_rgb`` of the pipeline's Normalize; ``pad_size_divisor`` of its Pad.
    """
    model = copy.deepcopy(dict(values["model"]))
    for key in ("train_cfg", "test_cfg"):  # files before 2.7 have them beside the model
        if isinstance(values.get(key), Mapping) and model.get(key) is None:
            model[key] = copy.deepcopy(dict(values[key]))
    pretrained = model.pop("pretrained", None)
    backbone = model.get("backbone")
    if isinstance(backbone, dict):
        own = backbone.pop("pretrained", None)
        start = pretrained if own is None else own
        if start is not None:
            backbone.setdefault("init_cfg", {"type": "Pretrained", "checkpoint": start})
    model = _renamed(model)
    preprocessor = {"type": "DetDataPreprocessor", **pixels}
    sizes = _sizes_of_batches(model)
    if sizes is not None:
        preprocessor["batch_augments"] = [sizes]
    model.setdefault("data_preprocessor", preprocessor)
    return model


def _sizes_of_batches(model: dict[str, Any]) -> dict[str, Any] | None:
    """YOLOX's own multi-scale training, a part of the preprocessor in version 3."""
    if "random_size_range" not in model and "input_size" not in model:
        return None
    keys = ("input_size", "random_size_range", "random_size_interval", "size_multiplier")
    reader = Reader({key: model.pop(key) for key in keys if key in model}, "model")
    reader.take("input_size", (list, tuple), None)  # the pipeline's own size says it
    divisor = reader.take("size_multiplier", int, 32)
    first, last = reader.take("random_size_range", (list, tuple), (15, 25))
    interval = reader.take("random_size_interval", int, 10)
    return {
        "type": "BatchSyncRandomResize",
        "random_size_range": (first * divisor, last * divisor),
        "size_divisor": divisor,
        "interval": interval,
    }


def _renamed(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_renamed(item) for item in value)
    if not isinstance(value, dict):
        return value
    found = {key: _renamed(item) for key, item in value.items()}
    kind = found.get("type")
    if not isinstance(kind, str):
        return found
    kind = kind.removeprefix("mmdet.")
    if kind.startswith("Ascend"):  # the same part for another accelerator
        kind = found["type"] = kind.removeprefix("Ascend")
    if kind == "FPN" and found.pop("extra_convs_on_inputs", None) is not None and found.get("add_extra_convs") is True:
        found["add_extra_convs"] = "on_input" if value["extra_convs_on_inputs"] else "on_output"
    if kind in ("nms", "soft_nms") and "iou_thr" in found:
        found["iou_threshold"] = found.pop("iou_thr")
    for old, new in _RENAMED.get(kind, {}).items():
        if old in found:
            found.setdefault(new, found.pop(old))
    for name in _GONE.get(kind, ()):
        found.pop(name, None)
    return found
