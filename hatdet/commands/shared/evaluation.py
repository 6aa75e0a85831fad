"""The body of ``tools/test.py``: any model file through the config's validation data, preprocessing and metric."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatdet.commands.shared.pictures import check_metric, save_pictures
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.engine.checkpoints.adoption import NOT_TAKEN, adopted, take
from hatdet.engine.checkpoints.provenance import described, read_record
from hatdet.engine.predictor import Predictor
from hatdet.engine.run import describe_loader
from hatdet.engine.stages import work_dir_of
from hatdet.export.delivery import write_json
from hatdet.inference.arithmetic import arithmetic_of
from hatdet.inference.checkpoints import CHECKPOINT_SUFFIXES, set_device
from hatdet.inference.model_files import OtherSizeError, model_file, open_model
from hatdet.inference.surroundings import checkpoints_beside

logger = logging.getLogger("hatdet")


@dataclass(frozen=True)
class Evaluation:
    """What a model file scored.

    Attributes:
        model: the file. kind: ``float``, ``calibration``, ``qat``, ``int_infer`` (an integer graph), ``tflite`` (int8),
            ``tflite_float32``, ``tflite_float16``, ``torchscript_float32``, ``savedmodel_float32``, ``onnx_float32``,
            ``onnx_qdq``, ``onnx_exact``, or ``onnx`` (a file of another maker).
        runtime: what ran the network. values: the metric's. predictor: with the data and the metric's state.
    """

    model: Path
    kind: str
    runtime: str
    values: dict[str, float]
    predictor: Predictor

    @property
    def text(self) -> str:
        """The metric's report, as ``tools/predict.py`` prints it."""
        return str(self.predictor.val_metrics.format(self.values))

    def record(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        arithmetic = arithmetic_of(self.model, self.predictor.model)
        named = {"arithmetic": arithmetic} if arithmetic else {}
        return {"model": str(self.model), "kind": self.kind, "runtime": self.runtime, **named, "metrics": self.values}


def score_file(
    config: Config,
    model: str | Path,
    *,
    kernels: str | None = None,
    out: str | Path | None = None,
    show_dir: str | Path | None = None,
    device: str | None = None,
    results: str | Path | None = None,
) -> Evaluation:
    """Score a model file, print the metric, write it as json and, if wanted, draw the detections.

    Args:
        out: the json; None: ``work_dir/test/<file name>.json``.
        device: for a checkpoint; None: the config's.
        results: the detections, as COCO's results, go there.
        show_dir: where a picture of every validation image goes, ground truth beside detections.

    Raises:
        UserError: the file is none that can be evaluated, or does not fit the config.
    """
    result = evaluate_model(config, model, kernels=kernels, drawn=(show_dir or results) is not None, device=device)
    print(result.text, flush=True)
    if results is not None:
        result.predictor.val_metrics.save_results(results)
        print(f"written: {results}", flush=True)
    path = Path(out) if out is not None else work_dir_of(config, "test") / f"{result.model.name}.json"
    print(f"written: {write_json(path, result.record())}", flush=True)
    if show_dir is not None:
        count = save_pictures(show_dir, result.predictor.data_loader.dataset, result.predictor.val_metrics)
        print(f"written: {count} pictures in {show_dir}", flush=True)
    return result


def evaluate_model(
    config: Config,
    model: str | Path,
    *,
    kernels: str | None = None,
    drawn: bool = False,
    device: str | None = None,
) -> Evaluation:
    """Score a model file on the config's validation data.

    Args:
        model: a checkpoint of any stage, recognised by its keys, or a file or folder that tools/export.py wrote.
        kernels: LiteRT's, for a ``.tflite``: ``reference`` or ``default``; None: those of an integer file's arithmetic,
            default for a float one.
        device: for a checkpoint; None: the config's.
        drawn: whether the detections will be drawn: a metric that does not keep them is refused now.

    Raises:
        UserError: the file is none that can be evaluated, or does not fit the config.
    """
    path = model_file(model, config.name)
    config = adopted(config, [path]) if path.name.endswith(CHECKPOINT_SUFFIXES) else with_run_beside(config, path)
    set_device(config, device)
    try:
        kind, runtime, predictor = open_model(config, path, kernels)
    except OtherSizeError as error:  # an option of the training that is not repeated here
        if "imgsz" in config.options or not config.path.is_file():
            raise
        logger.info("taken from %s, which takes such images: imgsz=%s", path, error.size)
        config = load_config(config.path, {**config.options, "imgsz": error.size})
        set_device(config, device)
        kind, runtime, predictor = open_model(config, path, kernels)
    if drawn:
        check_metric(predictor.val_metrics)
    logger.info("model: %s (%s; %s)", path, kind, runtime)
    for line in describe_loader("validation", predictor.data_loader):
        logger.info("%s", line)
    return Evaluation(path, kind, runtime, predictor.predict(), predictor)


def with_run_beside(config: Config, path: Path) -> Config:
    """What an exported file's run was made with, where the user does not say otherwise now.

    The file itself has no record of it: that of a checkpoint beside it counts, if it is of this config and agrees with
    all options that are given. Where one differs the file is to be scored on something else, and nothing is taken.
    """
    for file in checkpoints_beside(path):
        record = read_record(file)
        if record is None or Path(record["config"]).stem != config.name:
            continue
        then, now = record["options"], config.options
        both = (set(then) & set(now)).difference(NOT_TAKEN)
        return take(config, file, record) if all(described(then[n]) == described(now[n]) for n in both) else config
    return config
