"""Runs the demo: renders the data, walks the road, judges and reports."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatdet.commands.demo.render import render_dataset
from hatdet.commands.demo.road import RoadSettings, StepResult, describe, road, run_step, tail
from hatdet.commands.demo.summary import DemoResult, StageRow, build_report, format_table, judge
from hatdet.commands.report.reading import read_run, weight_bytes
from hatdet.utils.errors import UserError
from hatdet.visualization.draw import Image
from hatdet.visualization.pictures import batch_picture

MARKER = ".hatdet_demo"
STAGES = ("float", "calibration", "qat", "int_infer")


def run_demo(settings: RoadSettings, train_images: int = 320, val_images: int = 80, seed: int = 0) -> int:
    """The whole demo; prints as it goes.

    Returns:
        0 where every step worked and every requirement holds, else 1.

    Raises:
        UserError: the output folder holds something else.
    """
    started = time.monotonic()
    prepare_folder(settings.out)
    steps = road(settings)
    print(f"rendering {train_images} + {val_images} images into {settings.images}")
    counts = render_dataset(settings.images, train_images, val_images, seed)
    print(f"      {counts['train']} + {counts['val']} objects of {settings.num_classes} classes")
    finished: dict[str, StepResult] = {}
    for number, step in enumerate(steps, start=1):
        result = run_step(step, number, len(steps), settings.out / "logs")
        finished[step.name] = result
        took = f"{result.seconds:.0f} s ({result.cpu_seconds:.0f} s of processor time)"
        print(f"      done in {took}" if result.status in step.accepted else f"      FAILED after {took}", flush=True)
        if result.status not in step.accepted:
            print(f"\n{step.command_line()}\nended with status {result.status}; its last lines ({result.log}):\n")
            print(tail(result.log))
            return 1
    return finish(settings, finished, time.monotonic() - started)


def prepare_folder(out: Path) -> None:
    """An empty folder: a former demo's is cleared, anything else is left alone.

    Raises:
        UserError: it holds files that are not a demo's.
    """
    if out.exists() and any(out.iterdir()):
        if not (out / MARKER).is_file():
            raise UserError(f"{out} is not empty and no former demo: choose another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()


def finish(settings: RoadSettings, finished: Mapping[str, StepResult], seconds: float) -> int:
    """Collect what the steps wrote, print the table and the verdicts, write the report."""
    values = {stage: read_metrics(settings.work_dir / stage / "predict.json") for stage in STAGES}
    export = read_export(settings.work_dir, finished["export-int_infer"].log)
    verdicts = judge(
        values["float"]["AP"],
        values["int_infer"]["AP"],
        best_validation(settings.work_dir / "qat"),
        export["differing"],
    )
    result = DemoResult(
        rows=table_rows(settings, values, export, finished),
        verdicts=verdicts,
        commands=describe([r.step for r in finished.values()]),
        run=read_run(settings.work_dir),
        training_picture=training_picture(settings),
        metric_text=tail(finished["predict-int_infer"].log, 40),
        total_seconds=seconds,
    )
    report = build_report(result).write(settings.out / "report.html")
    print("\n" + format_table(result.rows) + "\n")
    print(export["line"])
    for verdict in verdicts:
        print(("ok      " if verdict.passed else "FAILED  ") + verdict.text)
    print(f"\n{seconds / 60:.1f} minutes; report: {report}")
    return 0 if all(verdict.passed for verdict in verdicts) else 1


def training_picture(settings: RoadSettings) -> Image:
    """The first batch of the float training, as the network sees it: Mosaic, MixUp, colours, flips."""
    from hatdet.building import Builder
    from hatdet.config.load import load_config
    from hatdet.config.options import parse_options

    options = parse_options([*settings.options()[1:], "workers=0"])
    loader = Builder().build(load_config(settings.config, options)["data_loader"])
    return batch_picture(next(iter(loader)), loader.dataset.classes)


def read_metrics(path: Path) -> dict[str, float]:
    """The metric's values that `hatdet predict` wrote."""
    values: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    return values


def read_export(work_dir: Path, log: Path) -> dict[str, Any]:
    """Of `export-results.json` and the log: differing values, the verdict line, the file's metric values and size."""
    path = next(iter(sorted(work_dir.rglob("export-results.json"))), None)
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path else {}
    parity = content.get("parity") or {}
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("parity:")]
    evaluation = content.get("evaluation") or {}
    model = next(iter(sorted(path.parent.rglob("*.tflite"))), None) if path else None
    return {
        "differing": parity.get("differing") if parity.get("compared") else None,
        "line": lines[0] if lines else "parity: no result",
        "metrics": evaluation.get("tflite") or {},
        "size": model.stat().st_size if model else None,
    }


def best_validation(folder: Path) -> float | None:
    """The highest AP that a stage's validation reported, to the last digit: from its best checkpoint."""
    from hatdet.utils.checkpoints.checkpoint import load_checkpoint

    path = folder.parent / f"{folder.name}-checkpoint-best.pth.tar"
    if not path.is_file():
        return None
    metrics = load_checkpoint(path).get("metrics") or {}
    return float(metrics["AP"]) if "AP" in metrics else None


def table_rows(
    settings: RoadSettings,
    values: Mapping[str, Mapping[str, float]],
    export: Mapping[str, Any],
    finished: Mapping[str, StepResult],
) -> list[StageRow]:
    """The table; time is that of training, for int_infer of its evaluation, for tflite of export and its checks."""
    steps = {stage: f"train-{stage}" for stage in STAGES} | {"int_infer": "predict-int_infer"}
    graph = settings.work_dir / "int_infer-graph.pth.tar"
    size = {
        "float": weight_bytes(settings.work_dir / "float-checkpoint-best.pth.tar"),
        "int_infer": graph.stat().st_size if graph.is_file() else None,
    }
    rows = [
        StageRow(
            stage, values[stage]["AP"], values[stage]["AP50"], size.get(stage), finished[steps[stage]].seconds,
            "evaluation" if stage == "int_infer" else "training",
        )
        for stage in STAGES
    ]
    exported = export["metrics"]
    seconds = finished["export-int_infer"].seconds
    tflite = StageRow("tflite", exported.get("AP"), exported.get("AP50"), export["size"], seconds, "export")
    return [*rows, tflite]
