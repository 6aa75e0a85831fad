"""What the tasks share: the data set that is named, and saying what reading it found."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.data.folders.dataset import DataSet
    from hatdet.data.report import Report

FORMATS = ("coco", "yolo", "voc", "labelme", "classes")


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``DATA`` and ``--format``."""
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of a data set, data.yaml, or COCO json")
    parser.add_argument("--format", choices=FORMATS, help="what it is (default: what is found there)")


def add_workers_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--num-workers``."""
    parser.add_argument("--num-workers", type=int, metavar="N", help="processes (default: one a core, max. 8)")


def read(args: argparse.Namespace) -> DataSet:
    """The data set that the arguments name."""
    from hatdet.data.folders.open import read_dataset
    from hatdet.data.packers.progress import say

    if getattr(args, "num_workers", None) is not None and args.num_workers < 0:
        raise UserError(f"--num-workers {args.num_workers}: give 0 (no extra process) or more")
    dataset = read_dataset(args.data, args.format)
    say(dataset.summary())
    return dataset


def warn(*reports: Report) -> None:
    """Say what was odd or left out, a line a kind."""
    from hatdet.data.packers.progress import say

    for report in reports:
        for line in report.lines():
            say(f"warning: {line}")
