"""A run's folder as a :class:`~hatdet.commands.models.rows.Row`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatdet.building import Builder
from hatdet.commands.models.rows import NPUS, Row
from hatdet.commands.report.reading import RunFacts, StageFacts, read_run
from hatdet.config.parts import check_origin, read_parts, without_first_weights
from hatdet.config.shipped import SCHEME
from hatdet.engine.checkpoints.provenance import read_record
from hatdet.export.runtimes.arena import measure_arena
from hatdet.export.targets.table import get_target
from hatdet.export.tflite.file_operators import read_file
from hatdet.export.vela.compile import compile_file
from hatdet.export.vela.report import performance_report
from hatdet.inference.recipe import model_of
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.errors import UserError

METRICS = ("F1", "AP")
"""The first of them that a run's validation has is the row's."""
STAGES = ("float", "calibration", "qat")
_COMMON = re.compile(r"_(small_data|8xb\d+_\d+e_coco)")
_APART = frozenset((
    "data_root", "train_ann_file", "train_img_prefix", "val_ann_file", "val_img_prefix", "classes", "num_classes",
    "imgsz", "seed", "epochs", "max_epochs", "qat_epochs", "work_dir", "ckpt_dir", "workers", "amp", "run_pictures",
    "device", "batch_size", "val_batch_size", "val_interval", "recipe",
))  # fmt: skip
"""Options that are columns of their own, or that change neither network nor recipe."""


def row_of(folder: Path, data: str | None = None) -> Row:
    """Measure the int8 file of a run, and read its scores.

    Args:
        folder: of a run that went through all stages and an export with --verify and --evaluate.
        data: name of the data set; None: that of its folder.

    Raises:
        UserError: a stage, the file or its proof is missing.
    """
    run = read_run(folder, arena=False)
    scores, metric = _scores(run)
    file = _proved_file(run)
    record, trained_in = (_record(folder, stage) for stage in ("qat", "float"))
    constants: Mapping[str, Any] = record["constants"]
    content = file.read_bytes()
    model = read_file(content)
    plain = record["file_values"]
    options = {k: v for k, v in record["options"].items() if k not in _APART and (k not in plain or plain[k] != v)}
    trained = trained_in["data"]["training"]
    return Row(
        model=_COMMON.sub("", Path(record["config"]).stem),
        config=_config_name(record["config"]),
        options=options,
        size=tuple(constants["imgsz"]),
        data=data or Path(str(constants.get("data_root") or "data")).name,
        pictures=int(trained["images"]),
        classes=len(trained["classes"]),
        seed=int(constants.get("seed") or 0),
        epochs=int(trained_in["constants"]["epochs"]),
        qat_epochs=_epochs(run, "qat"),
        seconds={name: round(found) for name in ("float", "qat") if (found := _seconds(run, name)) is not None},
        parameters=_parameters(folder / "float-checkpoint-best.pth.tar"),
        macs=model.macs,
        flash=len(content),
        activations=model.peak_activation()[0],
        arena=_arena(content),
        npu={name: _npu(name, content) for name in NPUS},
        metric=metric,
        scores={name: float(values[metric]) for name, values in scores.items()},
        scores50={name: float(values["AP50"]) for name, values in scores.items()} if metric == "AP" else {},
    )


def _scores(run: RunFacts) -> tuple[dict[str, Mapping[str, float]], str]:
    """By stage, and which of them counts; qat's are those of the integer model, as predict measured them."""
    found: dict[str, Mapping[str, float]] = {}
    for name in STAGES:
        stage: StageFacts | None = run.stages.get("int_infer" if name == "qat" else name)
        if stage is None and name == "float" and (trained := _trained_scores(run.folder)):
            found[name] = trained
            continue
        if stage is None or stage.scores is None or (name == "qat" and stage.validated):
            words = ("predict", "--stage", "int_infer") if name == "qat" else ("train", "--stage", name)
            command = run.command(*words)
            raise UserError(f"{run.folder} has no scores of stage {name}; make them first: {command}")
        if stage.stale:
            raise UserError(f"{run.folder}: the scores of {stage.name} are of other weights than those in the folder; "
                            f"score it again: {run.command('predict', '--stage', stage.name)}")  # fmt: skip
        found[name] = stage.scores
    metric = next((name for name in METRICS if all(name in values for values in found.values())), None)
    if metric is None:
        raise UserError(f"{run.folder} has neither {' nor '.join(METRICS)} in its scores; name runs of detectors")
    return found, metric


def _record(folder: Path, stage: str) -> Mapping[str, Any]:
    record = read_record(folder / f"{stage}-checkpoint-best.pth.tar")
    if record is None:
        raise UserError(f"{folder}: its {stage} checkpoint does not say how it was made; train it with this version")
    return record


def _trained_scores(folder: Path) -> Mapping[str, float]:
    """Of a float checkpoint that was trained in another folder: what it scored there."""
    path = folder / "float-checkpoint-best.pth.tar"
    return load_checkpoint(path).get("metrics") or {} if path.is_file() else {}


def _proved_file(run: RunFacts) -> Path:
    """The int8 file, if its export found it equal in values and scores."""
    export = run.export or {}
    evaluation, parity = export.get("evaluation") or {}, export.get("parity") or {}
    if run.model is None or not evaluation or not parity:
        raise UserError(f"{run.folder} has no int8 file with a proof; make it: "
                        + run.command("export", "--format", "tflite", "--verify", "16", "--evaluate"))  # fmt: skip
    if not evaluation.get("equal") or parity.get("differing"):
        raise UserError(f"{run.folder}: by its export, the file is not the integer model; export it again and see why")
    return run.model


def _epochs(run: RunFacts, name: str) -> int:
    stage = run.stages.get(name)
    return (stage.epochs or 0) if stage is not None else 0


def _seconds(run: RunFacts, name: str) -> float | None:
    stage = run.stages.get(name)
    return stage.seconds if stage is not None else None


def _config_name(path: str) -> str:
    """A shipped config by its short name, any other as it was given."""
    parts = Path(path.removeprefix(SCHEME)).as_posix().split("configs/")
    return parts[-1] if len(parts) > 1 or path.startswith(SCHEME) else path


def _parameters(file: Path) -> int:
    """Of the float network in a checkpoint, which says itself what it is made of."""
    text = load_checkpoint(file).get("config")
    model = model_of(read_parts(text)) if isinstance(text, str) else None
    if not isinstance(model, Mapping):
        raise UserError(f"{file} does not say what its model is made of; train it with this version")
    made = without_first_weights(model)
    check_origin(made, str(file))
    return sum(p.numel() for p in Builder().build(made, "model").parameters())


def _arena(content: bytes) -> int | None:
    try:
        return measure_arena(content).needed
    except UserError:  # it runs no such file, or is not here: the column stays empty
        return None


def _npu(name: str, content: bytes) -> dict[str, float]:
    compiled = compile_file(content, get_target(name))
    totals = performance_report(compiled, content, "", "").totals
    return {
        "ms": round(totals["latency_ms"], 3),
        "sram": totals["sram_bytes"],
        "flash": len(compiled.data),
        "cpu_operators": totals["cpu_operators"],
    }
