from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from hatdet.visualization.charts import line_chart
from hatdet.visualization.report import HtmlReport


class TagBalance(HTMLParser):
    """Fails on a tag that is closed in the wrong order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_whole_escaped_and_self_contained(tmp_path: Path) -> None:
    report = HtmlReport("A & B")
    report.heading("Stages")
    report.table(["stage", "AP"], [["<float>", "0.5"], ["int8", "0.49"]])
    report.text("0 differing values", verdict=True)
    report.preformatted("a\n  b")
    report.chart(line_chart({"loss": [(0, 1), (1, 0.5)]}, "loss"))
    image = np.full((30, 41, 3), (200, 100, 50), np.uint8)
    report.picture(image, 'a "picture"')
    path = report.write(tmp_path / "out" / "report.html")
    page = path.read_text(encoding="utf-8")
    parser = TagBalance()
    parser.feed(page)
    assert parser.open == []
    assert "&lt;float&gt;" in page and "A &amp; B" in page and 'class="good"' in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    encoded = re.search(r"base64,([^\"]+)", page)
    assert encoded
    data = np.frombuffer(base64.b64decode(encoded.group(1)), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded.shape == image.shape and abs(decoded.astype(int) - image).max() < 4
    assert list(path.parent.iterdir()) == [path]  # no temporary file is left


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells under 2 headings"):
        HtmlReport("x").table(["a", "b"], [["1"]])
