"""What the demo found: the table, the verdicts and the HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hatdet.commands.report.reading import RunFacts
from hatdet.commands.report.write import add_run
from hatdet.visualization.draw import Image
from hatdet.visualization.page.blocks import data_url, paragraph, preformatted
from hatdet.visualization.page.page import Page

MIN_FLOAT_AP = 0.2  # below it the model has learnt too little for a comparison to mean anything
MAX_LOSS = 0.010  # integer AP may be this much below float AP: 1.0 point
HEADER = ("stage", "AP", "AP50", "size", "time")


@dataclass(frozen=True)
class StageRow:
    """One line of the table; None where a stage has no such number. `seconds`: wall time of `doing`."""

    stage: str
    ap: float | None = None
    ap50: float | None = None
    size: int | None = None
    seconds: float | None = None
    doing: str = ""

    def cells(self) -> tuple[str, ...]:
        return (
            self.stage,
            "-" if self.ap is None else f"{self.ap:.3f}",
            "-" if self.ap50 is None else f"{self.ap50:.3f}",
            "-" if self.size is None else f"{self.size / 1e6:.2f} MB",
            "-" if self.seconds is None else f"{self.seconds:.0f} s {self.doing}".rstrip(),
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
    run: RunFacts | None = None
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


def build_report(result: DemoResult) -> Page:
    """The page: verdicts, what `hatdet report` says of the run, a training batch, commands."""
    page = Page("hatdet demo: from images to the integer model")
    blocks = [
        paragraph(("Passed: " if verdict.passed else "FAILED: ") + verdict.text, "good" if verdict.passed else "bad")
        for verdict in result.verdicts
    ]
    if result.total_seconds:
        blocks.append(paragraph(f"All steps took {result.total_seconds / 60:.1f} minutes."))
    page.section("Verdict", *blocks, wide=True)
    if result.run is not None:
        add_run(page, result.run)
    if result.training_picture is not None:
        text = "Mosaic, MixUp, colour changes and flips, with the boxes that are learnt"
        picture = f'<figure><img alt="{text}" src="{data_url(result.training_picture)}"></figure>'
        page.section("A training batch, as the network sees it", picture, paragraph(text, "soft"), wide=True)
    if result.metric_text:
        page.section("The numbers of the integer model", preformatted(result.metric_text, wide=True), wide=True)
    intro = paragraph("What the demo ran, in this order; with your own data they are the same.")
    page.section("The commands", intro, preformatted(result.commands), wide=True)
    return page
