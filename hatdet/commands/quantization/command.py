"""From float weights to the int8 file in one run: calibration, QAT, integer model, export, comparison.

python tools/quantization.py CONFIG CHECKPOINT --cfg-options num_classes=2 'imgsz=(192,192)' epochs=5

Here epochs is the number of QAT epochs (default: 5). Leaves WORK_DIR/qat/qat_model_int8.tflite and, beside it, its
metadata and quantization.json; logs and checkpoints go where tools/train.py writes those of calibration and qat. At the
end it prints AP of the float weights, after calibration, after QAT, and of the file. Exit status 1: the file does not
compute what QAT's evaluation reported.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hatdet.commands.shared.arguments import (
    add_config_arguments,
    add_launcher_arguments,
    check_json,
    config_path,
    options_from_args,
    take_file_argument,
)
from hatdet.commands.shared.process import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="float weights (.pth, .pth.tar)")
    parser.add_argument("--out", metavar="FILE.json", help="a copy of quantization.json there")
    parser.add_argument("--test", action="store_true",
                        help="score float weights and the start of QAT too: always done")  # fmt: skip
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 (default: the config's)")
    add_launcher_arguments(parser)


def run(args: argparse.Namespace) -> int:
    checkpoint = take_file_argument(args, "checkpoint")
    check_json(args.out)

    from hatdet.commands.quantization.run import checkpoint_file, quantization_config, quantize
    from hatdet.inference.checkpoints import set_device
    from hatdet.utils.logging import setup_logging

    setup_logging()
    path = checkpoint_file(checkpoint, Path(config_path(args)).stem)
    config = quantization_config(config_path(args), options_from_args(args), path)
    set_device(config, args.device)
    result = quantize(config, path, args.out)
    print(f"\n{result.text()}\nwritten: {result.file}", flush=True)
    return 0 if result.ok else 1


main = command(__doc__, add_arguments, run)
