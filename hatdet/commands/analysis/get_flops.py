"""Parameters and multiply-accumulates of a config's model at its image size.

python tools/analysis_tools/get_flops.py CONFIG
python tools/analysis_tools/get_flops.py CONFIG --shape 640 640
"""

from __future__ import annotations

import argparse

from hatdet.commands.shared.arguments import add_config_arguments, load_from_args
from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--shape", nargs="+", type=int, metavar="N", help="height and width (default: the config's)")
    parser.add_argument("--num-images", "--num_images", type=int, help="means nothing: the count depends on no image")
    parser.add_argument("--depth", type=int, default=2, help="levels of the module tree shown (default: 2)")


def run(args: argparse.Namespace) -> None:
    if args.shape is not None and (len(args.shape) > 2 or min(args.shape) < 1):
        raise UserError(f"--shape {args.shape}: give one or two positive numbers, height and width")
    config = load_from_args(args)

    from hatdet.building import Builder
    from hatdet.inference.model_files import config_image_size
    from hatdet.profiling.calops import count_ops

    size = tuple(args.shape) * (2 if len(args.shape) == 1 else 1) if args.shape else config_image_size(config)
    if size is None:
        raise UserError(f"{config.path} does not say its image size; give it with --shape H W")
    config.validate("model")
    print(count_ops(Builder(config).build(config["model"], "model"), (1, 3, *size)).format(args.depth))


main = command(__doc__, add_arguments, run)
