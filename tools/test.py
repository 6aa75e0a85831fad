"""Score a model file on the config's validation data: the 12 COCO numbers and AP per class.

python tools/test.py CONFIG MODEL --cfg-options num_classes=2 'imgsz=(192,192)'

MODEL is a checkpoint (.pth, .pth.tar) of any stage, recognised by its keys, or an int8 .tflite, which LiteRT runs with
its reference kernels: its AP is the one that int_infer reported, to the last digit. The numbers also go to
work_dirs/CONFIG/test/MODEL.json.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from hatdet.utils.cli import add_config_arguments, load_from_args, make_parser, run, take_file_argument


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    add_config_arguments(parser)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="checkpoint or int8 .tflite")
    parser.add_argument("--kernels", choices=("reference", "default"), default="reference",
                        help="LiteRT kernels for a .tflite (default: reference, the numbers that ship)")  # fmt: skip
    parser.add_argument("--out", metavar="FILE", help="json with the numbers (default: WORK_DIR/test/MODEL.json)")
    parser.add_argument("--show-dir", "--show_dir", metavar="DIR", help="draw ground truth and detections there")
    args = parser.parse_args(argv)
    model = take_file_argument(args, "model")

    from hatdet.commands.evaluation import model_file, score_file
    from hatdet.utils.logging import setup_logging

    setup_logging()
    model_file(model)  # what is no model needs no config to be refused
    score_file(load_from_args(args), model, kernels=args.kernels, out=args.out, show_dir=args.show_dir)


if __name__ == "__main__":
    run(main)
