"""Score a model file on the config's validation data: the 12 COCO numbers and AP per class.

python tools/test.py CONFIG MODEL --cfg-options num_classes=2 'imgsz=(192,192)'

MODEL is a checkpoint of any stage (.pth, .pth.tar), recognised by its keys, or a file that tools/export.py wrote:
.tflite (int8, float32, float16), .onnx (float, QDQ, exact), .torchscript, a SavedModel folder (needs tensorflow).
LiteRT runs an int8 file with the kernels of its arithmetic: its AP is the one that int_infer reported, to the last
digit. The numbers also go to work_dirs/CONFIG/test/MODEL.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hatdet.commands.shared.arguments import (
    add_config_arguments,
    add_launcher_arguments,
    check_json,
    config_path,
    load_from_args,
    take_file_argument,
)
from hatdet.commands.shared.process import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a checkpoint, or an exported file")
    parser.add_argument("--kernels", choices=("reference", "default"),
                        help="LiteRT kernels for a .tflite (default: those of an int8 file's arithmetic, the numbers "
                        "that ship; default for float)")  # fmt: skip
    parser.add_argument("--out", metavar="FILE.json", help="the numbers (default: WORK_DIR/test/MODEL.json)")
    parser.add_argument("--results", metavar="FILE.json", help="write the detections too, as COCO's results")
    parser.add_argument("--show-dir", "--show_dir", metavar="DIR", help="draw ground truth and detections there")
    parser.add_argument("--show", action="store_true", help="the same, into WORK_DIR/test/pictures")
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 for a checkpoint (default: the config's)")
    add_launcher_arguments(parser)


def run(args: argparse.Namespace) -> None:
    model = take_file_argument(args, "model")
    check_json(args.out)
    check_json(args.results)

    from hatdet.commands.shared.evaluation import score_file
    from hatdet.engine.stages import work_dir_of
    from hatdet.inference.model_files import model_file
    from hatdet.utils.logging import setup_logging

    setup_logging()
    model = str(model_file(model, Path(config_path(args)).stem))  # what is no model needs no config to be refused
    config = load_from_args(args)
    pictures = args.show_dir or (work_dir_of(config, "test") / "pictures" if args.show else None)
    score_file(config, model, kernels=args.kernels, out=args.out, show_dir=pictures, device=args.device,
               results=args.results)  # fmt: skip


main = command(__doc__, add_arguments, run)
