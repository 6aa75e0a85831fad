"""The body of ``tools/test.py``: any model file through the config's validation data, preprocessing and metric."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatdet.commands.checkpoints import kind_of, trained_constants
from hatdet.commands.pictures import check_metric, save_pictures
from hatdet.config import Config
from hatdet.engine.checks import class_table, shorten
from hatdet.engine.predictor import Predictor
from hatdet.engine.run import describe_loader
from hatdet.engine.stages import INT_INFER_NAMES, TRAIN_STAGES, derived_predictor, predictor_config, work_dir_of
from hatdet.export.delivery import write_json
from hatdet.export.evaluate import TFLiteDetector
from hatdet.export.runtimes import FileLayout
from hatdet.export.tflite import read_metadata
from hatdet.integer.graph import IntGraph
from hatdet.quantization.detector import IntegerDetector
from hatdet.registry import Builder
from hatdet.utils.checkpoint import load_checkpoint
from hatdet.utils.environment import describe_device
from hatdet.utils.errors import UserError

SUFFIXES = (".pth.tar", ".pth", ".tflite")
KERNELS = ("reference", "default")
logger = logging.getLogger("hatdet")


@dataclass(frozen=True)
class Evaluation:
    """What a model file scored.

    Attributes:
        model: the file. kind: ``float``, ``calibration``, ``qat``, ``int_infer`` (an integer graph) or ``tflite``.
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
        return {"model": str(self.model), "kind": self.kind, "runtime": self.runtime, "metrics": self.values}


def score_file(
    config: Config,
    model: str | Path,
    *,
    kernels: str = "reference",
    out: str | Path | None = None,
    show_dir: str | Path | None = None,
) -> Evaluation:
    """Score a model file, print the metric, write it as json and, if wanted, draw the detections.

    Args:
        out: the json; None: ``work_dir/test/<file name>.json``.
        show_dir: where a picture of every validation image goes, ground truth beside detections.

    Raises:
        UserError: the file is none that can be evaluated, or does not fit the config.
    """
    result = evaluate_model(config, model, kernels=kernels, drawn=show_dir is not None)
    print(result.text, flush=True)
    path = Path(out) if out is not None else work_dir_of(config, "test") / f"{result.model.name}.json"
    print(f"written: {write_json(path, result.record())}", flush=True)
    if show_dir is not None:
        count = save_pictures(show_dir, result.predictor.data_loader.dataset, result.predictor.val_metrics)
        print(f"written: {count} pictures in {show_dir}", flush=True)
    return result


def evaluate_model(config: Config, model: str | Path, *, kernels: str = "reference", drawn: bool = False) -> Evaluation:
    """Score a model file on the config's validation data.

    Args:
        model: a checkpoint of any stage, recognised by its keys, or an int8 ``.tflite``.
        kernels: LiteRT's, for a ``.tflite``: ``reference`` or ``default``.
        drawn: whether the detections will be drawn: a metric that does not keep them is refused now.

    Raises:
        UserError: the file is none that can be evaluated, or does not fit the config.
    """
    path = model_file(model)
    if path.suffix == ".tflite":
        kind, runtime, predictor = "tflite", f"LiteRT, {kernels} kernels", _tflite_predictor(config, path, kernels)
    else:
        kind, predictor = _checkpoint_predictor(config, path)
        runtime = f"torch, {describe_device(predictor.device)}"
    if drawn:
        check_metric(predictor.val_metrics)
    logger.info("model: %s (%s; %s)", path, kind, runtime)
    for line in describe_loader("validation", predictor.data_loader):
        logger.info("%s", line)
    return Evaluation(path, kind, runtime, predictor.predict(), predictor)


def model_file(model: str | Path) -> Path:
    """The file, if it is there and of a kind that can be evaluated.

    Raises:
        UserError: it is not; the message names what can be, or what stands beside.
    """
    path = Path(model)
    if not path.name.endswith(SUFFIXES):
        what = f"a {path.suffix} file" if path.suffix else "neither a checkpoint nor a .tflite file"
        raise UserError(
            f"{model} is {what}; what can be evaluated: checkpoints (.pth, .pth.tar) and int8 TensorFlow Lite models "
            "(.tflite)"
        )
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*") if p.name.endswith(SUFFIXES) and not p.name.startswith("."))
        raise UserError(f"no such model: {path}" + (f"; {path.parent} has {shorten(near)}" if near else ""))
    return path


def _checkpoint_predictor(config: Config, path: Path) -> tuple[str, Predictor]:
    """(kind, the predictor that loads the checkpoint)."""
    state = load_checkpoint(path)
    if "int_graph" in state:
        return "int_infer", _graph_predictor(config, path, state["int_graph"])
    trained = trained_constants(state).get("imgsz")
    expected = config_image_size(config)
    if trained is not None and expected is not None and tuple(trained) != expected:
        logger.warning("%s was trained with imgsz=%s, the config has %s", path, tuple(trained), expected)
    kind = kind_of(config, state)
    name, cfg = predictor_config(config, kind, path)
    return kind, Builder().build(cfg, name)


def _graph_predictor(config: Config, path: Path, state: dict[str, Any]) -> Predictor:
    graph = integer_graph(path, state)
    height, width = graph.tensors[graph.inputs[0]].shape[1:]
    check_image_size(config, path, (height, width))
    predictor = bare_predictor(config, path)
    predictor.model = IntegerDetector(detector=predictor.prepare(), graph=graph, device=predictor.device)
    return predictor


def integer_graph(path: Path, state: dict[str, Any]) -> IntGraph:
    """The graph in a checkpoint.

    Raises:
        UserError: it is none, or of another format version.
    """
    try:
        return IntGraph.from_state(state)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _tflite_predictor(config: Config, path: Path, kernels: str) -> Predictor:
    layout = _layout(path)
    check_image_size(config, path, (layout.input_shape[1], layout.input_shape[2]))
    predictor = bare_predictor(config, path)
    detector: Any = predictor.prepare()
    if layout.output_names != tuple(detector.output_names):
        raise UserError(
            f"{path} has the outputs {', '.join(layout.output_names)}; the config's detector needs "
            f"{', '.join(detector.output_names)}: only files that hatdet exported from this detector can be evaluated"
        )
    named, table = read_metadata(path).get("classes"), class_table(predictor.data_loader)
    if named is not None and table is not None and list(named) != table.names:
        raise UserError(f"{path} knows the classes {shorten(named)}; the validation data has {shorten(table.names)}")
    try:
        predictor.model = TFLiteDetector(detector=detector, model=path, kernels=kernels)
    except UserError:
        raise
    except (ValueError, RuntimeError) as error:
        raise UserError(f"LiteRT cannot run {path}: {_first_line(error)}") from error
    return predictor


def _layout(path: Path) -> FileLayout:
    try:
        return FileLayout(path.read_bytes())
    except UserError:
        raise
    except Exception as error:  # the flatbuffer reader raises many types for a damaged file
        why = str(error) if type(error) is ValueError else "the file is damaged or cut off"
        raise UserError(f"{path} cannot be evaluated: {why}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def bare_predictor(config: Config, path: Path) -> Predictor:
    """int_infer's predictor (or one derived of a trainer) without conversion and weights: data, metric and detector."""
    name = next((name for name in INT_INFER_NAMES if config.get(name) is not None), None)
    if name is not None:
        config.validate(name)
        cfg = dict(config[name])
    else:
        stage = next((s for s in reversed(TRAIN_STAGES) if f"{s}_trainer" in config), None)
        if stage is None:
            raise UserError(f"{config.path} has neither int_infer nor a trainer, so there is no validation data to use")
        name = f"{stage}_trainer"
        config.validate(name)
        cfg = derived_predictor(config, stage, path)
    weights = ("model_convert_pipeline", "checkpoint_path")
    predictor: Predictor = Builder().build({key: value for key, value in cfg.items() if key not in weights}, name)
    return predictor


def config_image_size(config: Config) -> tuple[int, int] | None:
    """``imgsz`` of the config as (height, width); None where it has none."""
    size = config.get("imgsz")
    return (int(size[0]), int(size[1])) if isinstance(size, (tuple, list)) and len(size) == 2 else None


def check_image_size(config: Config, path: Path, size: tuple[int, int]) -> None:
    """Refuse a model that takes images of another size than the config makes.

    Raises:
        UserError: with both sizes.
    """
    expected = config_image_size(config)
    if expected is not None and expected != size:
        raise UserError(
            f"{path} takes images of {size} (height, width), the config has imgsz={expected}; evaluate it with "
            f"--cfg-options 'imgsz=({size[0]},{size[1]})', or export a model of the config's size"
        )
