"""``--format torchscript``: the network traced, for libtorch; the same values as torch's to the last bit.

Batch normalization stays as it is: folding it would change the last digits of what was evaluated.
"""

from __future__ import annotations

import copy
import io
import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.export.files import sidecar, write_atomic
from hatdet.export.formats.float_files import checked, expected_outputs, metadata
from hatdet.export.formats.table import ExportJob, FileRecord
from hatdet.export.metadata import to_json
from hatdet.export.runtimes.floating import METADATA_FILE, TorchScriptFile
from hatdet.utils.errors import UserError


class _Deployed(nn.Module):
    """The network as a file holds it: raw maps, or with ``decoding`` boxes and scores."""

    def __init__(self, network: nn.Module, decoding: nn.Module | None) -> None:
        super().__init__()
        self.network = network
        self.decoding = decoding

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.network(images)
        return maps if self.decoding is None else self.decoding(*maps)


def require(job: ExportJob) -> None:
    """Refuse quantized weights."""
    _ = job.detector


def export(job: ExportJob) -> list[FileRecord]:
    """Write ``<stem>.torchscript``; its metadata is the extra file ``hatdet.json``.

    Raises:
        UserError: torch cannot trace the network.
    """
    detector = copy.deepcopy(job.detector).eval()
    decoding = detector.decoding(job.image_size) if job.options.decode else None
    deployed = _Deployed(detector.network(), decoding).eval()
    images = job.images()[:1].contiguous(memory_format=torch.channels_last)
    traced = _trace(deployed, images)
    outputs = [tuple(values[:1].shape) for values in expected_outputs(job)]
    names = ("boxes", "scores") if job.options.decode else tuple(detector.output_names)
    text = to_json(metadata(job, "torchscript float32", list(zip(names, outputs, strict=True)), "NCHW"))
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(traced, buffer, _extra_files={METADATA_FILE: text})
    path = job.path(".torchscript")
    write_atomic(path, buffer.getvalue())
    write_atomic(sidecar(path), text.encode("utf-8"))
    return [checked(job, path, "torchscript float32", partial(TorchScriptFile, path))]


def _trace(module: nn.Module, images: Tensor) -> Any:
    """Trace, and have torch compare the trace with the module; a trace that computes otherwise is refused."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces torch.export; a shape that is constant is meant to be
            return torch.jit.trace(module, images, strict=True, check_trace=True)
    except (torch.jit.TracingCheckError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"torch cannot trace the network: {lines[0]}; "
            "write its forward with plain tensors, or use --format onnx"
        ) from error
