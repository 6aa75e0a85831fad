"""Convert RTMDet checkpoints between MMDetection, MMYOLO and hatdet.

python tools/convert_checkpoint.py rtmdet_tiny.pth tmp_pretrained_models/rtmdet_tiny.pth.tar --from mmdet
python tools/convert_checkpoint.py float-checkpoint-best.pth.tar rtmdet_mine.pth --to mmdet

Names change, numbers do not. MMDetection's m, l and x predict exp(raw) * stride, everything else raw * stride: which
one holds is stored in the file (exp_on_reg) and applied when it is loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from hatdet.utils.cli import make_parser, run


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("source", help="the checkpoint to read")
    parser.add_argument("target", help="the file to write")
    layouts = ["auto", "mmdet", "mmyolo"]
    parser.add_argument("--from", dest="layout", choices=layouts, default="auto", help="who wrote it")
    parser.add_argument("--to", choices=["hatdet", "mmdet"], default="hatdet", help="who shall read it")
    parser.add_argument("--weights", choices=["ema", "raw"], default="ema", help="averaged weights, or the optimizer's")
    parser.add_argument("--exp-on-reg", choices=["true", "false"], help="where the file does not say it")
    args = parser.parse_args(argv)
    from hatdet.commands.convert_checkpoint import convert

    exp_on_reg = None if args.exp_on_reg is None else args.exp_on_reg == "true"
    print(convert(args.source, args.target, args.layout, args.to, args.weights, exp_on_reg))


if __name__ == "__main__":
    run(main)
