"""``--format vela``: the int8 file compiled for Arm Ethos-U, and a report on what it costs there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatdet.export.arithmetic import refuse_other
from hatdet.export.delivery import write_json
from hatdet.export.files import sidecar, write_atomic
from hatdet.export.formats.table import ExportJob, FileRecord
from hatdet.export.metadata import to_json
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.targets.table import DEFAULT_NPU, Target, npu_target
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.file_operators import graph_modules
from hatdet.export.tflite.flatbuffer import load_schema
from hatdet.export.vela.compile import VelaResult, compile_file, vela_command
from hatdet.export.vela.report import PerformanceReport, performance_report


def require(job: ExportJob) -> None:
    """Refuse where Vela or the packages that write .tflite files are missing, and a target that is no NPU."""
    npu_target(job.options.target or DEFAULT_NPU)
    vela_command()
    load_schema()


def export(job: ExportJob) -> list[FileRecord]:
    """Write ``<stem>_vela.tflite`` and its report (``<stem>_vela_perf.txt``, ``.json``, ``.html``).

    The int8 model inside is compared with the reference runtimes before compilation; the record is not ok where a
    value differs.

    Raises:
        UserError: Vela is not installed or refuses the model; no such target; an operator that the NPU cannot run.
    """
    target = npu_target(job.options.target or DEFAULT_NPU)
    refuse_other(job.graph.profile.name, "Ethos-U")
    data = tflite.write(job.graph, metadata=job.facts, weights_as=target.weights_as)
    ok, evidence = True, "It was not compared with the reference runtimes (--verify 0)."
    if job.options.verify:
        parity = check_parity(job.graph, data, job.codes(), job.options.intermediates)
        ok, evidence = parity.ok, f"It was compared on {parity.images} images: {parity.line()}."
    result = compile_file(data, target, modules=graph_modules(job.graph))
    report = performance_report(result, data, job.path("_int8.tflite").name, evidence)
    path = job.path("_vela.tflite")
    write_compiled(path, result, report)
    checks = {"target": target.name, "vela": result.version, "cpu_operators": len(result.cpu_operators)}
    return [FileRecord(path, "vela", ok, report.summary(), {**checks, "performance": report.totals})]


def write_compiled(path: Path, result: VelaResult, report: PerformanceReport) -> list[Path]:
    """Write a compiled file, its metadata and its report beside it, each whole or not at all; the paths."""
    stem = path.with_suffix("")
    perf = {suffix: stem.with_name(f"{stem.name}_perf{suffix}") for suffix in (".txt", ".json", ".html")}
    content, page, text = report.to_dict(), report.html(), report.text()
    metadata = compiled_metadata(result, result.target)
    write_atomic(path, result.data)
    written = [path]
    if metadata:
        write_atomic(sidecar(path), to_json(metadata).encode())
        written.append(sidecar(path))
    write_atomic(perf[".txt"], text.encode())
    write_json(perf[".json"], content)
    write_atomic(perf[".html"], page.encode())
    return [*written, *perf.values()]


def compiled_metadata(result: VelaResult, target: Target) -> dict[str, Any]:
    """The metadata that the int8 file carried, which Vela keeps, and what it was compiled for; {} without any."""
    try:
        metadata = tflite.read_metadata(result.data)
    except ValueError:
        return {}
    return {**metadata, "compiled_for": target.name, "compiler": f"Vela {result.version}"}
