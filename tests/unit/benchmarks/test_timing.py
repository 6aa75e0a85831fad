"""The benchmarks' arithmetic and data set."""

from __future__ import annotations

import json
import time
from pathlib import Path

import cv2
import pytest

from benchmarks.dataset import find, generate
from benchmarks.timing import Row, child_cpu_seconds, format_table, interleave


def test_calls_take_turns_and_the_order_is_reversed_every_other_round() -> None:
    order: list[str] = []
    times = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeat=3, warmup=1)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


def test_times_are_cpu_times() -> None:
    times = interleave({"asleep": lambda: time.sleep(0.05)}, repeat=2, warmup=0)
    assert max(times["asleep"]) < 0.04


def test_ratio_is_median_over_median() -> None:
    row = Row("row", [3.0, 1.0, 2.0, 50.0, 2.0], [1.0, 1.0, 9.0], "baseline", target=1.9)
    assert row.ratio == 2.0  # medians 2 and 1: one slow repetition changes nothing
    assert row.over
    assert row.as_dict()["hatdet_median_ms"] == 2000.0
    assert json.dumps(row.as_dict())


def test_a_row_at_its_target_and_one_without_a_target_are_not_over() -> None:
    assert not Row("row", [2.0], [1.0], "baseline", target=2.0).over
    assert not Row("row", [9.0], [1.0], "baseline").over


def test_table() -> None:
    table = format_table([Row("slow", [0.004], [0.002], "torch", 1.5), Row("free", [0.001], [0.002], "torch")])
    header, slow, free = table.splitlines()
    assert header.split() == ["row", "hatdet", "ms", "baseline", "ms", "ratio", "target", "baseline"]
    assert slow.split() == ["slow", "4.00", "2.00", "2.00", "1.50", "torch", "OVER"]
    assert free.split() == ["free", "1.00", "2.00", "0.50", "torch"]


def test_a_failing_child_is_reported() -> None:
    assert child_cpu_seconds("sum(range(10))") > 0
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        child_cpu_seconds("1 / 0")


def test_generated_data_is_found_again_and_the_same_each_time(tmp_path: Path) -> None:
    data = generate(tmp_path / "a", num_images=3, size=(120, 160))
    again = generate(tmp_path / "b", num_images=3, size=(120, 160))
    assert find(tmp_path / "a") == data
    assert data.num_classes == 3
    assert [bytes(x) for x in data.encoded_images(9)] == [bytes(x) for x in again.encoded_images(9)]
    assert [cv2.imdecode(x, cv2.IMREAD_COLOR).shape for x in data.encoded_images(2)] == [(120, 160, 3)] * 2
    content = json.loads(data.ann_file.read_text(encoding="utf-8"))
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        assert x >= 0 and y >= 0 and x + w <= 160 and y + h <= 120


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="instances_train.json"):
        find(tmp_path)
