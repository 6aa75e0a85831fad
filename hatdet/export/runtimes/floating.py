"""Float model files as functions: normalized images in, raw maps (or boxes and scores) out.

Whatever a file's own layout is, ``run`` takes float32 (B, C, H, W) and gives maps (B, C, h, w); decoded outputs are
(B, P, 4) and (B, P, classes).
"""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hatdet.export.exported import ExportedDetector
from hatdet.export.runtimes.integer import load_package
from hatdet.export.tflite.consistency import check_file
from hatdet.export.tflite.flatbuffer import load_schema
from hatdet.export.tflite.int8 import read_metadata
from hatdet.utils.checkpoints.archive import damage, is_archive
from hatdet.utils.errors import UserError

METADATA_FILE = "hatdet.json"
"""Name of the metadata inside a TorchScript archive (``extra/``) and a SavedModel (``assets.extra/``)."""


class FloatRuntime(Protocol):
    """A loaded file.

    Attributes:
        name: for reports. metadata: what the file carries (docs/contracts.md, section 7).
    """

    name: str
    metadata: dict[str, Any]

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        """Outputs in the order of ``metadata["output_names"]``, on the CPU."""
        ...


class FloatTFLite:
    """A float ``.tflite`` in LiteRT; images are run one by one, ``workers`` at a time (results do not depend on it).

    Args:
        kernels: ``default`` (optimized) or ``reference``.

    Raises:
        UserError: LiteRT is not installed, or the file carries no metadata of hatdet. ValueError: it cannot be run.
    """

    def __init__(self, model: bytes, kernels: str = "default", workers: int = 1) -> None:
        module = load_package("ai_edge_litert.interpreter", "ai-edge-litert", "LiteRT")
        types = module.OpResolverType
        self.name = f"LiteRT, {kernels} kernels"
        self.metadata = read_metadata(model)
        self._interpreters = []
        for _ in range(max(1, workers)):
            interpreter = module.Interpreter(
                model_content=model,
                num_threads=1,
                experimental_op_resolver_type=types.BUILTIN_REF if kernels == "reference" else types.BUILTIN,
            )
            interpreter.allocate_tensors()
            self._interpreters.append(interpreter)

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        nhwc = np.ascontiguousarray(images.detach().cpu().numpy().transpose(0, 2, 3, 1))
        parts = [part for part in np.array_split(nhwc, len(self._interpreters)) if len(part)]
        with ThreadPoolExecutor(len(self._interpreters)) as pool:
            results = list(pool.map(_invoke, self._interpreters, parts))
        return tuple(channels_first(np.concatenate(values)) for values in zip(*results, strict=True))


def _invoke(interpreter: Any, images: Any) -> list[Any]:
    source = interpreter.get_input_details()[0]["index"]
    targets = [detail["index"] for detail in interpreter.get_output_details()]
    found = []
    for number in range(len(images)):
        interpreter.set_tensor(source, images[number : number + 1])
        interpreter.invoke()
        found.append([interpreter.get_tensor(index) for index in targets])
    return [np.concatenate(values) for values in zip(*found, strict=True)]


def is_float_tflite(model: bytes) -> bool:
    """Whether a ``.tflite`` file's input is float32."""
    check_file(model)
    root = load_schema().Model.GetRootAsModel(model, 0)
    graph = root.Subgraphs(0)
    return bool(graph.Tensors(graph.Inputs(0)).Type() == load_schema().TensorType.FLOAT32)


def is_compiled(model: bytes) -> bool:
    """Whether a ``.tflite`` file holds Vela's operator for Ethos-U, which nothing else runs."""
    check_file(model)
    root = load_schema().Model.GetRootAsModel(model, 0)
    return any(root.OperatorCodes(i).CustomCode() == b"ethos-u" for i in range(root.OperatorCodesLength()))


class TorchScriptFile:
    """A TorchScript archive.

    Raises:
        UserError: it is none, or carries no metadata of hatdet.
    """

    def __init__(self, path: Path) -> None:
        extra = {METADATA_FILE: ""}
        with path.open("rb") as file:
            if is_archive(file) and (found := damage(file, "constants.pkl")) is not None:
                raise UserError(f"{path} cannot be read as TorchScript ({found}): the file is damaged; export it again")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch announces torch.export; nothing a user can act on
                self._module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
        except Exception as error:  # torch raises many types for a damaged file
            raise UserError(
                f"{path} cannot be read as TorchScript: the file is damaged, or of another kind; "
                "export it again with tools/export.py"
            ) from error
        self.metadata = parse_metadata(path, extra[METADATA_FILE])
        self.name = f"TorchScript, torch {torch.__version__}"

    @torch.no_grad()
    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self._module(images.cpu().contiguous(memory_format=torch.channels_last)))


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive (a checkpoint is a zip file too, without code)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/", 1)[-1] == "constants.pkl" for name in archive.namelist())


class SavedModelFolder:
    """A SavedModel in tensorflow.

    Raises:
        UserError: tensorflow is not installed, it is no SavedModel, or it carries no metadata of hatdet.
    """

    def __init__(self, path: Path) -> None:
        file = path / "assets.extra" / METADATA_FILE
        if not (path / "saved_model.pb").is_file():
            raise UserError(
                f"{path} is no SavedModel: it has no saved_model.pb; "
                "name the folder that tools/export.py wrote"
            )
        self.metadata = parse_metadata(path, file.read_text(encoding="utf-8") if file.is_file() else "")
        self._tf = load_tensorflow("evaluating a SavedModel")
        try:
            self._model = self._tf.saved_model.load(str(path))
            self._function = self._model.signatures["serving_default"]
        except Exception as error:  # tensorflow raises many types for a damaged folder
            raise UserError(
                f"{path} cannot be loaded as a SavedModel: {str(error).splitlines()[0]}; "
                "export it again with tools/export.py"
            ) from error
        self.name = f"SavedModel, tensorflow {self._tf.__version__}"

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        nhwc = np.ascontiguousarray(images.detach().cpu().numpy().transpose(0, 2, 3, 1))
        names = self.metadata["output_names"]
        found = [self._function(images=self._tf.constant(image[None])) for image in nhwc]
        return tuple(channels_first(np.concatenate([result[name].numpy() for result in found])) for name in names)


def load_tensorflow(what: str) -> Any:
    """The tensorflow module, quiet and on the CPU.

    Raises:
        UserError: it is not installed; one line says how to get it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import importlib

    try:
        module = importlib.import_module("tensorflow")
    except ImportError as error:
        raise UserError(
            f"{what} needs tensorflow ({error}); install it with: pip install 'hatdet[savedmodel]'"
        ) from error
    module.get_logger().setLevel("ERROR")
    return module


def parse_metadata(path: Path, text: str | bytes) -> dict[str, Any]:
    """The metadata that a file carries.

    Raises:
        UserError: none, or not hatdet's.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or "output_names" not in found:
        raise UserError(f"{path} carries no hatdet metadata; export it with tools/export.py")
    return found


def channels_first(values: Any) -> Tensor:
    """(B, h, w, C) maps as (B, C, h, w) in channels_last memory; decoded outputs (B, P, C) as they are."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor


class FileDetector(ExportedDetector):
    """Boxes from a float model file, with the call contract of a detector in evaluation mode.

    Args:
        detector: supplies ``preprocess`` and ``predict``; its own network is not used.
        runtime: the file; its metadata says whether its outputs are raw maps or boxes and scores.
    """

    def __init__(self, *, detector: Any, runtime: FloatRuntime) -> None:
        super().__init__(detector)
        self.runtime = runtime
        self.train(False)

    @torch.no_grad()
    def forward(self, batch: Mapping[str, Any]) -> list[dict[str, Tensor]]:
        task = self.task
        images = task.preprocess(batch["img"])
        outputs = [values.to(images.device) for values in self.runtime.run(images)]
        if self.runtime.metadata.get("decoded"):
            return list(task.predict_decoded(*outputs, batch))
        return list(task.predict(tuple(outputs), batch))


def compare(expected: Sequence[Tensor], found: Sequence[Tensor], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """By output: the largest absolute difference, and the largest magnitude expected.

    Raises:
        ValueError: shapes or the number of outputs differ, or a value is not a number.
    """
    result = {}
    for name, first, second in zip(names, expected, found, strict=True):
        if second.shape == (*first.shape, 1, 1):  # a vector is a map of one pixel in a file
            second = second.flatten(1)
        if first.shape != second.shape:
            raise ValueError(f"output {name!r} has the shape {tuple(second.shape)}, expected {tuple(first.shape)}")
        if not bool(torch.isfinite(second).all()):
            raise ValueError(f"output {name!r} has values that are not finite")
        difference = float((first - second).abs().max())
        result[name] = {"max_abs_difference": difference, "max_abs": float(first.abs().max())}
    return result
