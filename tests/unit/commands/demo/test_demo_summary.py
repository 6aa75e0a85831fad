from __future__ import annotations

import json
from pathlib import Path

import pytest

from hatdet.commands.demo.render import render_dataset
from hatdet.commands.demo.road import RoadSettings, Step, describe, road, run_step, tail
from hatdet.commands.demo.summary import DemoResult, StageRow, build_report, format_table, judge


def test_table_is_aligned() -> None:
    rows = [StageRow("float", 0.6123, 0.9, 9_800_000, 250.4), StageRow("tflite", 0.61, None, 2_500_000)]
    assert format_table(rows).splitlines() == [
        "stage      AP   AP50     size   time",
        "------------------------------------",
        "float   0.612  0.900  9.80 MB  250 s",
        "tflite  0.610      -  2.50 MB      -",
    ]


def test_verdicts() -> None:
    assert [v.passed for v in judge(0.60, 0.591, 0.591, 0)] == [True, True, True, True]
    assert [v.passed for v in judge(0.60, 0.70, None, 0)] == [True, True, True]  # better than float is fine
    assert [v.passed for v in judge(0.60, 0.589, 0.5891, 3)] == [False, True, False, False]
    assert [v.passed for v in judge(-1.0, -1.0, None, None)] == [True, False, False]
    assert "-1.10 points" in judge(0.60, 0.589, None, 0)[0].text


def test_report_from_files(tmp_path: Path) -> None:
    render_dataset(tmp_path, train=1, val=2)
    annotations = tmp_path / "annotations/instances_val2017.json"
    truth = json.loads(annotations.read_text())
    keep = ("image_id", "category_id", "bbox")
    found = [{**{k: a[k] for k in keep}, "score": 0.9} for a in truth["annotations"]]
    (tmp_path / "found.json").write_text(json.dumps(found))
    (tmp_path / "results.csv").write_text("epoch,loss,AP\n1,2,0.1\n2,1,0.2\n")
    result = DemoResult(
        rows=[StageRow("float", 0.6, 0.9)],
        verdicts=judge(0.6, 0.6, 0.6, 0),
        commands="hatdet train",
        histories={"Float training": tmp_path / "results.csv", "not there": tmp_path / "no.csv"},
        annotations=annotations,
        images=tmp_path / "val2017",
        detections=tmp_path / "found.json",
    )
    page = build_report(result).render()
    assert page.count("data:image/jpeg") == 2
    assert "Passed: parity of the exported model with the evaluated one: 0 differing values" in page
    assert "best mean 1.000" in page and "mug: 1.000" in page and "Float training" in page
    assert "not there" not in page
    assert "hatdet train" in build_report(DemoResult([], [], "hatdet train")).render()


def test_steps_are_commands_in_order(tmp_path: Path) -> None:
    steps = road(RoadSettings(out=tmp_path, image_size=160))
    text = describe(steps).splitlines()
    assert text[0].startswith("hatdet mscoco-packer --src-data-dir")
    stages = [line.split("--stage ")[1].split()[0] for line in text if line.startswith("hatdet train ")]
    assert stages == ["float", "calibration", "qat"]
    assert all("'imgsz=(160,160)'" in line for line in text if "--config" in line)


def test_a_step_leaves_its_log_and_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatdet.commands.demo.road.START", ())
    lines: list[str] = []
    step = Step("fail", "a step that fails", ("-c", "import sys; print('halfway'); sys.exit('broken')"))
    result = run_step(step, 3, 9, tmp_path / "logs", lines.append)
    assert result.status == 1 and lines == ["[3/9] a step that fails"]
    assert result.log.name == "03-fail.txt"
    assert tail(result.log, 2) == "halfway\nbroken"
    assert result.log.read_text().startswith("$ hatdet -c")
