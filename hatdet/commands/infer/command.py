"""Show what a model finds in pictures: boxes, classes and scores drawn, and listed as json.

python tools/infer.py MODEL SOURCE... --save-path DIR
python tools/infer.py --config CONFIG --model-inputs imgs:PATH --save-path DIR
python tools/infer.py CONFIG --stage float --model-inputs imgs:FOLDER --save-path DIR --score-thr 0.5

MODEL is a checkpoint or an exported file (.tflite, .onnx, .torchscript, a SavedModel folder); it needs no config where
it says itself what is around its network, as files of this version do. With a config alone, a stage's model is asked:
the integer one (int_infer) unless --stage or --ckpt says otherwise.

SOURCE is a picture, a folder of them, a video, a pattern ("day/*.jpg", "day/*.mp4"), a camera's number or the address
of a stream (rtsp://...), which Ctrl-C ends. DIR gets what --write names: a drawn picture of the same name for each, a
video for each video, detections.json, detections_coco.json, labels/*.txt (YOLO), detections.csv. For one picture DIR
may also be the name of the new picture. Exit status 1: a picture or video could not be read and was left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hatdet.commands.shared.arguments import STAGES, add_config_arguments, load_from_args
from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError

MODEL_SUFFIXES = (".pth", ".pth.tar", ".pt", ".tflite", ".onnx", ".torchscript", "saved_model.pb")
KINDS = ("pictures", "video", "json", "coco", "yolo", "csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="pictures, folders, videos, a camera, a stream")
    parser.add_argument("--model-inputs", "--model_inputs", metavar="imgs:PATH", help="a picture, or a folder of them")
    parser.add_argument("--save-path", "--save_path", "--out", metavar="DIR", help="where the results go")
    parser.add_argument("--write", nargs="+", choices=KINDS, action="extend",
                        help="what to write (default: pictures, of videos a video, and json)")  # fmt: skip
    parser.add_argument(
        "--stage", choices=STAGES, help="which stage's model (default: what --ckpt holds, or int_infer)"
    )
    parser.add_argument("--ckpt", metavar="FILE", help="weights (default: the stage's best checkpoint)")
    parser.add_argument("--score-thr", "--score_thr", type=float, metavar="S",
                        help="leave out lower scores (default: infer_cfg's of the config, or 0.3)")  # fmt: skip
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="only these classes")
    parser.add_argument("--kernels", choices=("reference", "default"),
                        help="LiteRT kernels for a .tflite (default: those of an int8 file's arithmetic)")  # fmt: skip
    parser.add_argument("--max-frames", type=int, metavar="N", help="of each video, camera or stream")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="frames at a time of a video (default: 1)")
    parser.add_argument("--track", action="store_true",
                        help="number the objects of a video, the same from frame to frame (needs hatdet[track]); "
                        "--score-thr is of a track's beginning then")  # fmt: skip
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 (default: the config's)")


def run(args: argparse.Namespace) -> int:
    model = take_model(args)
    check_numbers(args)

    from hatdet.commands.infer.plan import Request, parse_inputs
    from hatdet.commands.infer.run import infer, infer_file
    from hatdet.utils.logging import setup_logging

    setup_logging()
    sources = [str(parse_inputs(args.model_inputs))] if args.model_inputs is not None else []
    request = Request(
        sources=[*sources, *args.sources],
        save_path=Path(args.save_path),
        stage=args.stage,
        checkpoint=args.ckpt,
        score_thr=args.score_thr,
        device=args.device,
        classes=args.classes,
        write=args.write,
        kernels=args.kernels,
        max_frames=args.max_frames,
        batch=args.batch,
        track=args.track,
    )
    if model is None:
        return 0 if infer(load_from_args(args), request) else 1
    config = load_from_args(args) if args.config is not None else None
    return 0 if infer_file(model, request, config) else 1


def take_model(args: argparse.Namespace) -> str | None:
    """The model file among the positionals; None: a config is asked for its stage's model.

    Raises:
        UserError: something is missing, or does not go together.
    """
    model = None
    words = [word for word in (args.config, *args.sources) if word is not None]
    if words and words[0].endswith(".py"):
        args.config, args.sources = words[0], words[1:]
    else:
        args.config, args.sources = args.config_flag, words
    if args.sources and (args.config is None or is_model(args.sources[0])):
        model = args.sources.pop(0)
    if model is not None and (args.stage or args.ckpt):
        raise UserError(f"{model} is the model; leave --stage and --ckpt out, or the model")
    if model is not None and args.cfg_options and args.config is None:
        raise UserError("--cfg-options are for a config; name it with --config FILE, or leave them out")
    if not args.sources and args.model_inputs is None:
        raise UserError("--model-inputs is missing; see --help")
    if args.save_path is None:
        raise UserError("--save-path is missing; see --help")
    return model


def is_model(word: str) -> bool:
    """Whether a word of the command line is a model's file, or a SavedModel's folder."""
    return word.endswith(MODEL_SUFFIXES) or (Path(word) / "saved_model.pb").is_file()


def check_numbers(args: argparse.Namespace) -> None:
    """Refuse numbers out of range.

    Raises:
        UserError: with the range.
    """
    if args.score_thr is not None and not 0 <= args.score_thr <= 1:
        raise UserError(f"--score-thr is between 0 and 1, got {args.score_thr}")
    for name in ("max_frames", "batch"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} is a number of frames, got {value}: give 1 or more")


main = command(__doc__, add_arguments, run)
