"""Names of measured values."""

from __future__ import annotations

import re

from hatdet.utils.errors import ConfigError

_OURS = {
    "auto": "AP", "bbox_mAP": "AP", "bbox_mAP_50": "AP50", "bbox_mAP_75": "AP75", "bbox_mAP_s": "APs",
    "bbox_mAP_m": "APm", "bbox_mAP_l": "APl", "mAP": "AP", "AP50": "AP50", "AP75": "AP75", "AP": "AP",
}  # fmt: skip


def metric_name(name: str, path: str) -> str:
    """Our name of a value that MMDetection measures: ``coco/bbox_mAP_50`` is ``AP50``, ``pascal_voc/AP50`` is
    ``mAP@50``; losses keep theirs.

    Raises:
        ConfigError: it is not measured here.
    """
    short = name.rpartition("/")[2]
    if "loss" in short:
        return short
    if name.startswith("pascal_voc/"):
        return re.sub(r"^AP(?=\d)", "mAP@", short)
    if short not in _OURS:
        raise ConfigError(f"{path}: {name!r} is not measured; one of {', '.join(_OURS)}")
    return _OURS[short]
