"""Before any training: can a config's model become integers, and does the target run every operator of it?

python tools/check_model.py --config configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py --target ethos-u55-128
python tools/check_model.py CONFIG --target tflite --imgsz 192 192 --verbose
python tools/check_model.py CONFIG --board grove-vision-ai-v2
python tools/check_model.py CONFIG --target litert-xnnpack --arithmetic xnnpack
python tools/check_model.py --board list

The float model is built with random weights, folded, traced, lowered on noise and written as the file that the target
would get; neither data nor checkpoints are read. Everything that is refused is listed with its module and with what to
use instead. --board takes the board's target, and holds the file against its flash, RAM, NPU, operators and layout
too; what is not public is said to be unknown, not assumed to suffice. Targets and boards know in which arithmetic they
compute: a model that is made for another one is told so. Exit status 1: something is refused.
Targets: tflite, litert-xnnpack, ethos-u55-32|64|128|256, ethos-u65-256|512, onnx.
"""

from __future__ import annotations

import argparse
import json

from hatdet.commands.shared.arguments import add_config_arguments, add_imgsz, check_imgsz, load_from_args
from hatdet.commands.shared.process import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--target", metavar="NAME", help="default: the config's target, else tflite")
    parser.add_argument("--board", metavar="NAME", help="a board by name, with its limits; list: all of them")
    parser.add_argument(
        "--arithmetic",
        metavar="NAME",
        help="kernels that integers follow: tflite_ref, xnnpack, tflite_single, both (the config's)",
    )
    add_imgsz(parser, "height and width of the input, or one for both (default: the config's)")
    parser.add_argument("--verbose", action="store_true", help="every finding, and a table of the layers' types")
    parser.add_argument("--json", action="store_true", help="the report as json")


def run(args: argparse.Namespace) -> int:
    check_imgsz(args)
    if args.board == "list":
        from hatdet.export.targets.boards import boards, list_text

        rows = [board.to_dict() for board in boards().values()]
        print(json.dumps(rows, indent=1) if args.json else list_text())
        return 0
    config = load_from_args(args)

    from hatdet.commands.shared.target_check import check_config

    report = check_config(config, args.target, args.imgsz, args.board, args.arithmetic)
    print(json.dumps(report.to_dict(), indent=1) if args.json else report.text(args.verbose))
    if report.board is not None and not report.ok and not args.json:
        from hatdet.commands.models.fitting import advice

        if known := advice(report.board):
            print(known)
    return 0 if report.ok else 1


main = command(__doc__, add_arguments, run)
