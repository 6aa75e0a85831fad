"""``--format onnx``: float, int8 as QDQ with its drift stated, and int8 as exact integers, each run by onnxruntime.

Functions for single files: :func:`export_float_onnx`, :func:`export_qdq_onnx`, :func:`export_exact_onnx`.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from hatdet.export.formats.table import ExportJob, ExportOptions, FileRecord
from hatdet.export.onnx import exact as onnx_exact
from hatdet.export.onnx import floating as onnx_float
from hatdet.export.onnx import qdq as onnx_qdq
from hatdet.export.onnx.compare import compare_float, compare_integer
from hatdet.export.onnx.file import DEFAULT_OPSET, MIN_INTEGER_OPSET, check_opset, load_onnx, load_runtime
from hatdet.integer.graph import IntGraph
from hatdet.utils.errors import UserError

logger = logging.getLogger("hatdet")


def require(job: ExportJob) -> None:
    """Refuse where packages are missing, and switches that mean nothing to the files."""
    options = job.options
    check_opset(options.opset if options.opset is not None else DEFAULT_OPSET)
    check_switches(options, has_float=job.has_float, has_exact=True)
    load_onnx()
    if options.verify or options.simplify:
        load_runtime()


def export(job: ExportJob) -> list[FileRecord]:
    """Write ``<stem>.onnx`` of float weights, then ``<stem>_int8_qdq.onnx`` and ``<stem>_int8_exact.onnx``.

    An opset below 13 has no quantization per channel: it is used for the float file, and the integer files have 13.
    Float weights that have no integer form (nothing to calibrate on, an operator without one) give the float file
    alone, and a warning.
    """
    options = job.options
    opset = options.opset if options.opset is not None else DEFAULT_OPSET
    records = []
    if job.has_float:
        records.append(
            export_float_onnx(
                job.detector,
                job.image_size,
                job.path(".onnx"),
                job.facts,
                pixels=job.pixels if options.verify else None,
                opset=opset,
                decode=options.decode,
                preprocess=options.preprocess,
                simplify=options.simplify,
            )
        )
        try:
            _ = job.graph
        except UserError as error:
            logger.warning("the integer .onnx files are left out: %s", error)
            return records
    integer = max(opset, MIN_INTEGER_OPSET)
    codes = job.codes() if options.verify else None
    records.append(export_qdq_onnx(job.graph, job.path("_int8_qdq.onnx"), codes=codes, opset=integer))
    records.append(
        export_exact_onnx(
            job.graph, job.path("_int8_exact.onnx"), codes=codes, opset=integer, intermediates=options.intermediates
        )
    )
    return records


def check_switches(options: ExportOptions, *, has_float: bool, has_exact: bool) -> None:
    """Refuse what means nothing to the files that will be written; say so of ``simplify``, which harms nothing.

    Raises:
        UserError: naming the option.
    """
    for name in ("decode", "preprocess"):
        if getattr(options, name) and not has_float:
            raise UserError(f"--{name} is for the float .onnx, and only integer ones are written; leave it out")
    if options.intermediates and not has_exact:
        raise UserError("--intermediates is for the exact form, which is not written; leave it out")
    if options.simplify and not has_float:
        logger.info("--simplify: nothing to do, integer .onnx files have no constants to fold")


def export_float_onnx(
    detector: Any,
    image_size: tuple[int, int],
    path: str | os.PathLike[str],
    metadata: dict[str, Any] | None = None,
    *,
    pixels: Tensor | None = None,
    opset: int = DEFAULT_OPSET,
    decode: bool = False,
    preprocess: bool = False,
    simplify: bool = False,
) -> FileRecord:
    """Write a float detector (:func:`~hatdet.export.onnx.floating.write_float`) and compare it with torch.

    Args:
        pixels: images for the comparison, uint8 (n, 3, h, w); None: no comparison.

    Raises:
        UserError: as ``write_float``, or onnxruntime is not installed and there is something to compare.
    """
    if pixels is not None:
        load_runtime()  # missing: said before anything is written
    switches = {"decode": decode, "preprocess": preprocess}
    data = onnx_float.write_float(detector, image_size, path, metadata, opset=opset, simplify=simplify, **switches)
    checks: dict[str, Any] = {"opset": opset, "simplify": simplify, **switches}
    if pixels is None:
        return FileRecord(Path(path), onnx_float.FORMAT, checks=checks)
    inputs = pixels.float() if preprocess else detector.preprocess(pixels)
    report = compare_float(data, inputs, onnx_float.reference(detector, image_size, **switches))
    return FileRecord(
        Path(path), onnx_float.FORMAT, report.ok, report.text(), {**checks, "comparison": report.to_dict()}
    )


def export_qdq_onnx(
    graph: IntGraph,
    path: str | os.PathLike[str],
    metadata: dict[str, Any] | None = None,
    *,
    codes: Tensor | None = None,
    opset: int = DEFAULT_OPSET,
) -> FileRecord:
    """Write an integer graph in QDQ form and measure its drift.

    Args:
        codes: input codes of real images, int8 (n, 3, h, w); None: no comparison.
    """
    if codes is not None:
        load_runtime()
    data = onnx_qdq.write_qdq(graph, path, metadata, opset)
    checks: dict[str, Any] = {"opset": opset, "profile": onnx_qdq.PROFILE}
    if codes is None:
        return FileRecord(Path(path), onnx_qdq.FORMAT, checks=checks)
    report = compare_integer(graph, data, codes, exact=False)
    return FileRecord(Path(path), onnx_qdq.FORMAT, report.ok, report.text(), {**checks, "comparison": report.to_dict()})


def export_exact_onnx(
    graph: IntGraph,
    path: str | os.PathLike[str],
    metadata: dict[str, Any] | None = None,
    *,
    codes: Tensor | None = None,
    opset: int = DEFAULT_OPSET,
    intermediates: bool = False,
) -> FileRecord:
    """Write an integer graph as explicit integers; 0 differing values under onnxruntime, or the record is not ok.

    Args:
        codes: input codes of real images, int8 (n, 3, h, w); None: no comparison.
        intermediates: compare every tensor, not only the outputs.
    """
    if codes is not None:
        load_runtime()
    data = onnx_exact.write_exact(graph, path, metadata, opset)
    checks: dict[str, Any] = {"opset": opset, "profile": graph.metadata["profile"]}
    if codes is None:
        return FileRecord(Path(path), onnx_exact.FORMAT, checks=checks)
    if intermediates:
        data = onnx_exact.write_exact(graph, None, metadata, opset, keep_tensors=True)
    report = compare_integer(graph, data, codes, exact=True)
    return FileRecord(
        Path(path), onnx_exact.FORMAT, report.ok, report.text(), {**checks, "comparison": report.to_dict()}
    )
