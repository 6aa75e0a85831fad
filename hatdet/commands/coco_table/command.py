"""RTMDet's int8 figures on COCO: float, calibration, QAT and the file, for nano, tiny and s at 320 and 640 px.

hatdet coco-table coco/ --weights tiny=rtmdet_tiny_8xb32-300e_coco.pth s=rtmdet_s_8xb32-300e_coco.pth
hatdet coco-table coco/ --weights nano=my_nano.pth --models nano --sizes 320
hatdet coco-table coco/ --weights tiny=rtmdet_tiny.pth --models nano tiny --dry-run

DATA is COCO 2017 as it is unpacked: annotations/instances_train2017.json, train2017/, the same of val2017. Official
weights of MMDetection are quantized as they are; nano, of which there are none, is trained from random weights where
no file is given. Each row is scored as float weights, after calibration, after QAT and as the int8 file, whose outputs
are compared with the integer model's. WORK_DIR/table.md and table.json are written after every row. Interrupted, the
same command goes on: a row, a step and an epoch that are done are not done again. Exit status 1: a file does not
compute what QAT's evaluation reported. How long it takes, and on what that is based: docs/coco.md.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="COCO's folder")
    parser.add_argument("--weights", nargs="+", action="extend", default=[], metavar="MODEL=FILE", help="float weights")
    parser.add_argument("--models", nargs="+", default=["nano", "tiny", "s"], metavar="MODEL", help="nano, tiny, s")
    parser.add_argument("--sizes", nargs="+", type=int, default=[320, 640], metavar="N", help="height = width of input")
    parser.add_argument("--epochs", type=int, default=300, metavar="N", help="of a training from random weights")
    parser.add_argument("--qat-epochs", type=int, default=3, metavar="N", help="of QAT (default: 3)")
    parser.add_argument("--work-dir", default=os.path.join("work_dirs", "coco_table"), metavar="DIR",
                        help="default: work_dirs/coco_table")  # fmt: skip
    parser.add_argument("--cfg-options", nargs="+", action="extend", default=[], metavar="K=V",
                        help="of all trainings, above the table's own: workers=16 arithmetic=xnnpack")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="say what there is to do and how long it may take")


def run(args: argparse.Namespace) -> int:
    from hatdet.commands.coco_table.rows import Plan, parse_weights, rows_of
    from hatdet.config.options import parse_options

    for name in ("epochs", "qat_epochs"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)}: give a number of at least 1")
    rows = rows_of(args.models, args.sizes, parse_weights(args.weights))
    data = str(Path(args.data).expanduser())
    options = parse_options(args.cfg_options)
    plan = Plan(data, Path(args.work_dir), rows, args.epochs, args.qat_epochs, options)

    from hatdet.commands.coco_table.run import fill, finished
    from hatdet.commands.coco_table.text import planned
    from hatdet.utils.environment import usable_processors
    from hatdet.utils.logging import setup_logging

    if args.dry_run:
        print(planned(plan, finished(plan), usable_processors()))
        return 0
    if not Path(data).is_dir():
        raise UserError(f"no folder {data}; name the folder that COCO was unpacked into")
    setup_logging()
    equal = fill(plan)
    print((plan.folder / "table.md").read_text(encoding="utf-8"))
    print(f"written: {plan.folder / 'table.md'}, {plan.folder / 'table.json'}", flush=True)
    return 0 if equal else 1


main = command(__doc__, add_arguments, run)
