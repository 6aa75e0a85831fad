"""A config of MMDetection 2 or 3, all names together, as hatdet's four stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hatdet.config.mmdetection.data.translate import translate_data
from hatdet.config.mmdetection.network.pretrained import start_from
from hatdet.config.mmdetection.network.translate import ModelParts, check_detector, translate_model
from hatdet.config.mmdetection.road import ARITHMETIC, CALIBRATION, WEIGHTS, Road, settings
from hatdet.config.mmdetection.syntax.modules import import_all
from hatdet.config.mmdetection.training.hooks import Hooks, monitored, translate_hooks
from hatdet.config.mmdetection.training.length import Length, length_of_version2, length_of_version3
from hatdet.config.mmdetection.training.notes import Notes
from hatdet.config.mmdetection.training.optimizer import translate_wrapper, wrapper_of_version2
from hatdet.config.mmdetection.training.rest import translate_auto_scale, translate_rest
from hatdet.config.mmdetection.training.schedule import PLATEAU, translate_policy, translate_schedulers
from hatdet.utils.errors import ConfigError

_NEEDED = {
    2: ("model", "data", "optimizer"),
    3: ("model", "train_dataloader", "val_dataloader", "optim_wrapper", "train_cfg"),
}


def version_of(values: Mapping[str, Any]) -> int:
    """Which of MMDetection's vocabularies a config is in."""
    new = ("train_dataloader", "val_dataloader", "test_dataloader", "optim_wrapper", "default_hooks", "default_scope")
    old = ("data", "optimizer", "runner", "lr_config")
    return 2 if any(name in values for name in old) and not any(name in values for name in new) else 3


def translate(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """hatdet's names for a config: the trainers, ``int_infer``, their loaders, ``model``, ``tta``.

    Args:
        values: all names of the config, options applied; ``work_dir`` among them. name: of the config, for the log.

    Raises:
        ConfigError: a part is missing, or something has no counterpart; with the path of the key.
    """
    version, notes = version_of(values), Notes()
    skipped = import_all(values.get("custom_imports"))
    if skipped:
        notes.say(f"custom_imports: {', '.join(skipped)} not imported: parts of MMDetection are found by their names")
    if "model" in values:
        check_detector(values["model"])
    missing = [key for key in _NEEDED[version] if values.get(key) is None]
    if missing:
        raise ConfigError(
            f"a config of MMDetection {version} needs {', '.join(missing)}; "
            "list the base files that have them in _base_"
        )
    data = translate_data(values, version)
    notes.lines.extend(data.notes)
    parts = translate_model(values, version, data.pixels, data.classes)
    length, best = _length(values, version)
    hooks = translate_hooks(values, version, length, notes)
    if best is not None:
        hooks.checkpoint |= monitored(best, "evaluation.save_best")
    enabled, base = translate_auto_scale(values)
    road = _road(values, version, notes, length, hooks, parts, data)
    notes.publish(name)
    result = {
        "arithmetic": road.arithmetic,
        **{name: values[name] for name in ("teacher", "qat_teacher") if values.get(name) is not None},
        **road.calibration,
        **road.weights,
        "model": parts.model,
        "data_loader": data.data_loader,
        "val_data_loader": data.val_data_loader,
        "calibration_data_loader": data.calibration_data_loader,
        **({"tta": data.tta} if data.tta is not None else {}),
        **({"base_batch_size": base} if base is not None else {}),
        **road.stages(),
    }
    if enabled:
        result["float_trainer"]["base_batch_size"] = result["qat_trainer"]["base_batch_size"] = base
    return result


def _length(values: Mapping[str, Any], version: int) -> tuple[Length, str | None]:
    if version == 2:
        return length_of_version2(values)
    return length_of_version3(values["train_cfg"]), None


def _road(
    values: Mapping[str, Any], version: int, notes: Notes, length: Length, hooks: Hooks, parts: ModelParts, data: Any
) -> Road:
    wrapper = wrapper_of_version2(values) if version == 2 else values["optim_wrapper"]
    optimizing = translate_wrapper(wrapper, notes)
    if version == 2:
        schedule = translate_policy(values.get("lr_config"), values.get("momentum_config"))
    else:
        schedule = translate_schedulers(values.get("param_scheduler"))
    after = [part for part in schedule if any(PLATEAU in str(entry) for entry in part.get("schedulers", ()))]
    load_from = values.get("load_from")
    processor = dict(optimizing.batch_processor)
    sizes = _batch_transforms(parts.batch_augments, data.image_size)
    if sizes:
        processor["batch_transforms"] = sizes
    trainer = translate_rest(values, version, notes)
    total = length.epochs or length.steps or 1
    return Road(
        folder=str(values["work_dir"]),
        model=parts.model,
        image_size=data.image_size,
        data_loader=data.data_loader,
        val_data_loader=data.val_data_loader,
        calibration_data_loader=data.calibration_data_loader,
        val_metrics=data.val_metrics,
        optimizer=optimizing.optimizer,
        length=length.trainer(),
        qat_length={key: max(1, total // 10) for key in length.trainer()},
        start=[start_from(load_from, "load_from")] if load_from else list(parts.start),
        schedule=[part for part in schedule if part not in after],
        while_training=optimizing.callbacks,
        float_only=[*hooks.late, *hooks.before_validation],
        after_validation=[*after, *hooks.after_validation],
        validation=length.validation(),
        checkpoint=hooks.checkpoint,
        log_interval=hooks.log_interval,
        batch_processor=processor,
        trainer=trainer,
        arithmetic=values.get("arithmetic", ARITHMETIC),
        teacher=values.get("teacher"),
        qat_teacher=values.get("qat_teacher"),
        calibration=settings(values, CALIBRATION),
        weights=settings(values, WEIGHTS),
    )


def _batch_transforms(augments: Sequence[dict[str, Any]], size: tuple[int, int]) -> list[dict[str, Any]]:
    """``batch_augments`` that change the size of whole batches; padding is the collation's."""
    found = []
    for index, augment in enumerate(augments):
        path = f"model.data_preprocessor.batch_augments.{index}"
        kind = str(augment.get("type")).removeprefix("mmdet.")
        if kind == "BatchSyncRandomResize":
            first, last = augment.get("random_size_range", (None, None))
            if not isinstance(first, int) or not isinstance(last, int):
                raise ConfigError(f"{path}.random_size_range is missing; write random_size_range=(480, 800)")
            found.append({
                "type": "MultiScale",
                "ratio_range": (first / size[0], last / size[0]),  # they are heights
                "interval": augment.get("interval", 10),
                "size_divisor": augment.get("size_divisor", 32),
            })  # fmt: skip
        elif kind != "BatchFixedSizePad":
            raise ConfigError(f"{path}.type: {kind!r} has no counterpart; use BatchSyncRandomResize or take it out")
    return found
