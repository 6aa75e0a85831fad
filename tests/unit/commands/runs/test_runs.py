from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from hatdet.commands.runs.command import main
from hatdet.utils.errors import UserError
from tests.helpers.browser import look, needs_browser


def training(root: Path, name: str, stage: str, aps: list[float], age: int = 0, **constants: object) -> None:
    folder = root / name / stage
    folder.mkdir(parents=True)
    lines = ["epoch,step,train/loss,train/lr,train/images_per_second,time/epoch,val/AP,val/AP50"]
    for epoch, ap in enumerate(aps, 1):
        lines.append(f"{epoch},{10 * epoch},{2 / epoch},0.001,{50 + epoch},30,{ap},{'' if epoch == 1 else 2 * ap}")
    (folder / "results.csv").write_text("\n".join(lines) + "\n")
    text = (
        "import torch\n" + "".join(f"{key} = {value!r}\n" for key, value in constants.items()) + "x = torch.nn.ReLU()\n"
    )
    (folder / "config.py").write_text(text)
    os.utime(folder / "results.csv", (1e9 + age, 1e9 + age))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    shared = {"epochs": 3, "qat_epochs": 1, "imgsz": (320, 320), "_note": 1}
    training(tmp_path, "a", "float", [0.1, 0.3, 0.2], lr=1e-3, batch_size=8, work_dir="a", **shared)
    training(tmp_path, "b", "float", [0.2, 0.4], 5, lr=2e-3, batch_size=8, work_dir="b", **shared)
    training(tmp_path, "b", "qat", [0.35], 9, lr=2e-3, batch_size=8, work_dir="b", **shared)
    return tmp_path


def table(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_best_run_is_first_and_what_differs_is_a_column(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(runs)])
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == "run stage epochs best AP at last AP loss images/s time ended lr".split()
    assert [row.split()[:6] for row in rows] == [
        ["b", "float", "2/3", "0.4000", "2", "0.4000"],
        ["b", "qat", "1/1", "0.3500", "1", "0.3500"],
        ["a", "float", "3/3", "0.3000", "2", "0.2000"],
    ]
    assert rows[2].split()[6:9] == ["0.6667", "52.0", "0:01:30"] and rows[2].split()[-1] == "0.001"


def test_a_run_from_before_there_was_a_choice_has_the_references_arithmetic(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training(runs, "c", "float", [0.5], lr=1e-3, arithmetic="tflite_ref")
    main([str(runs), "--csv"])
    assert "arithmetic" not in capsys.readouterr().out.splitlines()[0]
    training(runs, "d", "float", [0.6], lr=1e-3, arithmetic="xnnpack")
    main([str(runs), "--csv"])
    head, *rows = csv.reader(capsys.readouterr().out.splitlines())
    named = {row[0]: row[head.index("arithmetic")] for row in rows}
    assert named == {"a": "tflite_ref", "b": "tflite_ref", "c": "tflite_ref", "d": "xnnpack"}


def test_stage_key_and_csv(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(runs / "a"), str(runs / "b"), "--stage", "float", "--key", "AP50", "--csv"])
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.startswith("run,stage,epochs,best AP50,at,last AP50,")
    assert first.startswith("b,float,2/3,0.8000,2,0.8000,") and second.startswith("a,float,3/3,0.6000,2,0.4000,")


def test_a_page_has_curves_over_each_other_and_needs_nothing_else(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(runs), "--html", str(runs / "page.html")])
    assert capsys.readouterr().out.endswith(f"written: {runs / 'page.html'}\n")
    text = (runs / "page.html").read_text()
    assert "<h2>Stage float: 2 runs</h2>" in text and "<h2>Stage qat: 1 run</h2>" in text
    chart = text[text.index("<svg") : text.index("</svg>")]
    assert chart.count("<polyline") == 2  # one a run
    assert text.count("<svg") == 5 + 4  # AP, AP50 (which the only epoch of qat lacks), loss, lr, images/s
    differs = text[text.index("what differs</h2>") :]
    assert "<td>lr</td><td>0.002</td><td>0.001</td>" in differs  # b is the better one
    assert "batch_size" not in text and "src=" not in text and "<script" not in text and "@import" not in text


@needs_browser
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    for index in range(14):
        options = {f"a_name_of_a_config_{i}": index for i in range(9)}
        training(tmp_path, f"a_run_with_a_long_name_{index}", "float", [0.1, 0.2, 0.3 + index / 99], lr=1e-3, **options)
    main([str(tmp_path), "--html", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text()
    assert "the best 12 of 14 runs" in page
    for width, dark in ((390, False), (390, True), (1280, False)):
        seen = look(page, tmp_path, width, dark)
        assert (seen["overflow"], seen["cut"], seen["small"], seen["pale"]) == (0, [], [], [])


def test_of_a_loss_the_least_is_the_best(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(runs), "--stage", "float", "--key", "loss"])
    rows = table(capsys.readouterr().out)[1:]
    assert [row[:5] for row in rows] == [["a", "float", "3/3", "0.6667", "3"], ["b", "float", "2/3", "1.0000", "2"]]


def test_a_damaged_table_is_left_out_and_a_loss_that_ran_away_is_no_best(
    runs: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    training(runs, "c", "float", [float("nan"), 0.2, float("nan")])
    for name, content in (("torn", b""), ("bytes", b"\xc9\x00\xff\n")):
        (runs / name / "float").mkdir(parents=True)
        (runs / name / "float" / "results.csv").write_bytes(content)
    (runs / "a" / "float" / "config.py").write_text("x = {[]: 1}\nlr = 0.5\n")
    main([str(runs), "--stage", "float"])
    rows = [row[:5] for row in table(capsys.readouterr().out)]
    assert [row for row in rows if row[0] in ("a", "c")] == [
        ["a", "float", "3", "0.3000", "2"],
        ["c", "float", "3", "0.2000", "2"],
    ]
    assert "bytes/float/results.csv is no table" in caplog.text and "torn/float/results.csv has no head" in caplog.text
    with pytest.raises(UserError, match="is no table of text"):
        main([str(runs / "bytes")])


def test_small_numbers_are_not_rounded_away(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = runs / "a" / "float" / "results.csv"
    path.write_text(path.read_text().replace(",0.001,", ",0.0000123,"))
    main([str(runs / "a"), "--key", "lr"])
    assert table(capsys.readouterr().out)[1][3] == "1.23e-05"


def test_one_run_needs_no_comparison(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(runs / "a" / "float"), "--html", str(runs / "page.html")])
    assert table(capsys.readouterr().out)[1][:3] == ["a", "float", "3/3"]
    assert "what differs" not in (runs / "page.html").read_text()


def test_runs_of_one_name_are_told_apart(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training(runs / "other", "a", "float", [0.5])
    main([str(runs / "a"), str(runs / "other" / "a")])
    assert [row[0] for row in table(capsys.readouterr().out)[1:]] == [str(runs / "other" / "a"), str(runs / "a")]


def test_what_cannot_be_done_is_said(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder .*nowhere: name a folder of runs"):
        main([str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no training in .*empty: none has a results.csv"):
        main([str(tmp_path / "empty")])
    with pytest.raises(UserError, match="no run has the stage calibration; there are float, qat"):
        main([str(runs), "--stage", "calibration"])
    with pytest.raises(UserError, match=r"no training has 'AP5'; did you mean 'AP50'\?; there are epoch, step, loss"):
        main([str(runs), "--key", "AP5"])
    with pytest.raises(UserError, match="ends with .html"):
        main([str(runs), "--html", "x.pdf"])
