"""Score the model of one stage: the 12 COCO numbers and AP per class.

python tools/predict.py --stage float --config configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py
python tools/predict.py --stage int_infer configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py

Without --ckpt it is the stage's best checkpoint. The numbers also go to work_dirs/CONFIG/STAGE/predict.json.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from hatdet.utils.cli import add_config_arguments, load_from_args, make_parser, run


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    add_config_arguments(parser)
    stages = ("float", "calibration", "qat", "int_infer")
    parser.add_argument("--stage", choices=stages, default="float", help="default: float")
    parser.add_argument("--ckpt", metavar="FILE", help="weights to score (default: the stage's best checkpoint)")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation: several sizes and mirrored")
    parser.add_argument("--launcher", choices=("none", "pytorch"), default="none", help="pytorch: under torchrun")
    parser.add_argument("-ids", "--ids", metavar="N[,N]", help="GPUs to use")
    args = parser.parse_args(argv)
    config = load_from_args(args)

    from hatdet.engine.processes.launcher import processes
    from hatdet.engine.run import predict

    with processes(args.launcher, args.ids):
        predict(config, args.stage, checkpoint=args.ckpt, tta=args.tta)


if __name__ == "__main__":
    run(main)
