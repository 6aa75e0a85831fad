"""Print the resolved config, with inheritance and options applied, as a runnable Python file.

python tools/print_config.py configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py --cfg-options num_classes=2
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from hatdet.config import dump
from hatdet.utils.cli import add_config_arguments, load_from_args, make_parser, run


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    add_config_arguments(parser)
    parser.add_argument("--save-path", "--save_path", metavar="FILE", help="write here instead of to stdout")
    args = parser.parse_args(argv)
    text = dump(load_from_args(args))
    if args.save_path is None:
        print(text, end="")
        return
    Path(args.save_path).parent.mkdir(parents=True, exist_ok=True)
    Path(args.save_path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main)
