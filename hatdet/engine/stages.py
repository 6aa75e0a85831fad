"""What a stage's command does with a config: find its trainer or predictor, complete it, build it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hatdet.config.config import Config
from hatdet.config.options import option_words
from hatdet.config.shipped import spelled
from hatdet.registry import resolve
from hatdet.utils.errors import RegistryError, UserError
from hatdet.utils.starting.program import command_words

TRAIN_STAGES = ("float", "calibration", "qat")
PREDICT_STAGES = (*TRAIN_STAGES, "int_infer")
INT_INFER_NAMES = ("int_infer_predictor", "int_infer", "int_infer_trainer")


def type_name(cfg: Any) -> str:
    """Name of the class that a config dict builds, whether it is written as text or as the class; else ''."""
    if not isinstance(cfg, Mapping) or "type" not in cfg:
        return ""
    try:
        return str(getattr(resolve(cfg["type"]), "__name__", ""))
    except RegistryError:  # validation reports it
        return ""


def find_callback(trainer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The trainer's callback of that class, as the config has it; empty where it has none."""
    return next((callback for callback in trainer.get("callbacks", ()) if type_name(callback) == name), {})


def work_dir_of(config: Config, stage: str) -> Path:
    """Where the logs of a stage go."""
    return Path(config.get("work_dir") or os.path.join("work_dirs", config.name)) / stage


def command_line(config: Config, stage: str, *flags: str) -> str:
    """The command that trains a stage with the user's own options and folder, as a shell takes it."""
    return other_command_line(config, "train", ("--stage", stage), flags)


def other_command_line(config: Config, script: str, first: Sequence[str] = (), last: Sequence[str] = ()) -> str:
    """The same for another command, with its own arguments before and after those."""
    words = [*command_words(script), *first, "--config", spelled(config.path)]
    options = {key: value for key, value in config.options.items() if key != "work_dir"}
    if "work_dir" in config.options:
        words += ["--work-dir", str(config.options["work_dir"])]
    words += last
    return shlex.join(words) + (f" --cfg-options {option_words(options)}" if options else "")


def trainer_config(
    config: Config,
    stage: str,
    *,
    amp: bool = False,
    auto_scale_lr: bool = False,
    seed: int | None = None,
) -> dict[str, Any]:
    """``{stage}_trainer`` of the config with the command line's changes; the config itself stays as it is.

    Raises:
        ConfigError: anything in it that cannot be built, all at once.
        UserError: a checkpoint of an earlier stage is not there yet.
    """
    name = f"{stage}_trainer"
    config.validate(name)
    trainer = dict(config[name])
    if amp:
        processor = trainer.get("batch_processor") or {"type": "BasicBatchProcessor"}
        trainer["batch_processor"] = {**processor, "enable_amp": True}
    if auto_scale_lr and "optimizer" in trainer and not trainer.get("base_batch_size"):
        base = config.get("base_batch_size")
        if base is None:
            raise UserError(
                f"--auto-scale-lr: {config.path} does not say for which batch size its learning rate is; add "
                "base_batch_size=N to it"
            )
        trainer["base_batch_size"] = base
    if seed is not None:
        trainer["seed"] = seed
    check_earlier_stages(config, trainer)
    return trainer


def check_earlier_stages(config: Config, stage: Mapping[str, Any]) -> None:
    """Refuse a stage whose converters load a checkpoint that an earlier stage has not written yet.

    Only files in the config's own ``ckpt_dir`` are looked at: others are the converter's business.
    """
    for converter in converters_of(stage):
        if type_name(converter) != "LoadCheckpoint":
            continue
        paths = paths_of(converter)
        if any(os.path.isfile(path) for path in paths):
            continue
        for path in paths:
            folder, file = os.path.split(path)
            maker = file.split("-checkpoint-", 1)[0]
            same = os.path.abspath(folder) == os.path.abspath(config.get("ckpt_dir") or folder)
            if same and maker in TRAIN_STAGES and "-checkpoint-" in file:
                stem = file.removesuffix(".pth.tar")
                raise UserError(f"no {stem} in {folder or '.'}: run `{command_line(config, maker)}` first")


def converters_of(stage: Mapping[str, Any]) -> list[Any]:
    """The converters that the config of a trainer or predictor lists."""
    pipeline = stage.get("model_convert_pipeline")
    return list(pipeline.get("converters", ())) if isinstance(pipeline, Mapping) else []


def paths_of(converter: Mapping[str, Any]) -> list[str]:
    """A LoadCheckpoint's files."""
    path = converter.get("checkpoint_path", ())
    return [path] if isinstance(path, str) else [str(part) for part in path]


def predictor_config(config: Config, stage: str, checkpoint: str | Path | None = None) -> tuple[str, dict[str, Any]]:
    """The predictor of a stage: the config's own, or derived from its trainer.

    A derived one has the trainer's model and converters, its validation's loader and metric, and loads the stage's
    best checkpoint after the conversion.

    Args:
        checkpoint: another file than the stage's best.

    Returns:
        the name under which it stands in the config, and the dict.

    Raises:
        ConfigError: anything in it that cannot be built.
        UserError: the config has neither, or the checkpoint is not there.
    """
    candidates = INT_INFER_NAMES if stage == "int_infer" else (f"{stage}_predictor",)
    name = next((candidate for candidate in candidates if config.get(candidate) is not None), None)
    if name is not None:
        config.validate(name)
        predictor = _with_checkpoint(dict(config[name]), checkpoint)
        check_earlier_stages(config, predictor)
        return name, predictor
    trainer_name = f"{stage}_trainer"
    if trainer_name not in config:
        wanted = " or ".join((*candidates, trainer_name) if stage != "int_infer" else candidates)
        raise UserError(
            f"{config.path} has no {wanted}, so there is nothing to predict with in stage {stage}; add it to the config"
        )
    config.validate(trainer_name)
    return trainer_name, derived_predictor(config, stage, checkpoint)


def derived_predictor(config: Config, stage: str, checkpoint: str | Path | None = None) -> dict[str, Any]:
    """A predictor made of ``{stage}_trainer``."""
    trainer = config[f"{stage}_trainer"]
    validation = find_callback(trainer, "Validation")
    loader = validation.get("data_loader") or trainer.get("val_data_loader") or config.get("val_data_loader")
    metric = validation.get("val_metrics") or trainer.get("val_metrics")
    for part, found in (("validation data (val_data_loader)", loader), ("metric (val_metrics)", metric)):
        if found is None:
            raise UserError(
                f"{stage}_trainer of {config.path} has no {part}, so it cannot be scored; "
                "add it to the trainer or the config"
            )
    path = Path(checkpoint) if checkpoint is not None else best_checkpoint(config, stage)
    if not path.is_file():
        if checkpoint is not None:
            raise UserError(
                f"no such checkpoint: {path}; name a file that is there, or leave it out for the stage's best"
            )
        stem = path.name.removesuffix(".pth.tar")
        raise UserError(f"no {stem} in {path.parent}: run `{command_line(config, stage)}` first")
    predictor = {
        "type": "Predictor",
        "model": trainer["model"],
        "data_loader": loader,
        "val_metrics": metric,
        "checkpoint_path": str(path),
        "device": trainer.get("device"),
    }
    processor = validation.get("batch_processor") or trainer.get("batch_processor")
    if processor is not None:  # as the training's validation calls the model
        predictor["batch_processor"] = processor
    pipeline = trainer.get("model_convert_pipeline")
    if isinstance(pipeline, Mapping):
        # What it would load is replaced by the stage's own weights: it need not be there any more.
        kept = [part for part in converters_of(trainer) if type_name(part) != "LoadCheckpoint"]
        predictor["model_convert_pipeline"] = {**pipeline, "converters": kept}
    return predictor


def best_checkpoint(config: Config, stage: str, which: str = "best") -> Path:
    """Where the trainer of a stage writes its best checkpoint (or its ``last``)."""
    callback = find_callback(config[f"{stage}_trainer"], "Checkpoint")
    folder = callback.get("save_dir") or config.get("ckpt_dir")
    if folder is None:
        raise UserError(f"{stage}_trainer of {config.path} writes no checkpoints; name the file with --ckpt")
    prefix = str(callback.get("name_prefix", stage)).rstrip("-")
    return Path(folder) / f"{prefix}-checkpoint-{which}.pth.tar"


def _with_checkpoint(predictor: dict[str, Any], checkpoint: str | Path | None) -> dict[str, Any]:
    """Put another file in the place of the one that the predictor loads last."""
    if checkpoint is None:
        return predictor
    if not Path(checkpoint).is_file():
        raise UserError(
            f"no such checkpoint: {checkpoint}; name a file that is there, or leave it out for the stage's best"
        )
    converters = converters_of(predictor)
    loading = [i for i, part in enumerate(converters) if type_name(part) == "LoadCheckpoint"]
    if not loading:
        return {**predictor, "checkpoint_path": str(checkpoint)}
    converters[loading[-1]] = {**converters[loading[-1]], "checkpoint_path": str(checkpoint)}
    return {**predictor, "model_convert_pipeline": {**predictor["model_convert_pipeline"], "converters": converters}}


def checkpoints_loaded(predictor: Mapping[str, Any], first: bool = False) -> Iterator[str]:
    """Files that a predictor's config names and that are there; ``first``: without those that are only substitutes."""
    if predictor.get("checkpoint_path"):
        yield str(predictor["checkpoint_path"])
    for converter in converters_of(predictor):
        if type_name(converter) == "LoadCheckpoint":
            found = [path for path in paths_of(converter) if os.path.isfile(path)]
            yield from found[:1] if first else found
