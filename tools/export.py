"""Write a model as an int8 .tflite file and prove that the file computes what the toolbox evaluated.

python tools/export.py --config CONFIG --stage int_infer --verify 16 --evaluate
python tools/export.py CONFIG CHECKPOINT --format tflite --imgsz 192 192 --image_path DIR

The first form exports the best checkpoint of QAT (or of calibration) to WORK_DIR/int_infer-model_int8.tflite. The
second takes any checkpoint and writes CHECKPOINT's name with _int8.tflite beside it; float weights are calibrated
first, on the images of --image_path (or on the config's calibration data). Beside each file stand a .json with its
metadata and export-results.json with what was compared. Exit status 1: a value differs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from hatdet.utils.cli import add_config_arguments, load_from_args, make_parser, run
from hatdet.utils.errors import UserError

FORMATS = ("tflite",)
STAGES = ("int_infer", "qat", "calibration")
DEFAULT_IMAGES = 16
CALIBRATION_IMAGES = 128

if TYPE_CHECKING:
    from hatdet.engine.predictor import Predictor
    from hatdet.integer.graph import IntGraph


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_config_arguments(parser)
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="weights (default: the stage's best)")
    parser.add_argument("--ckpt", metavar="FILE", help="the same, as a flag")
    parser.add_argument("--stage", choices=STAGES, help="which stage's model to export (default: int_infer)")
    parser.add_argument("--format", nargs="+", default=["tflite"], metavar="FORMAT", help=f"of: {', '.join(FORMATS)}")
    parser.add_argument("--imgsz", "--img-size", "--img_size", nargs="+", type=int, metavar="N",
                        help="height and width of the input, or one for both (default: the config's)")  # fmt: skip
    parser.add_argument("--out-dir", "--out_dir", metavar="DIR", help="where to write (default: the work dir)")
    parser.add_argument("--image_path", "--image-path", metavar="DIR",
                        help="images for calibration and --verify, instead of the config's data")  # fmt: skip
    parser.add_argument("--verify", nargs="?", type=int, const=DEFAULT_IMAGES, default=DEFAULT_IMAGES, metavar="N",
                        help=f"compare the runtimes on N images (default: {DEFAULT_IMAGES}; 0: none)")  # fmt: skip
    parser.add_argument("--intermediates", action="store_true", help="compare every tensor, not only the outputs")
    parser.add_argument("--evaluate", action="store_true",
                        help="score the file under LiteRT's reference kernels; it must equal int_infer")  # fmt: skip
    args = parser.parse_args(argv)
    check_arguments(args)
    return args


def check_arguments(args: argparse.Namespace) -> None:
    for name in args.format:
        if name not in FORMATS:
            raise UserError(f"--format {name} is not available; available: {', '.join(FORMATS)}")
    if args.imgsz is not None and (len(args.imgsz) > 2 or min(args.imgsz) < 1):
        raise UserError(f"--imgsz takes one or two positive numbers (height width), got {args.imgsz}")
    if args.verify < 0:
        raise UserError(f"--verify takes a number of images, got {args.verify}")
    if args.checkpoint and args.ckpt and args.checkpoint != args.ckpt:
        raise UserError(f"two checkpoints: {args.checkpoint!r} and --ckpt {args.ckpt!r}; give one of them")
    args.checkpoint = args.checkpoint or args.ckpt


def load_config_for(args: argparse.Namespace) -> tuple[Any, tuple[int, int] | None]:
    """The config, and the image size to export at (None: what the stage's graph records).

    ``--imgsz`` rebinds the config's name, so that the preprocessing follows.
    """
    config = load_from_args(args)
    trained = tuple(config["imgsz"]) if isinstance(config.get("imgsz"), (tuple, list)) else None
    if args.imgsz is None:
        return config, trained
    asked = (args.imgsz[0], args.imgsz[-1])
    largest = max(config.get("strides") or (1,))
    if any(n % largest for n in asked):
        raise UserError(
            f"--imgsz {asked[0]} {asked[1]} does not suit the strides {config['strides']}: use multiples of {largest}"
        )
    if trained is not None and asked != trained:
        print(f"warning: the config has imgsz={trained}; exporting at {asked} as --imgsz says may cost accuracy")
        others = [option for option in args.cfg_options if not option.startswith("imgsz=")]
        args.cfg_options = [*others, f"imgsz={asked}"]
        config = load_from_args(args)
    return config, asked


def load_model(args: argparse.Namespace, config: Any) -> tuple[Predictor, Any]:
    """(the stage's predictor, its converted model with the weights in it); float weights are calibrated."""
    from hatdet.engine.stages import predictor_config
    from hatdet.export.calibrate import is_quantized_state
    from hatdet.registry import Builder
    from hatdet.utils.checkpoint import load_checkpoint

    name, cfg = predictor_config(config, args.stage or "int_infer", args.checkpoint)
    predictor: Predictor = Builder().build(cfg, name)
    if args.checkpoint is not None:
        state = load_checkpoint(args.checkpoint)
        weights = state.get("state_dict", state)
        if not is_quantized_state(weights):
            return predictor, calibrated(args, config, predictor, weights)
    return predictor, predictor.prepare()


def calibrated(args: argparse.Namespace, config: Any, predictor: Predictor, weights: Any) -> Any:
    """The predictor's model with float weights, quantized on images."""
    from hatdet.engine.checks import check_classes
    from hatdet.export.calibrate import calibrate
    from hatdet.registry import Builder
    from hatdet.utils.checkpoint import load_state

    if args.stage is not None:
        raise UserError(f"{args.checkpoint} holds float weights, not those of stage {args.stage}; leave --stage out")
    check_classes(predictor.model, None, predictor.data_loader)
    load_state(predictor.model, weights)
    if args.image_path is not None:
        batches: Any = image_folder(args, predictor, CALIBRATION_IMAGES)
        source = args.image_path
    elif "calibration_data_loader" in config:
        batches, source = Builder().build(config["calibration_data_loader"]), "the config's calibration data"
    else:
        raise UserError(f"{args.checkpoint} holds float weights; name images to calibrate on with --image_path DIR")
    model, seen = calibrate(predictor.model, batches, CALIBRATION_IMAGES, config.get("calibration_observer"))
    print(f"float weights: calibrated on {seen} images of {source}")
    predictor.model = predictor.batch_processor.prepare_model(model, predictor.device)
    return predictor.model


def image_folder(args: argparse.Namespace, predictor: Predictor, limit: int) -> Any:
    """The images of --image_path through the validation preprocessing."""
    from hatdet.export.images import ImageFolder

    return ImageFolder(args.image_path, predictor.data_loader.dataset.pipelines[0], limit)


def lower(predictor: Predictor, model: Any, image_size: tuple[int, int] | None) -> IntGraph:
    """The integer graph for ``image_size`` (None: the size of the validation batches)."""
    from hatdet.export.shapes import with_image_size

    if image_size is None:
        height, width = next(iter(predictor.data_loader))["img"].shape[2:]
        image_size = (int(height), int(width))
    return with_image_size(model.int_graph(image_size), image_size)


def target(args: argparse.Namespace, config: Any) -> Path:
    """Where the model goes."""
    if args.checkpoint is not None and args.stage is None:
        path = Path(args.checkpoint)
        stem = path.name.removesuffix(".tar").removesuffix(".pth").removesuffix(".pt")
        return Path(args.out_dir or path.parent) / f"{stem}_int8.tflite"
    work_dir = config.get("work_dir") or os.path.join("work_dirs", config.name)
    return Path(args.out_dir or work_dir) / f"{args.stage or 'int_infer'}-model_int8.tflite"


def verify(args: argparse.Namespace, predictor: Predictor, model: Any, graph: IntGraph, data: bytes) -> Any:
    """The parity report on real images; it is printed."""
    from hatdet.export.delivery import input_codes
    from hatdet.export.parity import check_parity

    source = image_folder(args, predictor, args.verify) if args.image_path else predictor.data_loader
    report = check_parity(graph, data, input_codes(model.task, source, graph, args.verify), args.intermediates)
    print(report.text(), flush=True)
    return report


def evaluate_both(predictor: Predictor, model: Any, path: Path) -> dict[str, Any]:
    """Metric values of int_infer and of the file under reference kernels; they are printed."""
    from hatdet.engine.evaluation import evaluate
    from hatdet.export.delivery import evaluation_record
    from hatdet.export.evaluate import TFLiteDetector

    values: dict[str, dict[str, float]] = {}
    seconds: dict[str, float] = {}
    networks = {"int_infer": model}
    for name, kernels in (("tflite", "reference"), ("tflite_default_kernels", "default")):
        networks[name] = TFLiteDetector(detector=model.task, model=path, kernels=kernels)
    for name, network in networks.items():
        begin = time.perf_counter()
        values[name] = evaluate(
            model=network,
            data_loader=predictor.data_loader,
            metric=predictor.val_metrics,
            batch_processor=predictor.batch_processor,
            device=predictor.device,
        )
        seconds[name] = time.perf_counter() - begin
    record = evaluation_record(values["int_infer"], values["tflite"], "LiteRT reference")
    print(predictor.val_metrics.format(values["tflite"]))
    verdict = "equal to the last digit" if record["equal"] else f"DIFFERENT in {', '.join(record['different'])}"
    ap = {name: found.get("AP", float("nan")) for name, found in values.items()}
    reference = ap["tflite"]
    print(f"AP of int_infer {ap['int_infer']!r}, of the file under LiteRT's reference kernels {reference!r}: {verdict}")
    print(f"AP of the file under LiteRT's default kernels {ap['tflite_default_kernels']!r} (not part of the verdict)")
    return {**record, "tflite_default_kernels": values["tflite_default_kernels"], "seconds": seconds}


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    config, image_size = load_config_for(args)

    from hatdet.engine.checks import class_table
    from hatdet.export import tflite
    from hatdet.export.delivery import file_record, write_results
    from hatdet.utils.logging import setup_logging

    setup_logging()
    predictor, model = load_model(args, config)
    graph = lower(predictor, model, image_size)
    path = target(args, config)
    table = class_table(predictor.data_loader)
    data = tflite.write(graph, path, metadata={"classes": table.names} if table is not None else None)
    height, width = graph.tensors[graph.inputs[0]].shape[1:]
    print(
        f"written: {path} ({len(data) / 1e6:.2f} MB, {len(graph.ops)} operators, input {height}x{width}, "
        f"profile {graph.metadata['profile']}) and {path.with_suffix('.json').name}"
    )
    results = {
        **file_record(path),
        "config": str(config.path),
        "stage": args.stage or "int_infer",
        "checkpoint": args.checkpoint,
        "image_size": [height, width],
        "profile": graph.metadata["profile"],
    }
    ok = True
    if args.verify:
        report = verify(args, predictor, model, graph, data)
        results["parity"], ok = report.to_dict(), report.ok
    if args.evaluate:
        results["evaluation"] = evaluate_both(predictor, model, path)
        ok = ok and bool(results["evaluation"]["equal"])
    print(f"written: {write_results(path.parent, results)}")
    return 0 if ok else 1


if __name__ == "__main__":
    run(main)
