"""Score the model of one stage: the 12 COCO numbers and AP per class.

python tools/predict.py --stage float --config configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py
python tools/predict.py --stage int_infer configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py

Without --ckpt it is the stage's best checkpoint. The numbers also go to work_dirs/CONFIG/STAGE/predict.json,
and what `hatdet report` shows of them (curves, confusions, the worst pictures) to evaluation.json and worst/ beside it.
"""

from __future__ import annotations

import argparse

from hatdet.commands.shared.arguments import STAGES, add_config_arguments, load_from_args
from hatdet.commands.shared.process import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--stage", choices=STAGES, default="float", help="default: float")
    parser.add_argument("--ckpt", metavar="FILE", help="weights to score (default: the stage's best checkpoint)")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation: several sizes and mirrored")
    parser.add_argument("--engine", default="torch", metavar="NAME",
                        help="what runs an integer model: torch, or litert (arithmetic xnnpack only: LiteRT's "
                        "default kernels, compared with torch on the way; default: torch)")  # fmt: skip
    parser.add_argument("--launcher", choices=("none", "pytorch"), default="none", help="pytorch: under torchrun")
    parser.add_argument("-ids", "--ids", metavar="N[,N]", help="GPUs to use")


def run(args: argparse.Namespace) -> None:
    from hatdet.export.engines import LiteRTEngine, check_engine

    check_engine(args.engine, args.stage, args.tta)
    config = load_from_args(args)

    from hatdet.commands.shared.judged import save_scored
    from hatdet.engine.processes.launcher import processes
    from hatdet.engine.run import predict

    with processes(args.launcher, args.ids):
        predict(config, args.stage, checkpoint=args.ckpt, tta=args.tta, scored=None if args.tta else save_scored,
                engine=LiteRTEngine() if args.engine == "litert" else None)  # fmt: skip


main = command(__doc__, add_arguments, run)
