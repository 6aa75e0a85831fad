"""hatdet models: rows of runs, the table made of them, and which models fit a device."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from hatdet.commands.init import choices
from hatdet.commands.init.choices import Choice
from hatdet.commands.models import measure, rows
from hatdet.commands.models.command import main
from hatdet.commands.models.fitting import Limits, advice, best, board_limits
from hatdet.commands.models.rows import Row
from hatdet.commands.models.text import markdown, table_cells
from hatdet.engine.checkpoints.provenance import make_record
from hatdet.export.targets.boards import get_board
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from hatdet.utils.errors import UserError
from tests.unit.commands.conftest import Files

KIB = 1024


def row(**changes: Any) -> Row:
    npu = {name: {"ms": 2.5, "sram": 300 * KIB, "flash": 500 * KIB, "cpu_operators": 0} for name in rows.NPUS}
    made = Row(
        model="rtmdet_pico_06m", config="rtmdet/rtmdet_pico_06m.py", options={}, size=(192, 192), data="bccd",
        pictures=292, classes=3, seed=0, epochs=60, qat_epochs=5, seconds={"float": 61.0}, parameters=586_077,
        macs=99_400_000, flash=700 * KIB, activations=200 * KIB, arena=400 * KIB, npu=npu, metric="AP",
        scores={"float": 0.5, "calibration": 0.49, "qat": 0.495},
        scores50={"float": 0.8, "calibration": 0.79, "qat": 0.795},
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


NANO = row(model="rtmdet_nano_ncadc_relu6", parameters=2_436_733, flash=2588 * KIB, arena=900 * KIB, size=(320, 320))
PICO = row(model="rtmdet_pico_03m", parameters=293_079, flash=400 * KIB, arena=200 * KIB)


def test_rows_come_back_from_the_file_and_new_ones_replace_old_ones(tmp_path: Path) -> None:
    rows.write([NANO, row()], tmp_path / "models.json")
    assert rows.read(tmp_path / "models.json") == [row(), NANO]
    better, other = row(scores={"float": 0.6, "calibration": 0.6, "qat": 0.6}), row(data="masks")
    assert rows.merged([row(), NANO], [better, other]) == [better, other, NANO]


def test_a_line_a_network_and_size_and_scores_of_every_data_set() -> None:
    masks = row(data="masks", scores=dict.fromkeys(("float", "calibration", "qat"), 0.25))
    titles, first, second = table_cells([row(), masks, NANO])
    assert titles[-2:] == ["bccd: AP, float / cal. / QAT = file", "masks: AP, float / cal. / QAT = file"]
    assert first == [
        "rtmdet_pico_06m", "192", "0.586", "99.4", "700", "200", "400", "2.50", "2.50", "500",
        "50.0 / 49.0 / 49.5", "25.0 / 25.0 / 25.0",
    ]  # fmt: skip
    assert second[0] == "rtmdet_nano_ncadc_relu6" and second[1] == "320" and second[-1] == "-"


def test_models_of_points_have_a_column_of_their_own_and_what_is_not_known_is_a_dash() -> None:
    points = row(model="fomo", metric="F1", scores50={}, arena=None, seconds={}, size=(96, 128))
    titles, line, _ = table_cells([points, NANO])
    assert titles[-2:] == ["bccd: AP, float / cal. / QAT = file", "bccd: F1, float / cal. / QAT = file"]
    assert line[1] == "96 x 128" and line[6] == "-" and line[-2:] == ["-", "50.0 / 49.0 / 49.5"]
    assert "| fomo | 96 x 128 | bccd | 292 | 3 | 0 | 60 | 5 | - | - | - | - |" in markdown([points])
    assert "| 0:01:01 | - | 80.0 | 79.5 |" in markdown([row()])


def test_options_that_change_the_network_are_named() -> None:
    assert table_cells([row(options={"activation": "SiLU"})])[1][0] == "rtmdet_pico_06m (activation=SiLU)"


def test_limits_hold_the_file_and_the_arena_or_what_vela_made_of_them() -> None:
    assert Limits(flash=700 * KIB, ram=400 * KIB).hold(row())
    assert not Limits(flash=700 * KIB - 1).hold(row())
    assert not Limits(ram=400 * KIB - 1).hold(row())
    assert Limits(ram=200 * KIB).hold(row(arena=None))
    assert Limits(flash=500 * KIB, ram=300 * KIB, npu="ethos-u55-64").hold(row())
    assert not Limits(ram=300 * KIB - 1, npu="ethos-u65-256").hold(row())
    assert Limits(flash=100, ram=200).within(None, 50) == Limits(100, 50)


def test_the_limits_of_a_board_are_those_that_are_known() -> None:
    assert board_limits("grove-vision-ai-v2") == Limits(None, 1_970_176, "ethos-u55-64")
    assert board_limits("esp32-s3") == Limits()  # external memory may hold what the inner one does not


def test_the_best_comes_first_and_a_board_without_room_gets_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    worse = row(size=(96, 96), scores={"float": 0.3, "calibration": 0.3, "qat": 0.3})
    assert best([worse, row(), NANO], Limits(flash=1024 * KIB)) == [row(), worse]
    large = {"ethos-u55-128": {"ms": 1.0, "sram": 9e9, "flash": 1, "cpu_operators": 0}}
    monkeypatch.setattr("hatdet.commands.models.fitting.shipped", lambda: (worse, row(), row(model="x", npu=large)))
    said = advice(get_board("grove-vision-ai-v2"))
    assert said.startswith("measured models that fit: rtmdet_pico_06m at 192 px; `hatdet models --board grove-vision-")


def test_init_takes_the_largest_network_and_input_that_fit() -> None:
    nano, size, table = Choice("nano", "why"), Choice((320, 320), "seen"), [row(), NANO, PICO]
    assert choices.fitted(nano, size, Limits(), table) == (nano, size)
    network, same = choices.fitted(nano, size, Limits(flash=1024 * KIB), table)
    assert network.value == "pico-06m" and same == size
    assert network.why == "nano's file of 2588 KiB does not fit the flash; this is the largest measured one that does"
    # nano's arena is 900 KiB at 320: 576 at 256, 729 at 288
    same_network, smaller = choices.fitted(nano, size, Limits(ram=600 * KIB), table)
    assert same_network == nano and smaller.value == (256, 256)
    assert smaller.why == "about 576 KiB of RAM of 600; more does not fit"
    assert choices.fitted(nano, size, Limits(ram=1.0), table) == (nano, size)
    assert choices.fitted(nano, size, Limits(flash=1.0), []) == (nano, size)


def test_init_says_what_does_not_fit_and_cuts_the_input_of_a_network_that_was_asked_for() -> None:
    nano, size = Choice("nano", "why"), Choice((320, 320), "seen")
    points = row(model="fomo_mobilenetv2_035", metric="F1", flash=54 * KIB, arena=300 * KIB, scores=NANO.scores)
    table = [points, row(), NANO, PICO]
    assert choices.misfit(nano, size, Limits(), table) == ""
    assert choices.misfit(nano, size, Limits(flash=2588 * KIB, ram=900 * KIB), table) == ""
    assert choices.misfit(nano, size, Limits(flash=410 * KIB, ram=600 * KIB), table) == (
        "nano does not fit: it needs about 2588 KiB of flash of 410 and about 900 KiB of RAM of 600; measured models "
        "that fit: rtmdet_pico_03m at 192 px, fomo_mobilenetv2_035 at 192 px"
    )
    assert choices.misfit(nano, size, Limits(flash=1.0), table).endswith("KiB of flash of 0; no measured model fits")
    assert choices.misfit(Choice("s", "why"), size, Limits(flash=1.0), table) == ""  # nothing was measured of it
    asked, smaller = choices.fitted(nano, size, Limits(ram=600 * KIB, flash=3000 * KIB), table, asked=True)
    assert asked == nano and smaller.value == (256, 256)
    assert choices.fitted(nano, size, Limits(flash=410 * KIB), table, asked=True) == (nano, size)


def test_a_network_with_a_map_of_stride_4_takes_small_inputs() -> None:
    nano, size = Choice("nano", "why"), Choice((320, 320), "seen")
    network, smaller = choices.fitted(nano, size, Limits(ram=100 * KIB), [NANO, PICO])
    assert network.value == "pico-03m" and smaller.value == (128, 128)  # 200 KiB at 192, 89 at 128; nano: 324 at 192
    assert network.why == "nano does not fit the RAM even at 192 px; this is the largest measured one that does"
    asked, smaller = choices.fitted(Choice("fomo", "why"), Choice((192, 192), "seen"), Limits(ram=100 * KIB),
                                    [row(model="fomo_mobilenetv2_035", arena=200 * KIB)], asked=True)  # fmt: skip
    assert asked.value == "fomo" and smaller.value == (128, 128)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--flash", "-1"], "--flash -1: give the KiB that there are, a number above 0"),
        (["--arena", "nan"], "--arena nan: give the KiB that there are, a number above 0"),
        (["--data", "mine"], "--data names the data set of runs; name their folders too"),
        (["--json", "absent.json"], "absent.json is no table of models ("),
        (["--board", "esp"], "unknown board 'esp'"),
        (["no_such_run"], "no folder no_such_run"),
    ],
)
def test_wrong_words_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        main(words)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_table_of_ones_own_is_read_and_limited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.json"
    rows.write([NANO, row(), PICO], file)
    assert main(["--json", str(file), "--flash", "1024", "--markdown", str(tmp_path / "page.md")]) == 0
    printed = capsys.readouterr().out
    assert "rtmdet_pico_06m" in printed and "nano" not in printed
    assert "| rtmdet_pico_03m | 192 |" in (tmp_path / "page.md").read_text()
    with pytest.raises(UserError, match="none of the 3 rows fits"):
        main(["--json", str(file), "--flash", "1"])


def said_by_export(folder: Path, equal: bool, differing: int) -> None:
    export = {"file": "model_int8.tflite", "evaluation": {"equal": equal}, "parity": {"differing": differing}}
    (folder / "export-results.json").write_text(json.dumps(export))


@pytest.fixture
def finished(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that went through every command, with the int8 file of ``files``."""
    folder = tmp_path / "run"
    config = files.config(work_dir=str(folder), epochs=20, activation="ReLU")
    state = load_checkpoint(files.root / "epoch_150.pth")
    for stage in ("float", "qat"):
        record = make_record(config, stage, config[f"{stage}_trainer"])
        record["data"] = {"training": {"images": 5, "classes": ["square", "disc"]}}
        save_checkpoint(folder / f"{stage}-checkpoint-best.pth.tar", {**state, "run": record, "config": config.dump()})
        (folder / stage).mkdir()
        (folder / stage / "results.csv").write_text("epoch,val/AP,val/AP50,time/epoch\n1,0.5,0.75,30\n2,0.4,0.7,31\n")
    for stage in ("calibration", "int_infer"):
        (folder / stage).mkdir()
        found = {"stage": stage, "metrics": {"AP": 0.25, "AP50": 0.5}, "seconds": 1.0, "images": 5}
        (folder / stage / "predict.json").write_text(json.dumps(found))
    file = folder / "model_int8.tflite"
    file.write_bytes((files.root / "model_int8.tflite").read_bytes())
    said_by_export(folder, True, 0)
    monkeypatch.setattr(measure, "_npu", lambda name, content: {"ms": 1.0, "sram": 1, "flash": 2, "cpu_operators": 0})
    return folder


def test_a_run_becomes_a_row(finished: Path) -> None:
    made = measure.row_of(finished, "squares")
    assert (made.data, made.size, made.pictures, made.classes) == ("squares", (64, 64), 5, 2)
    assert (made.epochs, made.qat_epochs, made.seconds) == (20, 2, {"float": 61, "qat": 61})
    assert made.options == {"activation": "ReLU"} and made.flash == (finished / "model_int8.tflite").stat().st_size
    assert made.scores == {"float": 0.5, "calibration": 0.25, "qat": 0.25}
    assert made.scores50 == {"float": 0.75, "calibration": 0.5, "qat": 0.5}
    assert made.parameters == 2_436_538 and made.macs == 37_009_920


def test_a_run_whose_config_is_gone_becomes_a_row(finished: Path) -> None:
    path = finished / "float-checkpoint-best.pth.tar"
    state = load_checkpoint(path)
    for stage in ("float", "qat"):
        record = {**state["run"], "config": "configs/gone.py"}
        save_checkpoint(finished / f"{stage}-checkpoint-best.pth.tar", {**state, "run": record})
    assert measure.row_of(finished).parameters == 2_436_538
    save_checkpoint(path, {name: value for name, value in state.items() if name != "config"})
    with pytest.raises(UserError, match="does not say what its model is made of; train it with this version"):
        measure.row_of(finished)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "int_infer/predict.json").unlink(), "has no scores of stage qat; make them first: hatdet pre"),
        (lambda f: (f / "calibration/predict.json").unlink(), "has no scores of stage calibration; make them first"),
        (lambda f: (f / "model_int8.tflite").unlink(), "has no int8 file with a proof; make it: hatdet export"),
        (lambda f: said_by_export(f, False, 0), "by its export, the file is not the integer model"),
        (lambda f: said_by_export(f, True, 1), "by its export, the file is not the integer model"),
    ],
)
def test_a_run_without_proof_makes_no_row(finished: Path, change: Any, message: str) -> None:
    change(finished)
    with pytest.raises(UserError) as error:
        measure.row_of(finished)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_shipped_table_is_whole() -> None:
    found = rows.shipped()
    assert len({row.key for row in found}) == len(found)
    assert list(found) == rows.ordered(found)
    assert all(set(row.scores) == {"float", "calibration", "qat"} and set(row.npu) == set(rows.NPUS) for row in found)
