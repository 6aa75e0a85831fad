from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hatdet.commands.demo.road import RoadSettings, Step, describe, road, run_step, tail
from hatdet.commands.demo.summary import DemoResult, StageRow, build_report, format_table, judge
from hatdet.commands.report.reading import read_run


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
    (tmp_path / "float").mkdir()
    (tmp_path / "float/results.csv").write_text("epoch,train/loss,val/AP\n1,2,0.1\n2,1,0.2\n")
    result = DemoResult(
        rows=[StageRow("float", 0.6, 0.9)],
        verdicts=judge(0.6, 0.6, 0.6, 0),
        commands="hatdet train",
        run=read_run(tmp_path),
        training_picture=np.zeros((8, 8, 3), np.uint8),
        total_seconds=90.0,
    )
    page = build_report(result).render()
    assert page.count("data:image/jpeg") == 1
    assert "Passed: parity of the exported model with the evaluated one: 0 differing values" in page
    assert "float: loss" in page and "1.5 minutes" in page
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
