"""The ``data`` of a config in MMDetection's vocabulary as hatdet's data sets, transforms and loaders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from hatdet.config.mmdetection.reader import Reader
from hatdet.utils.errors import ConfigError

_IMPLIED = ("LoadAnnotations", "DefaultFormatBundle", "ImageToTensor", "Collect", "PackDetInputs")


def translate_dataset(reader: Reader) -> dict[str, Any]:
    """transforms, input size, pixel statistics and the data set's dict (without transforms)."""
    kind = reader.take("type", str)
    if kind != "CocoDataset":
        raise ConfigError(f"{reader.path}.type: {kind!r} has no counterpart; use CocoDataset (COCO json and images)")
    ann_file, prefix = reader.take("ann_file", str), reader.take("img_prefix", str)
    classes = reader.take("classes", (list, tuple), None)
    transforms, size, pixels = _pipeline(reader.take("pipeline", list), f"{reader.path}.pipeline")
    reader.finish()
    root = os.path.dirname(prefix.rstrip("/")) or "."
    dataset: dict[str, Any] = {
        "type": "CocoDataset",
        "data_root": root,
        "ann_file": os.path.abspath(ann_file) if not os.path.isabs(ann_file) else ann_file,
        "img_prefix": os.path.relpath(prefix, root),
    }
    if classes is not None:
        dataset["classes"] = list(classes)
    return {"dataset": dataset, "transforms": transforms, "size": size, "pixels": pixels}


def _pipeline(steps: Sequence[Any], path: str) -> tuple[list[dict[str, Any]], tuple[int, int], dict[str, Any]]:
    """MMDetection's pipeline as hatdet's transforms; (h, w) that pictures fit into; mean, std, to_rgb."""
    transforms: list[dict[str, Any]] = []
    size: tuple[int, int] | None = None
    pixels: dict[str, Any] = {}
    color = "bgr"
    for i, step in enumerate(steps):
        reader = Reader(dict(step), f"{path}.{i}")
        kind = reader.take("type", str)
        if kind == "LoadImageFromFile":
            gray = reader.take("color_type", str, "color") in ("grayscale", "unchanged_grayscale")
            color = "gray" if gray else color
            reader.ignore_all()
        elif kind in _IMPLIED:
            reader.ignore_all()
        elif kind == "MultiScaleFlipAug":
            if reader.take("flip", bool, False):
                raise ConfigError(
                    f"{path}.{i}.flip: test-time augmentation is asked for by predict.py --tta; "
                    "set flip=False"
                )
            scale = reader.take("img_scale", (list, tuple))
            inner = [dict(t, img_scale=scale) if t["type"] == "Resize" else t for t in reader.take("transforms", list)]
            inner = [dict(t, flip_ratio=0.0) if t["type"] == "RandomFlip" else t for t in inner]
            more, size, pixels = _pipeline(inner, f"{path}.{i}.transforms")
            transforms += more[:-1]  # the tensor is made once
        elif kind == "Resize":
            width, height = _one_scale(reader)
            size = (min(width, height), max(width, height))
            keep = reader.take("keep_ratio", bool, False)
            transforms.append({"type": "Resize", "img_scale": size, "keep_ratio": keep, "either_way": True})
        elif kind == "RandomFlip":
            ratio = reader.take("flip_ratio", (int, float), None)
            ratio = reader.take("prob", (int, float), 0.5) if ratio is None else ratio
            if ratio:
                transforms.append({"type": "RandomFlip", "px": float(ratio)})
        elif kind == "Normalize":
            pixels = {"mean": reader.take("mean", (list, tuple)), "std": reader.take("std", (list, tuple))}
            pixels["bgr_to_rgb"] = reader.take("to_rgb", bool, True)
        elif kind == "Pad":
            reader.take("size_divisor", int, 32)  # the collation pads
        else:
            raise ConfigError(
                f"{path}.{i}.type: {kind!r} has no counterpart here; MMDetection's Resize, RandomFlip, Normalize, Pad "
                "and MultiScaleFlipAug do. hatdet's own transforms go into float_trainer.data_loader"
            )
        reader.finish()
    if size is None or not pixels:
        raise ConfigError(f"{path}: a pipeline needs Resize and Normalize")
    return [*transforms, {"type": "ToTensor", "color": color}], size, {**pixels, "input_color": color}


def _one_scale(reader: Reader) -> tuple[int, int]:
    scale = reader.take("img_scale", (list, tuple))
    if len(scale) != 2 or not all(isinstance(side, int) for side in scale):
        raise ConfigError(f"{reader.path}.img_scale: one (width, height) is supported, got {scale!r}; give one of them")
    return int(scale[0]), int(scale[1])


def data_loader(part: Mapping[str, Any], batch: int, workers: int, training: bool) -> dict[str, Any]:
    """hatdet's loader of what :func:`translate_dataset` gave."""
    import torch

    dataset = {**part["dataset"], "transforms": part["transforms"], **({} if training else {"test_mode": True})}
    return {
        "type": torch.utils.data.DataLoader,
        "dataset": dataset,
        "sampler": {"type": "SeededSampler", "shuffle": training},
        "batch_size": batch,
        "num_workers": workers,
        "drop_last": training,
        "collate_fn": {"type": "Collate2D", "size_divisor": 32},
    }
