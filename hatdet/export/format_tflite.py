"""``--format tflite``: the int8 file, compared with the integer model under the reference runtimes."""

from __future__ import annotations

from typing import Any

from hatdet.export import tflite
from hatdet.export.formats import ExportJob, FileRecord
from hatdet.export.parity import check_parity


def export(job: ExportJob) -> list[FileRecord]:
    """Write ``<stem>_int8.tflite``."""
    return [export_int8(job)]


def export_int8(job: ExportJob) -> FileRecord:
    """Write the integer model; 0 differing values in every reference runtime, or the record is not ok."""
    path = job.path("_int8.tflite")
    data = tflite.write(job.graph, path)
    checks: dict[str, Any] = {"profile": job.graph.metadata["profile"], "operators": len(job.graph.ops)}
    if not job.options.verify:
        return FileRecord(path, "tflite int8", checks=checks)
    report = check_parity(job.graph, data, job.codes(), job.options.intermediates)
    return FileRecord(path, "tflite int8", report.ok, report.text(), {**checks, "parity": report.to_dict()})
