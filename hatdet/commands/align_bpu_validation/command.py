"""Does the deployed model find what the toolbox reported? Image by image, to the last bit.

python tools/align_bpu_validation.py --config configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py

For every validation image, from its encoded file: the exported decoder's own letterbox (numpy, no hatdet), the int8
.tflite under each installed runtime, batch 1, and the exported decoder's boxes; beside them the toolbox's data
pipeline, the integer model and its boxes. Input codes, raw outputs, boxes and the metric must be equal. Runtimes:

  torch               the toolbox's integer executor, on the deployed input
  litert              LiteRT, the kernels of the model's arithmetic: reference (tflite_ref) or default (xnnpack)
  tflm                TensorFlow Lite Micro, for tflite_ref
  onnx                onnxruntime on the explicit-integer ONNX form (of the model, not of --model)
  litert-default, litert-reference: those of LiteRT's kernels that round otherwise; their drift is reported, not judged

The first image says how long each runtime takes; at the input sizes of full detectors reference kernels take minutes
an image. Where the whole set would take over an hour, its first images are compared, as many as fit into an hour.
An interrupted run goes on where it stopped. The report is WORK_DIR/align_bpu_validation/SPLIT.json.
Exit status 1: something differs.
"""

from __future__ import annotations

import argparse

from hatdet.commands.shared.arguments import add_config_arguments, load_from_args
from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--ckpt", metavar="FILE", help="weights of QAT or calibration (default: the best)")
    parser.add_argument("--model", metavar="FILE.tflite", help="an exported int8 file to check (default: write one)")
    parser.add_argument("--num-images", "--num_images", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--all", action="store_true", help="the whole set, also where that takes over an hour")
    parser.add_argument("--split", choices=("val", "train"), default="val", help="which images (default: val)")
    parser.add_argument("--runtimes", nargs="+", metavar="NAME", help="which runtimes (default: all installed)")
    parser.add_argument("--restart", action="store_true", help="forget what an interrupted run has found")
    parser.add_argument("--out", metavar="FILE.json", help="the report (default: in the work dir)")


def run(args: argparse.Namespace) -> int:
    if args.num_images is not None and args.num_images < 1:
        raise UserError(f"--num-images takes a number of at least 1, got {args.num_images}")
    if args.all and args.num_images is not None:
        raise UserError(f"--all compares every image, --num-images {args.num_images} some: give one of them")
    if args.model is not None and not args.model.endswith(".tflite"):
        raise UserError(
            f"--model {args.model}: an int8 .tflite is compared; weights are named with --ckpt; "
            "give a name that ends with .tflite"
        )
    config = load_from_args(args)

    from hatdet.commands.align_bpu_validation.run import Request, align
    from hatdet.utils.logging import setup_logging

    setup_logging()
    request = Request(
        checkpoint=args.ckpt,
        file=args.model,
        num_images=args.num_images,
        whole=args.all or args.num_images is not None,
        split=args.split,
        runtimes=args.runtimes,
        restart=args.restart,
        out=args.out,
    )
    return 0 if align(config, request) else 1


main = command(__doc__, add_arguments, run)
