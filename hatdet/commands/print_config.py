"""Print the resolved config, with inheritance and options applied, as a runnable Python file.

python tools/print_config.py configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py --cfg-options num_classes=2
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hatdet.commands.shared.arguments import add_config_arguments, load_from_args
from hatdet.commands.shared.process import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--save-path", "--save_path", metavar="FILE", help="write here instead of to stdout")


def run(args: argparse.Namespace) -> None:
    text = load_from_args(args).dump()
    if args.save_path is None:
        print(text, end="")
        return
    Path(args.save_path).parent.mkdir(parents=True, exist_ok=True)
    Path(args.save_path).write_text(text, encoding="utf-8")


main = command(__doc__, add_arguments, run)
