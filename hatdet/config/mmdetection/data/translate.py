"""The data half of a config of version 2 or 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hatdet.config.mmdetection.data.datasets import DatasetTranslator, with_transforms
from hatdet.config.mmdetection.data.evaluators import evaluation_of, translate_evaluator
from hatdet.config.mmdetection.data.loaders import collation, data_loader, read_loader
from hatdet.config.mmdetection.data.parts import DataParts
from hatdet.config.mmdetection.data.sizes import size_of
from hatdet.config.mmdetection.data.steps import bare
from hatdet.config.mmdetection.data.tta import translate_tta
from hatdet.config.mmdetection.reader import Reader
from hatdet.utils.errors import ConfigError

_PLAIN = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "bgr_to_rgb": False}
YOLOX_SKIPPED = ("Mosaic", "RandomAffine", "MixUp")


def translate_data(values: Mapping[str, Any], version: int) -> DataParts:
    """Loaders, metric and facts.

    Args:
        values: all names of the config. Of ``model`` only the data_preprocessor is looked at, of ``custom_hooks`` only
            what switches pipelines.
        version: of MMDetection, 2 or 3.

    Raises:
        ConfigError: with the path of what has no counterpart.
    """
    return (_version2 if version == 2 else _version3)(values)


def _version2(values: Mapping[str, Any]) -> DataParts:
    data = Reader(dict(values["data"]), "data")
    batch, workers = data.take("samples_per_gpu", int, 1), data.take("workers_per_gpu", int, 2)
    options: dict[str, Any] = {}
    if data.take("persistent_workers", bool, False) and workers:
        options["persistent_workers"] = True
    loaders = {name: dict(data.take(f"{name}_dataloader", dict, None) or {}) for name in ("train", "val", "test")}
    batch, workers = (loaders["train"].get(k, v) for k, v in (("samples_per_gpu", batch), ("workers_per_gpu", workers)))
    train, val = data.take("train", (dict, list)), data.take("val", (dict, list))
    data.take("test", object, None)
    data.finish()
    learn = DatasetTranslator(2, True, _late(values), _one_class(values))
    check = DatasetTranslator(2, False, None, _one_class(values))
    train_set, val_set = learn.translate(train, "data.train"), check.translate(val, "data.val")
    metric, notes = evaluation_of(values.get("evaluation"), val)
    pixels = check.facts.pixels or learn.facts.pixels or _PLAIN
    if learn.facts.pixels is not None and check.facts.pixels not in (None, learn.facts.pixels):
        raise ConfigError("data.train.pipeline and data.val.pipeline normalize differently; write one img_norm_cfg")
    tta = None
    if check.facts.flip or len(check.facts.scales) > 1:
        tta = {"type": "TTA", "scales": _ratios(check.facts.scales), "flip": check.facts.flip}
        notes.append("data.val.pipeline: MultiScaleFlipAug: several views are scored with tools/test.py --tta alone")
    sampler = {"type": "mmdet.AspectRatioSampler", "shuffle": True, "batch_size": batch}
    return _parts(
        learn, check, train_set, val_set, pixels,
        train_loader={"batch_size": batch, "num_workers": workers, "sampler": sampler, "options": options},
        val_loader={"batch_size": loaders["val"].get("samples_per_gpu", 1), "num_workers": workers,
                    "sampler": {"type": "SeededSampler", "shuffle": False}, "options": options},
        metric=metric, tta=tta, notes=notes,
    )  # fmt: skip


def _version3(values: Mapping[str, Any]) -> DataParts:
    name = "val" if values.get("val_dataloader") else "test"
    if not values.get("train_dataloader") or not values.get(f"{name}_dataloader"):
        raise ConfigError("train_dataloader and val_dataloader are needed; add the base file of a data set to _base_")
    train = Reader(dict(values["train_dataloader"]), "train_dataloader")
    val = Reader(dict(values[f"{name}_dataloader"]), f"{name}_dataloader")
    learn = DatasetTranslator(3, True, _late(values), _one_class(values))
    check = DatasetTranslator(3, False, None, _one_class(values))
    train_set = learn.translate(train.take("dataset", dict), "train_dataloader.dataset")
    val_set = check.translate(val.take("dataset", dict), f"{name}_dataloader.dataset")
    train_loader, notes = read_loader(train, True)
    val_loader, more = read_loader(val, False)
    train.finish()
    val.finish()
    metric, about = translate_evaluator(values.get(f"{name}_evaluator"), f"{name}_evaluator")
    notes += more + about
    found = dict((values.get("model") or {}).get("data_preprocessor") or values.get("data_preprocessor") or {})
    pixels = _PLAIN if found.get("mean") is None else {key: found[key] for key in ("mean", "std") if key in found}
    pixels = {**_PLAIN, **pixels, "bgr_to_rgb": bool(found.get("bgr_to_rgb", False))}
    learn.facts.divisor = check.facts.divisor = int(found.get("pad_size_divisor", 1))
    for augment in found.get("batch_augments") or ():
        if bare(augment.get("type"), "model.data_preprocessor.batch_augments") == "BatchFixedSizePad":
            width, height = augment["size"]
            learn.facts.size = (int(width), int(height))  # (h, w) there, in spite of the order of transforms
    base = size_of(check.facts.transforms)
    tta, about = translate_tta(values, base)
    return _parts(
        learn, check, train_set, val_set, pixels, train_loader=train_loader, val_loader=val_loader, metric=metric,
        tta=tta, notes=notes + about, pad_value=_level(found.get("pad_value", 0)),
    )  # fmt: skip


def _parts(
    learn: DatasetTranslator,
    check: DatasetTranslator,
    train_set: dict[str, Any],
    val_set: dict[str, Any],
    pixels: Mapping[str, Any],
    *,
    train_loader: dict[str, Any],
    val_loader: dict[str, Any],
    metric: dict[str, Any],
    tta: dict[str, Any] | None,
    notes: Sequence[str],
    pad_value: float = 0.0,
) -> DataParts:
    divisor = max(check.facts.divisor, 1)
    collate = collation(pixels, divisor, check.facts.size, pad_value)
    train_collate = collation(pixels, max(learn.facts.divisor, 1), learn.facts.size, pad_value)
    size = check.facts.size or size_of(check.facts.transforms) or size_of(learn.facts.transforms)
    if size is None:
        raise ConfigError("the pipelines do not say what size pictures fit into; give them a Resize with a scale")
    tensor = {"type": "ToTensor", "color": check.facts.color}
    calibration = with_transforms(train_set, [*check.facts.transforms, tensor])
    calibration_loader = {**train_loader, "sampler": {"type": "SeededSampler", "shuffle": True}}
    return DataParts(
        data_loader=data_loader(train_set, collate=train_collate, **train_loader),
        val_data_loader=data_loader(val_set, collate=collate, **val_loader),
        calibration_data_loader=data_loader(calibration, collate=collate, **calibration_loader),
        val_metrics=metric,
        image_size=(-(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor),
        classes=learn.facts.classes or check.facts.classes,
        pixels=pixels,
        input_color=check.facts.color,
        tta=tta,
        notes=tuple(dict.fromkeys([*learn.facts.notes, *check.facts.notes, *notes])),
    )


def _level(value: Any) -> float:
    return float(value if isinstance(value, (int, float)) else value[0])


def _ratios(scales: Sequence[tuple[int, int]]) -> list[float]:
    return [min(scale) / min(scales[0]) for scale in scales] or [1.0]


def _one_class(values: Mapping[str, Any]) -> str | None:
    """An RPN as a detector of its own finds objects of whatever class."""
    kind = (values.get("model") or {}).get("type")
    return "object" if kind is not None and bare(kind, "model") == "RPN" else None


def _late(values: Mapping[str, Any]) -> Callable[[list[Any]], list[Any]] | None:
    """What a hook makes of the training pipeline for the last epochs; None: there is no such hook."""
    for i, hook in enumerate(values.get("custom_hooks") or ()):
        if not isinstance(hook, Mapping) or hook.get("type") is None:
            continue
        path = f"custom_hooks.{i}"
        kind = bare(hook.get("type"), path)
        if kind == "PipelineSwitchHook":
            steps = list(hook["switch_pipeline"])
            return lambda _: steps
        if kind == "YOLOXModeSwitchHook":
            skipped = tuple(hook.get("skip_type_keys", YOLOX_SKIPPED))
            return lambda steps: [step for step in steps if bare(step.get("type"), path) not in skipped]
    return None
