"""Write a data set as COCO, YOLO or Pascal VOC.

OUT is a new folder with annotations and pictures. What a format cannot hold is counted and said: YOLO has no crowds
(difficult objects), VOC only whole pixels; boxes are cut at the edges of their pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hatdet.commands.data.shared import add_data_argument, read, warn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_argument(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    parser.add_argument("--to", required=True, choices=("coco", "yolo", "voc"), help="format of OUT")
    add_pictures_argument(parser)


def add_pictures_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--pictures``."""
    parser.add_argument(
        "--pictures", choices=("copy", "link", "hardlink"), default="copy", help="how pictures come there (copy)"
    )


def run(args: argparse.Namespace) -> None:
    from hatdet.data.folders.convert import convert
    from hatdet.data.packers.progress import say

    dataset = read(args)
    report, line = convert(dataset, args.out, args.to, args.pictures)
    warn(dataset.report, report)
    say(line)
