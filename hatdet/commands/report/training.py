"""The stages beside each other, and the curves of their training."""

from __future__ import annotations

from collections.abc import Sequence

from hatdet.commands.report.reading import RunFacts, StageFacts, Values
from hatdet.visualization.charts import line_chart
from hatdet.visualization.evaluation import history_lines, values_range
from hatdet.visualization.page.blocks import chart, charts, listing, missing, paragraph, table
from hatdet.visualization.page.page import Page

NONE = "–"
CHART = {"width": 360, "height": 250, "bare": True}
KEYS = ("F1", "AP", "AP50", "AP75", "mAP", "top1")
TITLES = {"loss": "loss", "AP": "AP of validations", "lr": "learning rate"}
TIMES = (
    "Training: the sum of the epochs' times, without validations and start; of the calibration, its pictures.",
    "Evaluation: reading the pictures, running the model and scoring, on the machine that did it. It is no latency of "
    "the device, which stands under Deployment.",
)


def training_sections(page: Page, run: RunFacts) -> None:
    """The table and the curves."""
    _stages(page, run)
    blocks = []
    for name, stage in run.stages.items():
        if stage.history is None or name == "calibration":
            continue
        x, groups = history_lines(stage.history)
        for group, lines in groups.items():
            lines = {key.split("/", 1)[-1]: points for key, points in lines.items()}
            title = f"{name}: {TITLES[group]}"
            svg = line_chart(lines, title, x, "", y_range=values_range(lines), **CHART)  # type: ignore[arg-type]
            blocks.append(chart(svg, title, list(lines)))
    if not blocks:
        text = "No results.csv of a training is in the folder, so there are no curves."
        page.section("Training", missing(text, run.lacks("curves of the training", run.command("train"))))
    else:
        page.section("Training", charts(*blocks), wide=True)


def duration(seconds: float | None) -> str:
    """ "0.8 s", "45 s", "12 min 3 s", "2 h 5 min"."""
    if seconds is None:
        return NONE
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def megabytes(size: float | None) -> str:
    return NONE if size is None else f"{size / 1e6:.2f} MB"


def number(scores: Values | None, key: str) -> str:
    """A score with three places; a dash where it was not measured."""
    value = (scores or {}).get(key, -1.0)
    return f"{value:.3f}" if value is not None and value >= 0 else NONE


def _stages(page: Page, run: RunFacts) -> None:
    keys = _keys(run)
    rows = [_row(stage, keys) for stage in run.stages.values()]
    evaluation = (run.export or {}).get("evaluation") or {}
    size = run.model.stat().st_size if run.model else None
    if run.model is not None:
        seconds = (evaluation.get("seconds") or {}).get("tflite")
        scores = [number(evaluation.get("tflite"), key) for key in keys]
        rows.append([".tflite", *scores, megabytes(size), NONE, duration(seconds)])
        if not evaluation:
            run.lacks("AP of the .tflite", run.command("export", "--evaluate"))
    notes, blocks = list(TIMES), []
    if any(stage.validated for stage in run.stages.values()):
        notes.insert(0, "* of the best validation while training; `hatdet predict` scores the checkpoint.")
    notes.insert(0, "Size: of the float weights alone, and of the file for the device.")
    for stage in run.stages.values():
        if stage.stale:
            command = run.lacks(f"scores of the present weights of {stage.name}",
                                run.command("predict", "--stage", stage.name))  # fmt: skip
            text = f"{stage.name} was trained again after it was scored: its scores and pictures are of former weights."
            blocks.append(missing(text, command))
    page.section("Stages", table(["stage", *keys, "size", "training", "evaluation"], rows), *blocks, *_verdict(run),
                 listing(notes, "soft"), wide=True)  # fmt: skip


def _keys(run: RunFacts) -> Sequence[str]:
    there = {key for stage in run.stages.values() for key in stage.scores or {}}
    return [key for key in KEYS if key in there] or ["AP"]


def _row(stage: StageFacts, keys: Sequence[str]) -> list[str]:
    star = "*" if stage.validated and stage.scores else ""
    counted = stage.epochs and stage.name != "calibration"
    epochs = f" ({stage.epochs} epoch{'' if stage.epochs == 1 else 's'})" if counted else ""
    scored = duration(stage.scored_in)
    if stage.scored_in and stage.images:
        scored += f" ({stage.images} pictures)"
    scores = [number(stage.scores, key) + (star if number(stage.scores, key) != NONE else "") for key in keys]
    return [stage.name, *scores, megabytes(stage.weights), duration(stage.seconds) + epochs, scored]


def _verdict(run: RunFacts) -> list[str]:
    """What quantization cost, and whether the file is the model that was evaluated."""
    blocks = []
    first, last = run.stages.get("float"), run.stages.get("int_infer")
    key = next(iter(_keys(run)))
    before, after = ((stage.scores or {}).get(key, -1.0) if stage else -1.0 for stage in (first, last))
    if min(before, after) >= 0:
        change = 100 * (after - before)
        where = f"{abs(change):.2f} points of {key} {'above' if change > 0 else 'below'} float"
        text = f"The integer model is {where}." if abs(change) >= 0.005 else "The integer model is as good as float."
        blocks.append(paragraph(text, "good" if change >= -1 else "warn"))
    exported = ((run.export or {}).get("evaluation") or {}).get("int_infer") or {}
    if last and last.scores and not last.validated and exported and exported.get("AP") != last.scores.get("AP"):
        text = "The .tflite is of another model than the one that int_infer was scored with: export it again."
        blocks.append(paragraph(text, "bad"))
    parity = (run.export or {}).get("parity") or {}
    if parity.get("compared"):
        differing = parity.get("differing")
        same = not differing
        text = f"{parity['compared']:,} output values of the .tflite compared with the integer model: "
        text += "all are equal." if same else f"{differing:,} differ."
        blocks.append(paragraph(text, "good" if same else "bad"))
    elif parity.get("unproven"):
        blocks.append(paragraph(f"The .tflite was {parity['unproven']}.", "warn"))
    return blocks
