"""Loaders: samplers, batches and their padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hatdet.config.mmdetection.data.steps import bare
from hatdet.config.mmdetection.reader import Reader
from hatdet.utils.errors import ConfigError


def padding_level(pixels: Mapping[str, Any], pad_value: float = 0.0) -> list[int]:
    """The levels (B, G, R as loaded) that are nearest to ``pad_value`` once normalized."""
    mean, std = list(pixels["mean"]), list(pixels["std"])
    levels = [round(pad_value * s + m) for m, s in zip(mean, std, strict=True)]
    order = -1 if pixels["bgr_to_rgb"] else 1
    return [min(max(level, 0), 255) for level in levels[::order]]


def data_loader(
    dataset: Mapping[str, Any],
    *,
    batch_size: int,
    num_workers: int,
    sampler: Mapping[str, Any],
    collate: Mapping[str, Any],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """hatdet's loader."""
    return {
        "type": "torch.utils.data.DataLoader",
        "dataset": dict(dataset),
        "sampler": dict(sampler),
        "batch_size": batch_size,
        "num_workers": num_workers,
        "collate_fn": dict(collate),
        **options,
    }


def read_loader(reader: Reader, training: bool) -> tuple[dict[str, Any], list[str]]:
    """``batch_size``, ``num_workers``, ``sampler`` and ``options`` of a loader of version 3, and notes."""
    notes: list[str] = []
    result: dict[str, Any] = {
        "batch_size": reader.take("batch_size", int, None) or 1,
        "num_workers": reader.take("num_workers", int, 0),
    }
    if reader.values.get("batch_size") is None and reader.take("num_batch_per_epoch", int, None) is not None:
        raise ConfigError(f"{reader.path}.num_batch_per_epoch: epochs are whole here; leave it out")
    result["sampler"] = _sampler(reader, training, result["batch_size"])
    collate = reader.take("collate_fn", object, None)
    if collate is not None:
        kind = bare(collate.get("type") if isinstance(collate, dict) else collate, f"{reader.path}.collate_fn")
        if kind not in ("pseudo_collate", "default_collate"):
            raise ConfigError(f"{reader.path}.collate_fn: {kind!r} is not supported; leave it out: pictures are padded")
    options: dict[str, Any] = {}
    for key in ("drop_last", "pin_memory", "timeout", "prefetch_factor", "persistent_workers"):
        value = reader.take(key, (bool, int, float), None)
        if value is not None and not (key in ("prefetch_factor", "persistent_workers") and not result["num_workers"]):
            options[key] = value
    for key in ("worker_init_fn", "multiprocessing_context", "generator"):
        if reader.take(key, object, None) is not None:
            notes.append(f"{reader.path}.{key}: not used; samples are functions of their place in the sampler's order")
    result["options"] = options
    return result, notes


def _sampler(reader: Reader, training: bool, batch_size: int) -> dict[str, Any]:
    given = reader.take("sampler", dict, None)
    result: dict[str, Any] = {"type": "SeededSampler", "shuffle": training}
    if given is not None:
        sampler = Reader(dict(given), f"{reader.path}.sampler")
        kind = bare(sampler.take("type", object), sampler.path)
        if kind not in ("DefaultSampler", "InfiniteSampler", "ClassAwareSampler"):
            raise ConfigError(
                f"{sampler.path}.type: {kind!r} has no counterpart; use DefaultSampler, InfiniteSampler or "
                "ClassAwareSampler"
            )
        seed = sampler.take("seed", int, None)
        result = {"type": "SeededSampler", "shuffle": sampler.take("shuffle", bool, True)}
        if kind == "ClassAwareSampler":
            result = {"type": "mmdet.ClassAwareSampler", "num_sample_class": sampler.take("num_sample_class", int, 1)}
        if seed is not None:
            result["seed"] = seed
        for key in ("round_up",):
            sampler.take(key, object, None)
        sampler.finish()
    batches = reader.take("batch_sampler", dict, None)
    if batches is not None:
        inner = Reader(dict(batches), f"{reader.path}.batch_sampler")
        kind = bare(inner.take("type", object), inner.path)
        if kind not in ("AspectRatioBatchSampler", "BatchSampler"):
            raise ConfigError(f"{inner.path}.type: {kind!r} has no counterpart; use AspectRatioBatchSampler")
        inner.take("drop_last", bool, False)
        inner.finish()
        if kind == "AspectRatioBatchSampler" and training and result["type"] == "SeededSampler":
            result = {**result, "type": "mmdet.AspectRatioSampler", "batch_size": batch_size}
    return result


def collation(
    pixels: Mapping[str, Any], divisor: int, size: Sequence[int] | None = None, pad_value: float = 0.0
) -> dict[str, Any]:
    """How batches are padded."""
    result: dict[str, Any] = {"type": "Collate2D", "size_divisor": divisor, "fill": padding_level(pixels, pad_value)}
    if size is not None:
        result["size"] = (int(size[0]), int(size[1]))
    return result
