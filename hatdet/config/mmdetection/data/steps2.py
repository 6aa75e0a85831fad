"""A pipeline of version 2 as one of version 3: other names, sizes as (height, width), Normalize inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hatdet.config.mmdetection.data.steps import bare
from hatdet.config.mmdetection.reader import Reader
from hatdet.utils.errors import ConfigError


@dataclass
class Modern:
    """Steps of version 3, and what only version 2 says in a pipeline.

    ``pixels``: mean, std, bgr_to_rgb of Normalize; ``divisor`` and ``size`` (h, w) of a Pad after it, which the
    collation does (it pads with what becomes 0); ``scales``: of a MultiScaleFlipAug, (width, height); ``flip``.
    """

    steps: list[dict[str, Any]] = field(default_factory=list)
    pixels: dict[str, Any] | None = None
    divisor: int = 1
    size: tuple[int, int] | None = None
    scales: list[tuple[int, int]] = field(default_factory=list)
    flip: bool = False


def modernize(steps: Sequence[Any], path: str) -> Modern:
    """Steps of version 2 as steps of version 3."""
    result = Modern()
    for i, step in enumerate(steps):
        where = f"{path}.{i}"
        reader = Reader(dict(step), where)
        kind = bare(reader.take("type", object), where)
        if kind == "Normalize":
            result.pixels = {"mean": list(reader.take("mean", (list, tuple)))}
            result.pixels["std"] = list(reader.take("std", (list, tuple)))
            result.pixels["bgr_to_rgb"] = reader.take("to_rgb", bool, True)
            reader.finish()
        elif kind == "MultiScaleFlipAug":
            _multi_scale(reader, result)
        elif kind == "Pad" and result.pixels is not None:
            _pad_after_normalize(reader, result)
        else:
            translate = _STEPS.get(kind)
            result.steps.append(translate(reader) if translate else {"type": kind, **reader.values})
    return result


def _multi_scale(reader: Reader, result: Modern) -> None:
    scales = reader.take("img_scale", (list, tuple), None)
    factor = reader.take("scale_factor", (int, float, list, tuple), None)
    result.flip = reader.take("flip", bool, False)
    reader.take("flip_direction", object, None)
    inner = reader.take("transforms", list)
    reader.finish()
    if scales is not None:
        result.scales = [tuple(scales)] if isinstance(scales[0], int) else [tuple(s) for s in scales]  # type: ignore[misc]
    elif factor not in (1, [1.0], (1.0,)):
        raise ConfigError(f"{reader.path}.scale_factor: {factor!r} is not supported; use img_scale, or 1.0")
    steps = []
    for step in inner:
        kind = bare(step.get("type"), reader.path)
        if kind == "Resize":
            if scales is not None:
                steps.append({**step, "img_scale": result.scales[0]})
        elif kind != "RandomFlip":
            steps.append(step)
    more = modernize(steps, f"{reader.path}.transforms")
    result.steps += more.steps
    result.pixels, result.divisor, result.size = more.pixels or result.pixels, more.divisor, more.size


def _pad_after_normalize(reader: Reader, result: Modern) -> None:
    size, divisor = reader.take("size", (list, tuple), None), reader.take("size_divisor", int, None)
    value = reader.take("pad_val", object, 0)
    if (value.get("img", 0) if isinstance(value, dict) else value) not in (0, 0.0, [0, 0, 0], (0, 0, 0)):
        raise ConfigError(f"{reader.path}.pad_val: {value!r} after Normalize is not supported; use 0")
    if reader.take("pad_to_square", bool, False):
        assert result.pixels is not None
        order = -1 if result.pixels["bgr_to_rgb"] else 1
        step = {"type": "Pad", "pad_to_square": True, "pad_val": result.pixels["mean"][::order]}
        result.steps.append(step)
    reader.finish()
    result.divisor = divisor or result.divisor
    if size is not None:
        result.size = int(size[0]), int(size[1])


def _resize(reader: Reader) -> dict[str, Any]:
    scale = reader.take("img_scale", (list, tuple), None)
    if scale is None:
        raise ConfigError(f"{reader.path}.img_scale is missing; add it: (width, height)")
    scales = [scale] if isinstance(scale[0], int) else list(scale)
    mode, ratios = reader.take("multiscale_mode", str, "range"), reader.take("ratio_range", (list, tuple), None)
    more = {"keep_ratio": reader.take("keep_ratio", bool, True)}
    reader.take("override", bool, False)  # a second Resize changes the size here in any case
    for old, new in (("bbox_clip_border", "clip_object_border"), ("backend", "backend"), ("interpolation",) * 2):
        value = reader.take(old, object, None)
        if value is not None:
            more[new] = value
    reader.finish()
    if ratios is not None:
        return {"type": "RandomResize", "scale": tuple(scales[0]), "ratio_range": tuple(ratios), **more}
    if len(scales) == 1:
        return {"type": "Resize", "scale": tuple(scales[0]), **more}
    if mode == "value":
        return {"type": "RandomChoiceResize", "scales": [tuple(s) for s in scales], **more}
    if mode != "range" or len(scales) != 2:
        raise ConfigError(
            f"{reader.path}.multiscale_mode: got {mode!r} with {len(scales)} scales; 'range' takes two"
        )
    return {"type": "RandomResize", "scale": [tuple(s) for s in scales], **more}


def _expand(reader: Reader) -> dict[str, Any]:
    mean = reader.values.get("mean", (0, 0, 0))  # of float pictures in version 2: the nearest level, not the one below
    return {"type": "Expand", **reader.values, "mean": tuple(round(level) for level in mean)}


def _flip(reader: Reader) -> dict[str, Any]:
    values = reader.values
    if "flip_ratio" in values:
        values["prob"] = values.pop("flip_ratio")
    return {"type": "RandomFlip", **values}


def _shift(reader: Reader) -> dict[str, Any]:
    values = reader.values
    if "shift_ratio" in values:
        values["prob"] = values.pop("shift_ratio")
    return {"type": "RandomShift", **values}


def _swapped(kind: str, key: str) -> Callable[[Reader], dict[str, Any]]:
    """A step whose ``key`` is (height, width) in version 2 and (width, height) in version 3."""

    def translate(reader: Reader) -> dict[str, Any]:
        if reader.take("skip_filter", bool, True) is False:
            raise ConfigError(f"{reader.path}.skip_filter: False is not supported; use True and FilterAnnotations")
        for unused in ("min_bbox_size", "min_area_ratio", "max_aspect_ratio"):  # of that filter
            reader.take(unused, object, None)
        values = reader.values
        by_type = kind == "RandomCrop" and str(values.get("crop_type", "absolute")).endswith("_range")
        if values.get(key) is not None and not by_type:
            values[key] = tuple(values[key])[::-1]
        return {"type": kind, **values}

    return translate


def _albu(reader: Reader) -> dict[str, Any]:
    reader.take("update_pad_shape", bool, False)
    return {"type": "Albu", **reader.values}


def _auto_augment(reader: Reader) -> dict[str, Any]:
    policies = reader.take("policies", list)
    reader.finish()
    modern = [modernize(policy, f"{reader.path}.policies.{i}").steps for i, policy in enumerate(policies)]
    return {"type": "AutoAugment", "policies": modern}


def _renamed(kind: str) -> Callable[[Reader], dict[str, Any]]:
    return lambda reader: {"type": kind, "prob": 0.5, **reader.values}


def _other_scale(reader: Reader) -> dict[str, Any]:
    raise ConfigError(
        f"{reader.path}.type: version 2's Shear, Translate and Rotate are not supported; use RandomAffine"
    )


_STEPS: dict[str, Callable[[Reader], dict[str, Any]]] = {
    "Resize": _resize,
    "RandomFlip": _flip,
    "Expand": _expand,
    "RandomShift": _shift,
    "Albu": _albu,
    "AutoAugment": _auto_augment,
    "EqualizeTransform": _renamed("Equalize"),
    "BrightnessTransform": _renamed("Brightness"),
    "ContrastTransform": _renamed("Contrast"),
    "ColorTransform": _renamed("Color"),
    "Shear": _other_scale,
    "Translate": _other_scale,
    "Rotate": _other_scale,
    **{
        kind: _swapped(kind, key)
        for kind, key in (
            ("Pad", "size"), ("RandomCrop", "crop_size"), ("Mosaic", "img_scale"), ("MixUp", "img_scale"),
            ("RandomAffine", "border"), ("RandomCenterCropPad", "crop_size"),
        )
    },
}  # fmt: skip
