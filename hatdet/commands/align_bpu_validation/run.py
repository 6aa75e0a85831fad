"""One run of ``tools/align_bpu_validation.py``: model, file, decoder and data, the loop, and the report."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hatdet.building import Builder
from hatdet.commands.align_bpu_validation.comparison import (
    OTHERS,
    Alignment,
    Runtimes,
    load_decoder,
    open_runtimes,
)
from hatdet.commands.align_bpu_validation.loop import compare
from hatdet.commands.align_bpu_validation.progress import Progress
from hatdet.commands.shared.decoders import device_metadata
from hatdet.commands.shared.verdicts import compared, headline, shown
from hatdet.config.config import Config
from hatdet.engine.checkpoints.classes import class_table
from hatdet.engine.checkpoints.lineage import adopted_stage
from hatdet.engine.predictor import Predictor
from hatdet.engine.stages import predictor_config, work_dir_of
from hatdet.export.arithmetic import described, file_arithmetic, other_kernels
from hatdet.export.decoder.write import emit
from hatdet.export.delivery import write_json
from hatdet.export.evaluate import same_values
from hatdet.export.runtimes.integer import FileLayout
from hatdet.export.runtimes.trial import make_sure
from hatdet.export.tflite import int8 as tflite
from hatdet.inference.model_files import check_facts, check_image_size, integer_graph, without_weights
from hatdet.quantization.integer_detector import IntegerDetector
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.class_names import KnownClasses
from hatdet.utils.errors import UserError

SOURCES = ("data_path", "data_root", "ann_file", "img_prefix", "max_side")
FOLDER = "align_bpu_validation"
logger = logging.getLogger("hatdet")


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        checkpoint: weights, or an integer graph; None: the best of QAT (or of calibration).
        file: an exported ``.tflite`` to check; None: one is written.
        num_images: the first so many; None: all. whole: all of them, or of ``num_images``, also where that takes long.
        split: ``val`` or ``train``.
        runtimes: names; None: the installed ones.
        restart: forget an interrupted run.
        out: the report; None: ``work_dir/align_bpu_validation/<split>.json``.
    """

    checkpoint: str | None = None
    file: str | None = None
    num_images: int | None = None
    whole: bool = False
    split: str = "val"
    runtimes: Sequence[str] | None = None
    restart: bool = False
    out: str | None = None


def align(config: Config, request: Request) -> bool:
    """Compare both paths on every image, print and write the report; whether nothing differs.

    Raises:
        UserError: the model, the file or the data are not as they must be.
    """
    config = adopted_stage(config, "int_infer", request.checkpoint)
    predictor, model = open_model(config, request)
    folder = work_dir_of(config, FOLDER)
    dataset = predictor.data_loader.dataset
    data, decoder = prepare_files(config, request, predictor, model, folder)
    runtimes = open_runtimes(data, model.graph, request.runtimes)
    for name, why in runtimes.missing.items():
        print(f"{name} is not compared: {why}", flush=True)
    key = {
        "file": hashlib.sha256(data).hexdigest(),
        "decoder": hashlib.sha256(decoder.read_bytes()).hexdigest(),
        "data": str(getattr(dataset, "fingerprint", "")),
        "split": request.split,
        "runtimes": runtimes.names,
    }
    progress = Progress(folder / f"{request.split}-progress.jsonl", key, request.restart)
    alignment = Alignment(model, dataset, load_decoder(decoder), runtimes)
    begin = time.perf_counter()
    total = len(dataset)
    count = compare(alignment, progress, total, request.whole)
    if count < total:  # the ground truth of these images alone
        predictor, _ = open_model(config, replace(request, num_images=count))
    report = {"of_images": total, **summarize(predictor, progress, runtimes, count)}
    report |= {"config": str(config.path), "split": request.split, "key": key, "decoder": decoder.name}
    report["seconds"] = time.perf_counter() - begin
    print(text_of(report), flush=True)
    path = Path(request.out) if request.out is not None else folder / f"{request.split}.json"
    print(f"written: {write_json(path, report)}", flush=True)
    return bool(report["ok"])


def open_model(config: Config, request: Request) -> tuple[Predictor, Any]:
    """int_infer's predictor on the split and number of images asked for, and its integer detector."""
    state = load_checkpoint(request.checkpoint) if request.checkpoint is not None else {}
    is_graph = "int_graph" in state
    name, cfg = predictor_config(config, "int_infer", request.checkpoint)
    if is_graph:
        cfg = without_weights(cfg)
    loader = dict(cfg["data_loader"])
    dataset = dict(loader["dataset"])
    if request.split == "train":
        source = config.get("data_loader")
        if not isinstance(source, Mapping) or "dataset" not in source:
            raise UserError(
                f"--split train: {config.path} has no data_loader with a dataset; "
                "give it one, or leave --split out"
            )
        ours = {key: value for key, value in dataset.items() if key not in SOURCES}
        dataset = {**ours, **{k: v for k, v in source["dataset"].items() if k in SOURCES}}
    if request.num_images is not None:
        dataset["num_samples"] = request.num_images
    predictor: Predictor = Builder(config).build({**cfg, "data_loader": {**loader, "dataset": dataset}}, name)
    predictor.known_classes = KnownClasses.of(state, str(request.checkpoint))
    model: Any = predictor.prepare()
    if is_graph:
        graph = integer_graph(Path(str(request.checkpoint)), state["int_graph"])
        model = IntegerDetector(detector=model, graph=graph, device=predictor.device)
    return predictor, model


def prepare_files(
    config: Config, request: Request, predictor: Predictor, model: Any, folder: Path
) -> tuple[bytes, Path]:
    """The bytes of the ``.tflite`` to check, and the numpy decoder that was written for it."""
    graph, table = model.graph, class_table(predictor.data_loader)
    metadata = device_metadata(predictor.data_loader, model.task, graph, table.names if table is not None else None)
    stem = folder / "model_int8"
    if request.file is None:
        return tflite.write(graph, stem.with_suffix(".tflite"), metadata), emit(graph, metadata, stem)[0]
    path = Path(request.file)
    if not path.is_file():
        raise UserError(f"no such model: {path}; name an exported .tflite, or leave --model out")
    data = path.read_bytes()
    try:
        layout, facts = FileLayout(data), tflite.read_metadata(data)
        make_sure(data, "reference", "default")
    except ValueError as error:
        raise UserError(f"{path} cannot be compared: {error}") from error
    check_image_size(config, path, (layout.input_shape[1], layout.input_shape[2]))
    check_facts(path, facts, layout.output_names, model.task, predictor)
    if (named := file_arithmetic(data)) != graph.profile.name:
        raise UserError(
            f"{path} is made for the arithmetic {named!r}, the int_infer model for {graph.profile.name!r}; export it "
            "again with tools/export.py, or name its checkpoint with --ckpt"
        )
    expected = [graph.qparams(name) for name in graph.outputs]
    if layout.output_quantization != expected:
        raise UserError(
            f"{path} scales its outputs otherwise than the int_infer model: it was exported from other weights; export "
            "it again with tools/export.py, or name its checkpoint with --ckpt"
        )
    return data, emit(graph, metadata, stem)[0]


def summarize(predictor: Predictor, progress: Progress, runtimes: Runtimes, total: int) -> dict[str, Any]:
    """Counts, the images that differ, and the metric of each path."""
    records = [progress.records[index] for index in range(total)]
    names = ["int_infer", "deployed", *([runtimes.drift_name] if runtimes.drift is not None else [])]
    metrics = {name: score(predictor, progress, records, name) for name in names}
    different = same_values(metrics["int_infer"], metrics["deployed"])
    wrong = [r for r in records if r["input"] or any(r["outputs"].values()) or r["boxes_differ"]]
    values = sum(record["values"] for record in records)
    report: dict[str, Any] = {
        "ok": not wrong and not different,
        "images": total,
        "arithmetic": runtimes.arithmetic,
        "runtimes": runtimes.names,
        "missing": runtimes.missing,
        "values": values,
        "input_differing": sum(record["input"] for record in records),
        "differing": {name: sum(r["outputs"][name] for r in records) for name in ("torch", *runtimes.reference)},
        "boxes_differing": sum(record["boxes_differ"] for record in records),
        "first_differing": wrong[0]["first"] if wrong else {},
        "different_images": [{k: v for k, v in r.items() if k not in ("detections", "values")} for r in wrong],
        "metrics": metrics,
        "different": different,
    }
    if runtimes.drift is not None:
        drifts = [record["drift"] for record in records]
        share = sum(d["values"] for d in drifts) / max(1, values)
        kernels = other_kernels(runtimes.arithmetic)
        report["drift"] = {"kernels": kernels, "share": share, "max_lsb": max(d["max_lsb"] for d in drifts)}
    return report


def score(
    predictor: Predictor, progress: Progress, records: Sequence[Mapping[str, Any]], name: str
) -> dict[str, float]:
    """The metric of one path's detections."""
    metric = predictor.val_metrics
    metric.reset()
    if callable(bind := getattr(metric, "bind", None)):
        bind(predictor.data_loader.dataset)
    for record in records:
        metric.update([progress.detections(record["index"], name)], {"img_id": [record["img_id"]]})
    return dict(metric.compute())


def text_of(report: Mapping[str, Any]) -> str:
    """The report for a terminal."""
    part = "" if report["images"] == report["of_images"] else f"the first {report['images']} of {report['of_images']}; "
    lines = [
        f"{part}{report['images']} images, {report['values']} output values each compared with the toolbox's own path",
        f"  arithmetic: {described(report['arithmetic'])}",
        f"  input codes of the deployed preprocessing: {report['input_differing']} differing",
    ]
    for name, count in report["differing"].items():
        lines.append(f"  outputs of {name}: {count} differing")
    lines.append(f"  boxes of the exported decoder: {report['boxes_differing']} images differ")
    for record in report["different_images"][:10]:
        where = "; ".join(f"{name}: first in {tensor}" for name, tensor in record["first"].items())
        lines.append(f"  {record['file']} (image {record['img_id']}): {where or 'the boxes alone'}")
    if len(report["different_images"]) > 10:
        lines.append(f"  ... and {len(report['different_images']) - 10} more images, see the report")
    if "drift" in report:
        drift = report["drift"]
        lines.append(
            f"  LiteRT's {drift['kernels']} kernels (not part of the verdict): {drift['share']:.1%} of the output "
            f"values differ, by at most {drift['max_lsb']} LSB"
        )
    metrics = report["metrics"]
    lines.append(compared(metrics["int_infer"], ("deployed", metrics["deployed"]), report["different"]))
    if "drift" in report:
        kernels = report["drift"]["kernels"]
        values = metrics[OTHERS[kernels]]
        name = headline(values)
        lines.append(f"{name} under LiteRT's {kernels} kernels {shown(values, name)}")
    lines.append("aligned" if report["ok"] else "NOT ALIGNED")
    return "\n".join(lines)
