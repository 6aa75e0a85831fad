"""Print the resolved config, with inheritance and options applied, as a runnable Python file.

python tools/print_config.py configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py --cfg-options num_classes=2

recipe="auto" is decided where the training data are found, as a float training decides; a comment says which it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hatdet.commands.shared.arguments import add_config_arguments, load_from_args
from hatdet.commands.shared.process import command
from hatdet.commands.shared.recipe import decided_at_hand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--save-path", "--save_path", metavar="FILE", help="write here instead of to stdout")


def run(args: argparse.Namespace) -> None:
    config, recipe = decided_at_hand(load_from_args(args))
    text = config.dump()
    if recipe:
        head, rest = text.split("\n", 1)
        text = f"{head}\n\n# {recipe}\n{rest}"
    if args.save_path is None:
        print(text, end="")
        return
    Path(args.save_path).parent.mkdir(parents=True, exist_ok=True)
    Path(args.save_path).write_text(text, encoding="utf-8")


main = command(__doc__, add_arguments, run)
