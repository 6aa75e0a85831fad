"""What the demo found: the table, the verdicts and the HTML report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatdet.metrics.records import Boxes, from_coco, read_coco
from hatdet.visualization.charts import bar_chart
from hatdet.visualization.draw import Image, compare_with_truth
from hatdet.visualization.evaluation import evaluation_charts, history_charts
from hatdet.visualization.report import HtmlReport

MIN_FLOAT_AP = 0.2  # below it the model has learnt too little for a comparison to mean anything
MAX_LOSS = 0.010  # integer AP may be this much below float AP: 1.0 point
HEADER = ("stage", "AP", "AP50", "size", "time")


@dataclass(frozen=True)
class StageRow:
    """One line of the table; None where a stage has no such number. `seconds`: training or export, wall time."""

    stage: str
    ap: float | None = None
    ap50: float | None = None
    size: int | None = None
    seconds: float | None = None

    def cells(self) -> tuple[str, ...]:
        return (
            self.stage,
            "-" if self.ap is None else f"{self.ap:.3f}",
            "-" if self.ap50 is None else f"{self.ap50:.3f}",
            "-" if self.size is None else f"{self.size / 1e6:.2f} MB",
            "-" if self.seconds is None else f"{self.seconds:.0f} s",
        )


@dataclass(frozen=True)
class Verdict:
    """One requirement of the demo."""

    text: str
    passed: bool


@dataclass
class DemoResult:
    """Everything the report shows."""

    rows: list[StageRow]
    verdicts: list[Verdict]
    commands: str
    histories: dict[str, Path] = field(default_factory=dict)  # title -> results.csv
    annotations: Path | None = None  # ground truth of the validation images
    images: Path | None = None
    detections: Path | None = None  # COCO results of the integer model
    training_picture: Image | None = None
    metric_text: str = ""
    total_seconds: float = 0.0


def judge(float_ap: float, integer_ap: float, qat_ap: float | None, parity_differing: int | None) -> list[Verdict]:
    """The demo's requirements; `parity_differing` None: the check gave no number."""
    loss = float_ap - integer_ap
    verdicts = [
        Verdict(
            f"integer AP {integer_ap:.4f} against float AP {float_ap:.4f}: {100 * -loss:+.2f} points "
            f"(allowed: not below {-100 * MAX_LOSS:.1f})",
            loss <= MAX_LOSS,
        ),
        Verdict(f"float AP {float_ap:.3f} is at least {MIN_FLOAT_AP}", float_ap >= MIN_FLOAT_AP),
    ]
    if qat_ap is not None:
        same = "equals" if qat_ap == integer_ap else "differs from"
        verdicts.append(
            Verdict(f"the AP that QAT's validation reported {same} int_infer's to the last digit", qat_ap == integer_ap)
        )
    known = "no result" if parity_differing is None else f"{parity_differing} differing values"
    verdicts.append(Verdict(f"parity of the exported model with the evaluated one: {known}", parity_differing == 0))
    return verdicts


def format_table(rows: Sequence[StageRow]) -> str:
    """The stages as an aligned text table."""
    table = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADER))]
    lines = []
    for line in table:
        cells = [line[0].ljust(widths[0])] + [cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def build_report(result: DemoResult) -> HtmlReport:
    """The page: table, verdicts, loss curves, precision and recall, pictures, commands."""
    report = HtmlReport("hatdet demo: from images to the integer model")
    report.table(HEADER, [row.cells() for row in result.rows])
    for verdict in result.verdicts:
        report.text(("Passed: " if verdict.passed else "FAILED: ") + verdict.text, verdict.passed)
    bars = {row.stage: row.ap for row in result.rows if row.ap is not None}
    if bars:
        report.chart(bar_chart(bars, "AP by stage"))
    if result.total_seconds:
        report.text(f"All steps took {result.total_seconds / 60:.1f} minutes.")
    if result.training_picture is not None:
        report.heading("A training batch, as the network sees it")
        report.picture(
            result.training_picture, "Mosaic, MixUp, colour changes and flips, with the boxes that are learnt"
        )
    for title, path in result.histories.items():
        if path.is_file():
            report.heading(title)
            for svg in history_charts(path).values():
                report.chart(svg)
    if result.annotations and result.detections and result.detections.is_file():
        _add_evaluation(report, result.annotations, result.detections, result.images)
    if result.metric_text:
        report.heading("The numbers of the integer model")
        report.preformatted(result.metric_text)
    report.heading("The commands")
    report.text("What the demo ran, in this order; with your own data they are the same.")
    report.preformatted(result.commands)
    return report


def load_detections(annotations: Path, detections: Path) -> tuple[dict[str, Any], Boxes, Boxes, tuple[str, ...]]:
    """Ground truth (COCO dict and arrays), detections and class names, all with the same labels."""
    truth = read_coco(annotations)
    categories = sorted(truth["categories"], key=lambda c: int(c["id"]))
    ids = [int(c["id"]) for c in categories]
    found = {"annotations": json.loads(detections.read_text(encoding="utf-8"))}
    return truth, from_coco(truth, ids), from_coco(found, ids), tuple(str(c["name"]) for c in categories)


def _add_evaluation(
    report: HtmlReport, annotations: Path, detections: Path, images: Path | None, pictures: int = 12
) -> None:
    import cv2

    content, truth, found, names = load_detections(annotations, detections)
    report.heading("The integer model on the validation images")
    for svg in evaluation_charts(truth, found, names).values():
        report.chart(svg)
    if images is None:
        return
    report.heading("Ground truth and detections of the integer model")
    for record in content["images"][:pictures]:
        image = cv2.imread(str(images / record["file_name"]))
        if image is None:
            report.text(f"{record['file_name']}: not readable")
            continue
        expected, got = truth.of_image(int(record["id"])), found.of_image(int(record["id"]))
        picture = compare_with_truth(
            image, (expected.boxes, expected.labels), (got.boxes, got.labels, got.scores), names
        )
        report.picture(picture, record["file_name"])
