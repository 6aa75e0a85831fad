"""Find what costs accuracy or makes a number wrong, before training.

Damaged and missing pictures, boxes without area or outside their picture, objects marked twice, labels without a
picture, classes whose names differ in case alone or that training never sees, and pictures that are the same or look
alike in two splits. Every picture is decoded. Exit status: 0 where nothing is wrong (notes may be), else 1.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hatdet.commands.data.shared import add_data_argument, add_workers_argument, read
from hatdet.commands.shared.arguments import check_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_argument(parser)
    parser.add_argument("--out", metavar="FILE.json", help="write the findings there too")
    add_workers_argument(parser)


def run(args: argparse.Namespace) -> int:
    from hatdet.data.folders.check import check_dataset
    from hatdet.data.folders.look import look_at_all
    from hatdet.data.packers.progress import say

    check_json(args.out)
    dataset = read(args)
    findings = check_dataset(dataset, look_at_all(dataset.pictures, args.num_workers))
    for finding in findings:
        say(str(finding))
    errors = [finding for finding in findings if finding.level == "error"]
    notes = len(findings) - len(errors)
    kinds = f"{len(errors)} {'kind' if len(errors) == 1 else 'kinds'} of errors" if errors else "no errors"
    say(f"{kinds}, {notes} {'note' if notes == 1 else 'notes'}")
    if args.out:
        content = [finding.__dict__ for finding in findings]
        target = Path(args.out)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if errors else 0
