"""A page: whole by itself, escaped, and what its blocks say."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np

from hatdet.visualization.page.blocks import bars, gallery, heat, listing, paragraph, table
from hatdet.visualization.page.page import Page

VOID = {"meta", "img", "br", "wbr"}


class Balance(HTMLParser):
    """Fails where a tag is closed that is not the last one open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [v or "" for k, v in attrs if k in ("src", "href") and not (v or "").startswith(("data:", "#"))]
        if tag not in VOID and tag != "rect":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag


def test_a_page_is_well_formed_and_needs_nothing_else() -> None:
    page = Page("<b>&", "cats & dogs")
    image = np.full((4, 6, 3), 120, np.uint8)
    page.section("<i>", paragraph("<x>", "bad"), table(["<th>"], [["<td>"]]))
    page.section("one", bars([("<n>", 1)], "<w>"), listing(["<l>"]))
    page.section("two", heat(np.array([[1, 0], [0, 4]]), "<h>"), gallery([(image, "<p>", ["<r>"]), (None, "q", [])]))
    text = page.render()
    parser = Balance()
    parser.feed(text)
    assert parser.open == [] and parser.outside == []
    assert "<script" not in text and "http" not in text
    for word in ("b", "i", "x", "th", "td", "n", "w", "l", "h", "p", "r"):
        assert f"&lt;{word}&gt;" in text
    assert 'name="viewport"' in text and "prefers-color-scheme: dark" in text


def test_bars_by_hand() -> None:
    text = bars([("a", 1), ("b", 3)], "class")
    assert re.findall(r"width:([\d.]+)%", text) == ["33.3", "100.0"]
    assert re.findall(r"<td>([^<]*)</td>", text) == ["a", "1", "25.0%", "b", "3", "75.0%"]
    assert "100" not in bars([("a", 0)], "class")


def test_heat_by_hand() -> None:
    text = heat(np.array([[1, 0], [0, 4]]), "t")
    assert re.findall(r'x="(\d)" y="(\d)" .*?opacity="([\d.]+)"', text) == [("0", "0", "0.500"), ("1", "1", "1.000")]
