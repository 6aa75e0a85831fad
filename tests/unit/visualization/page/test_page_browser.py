"""Pages in a real browser: nothing is wider than a phone, too small, too pale or not loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hatdet.visualization.charts import bar_chart, line_chart
from hatdet.visualization.page.blocks import (
    bars,
    chart,
    charts,
    facts,
    gallery,
    heat,
    listing,
    matrix,
    missing,
    paragraph,
    preformatted,
    table,
)
from hatdet.visualization.page.page import Page
from hatdet.visualization.report import HtmlReport
from tests.helpers.browser import check_readable, look, needs_browser

LONG = "a_class_with_a_name_that_does_not_end_" * 4
IMAGE = np.full((40, 360, 3), 90, np.uint8)


def page() -> str:
    """Long names, many columns, every block."""
    made = Page("Data set " + "x" * 90, "/a/very/long/path/" * 12)
    made.section("table", table(["", *(f"split {i}" for i in range(9))], [[LONG, *["123456 (100%)"] * 9]] * 3))
    made.section("bars", bars([(LONG, 12345678), ("b", 1)], "class"), paragraph(LONG, "bad"), paragraph(LONG, "soft"))
    made.section("heat", heat(np.arange(256).reshape(16, 16), "places"), listing([LONG] * 3))
    names = [f"class {index}" for index in range(11)]
    lines = {name: [(0.0, index / 11), (1.0, 1 - index / 11)] for index, name in enumerate(names)}
    svg = line_chart(lines, "many", "confidence", "F1", width=360, height=260, bare=True, mark=0.4)
    made.section("charts", charts(chart(svg, "F1", names, LONG), chart(svg, "again", names)), wide=True)
    counts = np.arange(144).reshape(12, 12) ** 2
    made.section("matrix", matrix(counts, [*names, LONG]), facts({"size": "1.2 MB", LONG: LONG}))
    made.section("missing", missing(LONG, "hatdet report " + LONG), preformatted(LONG * 3, wide=True))
    made.section("pictures", gallery([(IMAGE, f"{i}_{LONG}.jpg", [LONG]) for i in range(10)]), wide=True)
    return made.render()


def plain() -> str:
    """The older kind of page, in the same style."""
    made = HtmlReport("Performance of " + "x" * 90)
    made.heading("Stages")
    made.table(["stage", *(f"column {i}" for i in range(9))], [[LONG, *["123456789"] * 9]], bars=[0.5])
    made.text(LONG, verdict=False)
    made.preformatted(f"{LONG}\n  {LONG * 3}")
    made.chart(bar_chart({"float": 0.5, "int8": 0.4}, "AP", width=300))
    made.picture(IMAGE, LONG)
    return made.render()


@needs_browser
@pytest.mark.slow
def test_a_page_is_readable(tmp_path: Path) -> None:
    check_readable(page(), tmp_path, {390: 1, 1280: 3}, pictures=10)


@needs_browser
@pytest.mark.slow
def test_a_plain_page_is_readable(tmp_path: Path) -> None:
    check_readable(plain(), tmp_path, {390: 1, 1280: 1}, pictures=1)


@needs_browser
@pytest.mark.slow
def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    """A page that is too wide, with pale and tiny text and a picture that is not there."""
    bad = '<body style="background:#fff"><p style="color:#ccc">pale</p><p style="font-size:7px">tiny</p>'
    bad += '<div style="width:500px">wide</div><img src="data:image/png;base64,AAAA"></body>'
    seen = look(bad, tmp_path, 390)
    assert seen["overflow"] > 0 and seen["broken"] == 1
    assert seen["pale"] == ["pale 1.6"] and seen["small"] == ["tiny 7.0"]
