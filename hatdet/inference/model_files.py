"""Model files as predictors: what kind a file is, whether it fits the config, and what runs it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hatdet.building import Builder
from hatdet.config.config import Config
from hatdet.engine.checkpoints.classes import class_table
from hatdet.engine.checkpoints.provenance import trained_constants
from hatdet.engine.predictor import Predictor
from hatdet.engine.stages import INT_INFER_NAMES, TRAIN_STAGES, derived_predictor, predictor_config
from hatdet.export.arithmetic import file_arithmetic, file_second
from hatdet.export.evaluate import TFLiteDetector
from hatdet.export.onnx.evaluate import OnnxDetector, OnnxLayout
from hatdet.export.onnx.file import open_session
from hatdet.export.runtimes.floating import (
    FileDetector,
    FloatRuntime,
    FloatTFLite,
    SavedModelFolder,
    TorchScriptFile,
    is_compiled,
    is_float_tflite,
    is_torchscript,
)
from hatdet.export.runtimes.integer import FileLayout, ModelRefused
from hatdet.export.runtimes.trial import make_sure
from hatdet.export.tflite.consistency import check_file
from hatdet.export.tflite.int8 import read_metadata
from hatdet.inference.checkpoints import find_checkpoint, kind_of
from hatdet.integer.graph import IntGraph
from hatdet.integer.profiles.table import PROFILES
from hatdet.quantization.integer_detector import IntegerDetector
from hatdet.quantization.normalization import adopt_metadata
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.class_names import KnownClasses, listed
from hatdet.utils.environment import describe_device
from hatdet.utils.errors import UserError

SUFFIXES = (".pth.tar", ".pth", ".pt", ".tflite", ".onnx", ".torchscript")
WHAT = (
    "checkpoints (.pth, .pth.tar), TensorFlow Lite models (.tflite), ONNX (.onnx), TorchScript (.torchscript) and "
    "SavedModel folders"
)
MAX_WORKERS = 16
logger = logging.getLogger("hatdet")

Opened = tuple[str, str, Predictor]
"""What a file is (``kind``), what runs it (``runtime``), and the predictor with it."""


class OtherSizeError(UserError):
    """A model takes images of another size, ``size``, than the config makes."""

    def __init__(self, message: str, size: tuple[int, int]) -> None:
        super().__init__(message)
        self.size = size


def model_file(model: str | Path, run: str | None = None) -> Path:
    """The file or folder, if it is there and of a kind that can be evaluated; ``run``: see :func:`find_checkpoint`.

    Raises:
        UserError: it is not; the message names what can be, or what stands beside.
    """
    path = Path(model)
    if path.name == "saved_model.pb":
        path = path.parent
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise UserError(f"{model} is a folder without saved_model.pb; what can be evaluated: {WHAT}")
        return path
    if not path.name.endswith(SUFFIXES):
        if not path.suffix and not path.exists():
            raise UserError(f"no such model: {path}; what can be evaluated: {WHAT}")
        what = f"a {path.suffix} file" if path.suffix else "none of the files that tools/export.py writes"
        raise UserError(f"{model} is {what}; what can be evaluated: {WHAT}")
    if path.is_file():
        return path
    if path.name.endswith((".pth", ".pth.tar")):
        return find_checkpoint(path, run)
    near = sorted(p.name for p in path.parent.glob("*") if p.name.endswith(SUFFIXES) and not p.name.startswith("."))
    there = f"; {path.parent} has {listed(near)}" if near else ""
    raise UserError(f"no such model: {path}{there}; name a file that is there")


def open_model(config: Config, path: Path, kernels: str | None = None) -> Opened:
    """The predictor of a file that :func:`model_file` accepted.

    Args:
        kernels: LiteRT's, ``reference`` or ``default``; None: those of an integer file's arithmetic, default for float.

    Raises:
        UserError: the file is damaged, or does not fit the config.
    """
    if path.is_dir():
        return _open_float(config, path, "savedmodel", lambda: SavedModelFolder(path))
    if path.suffix == ".torchscript" or (path.suffix == ".pt" and is_torchscript(path)):
        return _open_float(config, path, "torchscript", lambda: TorchScriptFile(path))
    if path.suffix == ".tflite":
        return _open_tflite(config, path, kernels)
    if path.suffix == ".onnx":
        return _open_onnx(config, path)
    return _open_checkpoint(config, path)


def _open_checkpoint(config: Config, path: Path) -> Opened:
    state = load_checkpoint(path)
    kind = kind_of(config, state)
    if kind == "int_infer":
        predictor = _graph_predictor(config, path, state["int_graph"])
        return kind, f"torch, {describe_device(predictor.device)}", predictor
    trained = trained_constants(state).get("imgsz")
    expected = config_image_size(config)
    if trained is not None and expected is not None and tuple(trained) != expected:
        logger.warning("%s was trained with imgsz=%s, the config has %s", path, tuple(trained), expected)
    name, cfg = predictor_config(config, kind, path)
    predictor = Builder(config).build(cfg, name)
    return kind, f"torch, {describe_device(predictor.device)}", predictor


def _graph_predictor(config: Config, path: Path, state: dict[str, Any]) -> Predictor:
    graph = integer_graph(path, state)
    height, width = graph.tensors[graph.inputs[0]].shape[1:]
    check_image_size(config, path, (height, width))
    predictor = bare_predictor(config, path, {"int_graph": state})
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


def _open_tflite(config: Config, path: Path, kernels: str | None) -> Opened:
    data = path.read_bytes()
    _read(path, check_file, data)
    if is_compiled(data):
        raise UserError(f"{path} was compiled for Ethos-U and runs there only; evaluate the int8 .tflite it is made of")
    is_float = is_float_tflite(data)
    kinds = kernels or ("default" if is_float else known_kernels(path, data))
    _read(path, lambda model: make_sure(model, kinds), data)
    if is_float:
        workers = max(1, min(os.cpu_count() or 1, MAX_WORKERS))
        return _open_float(config, path, "tflite", lambda: FloatTFLite(data, kinds, workers))
    layout = _read(path, FileLayout, data)
    check_image_size(config, path, (layout.input_shape[1], layout.input_shape[2]))
    facts = _read(path, read_metadata, data)
    predictor = bare_predictor(config, path, {"metadata": facts})
    detector: Any = predictor.prepare()
    check_facts(path, facts, layout.output_names, detector, predictor)
    try:
        model = predictor.model = TFLiteDetector(detector=detector, model=data, kernels=kinds)
    except ModelRefused as error:
        other = "" if kinds == "default" else ", or try --kernels default"
        raise UserError(f"{path} cannot be run: {error}; export it again{other}") from error
    used = model.kernels
    if (warning := used.warning(file_arithmetic(data), file_second(data))) is not None:
        logger.warning("%s: %s", path, warning)
    return "tflite", used.name, predictor


def known_kernels(path: Path, model: bytes) -> str:
    """LiteRT's kernels that have the arithmetic of an integer file; the reference ones where it does not say.

    Raises:
        UserError: it has no such kernels, or the file has an arithmetic that this hatdet does not know.
    """
    name = file_arithmetic(model)
    if (profile := PROFILES.get(name)) is None:
        raise UserError(
            f"{path} is made for the unknown arithmetic {name!r}; there are {', '.join(PROFILES)}: let its config "
            "import the module that adds it, or see with --kernels reference or default what LiteRT makes of it"
        )
    if (kernels := profile.litert) is None:
        raise UserError(
            f"{path}: no kernels of LiteRT compute in its arithmetic {name!r}; evaluate the checkpoint it was made of, "
            "or see with --kernels reference what LiteRT makes of it"
        )
    return kernels


def _open_float(config: Config, path: Path, kind: str, load: Callable[[], FloatRuntime]) -> Opened:
    """A float file; ``kind`` becomes ``tflite_float16`` and the like, as its metadata says."""
    try:
        runtime = load()
    except UserError:
        raise
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path} cannot be run: {_first_line(error)}; export it again with tools/export.py") from error
    metadata = runtime.metadata
    check_image_size(config, path, _image_size(path, metadata))
    predictor = bare_predictor(config, path, {"metadata": metadata})
    detector: Any = predictor.prepare()
    check_facts(path, metadata, tuple(metadata["output_names"]), detector, predictor)
    adopt_metadata(detector, metadata)
    predictor.model = FileDetector(detector=detector, runtime=runtime)
    return f"{kind}_{metadata['format'].split()[-1]}", runtime.name, predictor


def _open_onnx(config: Config, path: Path) -> Opened:
    """A float, QDQ or exact file of hatdet's, or one of another maker that takes and gives the same."""
    layout = OnnxLayout.of(open_session(path), str(path))
    check_image_size(config, path, layout.image_size)
    predictor = bare_predictor(config, path, {"metadata": layout.metadata})
    detector: Any = predictor.prepare()
    model = OnnxDetector(detector=detector, model=path)
    facts = {key: value for key, value in layout.metadata.items() if key != "input_order" or not layout.takes_pixels}
    check_facts(path, facts, model.output_names, detector, predictor)
    layout.check_shapes(detector, str(path))
    predictor.model = model
    return layout.kind, "onnxruntime, CPU", predictor


def _image_size(path: Path, metadata: dict[str, Any]) -> tuple[int, int]:
    """(height, width) of the metadata, if that is what hatdet writes."""
    try:
        height, width = (int(n) for n in metadata["image_size"])
        if not all(isinstance(name, str) for name in (*metadata["output_names"], metadata["format"])):
            raise TypeError
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path} cannot be evaluated: its metadata is not hatdet's; export it anew") from None
    return height, width


def check_facts(
    path: Path, metadata: dict[str, Any], output_names: tuple[str, ...], detector: Any, predictor: Predictor
) -> None:
    """Refuse a file of another detector, of other classes, or for other channels than the config's.

    Raises:
        UserError: with both sides.
    """
    needed = ("boxes", "scores") if metadata.get("decoded") else tuple(detector.output_names)
    if output_names != needed:
        raise UserError(
            f"{path} has the outputs {', '.join(output_names)}; the config's detector needs {', '.join(needed)}: only "
            "files that hatdet exported from this detector can be evaluated"
        )
    named, table = metadata.get("classes"), class_table(predictor.data_loader)
    if named and not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise UserError(f"{path} cannot be evaluated: its metadata has no list of classes; export it anew")
    if named and table is not None and list(named) != table.names:
        raise UserError(f"{path} knows the classes {listed(named)}; the validation data has {listed(table.names)}")
    order, ours = metadata.get("input_order"), detector.metadata().get("input_order")
    if order is not None and ours is not None and order != ours:
        name = "input_color" if "GRAY" in (order, ours) else "bgr_to_rgb"
        raise UserError(
            f"{path} takes {order} images, the config's preprocessor makes {ours}: set {name} as it was in training"
        )


def _read(path: Path, read: Callable[[bytes], Any], data: bytes) -> Any:
    """``read(data)``, with an error that names the file."""
    try:
        return read(data)
    except ValueError as error:
        raise UserError(f"{path} cannot be evaluated: {error}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def bare_predictor(config: Config, path: Path, state: Mapping[str, Any] | None = None) -> Predictor:
    """int_infer's predictor (or one derived of a trainer) without conversion and weights: data, metric and detector.

    Args:
        state: what the file at ``path`` says (``metadata``, ``int_graph``): its classes number the data's labels.
    """
    name = next((name for name in INT_INFER_NAMES if config.get(name) is not None), None)
    if name is not None:
        config.validate(name)
        cfg = dict(config[name])
    else:
        stage = next((s for s in reversed(TRAIN_STAGES) if f"{s}_trainer" in config), None)
        if stage is None:
            raise UserError(
                f"{config.path} has neither int_infer nor a trainer, so there is no validation data to use; "
                "add int_infer or a trainer to it"
            )
        name = f"{stage}_trainer"
        config.validate(name)
        cfg = derived_predictor(config, stage, path)
    predictor: Predictor = Builder(config).build(without_weights(cfg), name)
    predictor.known_classes = KnownClasses.of(state or {}, str(path))
    return predictor


def without_weights(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A predictor's config for a finished model: nothing to convert, no weights to load."""
    return {key: value for key, value in cfg.items() if key not in ("model_convert_pipeline", "checkpoint_path")}


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
        raise OtherSizeError(
            f"{path} takes images of {size} (height, width), the config has imgsz={expected}; evaluate it with "
            f"--cfg-options 'imgsz=({size[0]},{size[1]})', or export a model of the config's size",
            size,
        )
