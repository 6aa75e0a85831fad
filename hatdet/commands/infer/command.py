"""Show what a model finds in pictures: boxes, classes and scores drawn, and listed as json.

python tools/infer.py --config CONFIG --model-inputs imgs:PATH --save-path DIR
python tools/infer.py CONFIG --stage float --model-inputs imgs:FOLDER --save-path DIR --score-thr 0.5

PATH is a picture, or a folder with pictures. The integer model (stage int_infer) is asked unless --stage or --ckpt
says otherwise. DIR gets a picture of the same name for each, and detections.json; for one picture DIR may also be the
name of the new picture. Exit status 1: a picture of the folder could not be read and was left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hatdet.commands.shared.arguments import STAGES, add_config_arguments, load_from_args
from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--model-inputs", "--model_inputs", metavar="imgs:PATH", help="a picture, or a folder of them")
    parser.add_argument("--save-path", "--save_path", metavar="DIR", help="where the drawn pictures go")
    parser.add_argument(
        "--stage", choices=STAGES, help="which stage's model (default: what --ckpt holds, or int_infer)"
    )
    parser.add_argument("--ckpt", metavar="FILE", help="weights (default: the stage's best checkpoint)")
    parser.add_argument("--score-thr", "--score_thr", type=float, metavar="S",
                        help="leave out lower scores (default: infer_cfg's of the config, or 0.3)")  # fmt: skip
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 (default: the config's)")


def run(args: argparse.Namespace) -> int:
    for name in ("model_inputs", "save_path"):
        if getattr(args, name) is None:
            raise UserError(f"--{name.replace('_', '-')} is missing; see --help")
    if args.score_thr is not None and not 0 <= args.score_thr <= 1:
        raise UserError(f"--score-thr is between 0 and 1, got {args.score_thr}")

    from hatdet.commands.infer.run import Request, infer, parse_inputs
    from hatdet.utils.logging import setup_logging

    setup_logging()
    inputs = parse_inputs(args.model_inputs)
    config = load_from_args(args)
    request = Request(
        inputs=inputs,
        save_path=Path(args.save_path),
        stage=args.stage,
        checkpoint=args.ckpt,
        score_thr=args.score_thr,
        device=args.device,
    )
    return 0 if infer(config, request) else 1


main = command(__doc__, add_arguments, run)
