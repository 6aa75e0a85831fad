from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from hatdet.metrics.records import Boxes
from hatdet.visualization.charts import bar_chart, line_chart, matrix_chart, nice_ticks
from hatdet.visualization.evaluation import evaluation_charts, history_charts, write_charts

SVG = "{http://www.w3.org/2000/svg}"


def elements(svg: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(SVG + tag))


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in elements(svg, "text")]


def test_ticks_are_round_and_span_the_range() -> None:
    assert nice_ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(0, 37, 5) == [0, 10, 20, 30, 40]
    assert nice_ticks(-0.3, 0.3, 5) == [-0.4, -0.2, 0, 0.2, 0.4]
    assert nice_ticks(2, 2)[0] < 2 < nice_ticks(2, 2)[-1]
    assert nice_ticks(0, 0)[0] < 0 < nice_ticks(0, 0)[-1]
    with pytest.raises(ValueError, match="got the range"):
        nice_ticks(0, math.inf)


def test_line_chart_places_points() -> None:
    """With axes 0..1 on a 520 x 300 chart the plot spans x 58..506 and y 30..258 (upwards)."""
    svg = line_chart({"a": [(0, 0), (0.5, 1), (1, 0.5)], "b & c": [(0, 1)]}, "t", "x", "y", (0, 1), (0, 1))
    assert elements(svg, "polyline")[0].get("points") == "58.0,258.0 282.0,30.0 506.0,144.0"
    circle = elements(svg, "circle")[0]
    assert (circle.get("cx"), circle.get("cy")) == ("58.0", "30.0")
    assert {"t", "x", "y", "a", "b & c", "0.2"} <= set(texts(svg))


def test_epochs_are_whole() -> None:
    svg = line_chart({"AP": [(1, 0.1), (2, 0.2), (3, 0.3)]}, "AP", y_range=(0, 1))
    assert {"1", "2", "3"} <= set(texts(svg)) and "1.5" not in texts(svg)
    assert elements(svg, "polyline")[0].get("points", "").startswith("58.0,")


def test_nan_breaks_a_line() -> None:
    svg = line_chart({"a": [(0, 1), (1, 2), (2, math.nan), (3, 1), (4, 2)]}, "t")
    assert len(elements(svg, "polyline")) == 2


def test_no_data_says_so() -> None:
    assert "no data" in texts(line_chart({}, "t"))
    assert "no data" in texts(line_chart({"a": [(0, math.nan)]}, "t"))


def test_bars() -> None:
    svg = bar_chart({"float": 0.5, "int8": 0.25, "none": -1.0}, "AP")
    widths = [float(bar.get("width") or 0) for bar in elements(svg, "rect")]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.11) and widths[2] == 0
    assert {"0.500", "0.250", "–"} <= set(texts(svg))


def test_matrix() -> None:
    svg = matrix_chart(np.array([[3, 1], [0, 0]]), ["a", "<b>"], "t")
    assert [cell.get("fill") for cell in elements(svg, "rect")][2:] == ["#ffffff", "#ffffff"]
    assert {"3", "1", "<b>"} <= set(texts(svg))
    with pytest.raises(ValueError, match="for 1 names"):
        matrix_chart(np.zeros((2, 2), int), ["a"], "t")


def test_evaluation_charts(tmp_path: Path) -> None:
    truth = Boxes(
        image_ids=np.array([1]),
        labels=np.array([0]),
        boxes=np.array([[0.0, 0, 9, 9]]),
        scores=np.ones(1),
        crowd=np.zeros(1, bool),
    )
    charts = evaluation_charts(truth, truth, ("a", "b"))
    assert "a: 1.000" in texts(charts["PR_curve"])
    assert len(elements(charts["PR_curve"], "polyline")) == 1  # class b has no objects
    assert "F1 over confidence (best mean 1.000 at 0.00)" in texts(charts["F1_curve"])
    assert [p.name for p in write_charts(charts, tmp_path / "x")] == [
        "PR_curve.svg",
        "P_curve.svg",
        "R_curve.svg",
        "F1_curve.svg",
        "confusion_matrix.svg",
    ]


def test_many_classes_are_drawn_as_their_mean() -> None:
    """20 classes, of which 13 have an object each: one line, not 13 with a legend longer than the chart."""
    truth = Boxes(
        image_ids=np.zeros(13, np.int64), labels=np.arange(13), boxes=np.tile([0.0, 0, 9, 9], (13, 1)),
        scores=np.ones(13), crowd=np.zeros(13, bool),
    )  # fmt: skip
    charts = evaluation_charts(truth, truth, [f"c{i}" for i in range(20)])
    for name in ("PR_curve", "P_curve", "R_curve", "F1_curve"):
        assert "mean of 13 classes" in texts(charts[name])
        assert len(elements(charts[name], "polyline")) == 1


def test_history_charts(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("epoch,loss_cls,loss_bbox,AP,AP50,APs,lr,note\n1,2,1,,,,0.1,a\n2,1,0.5,0.2,0.4,-1,0.05,b\n")
    charts = history_charts(path)
    assert list(charts) == ["loss", "AP", "lr"]
    assert {"loss_cls", "loss_bbox"} <= set(texts(charts["loss"]))
    assert "APs" not in texts(charts["AP"])


def test_one_whole_number_on_the_axis() -> None:
    """A single epoch, or a network of one layer, is drawn as a dot."""
    svg = line_chart({"a": [(1.0, 3.0)]}, "one")
    assert "<circle" in svg and {"0", "1", "2"} <= set(texts(svg)) and "1.2" not in texts(svg)
