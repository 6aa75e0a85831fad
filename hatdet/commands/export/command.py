"""Write a model as files that other runtimes read, and check each against the model.

python tools/export.py --config CONFIG --stage int_infer --verify 16 --evaluate
python tools/export.py CONFIG CHECKPOINT --format onnx tflite --imgsz 192 192 --image_path DIR

The first form exports the best checkpoint of QAT (or of calibration) to WORK_DIR/int_infer-model_int8.tflite. The
second takes any checkpoint, also epoch_150.pth for the float stage's epoch 150, and writes beside it:

  tflite        CHECKPOINT_int8.tflite, of float weights also CHECKPOINT_float32.tflite and CHECKPOINT_float16.tflite
  onnx          CHECKPOINT.onnx (float), CHECKPOINT_int8_qdq.onnx, CHECKPOINT_int8_exact.onnx
  vela          CHECKPOINT_vela.tflite, for Arm Ethos-U
  torchscript   CHECKPOINT.torchscript (float)
  savedmodel    CHECKPOINT_saved_model/ (float; needs tensorflow)

--emit-decoder adds CHECKPOINT_int8_decoder.py (numpy) and .h (C99): picture to input codes, raw outputs to boxes.
--bundle DIR writes what the program of a board needs: the int8 file (for an Ethos-U --target also Vela's), both as C
arrays, the operators for TensorFlow Lite Micro's resolver, its measured arena, decoders, labels, a self-test in C99 and
in Python, and a README. Of a model with arithmetic="xnnpack" it is for Linux and phones: without arrays, operators and
arena, which are TensorFlow Lite Micro's.
Integer files of float weights are calibrated on the images of --image_path (or on the config's calibration data).
Beside each file stands a .json with its metadata, and export-results.json with what was compared. Exit status 1: an
integer file differs from the integer model, or a float file from the float model by more than rounding.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hatdet.commands.shared.arguments import (
    add_config_arguments,
    add_imgsz,
    add_launcher_arguments,
    check_imgsz,
    check_json,
    check_verify,
    config_path,
    options_from_args,
    place_file_argument,
)
from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError

STAGES = ("int_infer", "qat", "calibration")
DEFAULT_IMAGES = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="weights (default: the stage's best)")
    parser.add_argument("--ckpt", metavar="FILE", help="the same, as a flag")
    parser.add_argument("--stage", choices=STAGES, help="which stage's model to export (default: int_infer)")
    parser.add_argument("--format", nargs="+", default=["tflite"], metavar="FORMAT",
                        help="of: tflite, onnx, vela, torchscript, savedmodel (default: tflite)")  # fmt: skip
    add_imgsz(parser, "height and width of the input, or one for both (default: the config's)")
    parser.add_argument("--image_path", "--image-path", metavar="DIR",
                        help="images for calibration and --verify, instead of the config's data")  # fmt: skip
    parser.add_argument("--out-dir", "--out_dir", metavar="DIR", help="where to write (default: beside CHECKPOINT)")
    parser.add_argument("--out", metavar="FILE.json", help="the results (default: export-results.json in that folder)")
    parser.add_argument("--verify", nargs="?", type=int, const=DEFAULT_IMAGES, default=DEFAULT_IMAGES, metavar="N",
                        help=f"compare the runtimes on N images (default: {DEFAULT_IMAGES}; 0: none)")  # fmt: skip
    parser.add_argument("--intermediates", action="store_true",
                        help="compare every tensor of the int8 .tflite, not only the outputs")  # fmt: skip
    parser.add_argument("--evaluate", action="store_true",
                        help="score the int8 .tflite under its own kernels; it must equal int_infer")  # fmt: skip
    parser.add_argument("--decode", action="store_true",
                        help="float files give boxes and scores (decoding inside), not raw maps")  # fmt: skip
    parser.add_argument("--emit-decoder", "--emit_decoder", action="store_true",
                        help="of the int8 file, in numpy and C: raw outputs to boxes")  # fmt: skip
    parser.add_argument("--decoder-score-thr", "--decoder_score_thr", type=float, metavar="S",
                        help="the decoders' score threshold (default: the evaluation's)")  # fmt: skip
    parser.add_argument("--bundle", metavar="DIR",
                        help="write what a board's program needs: arrays, decoder, self-test, README")  # fmt: skip
    parser.add_argument("--board", metavar="NAME",
                        help="of --bundle: which board it is for (check_model.py --board list)")  # fmt: skip
    parser.add_argument("--opset", type=int, metavar="N", help="of onnx (default: the writer's)")
    parser.add_argument("--simplify", action="store_true", help="of onnx: fold constants")
    parser.add_argument("--preprocess", action="store_true", help="of onnx: pixels 0..255 in, normalized inside")
    parser.add_argument("--target", metavar="NAME", help="of vela and --bundle: the NPU, e.g. ethos-u55-128")
    parser.add_argument("--weights-as", "--weights_as", choices=("int4", "int8"),
                        help="how the int8 .tflite stores 4-bit weights (default: as the target takes)")  # fmt: skip
    parser.add_argument("--padding-as", "--padding_as", choices=("operator", "kernel"),
                        help="how the int8 .tflite pads before strides: by PAD operators (default), or by kernels with "
                        "a row and column of zeros, which need less RAM and more multiplications")  # fmt: skip
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 for calibration and --evaluate")
    parser.add_argument("--arch", metavar="NAME", help=argparse.SUPPRESS)  # SSCMA's, of Hailo chips
    add_launcher_arguments(parser)


def run(args: argparse.Namespace) -> int:
    check_arguments(args)
    path, options = config_path(args), options_from_args(args)

    from hatdet.commands.export.run import Request, export_model
    from hatdet.export.formats.table import ExportOptions
    from hatdet.utils.logging import setup_logging

    setup_logging()
    request = Request(
        checkpoint=args.checkpoint,
        stage=args.stage,
        formats=args.format,
        image_size=args.imgsz,
        image_path=args.image_path,
        out_dir=args.out_dir,
        out=args.out,
        device=args.device,
        evaluate=args.evaluate,
        emit_decoder=args.emit_decoder,
        decoder_score_thr=args.decoder_score_thr,
        bundle=args.bundle,
        board=args.board,
        options=ExportOptions(
            decode=args.decode,
            opset=args.opset,
            simplify=args.simplify,
            preprocess=args.preprocess,
            target=args.target,
            weights_as=args.weights_as,
            padding_as=args.padding_as,
            verify=args.verify,
            intermediates=args.intermediates,
        ),
    )
    return 0 if export_model(path, options, request) else 1


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what does not go together; ``args.checkpoint`` is then what the positional or ``--ckpt`` names.

    Raises:
        UserError: with what to leave out or to add.
    """
    from hatdet.export.formats.table import choose_formats

    chosen = choose_formats(args.format)
    names = ", ".join(row.name for row in chosen)
    for option in ("opset", "simplify", "preprocess", "target"):
        meant = option == "target" and args.bundle is not None
        if getattr(args, option) and not meant and not any(option in row.options for row in chosen):
            raise UserError(f"--{option} means nothing to --format {names}; leave it out")
    for option in ("weights_as", "padding_as"):
        if getattr(args, option) is not None and "tflite" not in [row.name for row in chosen]:
            flag = option.replace("_", "-")
            raise UserError(f"--{flag} is of the int8 .tflite, not of --format {names}: add --format tflite")
    if args.arch is not None:
        raise UserError(
            f"--arch {args.arch} is a Hailo chip: --format hailo is not available. For an Arm NPU use --format vela "
            "--target ethos-u55-128"
        )
    check_json(args.out)
    check_imgsz(args)
    if args.decoder_score_thr is not None and not (args.emit_decoder or args.bundle):
        raise UserError("--decoder-score-thr is of --emit-decoder and --bundle; add one of them, or leave it out")
    if args.emit_decoder and "tflite" not in [row.name for row in chosen]:
        raise UserError("--emit-decoder writes decoders of the int8 .tflite: add --format tflite")
    check_bundle(args, [row.name for row in chosen])
    check_verify(args)
    place_file_argument(args, "checkpoint")
    if args.checkpoint and args.ckpt and args.checkpoint != args.ckpt:
        raise UserError(f"two checkpoints: {args.checkpoint!r} and --ckpt {args.ckpt!r}; give one of them")
    args.checkpoint = args.checkpoint or args.ckpt


def check_bundle(args: argparse.Namespace, formats: Sequence[str]) -> None:
    """Refuse a bundle that cannot be written, before the model is loaded.

    Raises:
        UserError: no int8 file is exported, target or board are unknown, or a file stands where the folder should.
    """
    if args.bundle is None:
        if args.board is not None:
            raise UserError("--board is of --bundle: add --bundle DIR; tools/check_model.py --board checks a config")
        return
    from hatdet.export.bundle.write import check_folder
    from hatdet.export.targets.boards import board_target, get_board
    from hatdet.export.targets.table import TARGETS, get_target

    if "tflite" not in formats:
        raise UserError("--bundle is made around the int8 .tflite: add --format tflite")
    if args.target is not None and not get_target(args.target).takes_tflite:
        others = ", ".join(target.name for target in TARGETS.values() if target.takes_tflite)
        raise UserError(
            f"--bundle is made around the int8 .tflite, which --target {args.target} does not read: leave --target "
            f"out, or name one of {others}"
        )
    if args.board is not None:
        board_target(get_board(args.board), args.target)
    check_folder(Path(args.bundle))


main = command(__doc__, add_arguments, run)
