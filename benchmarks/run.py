"""Speed of hatdet's parts as ratios to plain PyTorch: medians of CPU time on one thread, taken in turns.

Rows: train_step, mixed_precision, qat_step, integer_executor, executors, executors_and_litert, engine_litert,
qat_profiles, input_pipeline, photos, startup, calibration, post_processing, evaluation
(benchmarks/README.md says what each compares).
"""

from __future__ import annotations

import os

# Before torch and numpy are imported: their thread pools are sized then.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import dataset
from benchmarks.timing import Row, format_table
from hatdet.commands.shared.process import run

ROWS = ("train_step", "mixed_precision", "qat_step", "integer_executor", "executors", "executors_and_litert",
        "engine_litert", "qat_profiles", "input_pipeline", "photos", "startup", "calibration",
        "post_processing", "evaluation")  # fmt: skip
CONFIG = ROOT / "configs" / "rtmdet" / "rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py"


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    with tempfile.TemporaryDirectory(prefix="hatdet-bench-") as folder:
        os.environ["HATDET_CACHE"] = str(Path(folder) / "cache")  # the data set's own folder stays as it is
        data = dataset.find(args.data) if args.data else dataset.generate(Path(folder) / "data")
        rows = measure(args, data, Path(folder))
    print(format_table(rows))
    if args.json:
        args.json.write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n", encoding="utf-8")
    return int(args.check and any(row.over for row in rows))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    from hatdet.commands.shared.arguments import make_parser

    parser = make_parser(__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="which rows (default: all)")
    parser.add_argument("--repeat", type=int, default=11, help="repetitions of each measurement (default: 11)")
    parser.add_argument("--data", type=Path, help="COCO-style folder to read (default: a generated data set)")
    parser.add_argument("--config", type=Path, default=CONFIG, help="config of the detector (default: the nano)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples to this file too")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a row is over its target")
    args = parser.parse_args(argv)
    if args.repeat < 1:
        parser.error(f"--repeat is {args.repeat}; use 1 or more")
    return args


def measure(args: argparse.Namespace, data: dataset.DataFolder, folder: Path) -> list[Row]:
    """Run the rows that were asked for; a line on stderr says which is being measured."""
    import torch

    from benchmarks import executors, photos, pipeline, profiles, results, steps
    from benchmarks.parts import Parts

    torch.set_num_threads(1)
    parts = Parts(config_path=args.config, data=data, folder=folder)
    functions: dict[str, Callable[[], list[Row]]] = {
        "train_step": lambda: steps.train_step(parts, args.repeat),
        "mixed_precision": lambda: steps.mixed_precision(parts, args.repeat),
        "qat_step": lambda: steps.qat_step(parts, args.repeat),
        "integer_executor": lambda: steps.integer_executor(parts, args.repeat),
        "executors": lambda: executors.executors(parts, args.repeat),
        "executors_and_litert": lambda: profiles.executors_and_litert(parts, args.repeat),
        "engine_litert": lambda: profiles.engine_litert(parts, args.repeat),
        "qat_profiles": lambda: profiles.qat_profiles(parts, args.repeat),
        "input_pipeline": lambda: pipeline.input_pipeline(parts, args.repeat),
        "photos": lambda: photos.photos(parts, args.repeat),
        "startup": lambda: pipeline.startup(parts, args.repeat),
        "calibration": lambda: results.calibration(parts, args.repeat),
        "post_processing": lambda: results.post_processing(parts, args.repeat),
        "evaluation": lambda: results.evaluation(parts, args.repeat),
    }
    rows = []
    for name in args.rows:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        rows += functions[name]()
    return rows


if __name__ == "__main__":
    run(main)
