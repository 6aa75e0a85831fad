from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hatdet.commands.demo import run
from hatdet.commands.demo.command import main
from hatdet.commands.demo.render import render_dataset
from hatdet.commands.demo.road import RoadSettings, Step, StepResult, road
from hatdet.utils.checkpoints.checkpoint import save_checkpoint
from hatdet.utils.errors import UserError


def test_a_folder_of_the_user_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(UserError, match="is not empty and no former demo: choose another folder with --out"):
        run.prepare_folder(tmp_path)
    assert (tmp_path / "holiday.jpg").exists()
    out = tmp_path / "demo"
    run.prepare_folder(out)
    (out / "work_dir").mkdir()
    run.prepare_folder(out)  # a former demo is cleared
    assert [p.name for p in out.iterdir()] == [run.MARKER]


@pytest.fixture
def walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """What the commands leave behind, without running them; calling it finishes the demo."""
    settings = RoadSettings(out=tmp_path)
    work = settings.work_dir
    monkeypatch.setattr(run, "training_picture", lambda settings: np.zeros((8, 8, 3), np.uint8))

    def finish(integer_ap: float, differing: int) -> int:
        render_dataset(settings.images, train=1, val=1)
        for stage in run.STAGES:
            (work / stage).mkdir(parents=True)
            ap = 0.5 if stage == "float" else integer_ap
            (work / stage / "predict.json").write_text(json.dumps({"metrics": {"AP": ap, "AP50": 0.75}}))
        save_checkpoint(work / "float-checkpoint-best.pth.tar", {"state_dict": {"w": torch.zeros(500_000)}})
        save_checkpoint(work / "qat-checkpoint-best.pth.tar", {"state_dict": {}, "metrics": {"AP": integer_ap}})
        export = {
            "parity": {"compared": 10, "differing": differing},
            "evaluation": {"tflite": {"AP": integer_ap, "AP50": 0.7}},
        }
        (work / "export-results.json").write_text(json.dumps(export))
        (work / "int_infer-model_int8.tflite").write_bytes(bytes(510_000))
        (work / "int_infer-graph.pth.tar").write_bytes(bytes(520_000))
        log = tmp_path / "log.txt"
        log.write_text(f"parity: 10 values compared, {differing} differing\n")
        finished = {step.name: StepResult(step, 12.3, 11.0, 0, log) for step in road(settings)}
        return run.finish(settings, finished, 90.0)

    return finish


def test_a_good_road_gives_status_0(
    walked: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert walked(0.495, 0) == 0
    text = capsys.readouterr().out
    assert "float        0.500  0.750  2.00 MB    12 s training" in text
    assert "int_infer    0.495  0.750  0.52 MB  12 s evaluation" in text
    assert "tflite       0.495  0.700  0.51 MB      12 s export" in text
    assert "parity: 10 values compared, 0 differing" in text and "FAILED" not in text
    page = (tmp_path / "report.html").read_text()
    assert "Passed: integer AP 0.4950 against float AP 0.5000: -0.50 points" in page
    assert "hatdet export" in page


@pytest.mark.parametrize(("integer_ap", "differing"), [(0.489, 0), (0.495, 1)])
def test_a_bad_road_gives_status_1(
    walked: Callable[..., int], capsys: pytest.CaptureFixture[str], integer_ap: float, differing: int
) -> None:
    assert walked(integer_ap, differing) == 1
    assert capsys.readouterr().out.count("FAILED") == 1


def test_the_first_failing_step_ends_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [
        Step("one", "works", ("-c", "print('fine')")),
        Step("two", "breaks", ("-c", "raise SystemExit('no such thing')")),
        Step("three", "never comes", ("-c", "print('never')")),
    ]
    monkeypatch.setattr(run, "road", lambda settings: steps)
    monkeypatch.setattr("hatdet.commands.demo.road.START", ())
    monkeypatch.chdir(tmp_path)
    assert run.run_demo(RoadSettings(out=tmp_path / "out"), train_images=1, val_images=1) == 1
    text = capsys.readouterr().out
    assert "ended with status 1" in text and "no such thing" in text and "never comes" not in text


def test_dry_run_writes_nothing(tmp_path: Path, repo_root: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, str(repo_root / "tools/demo.py"), "--out", str(out), "--dry-run", "--epochs", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.count("epochs=7 ") == 8 and not out.exists()


@pytest.mark.parametrize(
    "option, said",
    [
        ("--qat-epochs 0", "at least 1"),
        ("--val-images -1", "at least 1"),
        ("--seed -1", "at least 0"),
        ("--image-size 100", "a multiple of 32"),
        ("--image-size 0", "a multiple of 32"),
    ],
)
def test_a_wrong_number_is_refused_before_anything_runs(tmp_path: Path, option: str, said: str) -> None:
    with pytest.raises(UserError, match=f"{option}: give .*{said}"):
        main(["--out", str(tmp_path / "demo"), *option.split()])
    assert not (tmp_path / "demo").exists()
