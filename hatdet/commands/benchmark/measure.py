"""One model measured, in a process that does nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How models are measured; plain values, which go to another process.

    Attributes:
        config, options: what is around the network, and the data for AP; None: the file says the former itself.
        images: a source of pictures; None: noise. runs, warmup, seconds: pictures, and the time that ends it before.
        threads: of torch. device: of a checkpoint. score: whether AP is measured.
    """

    config: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    images: str | None = None
    runs: int = 100
    warmup: int = 5
    seconds: float = 20.0
    threads: int | None = None
    device: str | None = None
    score: bool = False


@dataclass(frozen=True)
class Job(Settings):
    """One measurement.

    Attributes:
        model: the file. kernels: LiteRT's, of a ``.tflite``; None: the file's usual ones.
        batch: pictures at a time, of throughput.
    """

    model: str
    kernels: str | None = None
    batch: int = 1


@dataclass(frozen=True)
class Row:
    """What was found; times in milliseconds, sizes in bytes. ``problem``: why there is nothing; ``arithmetic``: the
    profile that integers follow, "" of a float model."""

    model: str
    kind: str = ""
    runtime: str = ""
    p50: float | None = None
    p95: float | None = None
    rate: float | None = None
    timed: int = 0
    size: int | None = None
    memory: int | None = None
    ap: float | None = None
    ap50: float | None = None
    problem: str = ""
    arithmetic: str = ""


MAX_PICTURES = 32
"""Kept in memory; more are timed by beginning again."""


def measure(job: Job, clock: Callable[[], float] = time.perf_counter) -> Row:
    """Open a model, time it, and score it if that is asked for.

    Raises:
        UserError: it cannot be opened, or the pictures cannot be read.
    """
    import torch

    from hatdet.config.load import load_config
    from hatdet.inference.arithmetic import arithmetic_of
    from hatdet.inference.detector import Detector
    from hatdet.inference.model_files import model_file

    if job.threads is not None:
        torch.set_num_threads(job.threads)
    pictures = load_pictures(job.images)
    size = size_of(model_file(job.model))
    before = peak_memory()
    config = load_config(job.config, job.options) if job.config is not None else None
    detector = Detector(job.model, config=config, kernels=job.kernels, device=job.device)
    wait = torch.cuda.synchronize if detector.engine.predictor.device.type == "cuda" else None
    singles = timed(detector, ([picture] for picture in cycle(pictures)), job, clock, wait)
    if job.batch > 1:
        batches = timed(detector, groups(pictures, job.batch), job, clock, wait)
        rate = job.batch * len(batches) / sum(batches)
    else:
        rate = len(singles) / sum(singles)
    memory = max(0, peak_memory() - before)
    values: Mapping[str, float] = {}
    if job.score and config is not None:
        from hatdet.commands.shared.evaluation import evaluate_model

        values = evaluate_model(config, job.model, kernels=job.kernels, device=job.device).values
    arithmetic = arithmetic_of(model_file(job.model), detector.engine.network)
    p50, p95 = (float(value) * 1000 for value in np.percentile(singles, (50, 95)))
    return Row(job.model, detector.kind, detector.runtime, p50, p95, rate, len(singles), size, memory,
               values.get("AP"), values.get("AP50"), arithmetic=arithmetic)  # fmt: skip


def timed(
    detector: Any, work: Iterator[Any], job: Job, clock: Callable[[], float], wait: Callable[[], Any] | None
) -> list[float]:
    """Seconds of each step after the warm-up; at least one, and no more than fit into ``job.seconds``."""
    spent: list[float] = []
    end = clock() + job.seconds
    for number, group in enumerate(islice(work, job.warmup + job.runs)):
        begin = clock()
        detector(group, batch=len(group))
        if wait is not None:
            wait()
        now = clock()
        if number >= job.warmup or now >= end:
            spent.append(now - begin)
        if spent and now >= end:
            break
    return spent


def groups(pictures: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Endless groups of so many pictures, beginning again where they end."""
    endless = cycle(pictures)
    while True:
        yield list(islice(endless, size))


def load_pictures(source: str | None) -> list[Any]:
    """Pictures as arrays; None: one of noise.

    Raises:
        UserError: there are none.
    """
    from hatdet.inference.sources import frames_of

    if source is None:
        return [np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)]
    return [frame.image for frame in islice(frames_of(source), MAX_PICTURES)]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(os.path.getsize(file) for file in files)


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes.

    Linux hands a parent's ``ru_maxrss`` on to what it starts, so the kernel is asked for this program's own.
    """
    import torch

    from hatdet.utils.environment import memory_in_use

    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    own = (int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return next(own, 0) or memory_in_use(torch.device("cpu"))
