"""The page on a run, put together."""

from __future__ import annotations

from hatdet.commands.report.accuracy import accuracy_sections, confusion_section
from hatdet.commands.report.device import deployment_section, quantization_section
from hatdet.commands.report.reading import RunFacts
from hatdet.commands.report.training import training_sections
from hatdet.commands.report.worst import worst_section
from hatdet.visualization.page.blocks import facts
from hatdet.visualization.page.page import Page


def run_page(run: RunFacts) -> Page:
    """The page; what is not there is added to ``run.absent``."""
    page = Page(f"Run {run.folder.resolve().name}", f"From the files in {run.folder}")
    add_run(page, run)
    return page


def add_run(page: Page, run: RunFacts) -> None:
    """The sections on a run, on a page that may have others."""
    training_sections(page, run)
    accuracy_sections(page, run)
    worst_section(page, run)
    confusion_section(page, run)
    deployment_section(page, run)
    quantization_section(page, run)
    if run.logged:
        page.section("What was trained", facts(run.logged), wide=True)
