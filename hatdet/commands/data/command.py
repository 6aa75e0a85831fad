"""Check, report on, split, convert and browse data sets.

python tools/data.py check my_data                            # damaged pictures, wrong boxes, duplicates, leaks
python tools/data.py report my_data -o report.html            # counts, sizes, suspicious pictures on one page
python tools/data.py split my_data splits --val 0.2           # by class, pictures that look alike kept together
python tools/data.py convert my_data out --to yolo            # between COCO, YOLO and Pascal VOC
python tools/data.py browse my_config.py -o samples.jpg       # what each transform makes of the pictures

DATA is the folder of a data set in any of these formats (found by itself; --format says it): COCO json, with Roboflow's
and CVAT's layouts; YOLO txt (or its data.yaml); Pascal VOC; LabelMe; folders of pictures of one class. COCO, YOLO, VOC
and LabelMe folders are trained from as they are, with data_root=DATA.
"""

from __future__ import annotations

import argparse

from hatdet.commands.data import browse, check, convert, report, split
from hatdet.commands.shared.process import command

TASKS = {
    "check": (check, "find damaged pictures, wrong boxes, duplicates and leaks"),
    "report": (report, "one HTML page on a data set"),
    "split": (split, "train, val and test by class, without leaks"),
    "convert": (convert, "to COCO, YOLO or Pascal VOC"),
    "browse": (browse, "samples after each transform of a config"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    for name, (module, help) in TASKS.items():
        task = tasks.add_parser(
            name,
            help=help,
            description=(module.__doc__ or "").strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(task)


def run(args: argparse.Namespace) -> int | None:
    status: int | None = TASKS[args.task][0].run(args)
    return status


main = command(__doc__, add_arguments, run)
