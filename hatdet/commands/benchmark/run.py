"""The body of ``tools/benchmark.py``: every model in a process of its own, the rows as a table and CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import logging
import multiprocessing
import platform
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from hatdet.commands.benchmark.measure import Job, Row, Settings, measure
from hatdet.commands.shared.process import describe
from hatdet.config.load import load_config
from hatdet.export.files import write_atomic
from hatdet.export.runtimes.floating import is_compiled, is_float_tflite
from hatdet.inference.model_files import model_file
from hatdet.inference.sources import frames_of
from hatdet.integer.profiles.table import PROFILES
from hatdet.utils.environment import usable_processors
from hatdet.utils.errors import UserError
from hatdet.utils.logging import live_line
from hatdet.utils.starting.program import spoken

logger = logging.getLogger("hatdet")

COLUMNS = ("model", "kind", "runtime", "p50_ms", "p95_ms", "images_per_s", "size_mb", "memory_mb", "AP", "AP50",
           "timed", "problem", "arithmetic")  # fmt: skip

HEAD = ("model", "runtime", "arithmetic", "p50 ms", "p95 ms", "images/s", "size MB", "memory MB", "timed")


@dataclass(frozen=True)
class Benchmark(Settings):
    """What the command line asks for.

    Attributes:
        kernels: of int8 ``.tflite`` files, each a row. batch: of throughput; None: as many as CPU cores.
    """

    models: Sequence[str]
    kernels: Sequence[str] = ("reference", "default")
    batch: int | None = None


def run_benchmark(benchmark: Benchmark, out: str | Path | None = None) -> bool:
    """Measure, print the table, write it to ``out`` after each model; whether every model could be measured.

    Raises:
        UserError: there is no such file, config or picture. OSError: ``out`` cannot be written.
    """
    jobs = jobs_of(benchmark)
    check_common(benchmark)
    if out is not None:
        check_place(Path(out))
    rows: list[Row] = []
    with live_line() as show:
        for number, job in enumerate(jobs, 1):
            if show is not None:
                show(f"{number} of {len(jobs)}: {Path(job.model).name}")
            rows.append(measured(job))
            if out is not None:
                write_atomic(Path(out), csv_text(rows).encode("utf-8"))
    print(heading(benchmark, jobs))
    print(table(rows), flush=True)
    if out is not None:
        print(f"written: {out}", flush=True)
    return not any(row.problem for row in rows)


def check_common(benchmark: Benchmark) -> None:
    """Refuse once what would be said of every model.

    Raises:
        UserError: the config cannot be loaded, or the first picture not be read.
    """
    if benchmark.config is not None:
        load_config(benchmark.config, benchmark.options)
    if benchmark.images is not None:
        next(frames_of(benchmark.images))


def check_place(path: Path) -> None:
    """Find out before anything is measured whether a file can be written.

    Raises:
        OSError: it cannot.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def jobs_of(benchmark: Benchmark) -> list[Job]:
    """A job for each model, of an int8 ``.tflite`` one for each kind of kernels."""
    cores = usable_processors()
    shared = {f.name: getattr(benchmark, f.name) for f in dataclasses.fields(Settings)}
    jobs = []
    for model in benchmark.models:
        path = model_file(model)
        integer = path.suffix == ".tflite" and path.is_file() and _is_integer(path)
        for kernels in benchmark.kernels if integer else (None,):
            jobs.append(Job(model=str(path), kernels=kernels, batch=benchmark.batch or cores, **shared))
    return jobs


def _is_integer(path: Path) -> bool:
    data = path.read_bytes()
    try:
        return not is_compiled(data) and not is_float_tflite(data)
    except ValueError:  # the measurement says what is wrong with it
        return False


def measured(job: Job) -> Row:
    """The row of a job, from a new process: its memory is the model's alone, and its end is only its own."""
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(measure, job).result()
    except (UserError, OSError) as error:
        return Row(job.model, problem=spoken(describe(error)))
    except BrokenProcessPool:
        return Row(job.model, problem="its process ended (out of memory, or a crash of the runtime)")
    except Exception as error:  # a defect, or a GPU without memory: the other models are measured all the same
        logger.exception("%s could not be measured", job.model)
        return Row(job.model, problem=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


def heading(benchmark: Benchmark, jobs: Sequence[Job]) -> str:
    """What the numbers are of: the machine, the pictures, what is timed."""
    pictures = benchmark.images or "a picture of noise, 640x480"
    batch = jobs[0].batch if jobs else 1
    processor = processor_name()
    return (
        f"{processor}, {usable_processors()} CPU cores, Python {platform.python_version()}; "
        f"pictures: {pictures}\n"
        f"latency: one picture, from pixels to boxes; images/s: {batch} at a time; memory: growth of the process"
    )


def processor_name() -> str:
    """What the processor is called, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def table(rows: Sequence[Row]) -> str:
    """The rows in columns, fastest first; what could not be measured at the end, with the reason."""
    good = sorted((row for row in rows if not row.problem), key=lambda row: row.p50 or 0.0)
    scored = any(row.ap is not None for row in good)
    head = [*HEAD, *(["AP", "AP50"] * scored)]
    cells = [head]
    for row in good:
        numbers = [_number(row.p50, 2), _number(row.p95, 2), _number(row.rate, 1)]
        numbers += [_number(row.size, 2, 1e6), _number(row.memory, 0, 1e6), str(row.timed)]
        numbers += [_number(row.ap, 4), _number(row.ap50, 4)] if scored else []
        cells.append([f"{Path(row.model).name} ({row.kind})", row.runtime, row.arithmetic or "float", *numbers])
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = []
    for line in cells:
        words = [f"{text:<{w}}" if i < 3 else f"{text:>{w}}" for i, (text, w) in enumerate(zip(line, widths))]
        lines.append("  ".join(words).rstrip())
    lines += others_than_evaluated(good)
    lines += [f"{Path(row.model).name}: not measured: {row.problem}" for row in rows if row.problem]
    return "\n".join(lines[1:] if not good else lines)


def others_than_evaluated(rows: Sequence[Row]) -> list[str]:
    """A line for each arithmetic of which LiteRT's other kernels were measured too."""
    ran: dict[str, set[str]] = {}
    for row in rows:
        if row.arithmetic in PROFILES and row.runtime.startswith("LiteRT"):
            ran.setdefault(row.arithmetic, set()).add(row.runtime)
    lines = []
    for name, runtimes in ran.items():
        if (kernels := PROFILES[name].litert) is None:
            lines.append(f"{name}: no kernels of LiteRT compute the evaluated numbers ({PROFILES[name].kernels})")
            continue
        own = f"{kernels} kernels"
        if not all(f", {own}" in runtime for runtime in runtimes):
            lines.append(f"{name}: the evaluated numbers are those of LiteRT's {own}; the other ones compute otherwise")
    return lines


def csv_text(rows: Sequence[Row]) -> str:
    """The rows as CSV, in the order of the command line, with all digits that mean something."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        numbers = [_number(row.p50, 4), _number(row.p95, 4), _number(row.rate, 3)]
        numbers += [_number(row.size, 6, 1e6), _number(row.memory, 3, 1e6), _number(row.ap, 6), _number(row.ap50, 6)]
        numbers = ["" if text == "-" else text for text in numbers]
        writer.writerow([row.model, row.kind, row.runtime, *numbers, row.timed, row.problem, row.arithmetic])
    return stream.getvalue()


def _number(value: float | None, digits: int, unit: float = 1.0) -> str:
    return "-" if value is None or value < 0 else f"{value / unit:.{digits}f}"
