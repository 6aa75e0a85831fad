"""``--format tflite``: int8 for every model; of float weights float32 and float16 too.

The int8 file is compared with the integer model under the runtimes of its arithmetic (0 values may differ), the float
files with torch.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from hatdet.export.files import sidecar, write_atomic
from hatdet.export.float_graph import FloatGraph, trace_float
from hatdet.export.formats.float_files import checked, metadata
from hatdet.export.formats.table import ExportJob, FileRecord
from hatdet.export.forms import NoForm
from hatdet.export.metadata import to_json
from hatdet.export.opening import in_one_line
from hatdet.export.runtimes.floating import FloatTFLite
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.file_operators import graph_modules, read_file
from hatdet.export.tflite.flatbuffer import load_schema
from hatdet.export.tflite.floating import BeyondHalf, write_float
from hatdet.export.tflite.int4 import narrow_layers
from hatdet.integer.graph import IntGraph

logger = logging.getLogger("hatdet")


def require(job: ExportJob) -> None:
    """Refuse where the packages that write the files are missing."""
    load_schema()


def export(job: ExportJob) -> list[FileRecord]:
    """Write ``<stem>_float32.tflite`` and ``<stem>_float16.tflite`` where the weights are float, and ``_int8.tflite``.

    A float file that cannot be (an operator without a form in it, a weight beyond float16) is left out with a warning.

    Raises:
        UserError: ai-edge-litert is not installed, or the files cannot carry the model.
    """
    records: list[FileRecord] = []
    _ = job.graph  # what cannot be quantized is refused before anything is written
    if job.has_float:
        graph = trace_float(job.detector, job.image_size, job.options.decode)
        try:
            records.append(export_float(job, graph, half=False))
            records.append(export_float(job, graph, half=True))
        except (NoForm, BeyondHalf) as error:  # the other files are none the worse for it
            logger.warning("no %s file: %s", "float16" if records else "float", error)
    return [*records, export_int8(job)]


def export_float(job: ExportJob, graph: FloatGraph, half: bool) -> FileRecord:
    """Write one float file and compare it with torch."""
    kind = "float16" if half else "float32"
    path, file_format = job.path(f"_{kind}.tflite"), f"tflite {kind}"
    text = to_json(metadata(job, file_format, graph.file_outputs, "NHWC"))
    data = write_float(graph, text, half)
    write_atomic(path, data)
    write_atomic(sidecar(path), text.encode("utf-8"))
    return checked(job, path, file_format, partial(FloatTFLite, data), half=half)


def narrow_weights(graph: IntGraph, data: bytes) -> dict[str, Any]:
    """Of a written file: in how many layers weights have four bits, how they are stored and in how many bytes; {}
    without any."""
    layers = narrow_layers(graph)
    if not layers:
        return {}
    names = set(layers)
    stored = {t.buffer: t for op in read_file(data, graph_modules(graph)).operators if op.weighted and op.path in names
              for t in [op.weight]}  # fmt: skip
    kinds = sorted({tensor.dtype.lower() for tensor in stored.values()})
    return {"layers": len(layers), "stored_as": " and ".join(kinds), "bytes": sum(t.bytes for t in stored.values())}


def export_int8(job: ExportJob) -> FileRecord:
    """Write the integer model; 0 differing values in every runtime of its arithmetic, or the record is not ok. Where
    there is no runtime, the text says that nothing is verified."""
    path = job.path("_int8.tflite")
    data = tflite.write(
        job.graph, path, weights_as=job.options.weights_as, padding_as=job.options.padding_as
    )
    checks: dict[str, Any] = {"profile": job.graph.metadata["profile"], "operators": len(job.graph.ops)}
    saved = checks["shared_weight_bytes_saved"] = job.graph.shared_weight_bytes_saved
    note = f"weights that several convolutions share are stored once: {saved} bytes saved\n" if saved else ""
    if narrow := narrow_weights(job.graph, data):
        checks["four_bit_weights"] = narrow
        stored = f"stored as {narrow['stored_as']}: {narrow['bytes']} bytes"
        note += f"weights of 4 bits in {narrow['layers']} layers, {stored}\n"
    opening = in_one_line(tflite.read_metadata(data))
    if not job.options.verify:
        return FileRecord(path, "tflite int8", text=note + opening, checks=checks)
    report = check_parity(job.graph, data, job.codes(), job.options.intermediates)
    text, ok = f"{note}{report.text()}\n{opening}", report.ok or bool(report.unproven)
    return FileRecord(path, "tflite int8", ok, text, {**checks, "parity": report.to_dict()})
