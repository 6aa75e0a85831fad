"""Divide a data set into train, val and test.

Every class gets its share in each split, as far as its pictures allow. Pictures that look alike (frames of one scene,
copies, Roboflow's augmented versions of one picture) stay together, so that none leaks from training into validation.
The same seed gives the same splits. OUT is a new folder in the format of DATA, or the one of --to.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hatdet.commands.data.convert import add_pictures_argument
from hatdet.commands.data.shared import add_data_argument, add_workers_argument, read, warn
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_argument(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    parser.add_argument("--val", type=float, default=0.2, metavar="SHARE", help="of the pictures (0.2)")
    parser.add_argument("--test", type=float, default=0.0, metavar="SHARE", help="of the pictures (0)")
    parser.add_argument("--keep", nargs="+", default=[], metavar="SPLIT", help="splits that stay as they are")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, other splits (0)")
    parser.add_argument("--to", choices=("coco", "yolo", "voc"), help="format of OUT (default: that of DATA)")
    parser.add_argument(
        "--likeness", type=float, default=0.9, metavar="C", help="from which correlation pictures look alike (0.9)"
    )
    parser.add_argument("--ungrouped", action="store_true", help="do not keep together what looks alike")
    add_pictures_argument(parser)
    add_workers_argument(parser)


def run(args: argparse.Namespace) -> None:
    from hatdet.data.folders.convert import convert
    from hatdet.data.folders.look import look_at_all
    from hatdet.data.folders.split import check_shares, division_table, split_dataset
    from hatdet.data.packers.progress import say

    shares = {"val": args.val, "test": args.test}
    check_shares(shares)
    if not 0 < args.likeness <= 1:
        raise UserError(f"--likeness {args.likeness:g}: give a correlation, more than 0 and up to 1")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: give a whole number, 0 or more")
    if "train" in args.keep:
        raise UserError("--keep train: training gets what the other splits leave; name val or test")
    dataset = read(args)
    unknown = [split for split in args.keep if split not in dataset.splits]
    if unknown:
        names = ", ".join(split or "none" for split in dataset.splits)
        raise UserError(f"--keep {unknown[0]}: {args.data} has no such split; it has {names}")
    shares = {split: share for split, share in shares.items() if split not in args.keep}
    looks = look_at_all(dataset.pictures, args.num_workers)
    likeness = None if args.ungrouped else args.likeness
    divided, groups = split_dataset(dataset, looks, shares, args.seed, args.keep, likeness)
    largest = max(map(len, groups))
    alike = sum(len(group) for group in groups if len(group) > 1)
    if alike:
        number = sum(len(group) > 1 for group in groups)
        say(f"{alike} pictures look alike, in {number} groups of up to {largest}: kept together")
    if largest > 0.5 * len(divided.pictures):
        say(
            f"warning: {largest} of {len(divided.pictures)} pictures are one group: a fixed camera? --likeness 0.98 "
            "takes fewer for alike"
        )
    formats = {"COCO": "coco", "YOLO": "yolo", "Pascal VOC": "voc"}
    report, line = convert(divided, args.out, args.to or formats.get(dataset.format, "coco"), args.pictures)
    warn(dataset.report, report)
    rows = division_table(divided)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))
        say("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    say(line)
