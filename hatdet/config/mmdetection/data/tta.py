"""Test-time augmentation of version 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatdet.config.mmdetection.data.steps import bare
from hatdet.config.mmdetection.reader import Reader
from hatdet.utils.errors import ConfigError


def translate_tta(
    values: Mapping[str, Any], base: tuple[int, int] | None
) -> tuple[dict[str, Any] | None, list[str]]:
    """hatdet's TTA of ``tta_pipeline``, and notes.

    Args:
        values: the config.
        base: (h, w) that pictures fit into without augmentation: views are sized in proportion to it.
    """
    pipeline = values.get("tta_pipeline")
    if not pipeline:
        return None, []
    notes: list[str] = []
    model = values.get("tta_model") or {}
    if model and bare(model.get("type"), "tta_model") != "DetTTAModel":
        raise ConfigError(f"tta_model.type: {model.get('type')!r} has no counterpart; use DetTTAModel")
    merging = Reader(dict(model.get("tta_cfg") or {}), "tta_model.tta_cfg")
    merged = {key: merging.take(key, kind, None) for key, kind in (("nms", dict), ("max_per_img", int))}
    merging.finish()
    scales, directions = list[float](), list[str]()
    for i, step in enumerate(pipeline):
        if bare(step.get("type"), f"tta_pipeline.{i}") != "TestTimeAug":
            continue
        for j, choices in enumerate(step["transforms"]):
            path = f"tta_pipeline.{i}.transforms.{j}"
            for choice in choices:
                kind = bare(choice.get("type"), path)
                if kind == "Resize" and base is not None:
                    scales.append(_least(choice["scale"]) / min(base))
                elif kind == "RandomFlip":
                    if float(choice.get("prob") or 0) == 1.0:
                        directions.append(_direction(choice.get("direction", "horizontal"), path))
    found = {"type": "TTA", "scales": list(dict.fromkeys(scales)) or [1.0], "flip": bool(directions)}
    if directions and directions != ["horizontal"]:
        found["directions"] = list(dict.fromkeys(directions))
    return {**found, **{key: value for key, value in merged.items() if value is not None}}, notes


def _direction(direction: Any, path: str) -> str:
    if not isinstance(direction, str):
        raise ConfigError(f"{path}.direction: {direction!r} is a choice; give each view one direction")
    return direction


def _least(scale: Any) -> float:
    return float(scale if isinstance(scale, (int, float)) else min(scale))
