"""What a GPU does: whether it computes the CPU's integers, and steps in images a second; one command of eight minutes.

python benchmarks/gpu.py --json gpu.json --markdown gpu.md

Checks: integer kernels and a captured executor, suppression, augmentation, mixed precision, synchronized norms in one
process, a resumed training. Speed: nano, tiny and s at 320 and 640 in three forms, training with data, QAT, the
executor, each against a baseline of the same row; `waits` is the share of time in which no kernel runs.

Each row has a process and a time of its own, and the most telling ones come first: what fails, is too long or has no
time left is a row that says so. `--device cpu --tiny` tries the script without a GPU. Exit status 1 where a check does
not hold or a row fails.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from benchmarks import dataset
from benchmarks.on_gpu import checks, speed
from benchmarks.on_gpu.isolated import Task, markdown, run
from benchmarks.on_gpu.setting import CONFIGS, Setting
from hatdet.commands.shared.arguments import make_parser
from hatdet.commands.shared.process import run as run_command

TOTAL_S = 455.0  # and some seconds for the data and the last row's end


def main(argv: Sequence[str] | None = None) -> int:
    import cv2

    cv2.setNumThreads(0)  # its threads do not survive a fork
    args = parse(argv)
    with tempfile.TemporaryDirectory(prefix="hatdet-gpu-") as folder:
        data = (
            dataset.find(args.data) if args.data else dataset.generate(Path(folder) / "data", 24 if args.tiny else 256)
        )
        setting = Setting(args.device, data, Path(folder), args.repeat, args.batch_size)
        if args.tiny:
            setting.repeat, setting.batch_size = 1, 2
            setting.more = {"warmup_steps": 1, "mosaic_cached": 3, "mixup_cached": 3}
        chosen = [task for task in tasks(setting, args.tiny) if not args.rows or any(r in task.name for r in args.rows)]
        rows: list[dict[str, Any]] = []
        for row in run(chosen, args.seconds):
            rows.append(row)
            print(json.dumps(row), flush=True)
            write(args, rows)
    print(markdown(rows))
    return int(any(row["state"] in ("failed", "differs") for row in rows))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: cuda")
    parser.add_argument("--tiny", action="store_true", help="inputs of 64 px, batches of 2, one repetition: a dry run")
    parser.add_argument("--rows", nargs="+", metavar="TEXT", help="only rows whose names contain one of these")
    parser.add_argument("--seconds", type=float, default=TOTAL_S, help=f"time of the whole (default: {TOTAL_S:.0f})")
    parser.add_argument("--batch-size", type=int, default=64, help="images a step (default: 64)")
    parser.add_argument("--repeat", type=int, default=15, help="repetitions of each measurement (default: 15)")
    parser.add_argument("--data", type=Path, help="COCO-style folder to read (default: a generated data set)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows to this file, row by row")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to this file")
    return parser.parse_args(argv)


def tasks(setting: Setting, tiny: bool) -> list[Task]:
    """All rows, the most telling ones first."""
    small, large = (64, 96) if tiny else (320, 640)

    def task(name: str, seconds: float, function: Any, *arguments: Any) -> Task:
        return Task(name, seconds * (10 if tiny else 1), functools.partial(function, setting, *arguments))

    made = [
        task("device", 20, device),
        task("check integers", 40, checks.integers, small),
        task("check captured executor", 30, checks.captured_integers, small),
        task("check suppression", 15, checks.suppression),
        task("check augmentation", 25, checks.augmentation, small),
        task("check resume", 45, checks.resumed, small),
        task("check synchronized norms", 25, checks.synchronized_norms, small),
        *(task(f"check {kind}", 30, checks.mixed_precision, small, kind) for kind in ("bfloat16", "float16")),
        *(task(f"launches {what}", 20, speed.launches, small, what) for what in ("float", "qat")),
        task(f"train nano {small} eager", 25, speed.train_step, "nano", small, "eager"),
        *(task(f"data {where} {small}", 45, speed.with_data, small, where) for where in ("device", "loader")),
        *(task(f"qat {kind} {small}", 35, speed.qat_step, small, kind) for kind in ("integer", "fake_quant")),
        *(task(f"executor {form} {small}", 30, speed.executor, small, form) for form in ("eager", "graph")),
    ]
    forms = [
        (name, size, form) for form in ("eager", "graph", "compiled") for size in (small, large) for name in CONFIGS
    ]
    for name, size, form in forms[1:]:  # the first one has been
        if not tiny or name == "nano":
            made.append(
                task(
                    f"train {name} {size} {form}",
                    60 if form == "compiled" else 25,
                    speed.train_step,
                    name,
                    size,
                    form,
                )
            )
    return made


def device(setting: Setting) -> dict[str, Any]:
    """What is measured on."""
    name = torch.cuda.get_device_name() if setting.device == "cuda" else "CPU"
    return {"name": name, "torch": torch.__version__, "cuda": str(torch.version.cuda), "batch": setting.batch_size}


def write(args: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> None:
    """Both files, as far as it has come."""
    if args.json:
        args.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
    if args.markdown:
        args.markdown.write_text(markdown(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
