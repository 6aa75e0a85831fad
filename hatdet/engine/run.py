"""The bodies of ``tools/train.py`` and ``tools/predict.py``."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from hatdet.building import Builder
from hatdet.config.config import Config
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.results_csv import ResultsCsv
from hatdet.engine.callbacks.stats_monitor import StatsMonitor
from hatdet.engine.callbacks.tensorboard import TensorBoard
from hatdet.engine.callbacks.trackers.tracker import TRACKERS
from hatdet.engine.checkpoints.adoption import adopted, shown
from hatdet.engine.checkpoints.classes import class_table
from hatdet.engine.checkpoints.lineage import adopted_stage, check_parents, check_stage, say_other_data
from hatdet.engine.checkpoints.provenance import file_digest, make_record, read_record, sources
from hatdet.engine.checks.arithmetic import config_arithmetic
from hatdet.engine.checks.data import data_warnings
from hatdet.engine.loop import Loop
from hatdet.engine.processes import batch_size, leaving
from hatdet.engine.processes.recipe import decided, is_open
from hatdet.engine.stages import (
    best_checkpoint,
    checkpoints_loaded,
    command_line,
    find_callback,
    predictor_config,
    trainer_config,
    work_dir_of,
)
from hatdet.engine.workdir import check_unused, claimed, retire_qat
from hatdet.utils import distributed
from hatdet.utils.checkpoints.archive import read_without_tensors
from hatdet.utils.class_names import KnownClasses, listed
from hatdet.utils.environment import describe_device, versions
from hatdet.utils.logging import NO_CONSOLE, setup_logging
from hatdet.utils.pace import roughly
from hatdet.utils.seed import seed_everything

logger = logging.getLogger("hatdet")


def train(
    config: Config,
    stage: str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    amp: bool = False,
    auto_scale_lr: bool = False,
    seed: int | None = None,
    trackers: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    check: Callable[[Config], object] | None = None,
) -> dict[str, float]:
    """Run ``{stage}_trainer`` of a config; logs, results.csv, TensorBoard events and the resolved config go to
    ``work_dir/stage``.

    Args:
        resume: continue the run that is in the work dir.
        trackers: names of :data:`~hatdet.engine.callbacks.trackers.tracker.TRACKERS` to write the run to as well.
        callbacks: more than the config has, after its own.
        check: called with the config as it is trained, before anything else.
        overwrite: start a float training anew where there is one, whose folder is moved aside.

    Returns:
        the values of the last validation.

    Raises:
        UserError: the config, the data or an earlier stage is not as it must be; nothing was written then.
    """
    config = prepared(config, stage, resume=resume)
    files = files_continued(config, stage, resume=resume)
    config_arithmetic(config)  # before a float training too, whose integers would be refused weeks later
    if check is not None:
        check(config)
    cfg = trainer_config(config, stage, amp=amp, auto_scale_lr=auto_scale_lr, seed=seed)
    check_unused(config, stage, resume=resume, overwrite=overwrite)  # before the data are packed
    if stage == "float" and not (resume and files) and is_open(config):  # what goes on stays what it was
        config = decided(config)
        cfg = trainer_config(config, stage, amp=amp, auto_scale_lr=auto_scale_lr, seed=seed)
    added = [*(Builder(config).build({"type": TRACKERS[name]}, f"--log {name}") for name in trackers), *callbacks]
    cfg = batch_size.settled(config, cfg, stage, files[0] if resume and files else None)
    seed_everything(int(cfg.get("seed") or 0))  # the model's initial weights
    trainer: Loop = Builder(config).build(cfg, f"{stage}_trainer")
    trainer.check_data(_resumed_classes(trainer) if resume else None)  # before anything is written
    complete(trainer)
    for callback in added:
        trainer.add_callback(callback)
    trainer.config_text = config.dump()
    trainer.record = make_record(config, stage, cfg, **loaders_of(trainer))
    if resume and files and (former := read_record(files[0])):
        trainer.record["id"] = former["id"]
    say_other_data(files, trainer.record)
    with claimed(config, stage, resume=resume, overwrite=overwrite):
        flags = [flag for flag, on in (("--amp", amp), ("--auto-scale-lr", auto_scale_lr)) if on]
        flags += ["--seed", str(seed)] if seed is not None else []
        flags += ["--log", *trackers] if trackers else []
        flags += ["--resume"] if trainer.resumable else []
        return fit(config, stage, trainer, resume, command_line(config, stage, *flags))


def fit(config: Config, stage: str, trainer: Loop, resume: bool, again: str) -> dict[str, float]:
    """Train, with the log in ``work_dir/stage``; ``again`` is the command that continues an interrupted training."""
    trainer.work_dir = work_dir_of(config, stage)
    setup_logging(trainer.work_dir / "log.txt")
    if distributed.is_main_process():
        (trainer.work_dir / "config.py").write_text(trainer.config_text, encoding="utf-8")
    logger.info("stage %s of %s (%s)", stage, config.path, ", ".join(f"{k} {v}" for k, v in versions().items()))
    logger.info("run %s%s", trainer.record["id"], f": {shown(config.options)}" if config.options else "")
    report(trainer.device, trainer.model, _precision(trainer), **loaders_of(trainer))
    logger.info("results: %s", trainer.work_dir)
    checkpoint = next((c for c in trainer.callbacks if hasattr(c, "best_path")), None)
    begin = time.perf_counter()
    if checkpoint is not None:
        logger.info("checkpoints: %s", checkpoint.best_path.parent)
    try:
        values: dict[str, float] = trainer.fit(resume=resume)  # type: ignore[attr-defined]
    except KeyboardInterrupt as error:
        error.args = (leaving.describe(trainer, error),)
        logger.info("interrupted: %s", error, extra=NO_CONSOLE)
        logger.info("to go on: %s", again)
        raise
    took = f"done in {roughly(time.perf_counter() - begin)}"
    if checkpoint is not None and checkpoint.best_path.is_file():
        logger.info("%s; best checkpoint: %s", took, checkpoint.best_path)
    else:
        logger.info("%s", took)
    if stage == "calibration" and distributed.is_main_process() and "qat_trainer" in config:
        retire_qat(config)
    return values


def loaders_of(trainer: Loop) -> dict[str, Any]:
    """The loaders of a training by title."""
    return {"training": trainer.data_loader, "validation": trainer.validation_loader}


def prepared(config: Config, stage: str, *, resume: bool = False) -> Config:
    """The config with which a stage is trained: what earlier stages (with ``resume``: this one) were made with counts.

    Raises:
        UserError: it does not go together with the files that the stage continues from.
    """
    config.validate(f"{stage}_trainer")
    check_parents(config, files_continued(config, stage))
    return adopted(config, files_continued(config, stage, resume=resume), training=True)


def files_continued(config: Config, stage: str, *, resume: bool = False) -> list[str]:
    """The files that a training goes on from: with ``resume`` its own last one, then those of earlier stages."""
    trainer = config[f"{stage}_trainer"]
    last = best_checkpoint(config, stage, "last") if resume and find_callback(trainer, "Checkpoint") else None
    own = [str(last)] if last is not None and last.is_file() else []
    return own + ([] if stage == "float" else list(sources(trainer)))


def _resumed_classes(trainer: Loop) -> KnownClasses | None:
    find = getattr(trainer, "last_checkpoint", None)
    path = find() if callable(find) else None
    return KnownClasses.of(read_without_tensors(path) or {}, str(path)) if path is not None else None


def complete(trainer: Loop) -> None:
    """Add the callbacks that every run has, where the config did not."""
    present = {type(callback) for callback in trainer.callbacks}
    if StatsMonitor not in present:
        trainer.add_callback(StatsMonitor(), first=True)
    for kind in (TensorBoard, ResultsCsv):
        if kind not in present:
            trainer.add_callback(kind())


class Engine(Protocol):
    """Makes of a finished model what is scored in its place."""

    def __call__(self, model: nn.Module) -> nn.Module: ...

    def record(self) -> dict[str, Any]:
        """What ran, for the file of the numbers."""
        ...

    def line(self) -> str:
        """The same in words."""
        ...


def predict(
    config: Config,
    stage: str,
    *,
    checkpoint: str | Path | None = None,
    tta: bool = False,
    scored: Callable[[Any, Path], object] | None = None,
    engine: Engine | None = None,
) -> dict[str, float]:
    """Score a stage's model, print the metric, and write ``work_dir/stage/predict.json``.

    Args:
        checkpoint: weights to score; None: the stage's best.
        tta: with the config's test-time augmentation (``tta``), or the default one; written to predict_tta.json.
        scored: called after it, with the predictor and the file that was written.
        engine: what runs the finished model; None: torch.

    Returns:
        the metric's values.
    """
    check_stage(stage, checkpoint)
    config = adopted_stage(config, stage, checkpoint)
    name, cfg = predictor_config(config, stage, checkpoint)
    if tta:
        cfg["tta"] = config.get("tta") or {"type": "TTA"}
    predictor = Builder(config).build(cfg, name)
    predictor.stand_in = engine
    folder = work_dir_of(config, stage)
    report(predictor.device, predictor.model, validation=predictor.data_loader)
    begin = time.perf_counter()
    values: dict[str, float] = predictor.predict()
    took: dict[str, Any] = {"seconds": round(time.perf_counter() - begin, 3), "images": _length(predictor.data_loader)}
    if arithmetic := getattr(predictor.model, "arithmetic", ""):
        took["arithmetic"] = arithmetic
    if engine is not None:
        took |= engine.record()
        logger.info("%s", engine.line())
    loaded = list(checkpoints_loaded(cfg))
    if distributed.is_main_process():
        took["digests"] = {Path(file).name: file_digest(file) for file in loaded if Path(file).is_file()}
        print(predictor.val_metrics.format(values), flush=True)
        file = folder / ("predict_tta.json" if tta else "predict.json")
        path = write_values(file, stage, values, loaded, took)
        print(f"written: {path}", flush=True)
        if scored is not None:
            scored(predictor, path)
        save = getattr(predictor.model, "save_artifact", None)  # a model that is a file of its own, as the integer one
        if callable(save):
            record = make_record(config, stage, cfg, validation=predictor.data_loader)
            path = save(config.get("ckpt_dir") or folder.parent, record, config.dump(strict=False))
            print(f"written: {path}", flush=True)
    return values


def _length(loader: Any) -> int | None:
    dataset: Any = getattr(loader, "dataset", None)
    return len(dataset) if hasattr(dataset, "__len__") else None


def write_values(
    path: Path, stage: str, values: Mapping[str, float], checkpoints: list[str], more: Mapping[str, Any] | None = None
) -> Path:
    """Write ``{"stage", "checkpoints", "metrics"}`` and ``more`` as json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"stage": stage, "checkpoints": checkpoints, "metrics": {k: float(v) for k, v in values.items()}}
    content |= more or {}
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return path


def _precision(trainer: Any) -> str:
    """What a mixed training step computes in; it is worth a word where ``auto`` chose it."""
    processor = trainer.batch_processor
    if getattr(processor, "enable_amp", False) != "auto":
        return ""
    return f", in {'mixed precision' if processor.mixed(trainer.device) else 'float32'} (amp='auto')"


def report(device: torch.device, model: nn.Module, precision: str = "", **loaders: Any) -> None:
    """Say what runs where, on what data."""
    group = f", {distributed.get_world_size()} processes" if distributed.get_world_size() > 1 else ""
    logger.info("device: %s%s%s", describe_device(device), group, precision)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    logger.info("model: %s, %.3f M parameters", type(model).__name__, parameters / 1e6)
    for title, loader in loaders.items():
        for line in describe_loader(title, loader):
            logger.info("%s", line)
    for line in data_warnings(model, loaders):
        logger.warning("%s", line)


def describe_loader(title: str, loader: Any) -> Iterator[str]:
    """Counts and classes of a loader's data, as lines."""
    if loader is None:
        return
    dataset = getattr(loader, "dataset", None)
    size = getattr(loader, "batch_size", None)
    try:
        images = f"{len(dataset)} images, " if dataset is not None else ""
    except TypeError:  # an iterable data set has no length
        images = ""
    yield f"{title} data: {images}{len(loader)} batches of {size}"
    summary = getattr(dataset, "summary", None)
    if callable(summary):
        yield from (f"  {line}" for line in str(summary()).splitlines())
    table = class_table(loader)
    if table is not None and not callable(summary):  # a summary names the classes, with counts
        yield f"  {len(table.names)} classes: {listed(table.names)}"
