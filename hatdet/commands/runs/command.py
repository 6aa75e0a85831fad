"""List trainings, the best first, and compare them: a table, and a page with their curves over each other.

hatdet runs
hatdet runs work_dirs/mask work_dirs/mask-2 --stage float
hatdet runs --html runs.html --key AP50

A FOLDER is one run or holds several (default: work_dirs). A row is one stage of a run, as its results.csv and config.py
tell; names in which the configs differ are columns. Nothing is run and no checkpoint is read.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="runs, or folders of runs (default: work_dirs)")
    parser.add_argument("--stage", choices=("float", "calibration", "qat"), help="only this stage")
    parser.add_argument("--key", metavar="NAME", help="compare by this value of validations (default: AP)")
    parser.add_argument("--html", metavar="FILE", help="write a page with the table and the curves")
    parser.add_argument("--csv", action="store_true", help="print the table as csv, with all names that differ")


def run(args: argparse.Namespace) -> None:
    from hatdet.commands.runs import page, reading, table

    if args.html is not None and Path(args.html).suffix not in (".html", ".htm"):
        raise UserError(f"--html {args.html}: the page is HTML; give a name that ends with .html")
    trainings = reading.find(args.folders or ["work_dirs"])
    if args.stage is not None:
        stages = sorted({training.stage for training in trainings})
        trainings = [training for training in trainings if training.stage == args.stage]
        if not trainings:
            raise UserError(f"no run has the stage {args.stage}; there are {', '.join(stages)}: name one of them")
    column = reading.main_column(trainings, args.key)
    if args.csv:
        titles, cells = table.rows(trainings, column)
        csv.writer(sys.stdout, lineterminator="\n").writerows([titles, *cells])
    else:
        print(table.aligned(*table.rows(trainings, column, table.SHOWN)))
        more = len(reading.differing(trainings)) - table.SHOWN
        if more > 0:
            print(f"and {more} more names differ between the configs; --csv and --html have them all")
    if args.html is not None:
        print(f"written: {page.write(trainings, column, Path(args.html))}", file=sys.stderr if args.csv else sys.stdout)


main = command(__doc__, add_arguments, run)
