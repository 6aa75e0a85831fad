"""The body of ``tools/export.py``: a model in any of the formats, each file checked against the model."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from hatdet.commands.export.bundle import check_devices, devices, write_board_bundle
from hatdet.commands.export.source import Source, decoder_facts, image_batches, open_source
from hatdet.commands.shared.decoders import emit_decoder
from hatdet.commands.shared.verdicts import compared, headline, shown
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.engine.checkpoints.classes import class_table
from hatdet.engine.checkpoints.lineage import adopted_stage
from hatdet.engine.checkpoints.provenance import trained_constants
from hatdet.engine.evaluation import evaluate
from hatdet.export.arithmetic import file_arithmetic, file_second, other_kernels
from hatdet.export.decoder.model import Overrides
from hatdet.export.delivery import evaluation_record, write_results
from hatdet.export.evaluate import TFLiteDetector
from hatdet.export.formats.table import ExportJob, ExportOptions, FileRecord, choose_formats, export_all
from hatdet.export.runtimes.integer import ModelRefused
from hatdet.inference.checkpoints import find_checkpoint, set_device, stem_of
from hatdet.inference.model_files import config_image_size, known_kernels
from hatdet.inference.recipe import recipe_of
from hatdet.integer.profiles.table import PROFILES
from hatdet.utils.checkpoints.archive import read_without_tensors
from hatdet.utils.errors import UserError

INT8 = "tflite int8"


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        checkpoint: weights; None: the best of ``stage``.
        stage: ``int_infer`` (default), ``qat`` or ``calibration``; None with a checkpoint: what the file holds.
        formats: names, see :data:`hatdet.export.formats.table.FORMATS`.
        image_size: one or two numbers, (h, w); None: the config's.
        image_path: images for calibration and checks; None: the config's data.
        out_dir: None: beside the checkpoint, or the work dir.
        out: the results file; None: ``export-results.json`` beside the files.
        device: for calibration and evaluation; None: the config's.
        evaluate: score the int8 file.
        emit_decoder: write decoders of the int8 file; decoder_score_thr: their threshold, None: evaluation's.
        bundle: folder for what a board's program needs; None: none. board: name of the one that it is for.
    """

    checkpoint: str | None = None
    stage: str | None = None
    formats: Sequence[str] = ("tflite",)
    image_size: Sequence[int] | None = None
    image_path: str | None = None
    out_dir: str | None = None
    out: str | None = None
    device: str | None = None
    evaluate: bool = False
    emit_decoder: bool = False
    decoder_score_thr: float | None = None
    bundle: str | None = None
    board: str | None = None
    options: ExportOptions = field(default_factory=ExportOptions)


def export_model(path: str, config_options: Mapping[str, object], request: Request) -> bool:
    """Export as asked, print what was written and found, and record it; whether every check passed.

    Raises:
        UserError: anything that cannot be done, before files are written where possible.
    """
    if request.evaluate and "tflite" not in [row.name for row in choose_formats(request.formats)]:
        raise UserError("--evaluate scores the int8 .tflite: add --format tflite, or score a file with tools/test.py")
    checkpoint = find_checkpoint(request.checkpoint, Path(path).stem) if request.checkpoint is not None else None
    config = adopted_stage(load_config(path, config_options), request.stage or "int_infer", checkpoint)
    return export_adopted(config, checkpoint, request)


def export_adopted(config: Config, checkpoint: Path | None, request: Request) -> bool:
    """:func:`export_model` of a config that has what the checkpoint (None: the stage's own) was made with."""
    formats = choose_formats(request.formats)
    overrides = Overrides(score_thr=request.decoder_score_thr)
    config, image_size = sized(config, request.image_size, checkpoint)
    set_device(config, request.device)
    source = open_source(config, checkpoint, request.stage, request.image_path)
    job = make_job(config, request, source, image_size)
    if request.options.decode and not job.has_float:
        raise UserError(
            f"--decode is for float files, the weights are those of {source.kind}: integer files give raw maps; "
            "--emit-decoder writes what makes boxes of them"
        )
    if request.evaluate and job.graph.profile.litert is None:
        raise UserError(
            f"--evaluate runs the file in LiteRT, none of whose kernels compute in the arithmetic "
            f"{job.graph.profile.name!r}: leave it out"
        )
    facts = decoder_facts(source, job.graph) if request.emit_decoder else {}  # refused before anything is written
    if request.bundle is not None:
        check_devices(config, request, job)
    records = []
    for record in export_all(job, formats):
        print(describe(record), flush=True)
        records.append(record)
    results: dict[str, Any] = {
        "config": str(config.path),
        "stage": request.stage or ("int_infer" if checkpoint is None else source.kind),
        "checkpoint": request.checkpoint,
        "image_size": list(job.image_size),
    }
    made = {key: results[key] for key in ("stage", "checkpoint", "image_size")}  # other files come from elsewhere
    results["files"] = [{**record.record(), **made} for record in records]
    ok = all(record.ok for record in records)
    if request.emit_decoder:
        paths = emit_decoder(job.graph, facts, job.path("_int8"), overrides)
        results["decoder"] = [path.name for path in paths]
    int8 = next((record for record in records if record.format == INT8), None)
    if int8 is not None:
        results |= {k: v for k, v in int8.record().items() if k not in ("ok", "format")}
        if request.evaluate:
            results["evaluation"] = evaluate_both(source, int8.path)
            next(r for r in results["files"] if r["format"] == INT8)["evaluation"] = results["evaluation"]
            ok = ok and bool(results["evaluation"]["equal"])
        if request.bundle is not None:
            results["bundle"] = write_board_bundle(config, request, source, job, int8, ok)
    print(f"written: {write_results(job.stem.parent, results, request.out)}")
    return ok


def describe(record: FileRecord) -> str:
    """What the user reads of a file."""
    size = record.record()["bytes"] / 1e6
    return f"written: {record.path} ({record.format}, {size:.2f} MB)" + (f"\n{record.text}" if record.text else "")


def trained_size(checkpoint: Path) -> tuple[int, int] | None:
    """The imgsz that a checkpoint was trained with; None where it does not say."""
    size = trained_constants(read_without_tensors(checkpoint) or {}).get("imgsz")
    return (int(size[0]), int(size[1])) if isinstance(size, (tuple, list)) and len(size) == 2 else None


def sized(
    config: Config, asked: Sequence[int] | None, checkpoint: Path | None
) -> tuple[Config, tuple[int, int] | None]:
    """The config, and the image size to export at (None: that of the validation batches).

    ``asked`` rebinds the config's ``imgsz``, so that the preprocessing follows.

    Raises:
        UserError: the size does not suit the strides.
    """
    trained = trained_size(checkpoint) if checkpoint is not None else None
    configured = config_image_size(config)
    size = configured if asked is None else (int(asked[0]), int(asked[-1]))
    if size is not None:
        check_strides(config, size)
        usual, what = (trained, "the checkpoint was trained with") if trained else (configured, "the config has")
        if usual is not None and size != usual:
            print(f"warning: {what} imgsz={usual}; exporting at {size} may cost accuracy")
        if configured is not None and size != configured:
            config = load_config(config.path, {**config.options, "imgsz": size})
    return config, size


def check_strides(config: Config, size: Sequence[int]) -> None:
    """Refuse an image size (one or two numbers) that the network's strides do not divide, or, where the coarsest map
    needs no whole cells, the config's ``size_divisor``.

    Raises:
        UserError: with the size and the strides.
    """
    largest = int(config.get("size_divisor") or max(config.get("strides") or (1,)))
    if any(n % largest for n in size):
        raise UserError(
            f"--imgsz {size[0]} {size[-1]} does not suit the strides {config['strides']}: use multiples of {largest}"
        )


def make_job(config: Config, request: Request, source: Source, image_size: tuple[int, int] | None) -> ExportJob:
    """The job that the formats are given."""
    predictor = source.predictor
    if image_size is None:
        height, width = next(iter(predictor.data_loader))["img"].shape[2:]
        image_size = (int(height), int(width))
    size = image_size
    if request.options.decode and not callable(getattr(source.task, "decoding", None)):
        raise UserError(f"--decode makes boxes of maps, and {type(source.task).__name__} gives no boxes; leave it out")
    table = class_table(predictor.data_loader)
    facts = {**source.task.metadata(), "image_size": list(size), **recipe_of(config)}
    if table is not None:
        facts["classes"] = table.names

    def pixels(count: int) -> torch.Tensor:
        batches = image_batches(request.image_path, predictor, count) if request.image_path else predictor.data_loader
        return real_images(batches, size, count)

    return ExportJob(
        stem=stem(config, request),
        image_size=size,
        options=replace(request.options, weights_as=request.options.weights_as or stored_weights(config, request)),
        make_detector=source.detector if source.kind == "float" else None,
        make_graph=lambda: source.graph(size),
        make_pixels=pixels,
        make_codes=lambda raw: source.codes(raw, size),
        facts=facts,
        source=source.kind,
    )


def stored_weights(config: Config, request: Request) -> str | None:
    """How the target that is asked for, else the config's, has 4-bit weights."""
    target, _ = devices(config, request)
    return target.weights_as if target is not None else None


def stem(config: Config, request: Request) -> Path:
    """Folder and name without suffix of the files."""
    if request.checkpoint is not None and request.stage is None:
        return Path(request.out_dir or Path(request.checkpoint).parent) / stem_of(request.checkpoint)
    work_dir = config.get("work_dir") or os.path.join("work_dirs", config.name)
    return Path(request.out_dir or work_dir) / f"{request.stage or 'int_infer'}-model"


def real_images(batches: Any, size: tuple[int, int], count: int) -> torch.Tensor:
    """The first images of a loader: uint8 (n, 3, h, w) on the CPU, n <= ``count``.

    Raises:
        UserError: none, or of another size than the model's.
    """
    parts: list[torch.Tensor] = []
    found = 0
    for batch in batches:
        pixels = batch["img"][: count - found].cpu()
        if tuple(pixels.shape[2:]) != size:
            raise UserError(
                f"the model takes images of {size} (h, w), the validation data has {tuple(pixels.shape[2:])}; export "
                "with that size (--imgsz H W) or set imgsz in the config"
            )
        parts.append(pixels)
        found += len(pixels)
        if found >= count:
            break
    if not parts:
        raise UserError(
            "the validation data has no images to compare the runtimes on"
            "; add some, or leave the comparison out with --verify 0"
        )
    return torch.cat(parts)


def evaluate_both(source: Source, path: Path) -> dict[str, Any]:
    """Metric values of int_infer and of the file under the kernels of its arithmetic; they are printed."""
    predictor, model = source.predictor, source.int_model()
    values: dict[str, dict[str, float]] = {}
    seconds: dict[str, float] = {}
    networks = {"int_infer": model}
    data = path.read_bytes()
    own = known_kernels(path, data)
    other = other_kernels(file_arithmetic(data))
    for name, kernels in (("tflite", own), ("tflite_default_kernels", other)):
        try:
            networks[name] = TFLiteDetector(detector=model.task, model=path, kernels=kernels)
        except ModelRefused as error:
            if kernels == own:
                raise
            print(f"{error}; programs that use these kernels cannot run it (not part of the verdict)")
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
    record = evaluation_record(values["int_infer"], values["tflite"], f"LiteRT {own}")
    print(predictor.val_metrics.format(values["tflite"]))
    file = f"of the file under LiteRT's {own} kernels", values["tflite"]
    print(compared(values["int_infer"], file, record["different"]))
    if (default := values.get("tflite_default_kernels")) is not None:
        value = f"{headline(default)} of the file under LiteRT's {other} kernels {shown(default, headline(default))}"
        second = PROFILES.get(file_second(data) or "")
        role = "not part of the verdict"
        if second is not None and second.litert == other:
            role = f"the second arithmetic, {second.name}"
        print(f"{value} ({role})")
    return {**record, "tflite_default_kernels": default or {}, "seconds": seconds}
