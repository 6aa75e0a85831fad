"""The body of ``tools/export_onnx.py``: the model of a stage as ONNX, under HAT's command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatdet.commands.export.run import Request, check_strides, describe, make_job, sized
from hatdet.commands.export.source import open_source
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.engine.checkpoints.lineage import adopted_stage
from hatdet.engine.stages import PREDICT_STAGES, best_checkpoint, command_line, work_dir_of
from hatdet.export.delivery import write_results
from hatdet.export.formats.onnx import check_switches, export_exact_onnx, export_float_onnx, export_qdq_onnx
from hatdet.export.formats.table import ExportJob, ExportOptions, FileRecord
from hatdet.export.onnx.file import DEFAULT_OPSET, MIN_INTEGER_OPSET, MIN_OPSET, check_opset
from hatdet.inference.checkpoints import find_checkpoint, kind_of, set_device
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.errors import UserError, did_you_mean

FORMS = {"float": ".onnx", "qdq": "_int8_qdq.onnx", "exact": "_int8_exact.onnx"}


@dataclass(frozen=True)
class OnnxRequest:
    """What the command line asks for.

    Attributes:
        stage: ``float``, ``calibration``, ``qat`` or ``int_infer``; None: see :func:`choose_stage`.
        checkpoint: weights; None: the stage's best.
        forms: of ``float``, ``qdq``, ``exact``; None: float of the float stage, qdq and exact of the others.
        out: the file, where one form is written; None: ``<work_dir>/<stage>-model`` and the form's ending.
        image_size: one or two numbers, (h, w); None: the config's.
        image_path: images for calibration and comparisons; None: the config's data.
        device: for calibration; None: the config's.
    """

    stage: str | None = None
    checkpoint: str | None = None
    forms: Sequence[str] | None = None
    out: str | None = None
    image_size: Sequence[int] | None = None
    image_path: str | None = None
    device: str | None = None
    options: ExportOptions = field(default_factory=ExportOptions)


def export_onnx(path: str, config_options: Mapping[str, object], request: OnnxRequest) -> bool:
    """Write the ONNX files of a stage, print and record what was found; whether every comparison passed.

    Raises:
        UserError: anything that cannot be done, before files are written where possible.
    """
    check_forms(request)
    checkpoint = find_checkpoint(request.checkpoint, Path(path).stem) if request.checkpoint is not None else None
    plain = load_config(path, config_options)
    check_strides(plain, request.image_size or ())
    stage, why = choose_stage(plain, request.stage, checkpoint)
    forms = request.forms or (("float",) if stage == "float" else ("qdq", "exact"))
    check_one_file(request, forms)
    check_switches(request.options, has_float="float" in forms, has_exact="exact" in forms)
    if stage == "float" and checkpoint is None:
        checkpoint = best_float(plain)
    config, image_size = sized(adopted_stage(plain, stage, checkpoint), request.image_size, checkpoint)
    set_device(config, request.device)
    print(f"stage {stage}: {why}", flush=True)
    # Float weights are known by their keys; no other stage loads them.
    source = open_source(config, checkpoint, stage if stage != "float" else None, request.image_path)
    job = make_job(config, Request(image_path=request.image_path, options=request.options), source, image_size)
    job.stem = work_dir_of(config, f"{stage}-model")
    records = [write_form(job, form, Path(request.out) if request.out else job.path(FORMS[form])) for form in forms]
    for record in records:
        print(describe(record), flush=True)
    results: dict[str, Any] = {
        "config": str(config.path),
        "stage": stage,
        "checkpoint": str(checkpoint) if checkpoint is not None else None,
        "image_size": list(job.image_size),
    }
    made = {key: results[key] for key in ("stage", "checkpoint", "image_size")}
    results["files"] = [{**record.record(), **made} for record in records]
    name = Path(request.out).stem if request.out else job.stem.name
    folder = records[0].path.parent
    print(f"written: {write_results(folder, results, folder / f'{name}-results.json')}")
    return all(record.ok for record in records)


def check_forms(request: OnnxRequest) -> None:
    """Refuse forms that are none, an opset that a form has not, and a file that is no .onnx.

    Raises:
        UserError: with what is allowed.
    """
    for form in request.forms or ():
        if form not in FORMS:
            raise UserError(f"--form {form} is not available: use {', '.join(FORMS)}{did_you_mean(form, FORMS)}")
    if request.options.opset is not None:
        integer = request.stage not in (None, "float") or bool(set(request.forms or ()) & {"qdq", "exact"})
        check_opset(request.options.opset, MIN_INTEGER_OPSET if integer else MIN_OPSET)
    if request.out is not None and not request.out.endswith(".onnx"):
        raise UserError(f"--out {request.out}: the file is an .onnx; give a name that ends with .onnx")


def check_one_file(request: OnnxRequest, forms: Sequence[str]) -> None:
    """Refuse one file name for several forms.

    Raises:
        UserError: with the forms.
    """
    if request.out is not None and len(forms) > 1:
        raise UserError(
            f"--out names one file, and {' and '.join(forms)} are written: add --form {' or --form '.join(forms)}"
        )


def choose_stage(config: Config, asked: str | None, checkpoint: Path | None) -> tuple[str, str]:
    """(stage, why): the one asked for; else what the checkpoint holds; else ``onnx_cfg["stage"]`` of the config; else
    ``int_infer`` where calibration or QAT has left its best checkpoint, and ``float`` where neither has.

    Raises:
        UserError: the config names a stage that is none, or the checkpoint holds another stage's weights.
    """
    held = kind_of(config, load_checkpoint(checkpoint)) if checkpoint is not None else None
    if asked is not None:
        if held is not None and (held == "float") != (asked == "float"):
            what = "float" if held == "float" else "quantized"
            raise UserError(f"{checkpoint} holds {what} weights, not those of stage {asked}; leave --stage out")
        return asked, f"{checkpoint}" if checkpoint is not None else "its best checkpoint"
    if held is not None:
        return held, f"what {checkpoint} holds"
    wanted = (config.get("onnx_cfg") or {}).get("stage")
    if wanted is not None:
        if wanted not in PREDICT_STAGES:
            hint = did_you_mean(str(wanted), PREDICT_STAGES)
            raise UserError(f"onnx_cfg of {config.path} has stage={wanted!r}; use {', '.join(PREDICT_STAGES)}{hint}")
        return str(wanted), "as onnx_cfg of the config says; its best checkpoint"
    for stage in ("qat", "calibration"):
        if f"{stage}_trainer" in config and best_checkpoint(config, stage).is_file():
            return "int_infer", f"the best checkpoint of {stage}, the last stage that was trained"
    return "float", "its best checkpoint; no later stage was trained"


def best_float(config: Config) -> Path:
    """The best checkpoint of the float stage.

    Raises:
        UserError: there is none yet.
    """
    if "float_trainer" not in config:
        raise UserError(f"{config.path} has no float_trainer; name the weights with --ckpt FILE")
    path = best_checkpoint(config, "float")
    if not path.is_file():
        raise UserError(
            f"no {path.name.removesuffix('.pth.tar')} in {path.parent}: run "
            f"`{command_line(config, 'float')}` first, or name the weights with --ckpt FILE"
        )
    return path


def write_form(job: ExportJob, form: str, path: Path) -> FileRecord:
    """One file, compared on the job's images."""
    options = job.options
    opset = options.opset if options.opset is not None else DEFAULT_OPSET
    if form == "float":
        return export_float_onnx(
            job.detector,
            job.image_size,
            path,
            job.facts,
            pixels=job.pixels if options.verify else None,
            opset=opset,
            decode=options.decode,
            preprocess=options.preprocess,
            simplify=options.simplify,
        )
    codes = job.codes() if options.verify else None
    if form == "qdq":
        return export_qdq_onnx(job.graph, path, codes=codes, opset=opset)
    return export_exact_onnx(job.graph, path, codes=codes, opset=opset, intermediates=options.intermediates)
