"""The rows of the table on COCO, their settings, what is reckoned of their time, and the page that has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hatdet.commands.coco_table.command import main
from hatdet.commands.coco_table.expected import hours, shown
from hatdet.commands.coco_table.rows import Plan, Row, parse_weights, rows_of
from hatdet.commands.coco_table.run import finished, made_with, measure, write_table
from hatdet.commands.coco_table.text import markdown
from hatdet.commands.quantization.steps import Steps
from hatdet.config.load import load_config
from hatdet.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[4]
ROW = {
    "metrics": {
        "float": {"AP": 0.41, "AP50": 0.577}, "calibration": {"AP": 0.40}, "qat": {"AP": 0.405},
        "file": {"AP": 0.4051234567890123, "AP50": 0.57},
    },
    "parity": {"compared": 1000, "differing": {"LiteRT": 0, "TFLite Micro": 2}}, "bytes": 5120, "equal": True,
}  # fmt: skip


def weights(tmp_path: Path, *names: str) -> dict[str, Path]:
    for name in names:
        (tmp_path / f"{name}.pth").write_bytes(name.encode())
    return {name: tmp_path / f"{name}.pth" for name in names}


def test_weights_come_first_and_small_inputs_before_large_ones(tmp_path: Path) -> None:
    given = weights(tmp_path, "tiny", "s")
    names = [row.name for row in rows_of(["nano", "s", "tiny"], [640, 320], given)]
    assert names == ["tiny_320", "s_320", "tiny_640", "s_640", "nano_320", "nano_640"]
    assert [row.name for row in rows_of(["nano"], [320], weights(tmp_path, "nano"))] == ["nano_320"]


@pytest.mark.parametrize(
    ("models", "sizes", "files", "message"),
    [
        (["nanno"], [320], {}, "no model 'nanno'; did you mean 'nano'.*; there are nano, tiny, s"),
        (["nano"], [300], {}, "--sizes 300: give multiples of 32"),
        (["tiny"], [320], {}, "tiny has no weights: give MMDetection's with --weights tiny=FILE.pth"),
        (["tiny"], [320], {"tiny": Path("no.pth")}, r"no file no.pth \(--weights tiny=...\)"),
    ],
)
def test_what_is_refused(models: list[str], sizes: list[int], files: dict[str, Path], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rows_of(models, sizes, files)


def test_words_for_weights() -> None:
    assert parse_weights(["tiny=a/b.pth", "s=c=d.pth"]) == {"tiny": Path("a/b.pth"), "s": Path("c=d.pth")}
    with pytest.raises(UserError, match="--weights tiny.pth: write MODEL=FILE"):
        parse_weights(["tiny.pth"])


def test_the_settings_fit_the_configs(tmp_path: Path) -> None:
    """Every option is a name of the config, and what the user says is above the table's."""
    from hatdet.commands.coco_table.rows import CONFIGS

    plan = Plan("coco", tmp_path, (), 300, 3, {"batch_size": 16})
    for model, path in CONFIGS.items():
        row = Row(model, 320, None)
        for stage in ("float", "qat"):
            settings = plan.settings(row, stage)
            config = load_config(path, settings)
            assert {name: config[name] for name in settings} == settings and config.batch_size == 16
            config.validate("float_trainer", "qat_trainer")
    assert Plan("coco", tmp_path, ()).settings(Row("nano", 320, None), "float")["batch_size"] == 256


def test_a_row_that_is_done_and_one_of_other_settings(tmp_path: Path) -> None:
    row = Row("tiny", 320, weights(tmp_path, "tiny")["tiny"])
    plan = Plan("coco", tmp_path / "w", (row, Row("nano", 320, None)))
    assert finished(plan) == {}
    held = {**ROW, "made_with": made_with(plan, row)}
    (tmp_path / "w" / "tiny_320").mkdir(parents=True)
    (tmp_path / "w" / "tiny_320" / "row.json").write_text(json.dumps(held))
    assert list(finished(plan)) == ["tiny_320"]
    moved = Plan("elsewhere/coco", tmp_path / "w", plan.rows, epochs=100, options={"workers": 9, "device": "cpu"})
    assert list(finished(moved)) == ["tiny_320"], "where data lie and nano's epochs say nothing of these figures"
    with pytest.raises(UserError, match="was made with qat_epochs=3, now 5: set it back, or name another folder"):
        finished(Plan("coco", tmp_path / "w", plan.rows, qat_epochs=5))
    row.weights.write_bytes(b"others")  # type: ignore[union-attr]
    with pytest.raises(UserError, match="was made with weights='"):
        finished(plan)


@pytest.mark.parametrize("row", [Row("nano", 320, None), Row("nano", 640, None)])
def test_a_row_that_was_begun_goes_on_with_its_settings_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row
) -> None:
    def interrupted(*_: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr("hatdet.commands.coco_table.run.trained", interrupted)
    plan = Plan("coco", tmp_path / "w", (row,), epochs=10)
    with pytest.raises(KeyboardInterrupt):
        measure(plan, row)
    assert finished(plan) == {}
    with pytest.raises(UserError, match=r"begun.json was made with float.epochs=10, now 20: set it back, or name"):
        finished(Plan("coco", tmp_path / "w", (row,), epochs=20))
    with pytest.raises(UserError, match=r"was made with float.arithmetic=None, now 'xnnpack', arithmetic=None, now "):
        finished(Plan("coco", tmp_path / "w", (row,), epochs=10, options={"arithmetic": "xnnpack"}))
    (tmp_path / "w" / row.name / "row.json").write_text('{"made_with": ')
    with pytest.raises(UserError, match="row.json is damaged; remove it, and its row is made again"):
        finished(plan)


def test_the_table(tmp_path: Path) -> None:
    rows = (Row("tiny", 320, tmp_path / "tiny.pth"), Row("nano", 640, None))
    text, values = write_table(Plan("coco", tmp_path, rows), {"tiny_320": ROW})
    lines = text.read_text().splitlines()
    assert lines[2:] == [
        "| RTMDet-tiny | 320 x 320 | 0.4100 (0.5770) | 0.4000 | 0.4050 | 0.4051234567890123 | 1000, 2 | 5 |",
        "| RTMDet-nano | 640 x 640 | - | - | - | - | - | - |",
    ]
    assert len({line.count("|") for line in lines}) == 1
    assert json.loads(values.read_text())["rows"][0]["bytes"] == 5120


def test_the_time_that_is_reckoned(tmp_path: Path) -> None:
    """By hand: 300 x 118287 / 3553 s; 3 x 118287 / 231 + 6 x 5000 / 773 s; 5000 x 0.25 / 16 s."""
    row = Row("nano", 320, None)
    found = hours(Plan("coco", tmp_path, (row,)), row)
    assert [round(3600 * value) for value in found.values()] == [9988, 1575, 78]
    given = hours(Plan("coco", tmp_path, ()), Row("s", 640, tmp_path))
    assert given["float"] == 0
    # a step of 64 takes 0.2771 s, one of 256 0.6649: 0.1478 and 0.002020 a picture; s at 640 is 15.96 times nano
    second = 0.1478 / 64 + 0.002020 * 15.96
    assert 3600 * given["qat"] == pytest.approx(3 * 118287 * second + 6 * 5000 * 15.96 / 773, rel=1e-3)
    assert shown(0.5) == "30 min" and shown(2.77) == "2.8 h"
    few = hours(Plan("coco", tmp_path, ()), row, cores=1)  # one core prepares pictures too slowly for the GPU
    assert few["float"] == pytest.approx(300 * 118287 * 3.09e-3 / 3600)


def test_the_page_has_the_open_table_and_the_reckoned_hours(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "coco.md").read_text(encoding="utf-8")
    files = {"tiny": tmp_path / "tiny.pth", "s": tmp_path / "s.pth"}
    for file in files.values():
        file.touch()
    rows = rows_of(["nano", "tiny", "s"], [320, 640], files)
    assert markdown(rows, {}) in page
    plan = Plan("coco", tmp_path, rows)
    for row in rows:
        steps = hours(plan, row)
        cells = [shown(steps["float"]) if steps["float"] else "given", shown(steps["qat"]), shown(steps["file"])]
        assert f"| RTMDet-{row.model}, {row.size} | {' | '.join(cells)} |" in page
    assert f"about {sum(sum(hours(plan, row).values()) for row in rows):.0f} hours" in page


def test_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = weights(tmp_path, "tiny")["tiny"]
    words = ["coco", "--models", "nano", "tiny", "--sizes", "320", "--weights", f"tiny={file}", "--dry-run"]
    assert main([*words, "--work-dir", str(tmp_path / "w")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"tiny_320   weights {file}; reckoned on one H200 with")
    assert lines[1].startswith("nano_320   300 epochs from random weights; reckoned")
    assert lines[2].startswith("to do: ") and not (tmp_path / "w").exists()
    with pytest.raises(UserError, match="no folder nowhere; name the folder that COCO was unpacked into"):
        main(["nowhere", "--models", "nano"])
    with pytest.raises(UserError, match="--qat-epochs 0: give a number of at least 1"):
        main(["coco", "--models", "nano", "--qat-epochs", "0"])


def test_steps_are_done_once(tmp_path: Path) -> None:
    calls: list[str] = []

    def make(name: str) -> dict[str, Any]:
        calls.append(name)
        return {"AP": 0.1234567890123456}

    for _ in range(2):
        steps = Steps(tmp_path / "steps.json", "a")
        assert steps.value("float", lambda: make("float")) == {"AP": 0.1234567890123456} and steps.kept
    assert calls == ["float"]
    Steps(tmp_path / "steps.json", "other weights").value("float", lambda: make("again"))
    nowhere = Steps()
    nowhere.value("float", lambda: make("nowhere"))
    assert calls == ["float", "again", "nowhere"] and not nowhere.kept
