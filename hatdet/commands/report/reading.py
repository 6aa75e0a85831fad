"""What the files of a run say, as plain values; what is not there is None."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatdet.commands.shared.judged import FILE, VERSION
from hatdet.metrics.history import read_history
from hatdet.utils.class_names import listed
from hatdet.utils.errors import UserError

STAGES = ("float", "calibration", "qat", "int_infer")
Values = Mapping[str, float]
_NEEDED: Mapping[str, Mapping[str, type]] = {
    "predict.json": {"metrics": dict},
    FILE: {
        "classes": list, "by_class": list, "curves": dict, "confusion": list, "counts": dict, "images": int,
        "objects": list, "pictures_with_mistakes": int, "source": str, "threshold": float, "worst": list,
    },
    "quant_analysis.json": {"layers": list, "tested": str, "reference": str, "images": int, "notes": list},
    "export-results.json": {},
}  # fmt: skip
_NEEDED_OF_VELA: Mapping[str, type] = {"target": str, "totals": dict, "vela": str}
"""What is read of each file: one that lacks it was written by another version, or by hand."""
_FACTS = ("model", "device", "training data", "validation data")


@dataclass(frozen=True)
class StageFacts:
    """One stage.

    Attributes:
        scores: of `predict.json`; where that is not there, of the best validation of `results.csv` (``validated``).
        seconds: of training, the epochs alone. scored_in, images: of the evaluation: seconds, and how many pictures.
        weights: bytes of the weights as floats; None for other stages than float.
        stale: the scores are of other weights than those that are in the folder now.
    """

    name: str
    scores: Values | None = None
    validated: bool = False
    seconds: float | None = None
    epochs: int | None = None
    scored_in: float | None = None
    images: int | None = None
    weights: int | None = None
    history: Path | None = None
    stale: bool = False


@dataclass
class RunFacts:
    """A run.

    Attributes:
        judged: the stage whose `evaluation.json` is shown, and that file's content and folder.
        export: `export-results.json`. model: the int8 .tflite. memory: what is measured of it, by name.
        quantization: `quant_analysis.json`. vela: reports of compile_perf. logged: lines of the log by their beginning.
        absent: what is not there, and the command that makes it; filled in while the page is made too.
    """

    folder: Path
    stages: dict[str, StageFacts]
    judged: tuple[str, dict[str, Any], Path] | None = None
    export: dict[str, Any] | None = None
    model: Path | None = None
    memory: dict[str, str] = field(default_factory=dict)
    quantization: dict[str, Any] | None = None
    vela: list[dict[str, Any]] = field(default_factory=list)
    logged: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    def command(self, name: str, *words: str) -> str:
        """A command on this run, as a shell takes it."""
        return shlex.join(["hatdet", name, self.logged.get("config", "CONFIG"), *words, "--work-dir", str(self.folder)])

    def lacks(self, what: str, command: str = "") -> str:
        """Note that something is not there, for who runs the command; gives the text for the page as it is."""
        self.absent.append(f"{what}: `{command}`" if command else what)
        return command


def read_run(folder: Path, stage: str | None = None, arena: bool = True) -> RunFacts:
    """Read a run's folder.

    Args:
        stage: whose detections are shown; None: the last one that has them. arena: measure it.

    Raises:
        UserError: it is no folder of a run, a file in it is damaged, or that stage was not evaluated.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; name the folder of a run: work_dirs/CONFIG, or its --work-dir")
    stages = {name: stage_facts for name in STAGES if (stage_facts := _stage(folder, name)) is not None}
    export = _json(folder / "export-results.json")
    if not stages and export is None and folder.name in STAGES:
        raise UserError(
            f"{folder} is the folder of a stage: name that of its run, {folder.parent}, and --stage {folder.name}"
        )
    if not stages and export is None:
        raise UserError(
            f"{folder} holds no run: none of {', '.join(STAGES)} is in it; name the folder that training wrote into"
        )
    run = RunFacts(folder, stages, export=export, logged=_logged(folder))
    run.judged = _judged(folder, stage)
    run.quantization = _json(folder / "quant_analysis" / "quant_analysis.json")
    run.vela = [found for path in sorted((folder / "compile_perf").glob("*_perf.json")) if (found := _json(path))]
    run.model = _model(folder, export)
    if run.model is not None:
        from hatdet.commands.report.memory import memory_of

        run.memory = memory_of(run.model, arena)
    return run


def _stage(folder: Path, name: str) -> StageFacts | None:
    predicted, table = _json(folder / name / "predict.json"), folder / name / "results.csv"
    columns = read_history(table) if table.is_file() else {}
    if predicted is None and not columns:
        return None
    times = [value for value in columns.get("time/epoch", ()) if value is not None]
    scores: Values | None = predicted["metrics"] if predicted else None
    return StageFacts(
        name,
        scores=scores if scores is not None else best_row(columns),
        validated=scores is None,
        seconds=sum(times) if times else None,
        epochs=len(times) or None,
        scored_in=(predicted or {}).get("seconds"),
        images=(predicted or {}).get("images"),
        weights=weight_bytes(folder / "float-checkpoint-best.pth.tar") if name == "float" else None,
        history=table if columns else None,
        stale=_is_stale(folder, (predicted or {}).get("digests") or {}),
    )


def best_row(columns: Mapping[str, list[float | None]]) -> Values | None:
    """The values of the validation with the highest F1 of points or AP, without ``val/``; None where there was none."""
    prefix = "val/"
    main = next((key for key in ("val/F1", "val/AP", "val/mAP", "val/top1") if key in columns), None)
    if main is None:
        return None
    measured = [(value, row) for row, value in enumerate(columns[main]) if value is not None]
    if not measured:
        return None
    row = max(measured)[1]
    found = {key.removeprefix(prefix): values[row] for key, values in columns.items() if key.startswith(prefix)}
    return {key: value for key, value in found.items() if value is not None}


def _is_stale(folder: Path, digests: Mapping[str, str]) -> bool:
    """Whether a file that was scored holds other weights now."""
    from hatdet.engine.checkpoints.provenance import file_digest

    there = {name: folder / Path(name).name for name in digests}
    return any(path.is_file() and file_digest(path) != digests[name] for name, path in there.items())


def weight_bytes(path: Path) -> int | None:
    """Size of a checkpoint's weights alone, as a float file would ship them; None where there is none."""
    if not path.is_file():
        return None
    from hatdet.utils.checkpoints.checkpoint import load_checkpoint

    return sum(tensor.numel() * tensor.element_size() for tensor in load_checkpoint(path)["state_dict"].values())


def _judged(folder: Path, stage: str | None) -> tuple[str, dict[str, Any], Path] | None:
    for name in reversed(STAGES) if stage is None else (stage,):
        found = _json(folder / name / FILE)
        if found is not None and found.get("version") != VERSION:
            raise UserError(
                f"{folder / name / FILE} is of another version of hatdet: run `hatdet predict CONFIG --stage {name}` "
                "again, or remove it"
            )
        if found is not None:
            return name, found, folder / name
    if stage is not None:
        raise UserError(
            f"{folder / stage} has no evaluation.json: `hatdet predict CONFIG --stage {stage}` writes it; run that, or "
            "name another stage"
        )
    return None


def _model(folder: Path, export: Mapping[str, Any] | None) -> Path | None:
    named = folder / str((export or {}).get("file") or "")
    if named.is_file() and named.suffix == ".tflite":
        return named
    return next(iter(sorted(folder.glob("*int8.tflite"))), None)


def _logged(folder: Path) -> dict[str, str]:
    """From the first log of the run: what was trained, on what, with what."""
    path = next((p for name in STAGES if (p := folder / name / "log.txt").is_file()), None)
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[:200] if path else ():
        text = re.sub(r"^\S+ \S+ INFO ", "", line)
        if match := re.match(r"stage \w+ of (.+?) \((.+)\)$", text):
            found |= {"config": match[1], "versions": match[2]}
        key = text.split(":")[0]
        if key in _FACTS and key not in found:
            found[key] = text[len(key) + 1 :].strip()
    return found


def _json(path: Path) -> dict[str, Any] | None:
    """None where it is not there.

    Raises:
        UserError: it is damaged, or lacks what is read of it.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        why = "" if isinstance(content, dict) else "no json object"
    except (ValueError, RecursionError) as error:
        content, why = {}, str(error)
    if not why and (path.name != FILE or content.get("version") == VERSION):  # of another version: the caller says so
        needed = _NEEDED.get(path.name, _NEEDED_OF_VELA)
        lacking = [name for name, kind in needed.items() if not isinstance(content.get(name), kind)]
        why = f"it has no {listed(lacking, 3)}" if lacking else ""
    if why:
        raise UserError(f"{path} is damaged ({why}): run the command that wrote it again, or remove it")
    return content
