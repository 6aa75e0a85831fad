"""Compare model files on this machine: latency, throughput, size, memory and AP, as a table and CSV.

python tools/benchmark.py MODEL... --images pictures/
python tools/benchmark.py --config CONFIG MODEL... --images pictures/ --out benchmark.csv

MODEL is a checkpoint or any file that tools/export.py writes. Latency is from pixels in memory to boxes, one picture at
a time; throughput is of batches. Memory is what the process grew by at its peak, from before the model was opened. Each
model is measured in a process of its own, an int8 .tflite under LiteRT's reference kernels and its default ones: those
of the file's arithmetic give the evaluated numbers. With a config AP is measured on its validation data. Exit status 1:
a model could not be measured.

tools/analysis_tools/benchmark.py times data loaders and training networks.
"""

from __future__ import annotations

import argparse

from hatdet.commands.shared.arguments import add_config_arguments, config_path, options_from_args
from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="checkpoints and exported files")
    parser.add_argument("--images", metavar="PATH", help="pictures to time on (default: one of noise, 640x480)")
    parser.add_argument("--runs", type=int, default=100, metavar="N", help="timed pictures at most (default: 100)")
    parser.add_argument("--warmup", type=int, default=5, metavar="N", help="pictures before (default: 5)")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S",
                        help="of timing a model, at most (default: 20)")  # fmt: skip
    parser.add_argument("--batch", type=int, metavar="N", help="of throughput (default: as many as CPU cores)")
    parser.add_argument("--kernels", nargs="+", choices=("reference", "default"),
                        help="LiteRT kernels of an int8 .tflite (default: both)")  # fmt: skip
    parser.add_argument("--threads", type=int, metavar="N", help="of torch for a checkpoint (default: torch's)")
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda for a checkpoint (default: a GPU, if there)")
    parser.add_argument("--no-ap", action="store_true", help="only time, with a config too")
    parser.add_argument("--out", metavar="FILE.csv", help="write the table there too")


def run(args: argparse.Namespace) -> int:
    words = [word for word in (args.config, *args.models) if word is not None]
    config = words.pop(0) if words and words[0].endswith(".py") else args.config_flag
    args.config = args.config_flag = config
    check(args, words)

    from hatdet.commands.benchmark.run import Benchmark, run_benchmark
    from hatdet.utils.logging import setup_logging

    setup_logging()
    benchmark = Benchmark(
        models=tuple(words),
        config=config_path(args) if config is not None else None,
        options=options_from_args(args) if config is not None else {},
        images=args.images,
        runs=args.runs,
        warmup=args.warmup,
        seconds=args.seconds,
        batch=args.batch,
        kernels=tuple(args.kernels or ("reference", "default")),
        threads=args.threads,
        device=args.device,
        score=config is not None and not args.no_ap,
    )
    return 0 if run_benchmark(benchmark, args.out) else 1


def check(args: argparse.Namespace, models: list[str]) -> None:
    """Refuse what cannot be measured.

    Raises:
        UserError: no model, a number out of range, a table that is no CSV.
    """
    if not models:
        raise UserError("no model was given; name checkpoints or exported files: tools/benchmark.py MODEL...")
    for name, least in (("runs", 1), ("warmup", 0), ("batch", 1), ("threads", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name} is a number, got {value}: give {least} or more")
    if args.seconds <= 0:
        raise UserError(f"--seconds is a time, got {args.seconds}: give more than 0")
    if args.out is not None and not args.out.endswith(".csv"):
        raise UserError(f"--out {args.out}: the table is written as CSV; give a name that ends with .csv")


main = command(__doc__, add_arguments, run)
