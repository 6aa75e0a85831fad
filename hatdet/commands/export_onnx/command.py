"""Write a stage's model as ONNX and compare it with the model under onnxruntime.

python tools/export_onnx.py --config CONFIG
python tools/export_onnx.py --config CONFIG --stage float --opset 11 --simplify

Without --stage it is the one that the config's onnx_cfg names; without that, int_infer where calibration or QAT was
trained (QAT's best checkpoint, else calibration's), and float (its best checkpoint) where neither was. Written are

  stage float     WORK_DIR/float-model.onnx: float32, normalized images in, raw maps out (see --decode, --preprocess)
  other stages    WORK_DIR/STAGE-model_int8_qdq.onnx: for fast int8 kernels; its difference is stated in LSB
                  WORK_DIR/STAGE-model_int8_exact.onnx: exactly the integer model's numbers

each with its metadata inside and beside it (.json), and STAGE-model-results.json with what was compared. Exit status 1:
the exact form differs from the integer model, or the float file from torch by more than rounding.
"""

from __future__ import annotations

import argparse

from hatdet.commands.shared.arguments import (
    STAGES,
    add_config_arguments,
    add_imgsz,
    check_imgsz,
    check_verify,
    config_path,
    options_from_args,
)
from hatdet.commands.shared.process import command

DEFAULT_IMAGES = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--stage", choices=STAGES, help="whose model (default: see above)")
    parser.add_argument("--ckpt", metavar="FILE", help="weights (default: the stage's best)")
    parser.add_argument("--form", nargs="+", metavar="FORM",
                        help="of: float, qdq, exact (default: float of stage float, else qdq and exact)")  # fmt: skip
    parser.add_argument("--out", metavar="FILE.onnx", help="where to write, if it is one form")
    add_imgsz(parser, "height and width of the input, or one for both (default: the config's)")
    parser.add_argument("--opset", type=int, metavar="N", help="11 to 20, integer forms from 13 (default: 13)")
    parser.add_argument("--simplify", action="store_true", help="of float: fold constants")
    parser.add_argument("--decode", action="store_true", help="of float: boxes and scores out, not raw maps")
    parser.add_argument("--preprocess", action="store_true", help="of float: pixels 0..255 in, normalized inside")
    parser.add_argument("--image_path", "--image-path", metavar="DIR",
                        help="images for calibration and --verify, instead of the config's data")  # fmt: skip
    parser.add_argument("--verify", nargs="?", type=int, const=DEFAULT_IMAGES, default=DEFAULT_IMAGES, metavar="N",
                        help=f"compare on N images (default: {DEFAULT_IMAGES}; 0: none)")  # fmt: skip
    parser.add_argument("--intermediates", action="store_true", help="of exact: compare every tensor")
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 for calibration")


def run(args: argparse.Namespace) -> int:
    check_imgsz(args)
    check_verify(args)
    path, options = config_path(args), options_from_args(args)

    from hatdet.commands.export_onnx.run import OnnxRequest, export_onnx
    from hatdet.export.formats.table import ExportOptions
    from hatdet.utils.logging import setup_logging

    setup_logging()
    request = OnnxRequest(
        stage=args.stage,
        checkpoint=args.ckpt,
        forms=args.form,
        out=args.out,
        image_size=args.imgsz,
        image_path=args.image_path,
        device=args.device,
        options=ExportOptions(
            decode=args.decode,
            opset=args.opset,
            simplify=args.simplify,
            preprocess=args.preprocess,
            verify=args.verify,
            intermediates=args.intermediates,
        ),
    )
    return 0 if export_onnx(path, options, request) else 1


main = command(__doc__, add_arguments, run)
