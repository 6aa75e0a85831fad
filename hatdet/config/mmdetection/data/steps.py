"""A pipeline of version 3 as hatdet's transforms: nearly the identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hatdet.config.mmdetection.reader import Reader
from hatdet.registry import registered_names
from hatdet.utils.errors import ConfigError, did_you_mean

SCOPES = ("mmdet.", "mmcv.", "mmengine.", "mmyolo.")
_LAST = ("PackDetInputs", "DefaultFormatBundle", "Collect", "ImageToTensor", "ToTensor", "ToDataContainer", "Transpose",
         "WrapFieldsToLists", "SegRescale")  # fmt: skip
"""Making tensors of the sample is what the data set does here, and segmentations there are none."""
_REFUSED = {
    "Corrupt": "it needs the package imagecorruptions; corrupt a copy of the pictures, or use PhotoMetricDistortion",
    "InstaBoost": "it needs masks; use CopyPaste(paste_by_box=True)",
    "LoadProposals": "proposals from a file belong to Fast R-CNN; train with an RPN",
    "ProposalBroadcaster": "proposals from a file belong to Fast R-CNN; train with an RPN",
    "LoadPanopticAnnotations": "only boxes are learned; use LoadAnnotations(with_bbox=True)",
    "MultiBranch": "semi-supervised pipelines are not supported; use one pipeline",
    "LoadEmptyAnnotations": "semi-supervised pipelines are not supported; use LoadAnnotations",
}
_NESTED = ("RandomChoice", "RandomOrder", "RandomApply", "AutoAugment", "RandAugment")
_PARTNERS_OF_PIPELINE = ("CachedMosaic", "CachedMixUp")
_PARTNERS_OF_DATASET = ("Mosaic", "MixUp", "CopyPaste")


@dataclass
class Pipeline:
    """Transforms, and what the steps said besides."""

    transforms: list[dict[str, Any]] = field(default_factory=list)
    color: str = "bgr"
    notes: list[str] = field(default_factory=list)
    tta: Any = None

    def complete(self) -> list[dict[str, Any]]:
        """The transforms with the tensor at their end."""
        return [*self.transforms, {"type": "ToTensor", "color": self.color}]


def bare(kind: Any, path: str) -> str:
    """The name of a ``type`` without MMDetection's scope; classes count by their name."""
    if not isinstance(kind, str):
        kind = getattr(kind, "__name__", None)
    if not isinstance(kind, str):
        raise ConfigError(f"{path}.type: expected a name, got {kind!r}; write type='Resize'")
    return next((kind[len(scope) :] for scope in SCOPES if kind.startswith(scope)), kind)


def translate_steps(
    steps: Sequence[Any], path: str, before: Sequence[dict[str, Any]] = (), mixed: Sequence[dict[str, Any]] = ()
) -> Pipeline:
    """Steps of version 3 as transforms.

    Args:
        steps: dicts.
        path: where they stand, for messages.
        before: transforms that run before them: partners of CachedMosaic and CachedMixUp go through these too.
        mixed: what partners of Mosaic, MixUp and CopyPaste go through: the pipeline of the data set inside a
            MultiImageMixDataset.
    """
    result = Pipeline()
    for i, step in enumerate(steps):
        where = f"{path}.{i}"
        if not isinstance(step, dict):
            raise ConfigError(f"{where}: expected a dict with a type, got {step!r}; write dict(type=...)")
        reader = Reader(dict(step), where)
        kind = bare(reader.take("type", object), where)
        if kind == "LoadImageFromFile":
            _load_image(reader, result)
        elif kind == "LoadAnnotations":
            _load_annotations(reader, result)
        elif kind in _LAST:
            continue
        elif kind in _REFUSED:
            raise ConfigError(f"{where}.type: {kind} is not supported: {_REFUSED[kind]}")
        else:
            result.transforms.append(_step(kind, reader, [*before, *result.transforms], mixed))
    return result


def _load_image(reader: Reader, result: Pipeline) -> None:
    color = reader.take("color_type", str, "color")
    if color in ("grayscale", "unchanged_grayscale"):
        result.color = "gray"
    elif color not in ("color", "unchanged", "color_ignore_orientation"):
        raise ConfigError(f"{reader.path}.color_type: {color!r} is unknown; use 'color' or 'grayscale'")
    for key in ("to_float32", "imdecode_backend", "ignore_empty", "file_client_args", "channel_order"):
        reader.take(key, object, None)
    if reader.take("backend_args", object, None) is not None:
        result.notes.append(f"{reader.path}.backend_args: pictures are read from the packed copy of the data set")
    reader.finish()


def _load_annotations(reader: Reader, result: Pipeline) -> None:
    if not reader.take("with_bbox", bool, True):
        raise ConfigError(f"{reader.path}.with_bbox: boxes are what is learned; set with_bbox=True")
    for key in ("with_mask", "with_seg"):
        if reader.take(key, bool, False):
            result.notes.append(f"{reader.path}.{key}: only boxes are learned")
    if reader.take("box_type", str, "hbox") != "hbox":
        raise ConfigError(f"{reader.path}.box_type: only upright boxes are learned; use 'hbox'")
    for key in ("with_label", "poly2mask", "denorm_bbox", "imdecode_backend", "backend_args", "file_client_args",
                "with_keypoints", "reduce_zero_label", "ignore_index"):  # fmt: skip
        reader.take(key, object, None)
    reader.finish()


def _step(
    kind: str, reader: Reader, before: list[dict[str, Any]], mixed: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    arguments, names = reader.values, registered_names()
    if kind in _NESTED:
        for key in ("transforms", "policies", "aug_space"):
            if key in arguments:
                arguments[key] = _nested(arguments[key], f"{reader.path}.{key}", before, mixed)
    if kind in _PARTNERS_OF_PIPELINE and before:
        arguments["before"] = before
    if kind in _PARTNERS_OF_DATASET and mixed:
        arguments["before"] = list(mixed)
    if f"mmdet.{kind}" in names:
        return {"type": f"mmdet.{kind}", **arguments}
    if kind in names:  # a transform of the user's own, or hatdet's
        return {"type": kind, **arguments}
    known = [name.removeprefix("mmdet.") for name in names if name.startswith("mmdet.")]
    raise ConfigError(
        f"{reader.path}.type: {kind!r} has no counterpart here{did_you_mean(kind, known)}; leave it out, or register a "
        "transform of that name"
    )


def _nested(items: Any, path: str, before: list[dict[str, Any]], mixed: Sequence[dict[str, Any]]) -> Any:
    """A list of steps, or of lists of steps."""
    if not isinstance(items, (list, tuple)):
        raise ConfigError(f"{path}: expected a list of transforms, got {items!r}; write [dict(type=...), ...]")
    if all(isinstance(item, dict) for item in items):
        return translate_steps(items, path, before, mixed).transforms
    return [
        _nested([item] if isinstance(item, dict) else item, f"{path}.{i}", before, mixed)
        for i, item in enumerate(items)
    ]
