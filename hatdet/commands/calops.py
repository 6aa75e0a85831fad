"""Print parameters and multiply-accumulates of a config's model, for each module and in total.

What is counted is the config's deploy_model where it has one (the network on the device), else its model.

python tools/calops.py --config configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py --input-shape "1,3,192,192"
"""

from __future__ import annotations

import argparse

from hatdet.commands.shared.arguments import add_config_arguments, load_from_args
from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument(
        "--input-shape",
        "--input_shape",
        metavar="N,C,H,W",
        help='shape of the input, batch first: "1,3,192,192" (default: deploy_inputs\' of the config, if it has any)',
    )
    parser.add_argument("--depth", type=int, default=2, help="levels of the module tree shown (default: 2)")


def run(args: argparse.Namespace) -> None:
    config = load_from_args(args)

    from hatdet.building import Builder
    from hatdet.engine.deployment import deployed_name, deployed_shape
    from hatdet.profiling.calops import count_ops, parse_shape

    shape = parse_shape(args.input_shape) if args.input_shape else deployed_shape(config)
    if shape is None:
        raise UserError(f'{config.path} has no deploy_inputs; give the shape with --input-shape "1,3,H,W"')
    name = deployed_name(config)
    config.validate(name)
    print(count_ops(Builder(config).build(config[name], name), shape).format(args.depth))


main = command(__doc__, add_arguments, run)
