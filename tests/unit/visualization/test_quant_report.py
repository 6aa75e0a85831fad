"""The page of an analysis: complete, balanced, sortable values, nothing that could break out of the text."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hatdet.commands.quant_analysis.output import format_summary, record
from hatdet.quantization.analysis.advice import Advice
from hatdet.quantization.analysis.result import AnalysisResult, ImageRow, LayerRow
from hatdet.visualization.quant_report import code_histogram, write_report
from tests.helpers.browser import check_readable, needs_browser

VOID = ("meta", "img", "br")


class Page(HTMLParser):
    """Fails on a tag that is closed in the wrong order; collects the cells of the layer table."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.values: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag == "td" and "data-v" in dict(attrs):
            self.values.append(dict(attrs)["data-v"])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def row(rank: int, name: str, **changes: object) -> LayerRow:
    values: dict[str, object] = dict(
        rank=rank, index=rank, name=name, kind="conv", is_output=False, own_sqnr=40.0, sqnr=30.0, cosine=0.99,
        own_max_lsb=1.0, max_lsb=2.0, mean_error=0.0, low=-1.0, high=1.0, scale=0.01, zero_point=3, clipped_low=0.0,
        clipped_high=0.125, distinct_codes=200, code_span=250, dead_channels=0, channel_spread=2.0, weight_sqnr=45.0,
        weight_worst_sqnr=40.0, weight_worst_channel=1, weight_spread=1.5, weight_noise_share=0.2, noise_share=0.5,
        alone_sqnr=33.0, kept_gain=-0.1, ap_drop=math.nan, ap_gain=math.nan, codes=(5,) + (0,) * 254 + (1,),
    )  # fmt: skip
    return LayerRow(**{**values, **changes})  # type: ignore[arg-type]


def page(result: AnalysisResult, path: Path, **kwargs: object) -> tuple[str, Page]:
    text = write_report(result, path / "page.html", **kwargs).read_text(encoding="utf-8")  # type: ignore[arg-type]
    parser = Page()
    parser.feed(text)
    assert not parser.open
    return text, parser


def result(layers: list[LayerRow], **changes: object) -> AnalysisResult:
    values: dict[str, object] = dict(
        reference="float", tested="int_infer", images=2, measure="sqnr", layers=layers, source=row(0, "(input)"),
        outputs_sqnr=31.0, output_sqnr={"cls_8": 30.0, "reg_8": math.inf}, curve=[(0, 31.0), (1, 35.0), (2, math.inf)],
    )  # fmt: skip
    return AnalysisResult(**{**values, **changes})  # type: ignore[arg-type]


def test_the_arithmetic_of_the_integers_is_named(tmp_path: Path) -> None:
    named = result([row(1, "a")], arithmetic="xnnpack")
    assert "Integers follow the arithmetic xnnpack." in page(named, tmp_path)[0]
    assert record(named)["arithmetic"] == "xnnpack" and "arithmetic of the integers: xnnpack" in format_summary(named)
    plain = result([row(1, "a")])
    assert "follow the arithmetic" not in page(plain, tmp_path)[0]
    assert record(plain)["arithmetic"] is None and "arithmetic" not in format_summary(plain)


def test_layers_findings_and_pictures_are_in_the_page(tmp_path: Path) -> None:
    advice = (Advice("clipped", "range clipped: <5 & more>"),)
    layers = [row(1, "head.<script>alert(1)</script>", advice=advice), row(2, "b", own_sqnr=math.inf)]
    images = [ImageRow(7, "a.png", 12.0, 0.5, 3, 2), ImageRow(8, "b.png", 20.0, 0.0, 0, 0)]
    picture = np.zeros((20, 30, 3), np.uint8)
    text, parser = page(result(layers, worst_images=images, notes=["be careful"]), tmp_path, pictures=[picture, None])
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text
    assert "range clipped: &lt;5 &amp; more&gt;" in text and "be careful" in text and "12.50% above" in text
    assert text.count("data:image/jpeg") == 1 and "keep_float=" in text
    assert "exact" in text and "Infinity" in parser.values
    assert not re.search(r"https?://(?!www\.w3\.org)", text), "the page needs no network"
    assert not list(tmp_path.glob("*.part"))


def test_columns_without_any_value_are_left_out(tmp_path: Path) -> None:
    plain, _ = page(result([row(1, "a")]), tmp_path)
    measured, _ = page(result([row(1, "a", ap_drop=0.01, ap_gain=0.0)]), tmp_path)
    assert ">AP lost<" not in plain and ">AP lost<" in measured


def test_float_against_float_and_a_network_of_one_layer(tmp_path: Path) -> None:
    unknown = row(1, "a", scale=math.nan, zero_point=None, noise_share=math.nan, kept_gain=math.nan,
                  alone_sqnr=math.nan, sqnr=math.nan, own_sqnr=math.nan, codes=(0,) * 256)  # fmt: skip
    text, _ = page(result([unknown], measure="off", curve=[], outputs_sqnr=math.nan), tmp_path)
    assert "unknown" in text and "Mixed precision" not in text


@needs_browser
@pytest.mark.slow
def test_a_reader_sees_it(tmp_path: Path) -> None:
    rows = [row(1, "backbone.stem.0.conv." * 4, codes=tuple(range(256))), row(2, "neck.1")]
    picture = np.full((120, 700, 3), 90, np.uint8)
    found = result(rows, worst_images=[ImageRow(7, "a.jpg", 20.0, 0.5, 3, 2)])
    text, _ = page(found, tmp_path / "q.html", pictures=[picture])
    check_readable(text, tmp_path, {390: 1, 1280: 1}, pictures=1)


def test_histogram_of_codes() -> None:
    """The second most frequent code fills the height, so that one frequent code does not hide the others."""
    codes = [0] * 256
    codes[0], codes[10], codes[255] = 10_000, 100, 25
    picture = code_histogram(codes, width=512, height=40)
    assert "3 of 256 codes are used" in picture
    assert re.findall(r"v-([\d.]+)", picture) == ["40.0", "40.0", "20.0"]
    assert code_histogram([0] * 256) == ""
    assert "1 of 256" in code_histogram([0] * 255 + [4])
