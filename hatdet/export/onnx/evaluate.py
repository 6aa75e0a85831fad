"""ONNX files inside the toolbox's own evaluation: float, QDQ and exact ones, and foreign ones that fit."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hatdet.export.evaluate import dequantize, quantize_images
from hatdet.export.exported import ExportedDetector
from hatdet.export.onnx import exact as onnx_exact
from hatdet.export.onnx import floating as onnx_float
from hatdet.export.onnx import qdq as onnx_qdq
from hatdet.export.onnx.file import open_session, session_metadata
from hatdet.export.runtimes.integer import to_nchw
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.normalization import adopt_metadata
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import input_channels

KINDS = {onnx_float.FORMAT: "onnx_float32", onnx_qdq.FORMAT: "onnx_qdq", onnx_exact.FORMAT: "onnx_exact"}


@dataclass(frozen=True)
class OnnxLayout:
    """What an ONNX file takes and gives.

    Attributes:
        kind: ``onnx_float32``, ``onnx_qdq``, ``onnx_exact``, or ``onnx`` for files of other makers.
        image_size: (h, w). output_names, output_shapes: in the file's order. metadata: empty for files of other makers.
    """

    kind: str
    image_size: tuple[int, int]
    output_names: tuple[str, ...]
    output_shapes: tuple[tuple[Any, ...], ...]
    metadata: dict[str, Any]
    channels: int

    @property
    def integer(self) -> bool:
        """uint8 codes in and out; otherwise float32."""
        return self.kind in ("onnx_qdq", "onnx_exact")

    @property
    def decoded(self) -> bool:
        """Boxes and scores come out, not raw maps."""
        return bool(self.metadata.get("decoded"))

    @property
    def takes_pixels(self) -> bool:
        """Pixels go in, not normalized images."""
        return self.metadata.get("normalization") == "inside"

    @classmethod
    def of(cls, session: Any, name: str) -> OnnxLayout:
        """The layout of an open file.

        Raises:
            UserError: it takes something else than one image of 1 or 3 channels; ``name`` is what the message calls it.
        """
        metadata = session_metadata(session)
        kind = KINDS.get(str(metadata.get("format", "")), "onnx")
        inputs = session.get_inputs()
        shape, dtype = list(inputs[0].shape), inputs[0].type
        expected = "tensor(uint8)" if kind in ("onnx_qdq", "onnx_exact") else "tensor(float)"
        fixed = len(shape) == 4 and all(isinstance(n, int) for n in shape)
        if len(inputs) != 1 or not fixed or shape[:2] not in ([1, 1], [1, 3]) or dtype != expected:
            found = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs)
            raise UserError(
                f"{name} takes {found}; what can be evaluated takes one image, {expected} [1, 3, height, width], or "
                "[1, 1, height, width] for gray: export it with tools/export.py --format onnx"
            )
        outputs = session.get_outputs()
        names, shapes = (tuple(value.name for value in outputs), tuple(tuple(value.shape) for value in outputs))
        return cls(kind, (shape[2], shape[3]), names, shapes, metadata, shape[1])

    def check_shapes(self, detector: Any, name: str) -> None:
        """Refuse a file whose outputs are not of the detector's shapes: other classes, other strides.

        Raises:
            UserError: with both shapes.
        """
        channels = input_channels(detector)
        if channels != self.channels:
            raise UserError(
                f"{name} takes images of {self.channels} channel(s), the config's detector of {channels}: is its "
                "input_color that of the exported one?"
            )
        network = copy.deepcopy(detector.network()).to("meta")
        maps = network(torch.empty(1, channels, *self.image_size, device="meta"))
        shapes = {output: tuple(found.shape) for output, found in zip(detector.output_names, maps, strict=True)}
        if self.decoded:
            decoded = detector.decoding(self.image_size).to("meta")(*maps)
            shapes = dict(zip(onnx_float.DECODED_NAMES, (tuple(found.shape) for found in decoded), strict=True))
        if self.integer:  # which have a vector as a map of one pixel
            shapes = {output: (*shape, *(1,) * (4 - len(shape))) for output, shape in shapes.items()}
        for output, found in zip(self.output_names, self.output_shapes, strict=True):
            if found != shapes[output]:
                raise UserError(
                    f"{name} gives {output} of {found}, the config's detector {shapes[output]}: are num_classes and "
                    "the model those that were exported?"
                )


class OnnxDetector(ExportedDetector):
    """Boxes from an ONNX file, with the call contract of a detector in evaluation mode.

    Args:
        detector: supplies ``preprocess`` and ``predict`` (``predict_decoded``); its own network is not used.
        model: the file, or its bytes.
        workers: images run at a time, one thread each; None: one a CPU core. Results do not depend on it.

    Attributes:
        output_names: in the order in which the detector wants them.

    Raises:
        UserError: onnxruntime is not installed or cannot read the file, or the file does not fit the detector.
    """

    def __init__(self, *, detector: Any, model: bytes | str | os.PathLike[str], workers: int | None = None) -> None:
        super().__init__(detector)
        name = "the model" if isinstance(model, bytes) else str(Path(model))
        self._session = open_session(model)
        self.layout = layout = OnnxLayout.of(self._session, name)
        self.workers = max(1, min(workers or os.cpu_count() or 1, 16))
        self.output_names = onnx_float.DECODED_NAMES if layout.decoded else tuple(detector.output_names)
        if set(layout.output_names) != set(self.output_names):
            raise UserError(
                f"{name} has the outputs {', '.join(layout.output_names)}; the config's detector needs "
                f"{', '.join(self.output_names)}: export it from this detector with tools/export.py --format onnx"
            )
        if layout.integer:
            adopt_metadata(detector, layout.metadata)
            self._input = _quantization(layout.metadata["input"])
            self._outputs = {tensor["name"]: _quantization(tensor) for tensor in layout.metadata["outputs"]}
        self.train(False)

    @property
    def image_size(self) -> tuple[int, int]:
        """(h, w) that the file takes."""
        return self.layout.image_size

    def inputs(self, batch: Mapping[str, Any]) -> np.ndarray:
        """What the file is given for a batch: uint8 codes (+128), normalized images or pixels, (B, C, H, W).

        Raises:
            UserError: the images have another size than the model.
        """
        if self.layout.takes_pixels:
            images = batch["img"].float()
        else:
            images = self.task.preprocess(batch["img"])
        if tuple(images.shape[2:]) != self.image_size:
            raise UserError(
                f"the model takes images of {self.image_size} (h, w), the batch has {tuple(images.shape[2:])}; "
                "export with the size that the validation data has (--imgsz H W), or pad the images to the model's"
            )
        if self.layout.integer:
            images = (quantize_images(images, self._input).to(torch.int16) + 128).to(torch.uint8)
        return np.ascontiguousarray(images.cpu().numpy())

    def forward(self, batch: Mapping[str, Any]) -> list[dict[str, Tensor]]:
        images = self.inputs(batch)
        with ThreadPoolExecutor(self.workers) as pool:
            results = list(pool.map(self._run, images))
        maps = tuple(
            self._real(name, np.concatenate([result[i] for result in results])).to(batch["img"].device)
            for i, name in enumerate(self.output_names)
        )
        with torch.no_grad():
            if self.layout.decoded:
                return list(self.task.predict_decoded(*maps, batch))
            return list(self.task.predict(maps, batch))

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        found: list[np.ndarray] = self._session.run(
            list(self.output_names), {self._session.get_inputs()[0].name: image[None]}
        )
        return found

    def _real(self, name: str, values: np.ndarray) -> Tensor:
        """An output as real values; maps in channels_last memory, as the detector's own are."""
        if values.ndim != 4:
            return torch.from_numpy(values)
        nchw = to_nchw(np.ascontiguousarray(values.transpose(0, 2, 3, 1)))
        if not self.layout.integer:
            return nchw
        return dequantize(nchw if nchw.dtype == torch.int16 else nchw.to(torch.int16) - 128, self._outputs[name])


def _quantization(tensor: Mapping[str, Any]) -> QuantParams:
    """Of signed codes, from the description of uint8 (or int16) ones."""
    if tensor["dtype"] == "int16":
        return QuantParams(tensor["scale"], tensor["zero_point"], 16)
    return QuantParams(tensor["scale"], tensor["zero_point"] - 128)
