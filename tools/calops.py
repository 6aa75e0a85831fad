"""Print parameters and multiply-accumulates of a config's model, for each module and in total.

python tools/calops.py --config configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py --input-shape "1,3,192,192"
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
    parser.add_argument(
        "--input-shape",
        "--input_shape",
        required=True,
        metavar="N,C,H,W",
        help='shape of the input, batch first: "1,3,192,192"',
    )
    parser.add_argument("--depth", type=int, default=2, help="levels of the module tree shown (default: 2)")
    args = parser.parse_args(argv)
    config = load_from_args(args)
    config.validate("model")

    from hatdet.profiling import count_ops, parse_shape
    from hatdet.registry import Builder

    shape = parse_shape(args.input_shape)
    print(count_ops(Builder().build(config["model"]), shape).format(args.depth))


if __name__ == "__main__":
    run(main)
