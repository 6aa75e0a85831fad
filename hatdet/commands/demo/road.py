"""The demo's steps: the commands that a user types, run one after the other, each with its log."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

CONFIG = "hatdet:rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"
PLACE = Path(__file__).absolute().parents[3]  # of the package: the steps run this hatdet, installed or not
START = ("-m", "hatdet")
QUIET_SECONDS = 20.0  # without a terminal: the last line of a running step is shown this often


@dataclass(frozen=True)
class Step:
    """One command: `arguments` follow `hatdet`; `accepted` are the statuses that do not end the demo."""

    name: str
    title: str
    arguments: tuple[str, ...]
    accepted: tuple[int, ...] = (0,)

    def command_line(self) -> str:
        """The command as a user would type it."""
        return shlex.join(["hatdet", *self.arguments])


@dataclass(frozen=True)
class StepResult:
    """What a step took (wall and processor seconds), how it ended, and where its output is."""

    step: Step
    seconds: float
    cpu_seconds: float
    status: int
    log: Path


@dataclass(frozen=True)
class RoadSettings:
    """Sizes of the demo: the defaults take a few minutes on two cores."""

    out: Path
    config: str = CONFIG
    image_size: int = 192
    epochs: int = 22
    qat_epochs: int = 2
    batch_size: int = 4
    learning_rate: float = 3e-3  # for 8 images a step, as the config counts
    num_classes: int = 4
    verify_images: int = 16
    extra_options: tuple[str, ...] = ()

    @property
    def images(self) -> Path:
        """The rendered data set, in COCO layout."""
        return self.out / "images"

    @property
    def work_dir(self) -> Path:
        """Logs, checkpoints and exported files."""
        return self.out / "work_dir"

    def options(self) -> list[str]:
        """`--cfg-options` of every command."""
        return [
            "--cfg-options",
            f"num_classes={self.num_classes}",
            f"imgsz=({self.image_size},{self.image_size})",
            f"epochs={self.epochs}",
            f"qat_epochs={self.qat_epochs}",
            f"batch_size={self.batch_size}",
            f"lr={self.learning_rate}",
            # A training this short needs milder pictures than 300 epochs do: Mosaic for a third of it, less zoom.
            "warmup_steps=150",
            f"val_interval={max(1, self.epochs // 5)}",
            f"late_epochs={max(1, self.epochs * 2 // 3)}",
            "scale_ratio=(0.6,1.4)",
            "late_scale_ratio=(0.7,1.5)",
            f"data_root={self.images}",
            f"work_dir={self.work_dir}",
            *self.extra_options,
        ]


def road(settings: RoadSettings) -> list[Step]:
    """All commands in order, from the images to the parity check."""
    return [
        _pack(settings, "train"),
        _pack(settings, "val"),
        _command(settings, "train", "float", "train in floating point"),
        _command(settings, "train", "calibration", "calibrate the ranges of the activations"),
        _command(settings, "train", "qat", "train in the arithmetic that ships"),
        _command(settings, "predict", "float", "evaluate the float model"),
        _command(settings, "predict", "calibration", "evaluate the calibrated model"),
        _command(settings, "predict", "qat", "evaluate the QAT model"),
        _command(settings, "predict", "int_infer", "evaluate the integer model"),
        _command(
            settings,
            "export",
            "int_infer",
            "export, compare bit for bit, evaluate the file",
            flags=("--verify", str(settings.verify_images), "--evaluate"),
            accepted=(0, 1),  # 1: a value differs; the report shows it
        ),
    ]


def _pack(settings: RoadSettings, split: str) -> Step:
    arguments = ["mscoco-packer", "--src-data-dir", str(settings.images)]
    arguments += ["--target-data-dir", str(settings.out / "packed"), "--split-name", split]
    arguments += ["--pack-type", "lmdb", "--num-workers", "2"]
    return Step(f"pack-{split}", f"check and pack the {split} images", tuple(arguments))


def _command(
    settings: RoadSettings,
    tool: str,
    stage: str,
    title: str,
    flags: tuple[str, ...] = (),
    accepted: tuple[int, ...] = (0,),
) -> Step:
    arguments = (tool, "--stage", stage, "--config", settings.config, *flags, *settings.options())
    return Step(f"{tool}-{stage}", title, arguments, accepted)


def run_step(step: Step, number: int, total: int, logs: Path, echo: Callable[[str], None] = print) -> StepResult:
    """Run a command, keep its output in `logs/NN-name.txt`, show that it lives."""
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{number:02d}-{step.name}.txt"
    echo(f"[{number}/{total}] {step.title}")
    path = os.pathsep.join(filter(None, (str(PLACE), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    environment.setdefault("OMP_NUM_THREADS", "1")
    started, cpu_before = time.monotonic(), _cpu_of_children()
    with log.open("w", encoding="utf-8") as file:
        file.write(f"$ {step.command_line()}\n\n")
        file.flush()
        process = subprocess.Popen(
            [sys.executable, *START, *step.arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            assert process.stdout is not None
            _follow(process.stdout, file, started, echo)
            status = process.wait()
        except BaseException:  # Ctrl-C: leave no training behind
            process.terminate()
            process.wait()
            raise
    return StepResult(step, time.monotonic() - started, _cpu_of_children() - cpu_before, status, log)


def _cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _follow(source: IO[str], log: TextIO, started: float, echo: Callable[[str], None]) -> None:
    """Copy lines to the log; now and then show the latest one."""
    shown = started
    for line in source:
        log.write(line)
        log.flush()
        now = time.monotonic()
        if line.strip() and now - shown > QUIET_SECONDS:
            echo(f"      {now - started:4.0f} s  {line.strip()[:130]}")
            shown = now


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def describe(steps: Sequence[Step]) -> str:
    """All commands, for `--dry-run` and the report."""
    return "\n".join(f"{step.command_line()}" for step in steps)
