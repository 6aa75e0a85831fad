"""The whole road on a rendered data set: train, calibrate, QAT, integer model, .tflite, bit-for-bit check, report.

python tools/demo.py --out demo_out

Takes a few minutes on two cores. Writes OUT/report.html, the data set, all logs and models. The exit status is 0 only
if every step works, the integer AP is at most 1.0 point below the float AP, and the exported file computes exactly what
was evaluated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="demo_out", metavar="DIR", help="default: demo_out; a former demo is replaced")
    parser.add_argument("--train-images", type=int, default=320, metavar="N", help="default: 320")
    parser.add_argument("--val-images", type=int, default=80, metavar="N", help="default: 80")
    parser.add_argument("--image-size", type=int, default=192, metavar="N", help="input of the network (default: 192)")
    parser.add_argument("--epochs", type=int, default=22, metavar="N", help="of the float training (default: 22)")
    parser.add_argument("--qat-epochs", type=int, default=2, metavar="N", help="of the integer training (default: 2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the rendered images (default: 0)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and leave")


def run(args: argparse.Namespace) -> int:
    for name in ("train_images", "val_images", "epochs", "qat_epochs", "seed"):
        value, least = getattr(args, name), 0 if name == "seed" else 1
        if value < least:
            raise UserError(f"--{name.replace('_', '-')} {value}: give a number of at least {least}")
    if args.image_size < 32 or args.image_size % 32:
        raise UserError(f"--image-size {args.image_size}: give a multiple of 32, such as 192")

    from hatdet.commands.demo.road import RoadSettings, describe, road

    settings = RoadSettings(
        out=Path(args.out),
        image_size=args.image_size,
        epochs=args.epochs,
        qat_epochs=args.qat_epochs,
    )
    if args.dry_run:
        print(describe(road(settings)))
        return 0

    from hatdet.commands.demo.run import run_demo

    return run_demo(settings, args.train_images, args.val_images, args.seed)


main = command(__doc__, add_arguments, run)
