"""The exported file inside the toolbox's own evaluation: what its AP is, to the last digit.

Preprocessing and post-processing are the detector's; only the network between them is the file, run by LiteRT.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hatdet.export.exported import ExportedDetector
from hatdet.export.runtimes.integer import Codes, LiteRTRuntime, to_nchw, to_nhwc
from hatdet.export.runtimes.kernels import KernelsUsed, used_by
from hatdet.export.tflite.int8 import read_metadata
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.normalization import adopt_metadata
from hatdet.utils.errors import UserError


def quantize_images(images: Tensor, q: QuantParams) -> Tensor:
    """Normalized images (float32) as int8 codes: round to nearest, clamp; the same numbers as the torch executor's."""
    centred = torch.round(images / q.scale).clamp_(-128 - q.zero_point, 127 - q.zero_point)
    return (centred + q.zero_point).to(torch.int8)


def dequantize(codes: Tensor, q: QuantParams) -> Tensor:
    """Codes as real values: scale * (code - zero point), float32."""
    return (codes.to(torch.float32) - q.zero_point) * q.scale


class TFLiteDetector(ExportedDetector):
    """Boxes from an exported int8 model, with the call contract of a detector in evaluation mode.

    Args:
        detector: supplies ``preprocess`` and ``predict``; its own network is not used.
        model: the ``.tflite`` file, or its bytes.
        kernels: ``reference`` or ``default``, see :class:`~hatdet.export.runtimes.integer.LiteRTRuntime`.
        workers: images run at a time, each by an interpreter of its own; None: one a CPU core. Results do not depend
            on it.

    Raises:
        UserError: LiteRT is not installed. ValueError: the file is not an int8 model of this kind.
    """

    def __init__(
        self,
        *,
        detector: Any,
        model: bytes | str | os.PathLike[str],
        kernels: str = "reference",
        workers: int | None = None,
    ) -> None:
        super().__init__(detector)
        data = model if isinstance(model, bytes) else Path(model).read_bytes()
        count = max(1, min(workers or os.cpu_count() or 1, 16))
        adopt_metadata(detector, _metadata(data))
        self._runtimes = [LiteRTRuntime(data, kernels=kernels) for _ in range(count)]
        layout = self._runtimes[0].layout
        self._input, self._outputs = layout.input_quantization, layout.output_quantization
        self.image_size = (layout.input_shape[1], layout.input_shape[2])
        self.train(False)

    @property
    def kernels(self) -> KernelsUsed:
        """What really runs the file."""
        return used_by(self._runtimes[0])

    def input_codes(self, batch: Mapping[str, Any]) -> Tensor:
        """int8 (B, C, H, W): what the network is given for a batch.

        Raises:
            UserError: the images have another size than the model.
        """
        images = self.task.preprocess(batch["img"])
        if tuple(images.shape[2:]) != self.image_size:
            raise UserError(
                f"the model takes images of {self.image_size} (h, w), the batch has {tuple(images.shape[2:])}; "
                "export with the size that the validation data has (--imgsz H W), or pad the images to the model's"
            )
        return quantize_images(images, self._input)

    def forward(self, batch: Mapping[str, Any]) -> list[dict[str, Tensor]]:
        codes = self.input_codes(batch)
        results = [to_nchw(values).to(codes.device) for values in self.results(codes)]
        maps = [dequantize(values, q) for values, q in zip(results, self._outputs, strict=True)]
        with torch.no_grad():
            return list(self.task.predict(tuple(maps), batch))

    def results(self, codes: Tensor) -> list[Codes]:
        """The outputs (B, H, W, C) for input codes (B, C, H, W)."""
        parts = [part for part in np.array_split(to_nhwc(codes), len(self._runtimes)) if len(part)]
        with ThreadPoolExecutor(len(self._runtimes)) as pool:
            results = list(pool.map(_run, self._runtimes, parts))
        return [np.concatenate(values) for values in zip(*results, strict=True)]


def _metadata(model: bytes) -> dict[str, Any]:
    try:
        return read_metadata(model)
    except UserError:  # a file without any is taken as it is
        return {}


def _run(runtime: LiteRTRuntime, codes: Codes) -> list[Codes]:
    return runtime.run(codes)


def same_values(first: Mapping[str, float], second: Mapping[str, float]) -> list[str]:
    """Names of metric values that are not identical, to the last digit, in both; empty where all are."""
    names = [*first, *(name for name in second if name not in first)]
    return [n for n in names if n not in first or n not in second or not _identical(first[n], second[n])]


def _identical(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)  # nan: no value in either
