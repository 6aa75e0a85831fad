"""Where quantization loses accuracy: compare two stages layer by layer on validation images.

python tools/quant_analysis.py --config CONFIG
python tools/quant_analysis.py --config CONFIG --stages qat:float int_infer --num-images 64 --sensitivity ap

Stages: float, calibration, qat, int_infer; calibration and qat mean the integer model of that checkpoint, with
":float" its weights unquantized, with ":fake_quant" torch.ao's simulation. For every layer: SQNR, cosine and errors, as
they flow through the network and as the layer makes them by itself; ranges, clipping, codes used; weights; what it
costs at the outputs when only this layer is quantized, and what keeping it float would win; and an advice. Integers
follow the arithmetic that they were trained in. Leaves layers.csv, quant_analysis.json and quant_analysis.html in
WORK_DIR/quant_analysis.

To keep layers float in any stage: --cfg-options "keep_float=['bbox_head.rtm_reg.0', 'backbone.stem*']".
"""

from __future__ import annotations

import argparse

from hatdet.commands.shared.arguments import add_config_arguments, load_from_args
from hatdet.commands.shared.process import command


def images(text: str) -> int | None:
    """A number, or None for "all"."""
    if text == "all":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor 'all'") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--stages", nargs=2, default=("float", "int_infer"), metavar=("REFERENCE", "TESTED"),
                        help="the two to compare (default: float int_infer)")  # fmt: skip
    parser.add_argument("--num-images", "--num_images", type=images, default=16, metavar="N",
                        help="validation images to look at, or 'all' (default: 16)")  # fmt: skip
    parser.add_argument("--sensitivity", choices=("sqnr", "ap", "off"), default="sqnr",
                        help="what a layer costs at the outputs: noise, or AP too (slow; default: sqnr)")  # fmt: skip
    parser.add_argument("--ap-layers", "--ap_layers", type=int, default=20, metavar="N",
                        help="with --sensitivity ap: for the N layers that cost most (default: 20)")  # fmt: skip
    parser.add_argument("--ckpt", nargs="+", default=[], metavar="STAGE=FILE",
                        help="weights of a stage (default: its best checkpoint)")  # fmt: skip
    parser.add_argument("--out", metavar="DIR", help="where the files go (default: WORK_DIR/quant_analysis)")


def run(args: argparse.Namespace) -> None:
    from hatdet.commands.quant_analysis.output import format_summary, format_table
    from hatdet.commands.quant_analysis.run import Settings, quant_analysis
    from hatdet.commands.quant_analysis.stages import parse_checkpoints
    from hatdet.engine.stages import work_dir_of
    from hatdet.utils.logging import setup_logging

    setup_logging()
    settings = Settings(
        stages=(args.stages[0], args.stages[1]), num_images=args.num_images, sensitivity=args.sensitivity,
        ap_layers=args.ap_layers, checkpoints=parse_checkpoints(args.ckpt),
    )  # fmt: skip
    settings.check()
    config = load_from_args(args)
    out = args.out or work_dir_of(config, "quant_analysis")
    result = quant_analysis(config, settings, out)
    print(f"\n{format_table(result)}\n\n{format_summary(result)}\nwritten: {out}", flush=True)


main = command(__doc__, add_arguments, run)
