"""Files of two runs, or of two states of one, are never used together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.commands.quantization.run import quantize
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.engine.checkpoints.lineage import adopted_stage, check_parents, check_stage, say_other_data
from hatdet.engine.checkpoints.provenance import make_record, read_record, sources
from hatdet.engine.run import predict, train
from hatdet.engine.stages import command_line
from hatdet.engine.workdir import retire_qat
from hatdet.utils.checkpoints.checkpoint import save_checkpoint
from hatdet.utils.errors import UserError
from tests.integration.mini_coco import CONFIG

Make = Callable[..., Path]


@pytest.fixture
def config(tmp_path: Path, repo_root: Path) -> Config:
    return load_config(repo_root / CONFIG, {"work_dir": str(tmp_path / "w")})


@pytest.fixture
def make(config: Config) -> Make:
    """Write a stage's best checkpoint, made from what is there; weights are one number."""

    def write(stage: str, weights: float) -> Path:
        path = Path(config.work_dir) / f"{stage}-checkpoint-best.pth.tar"
        record = make_record(config, stage, config[f"{stage}_trainer"])
        save_checkpoint(path, {"state_dict": {"w": torch.tensor(weights)}, "run": record})
        return path

    return write


def record_of(path: Path) -> dict[str, Any]:
    record = read_record(path)
    assert record is not None
    return record


def run_of(path: Path) -> str:
    return str(record_of(path)["id"])


def test_qat_refuses_the_calibration_of_another_run(config: Config, make: Make) -> None:
    make("float", 1)
    calibration = make("calibration", 2)
    check_parents(config, list(sources(config.qat_trainer)))  # one run
    before = run_of(calibration)
    best = make("float", 3)
    with pytest.raises(UserError) as raised:
        train(config, "qat")
    assert str(raised.value) == (
        f"{calibration} is of run {before}, but {best} of run {run_of(best)}: run "
        f"`{command_line(config, 'calibration')}` again"
    )


def test_qat_refuses_the_calibration_of_a_former_state(config: Config, make: Make) -> None:
    best = make("float", 1)
    record = read_record(best)
    calibration = make("calibration", 2)
    save_checkpoint(best, {"state_dict": {"w": torch.tensor(5.0)}, "run": record})  # it was resumed
    with pytest.raises(UserError, match=rf"{calibration} was made from a former float-checkpoint-best.pth.tar of the "):
        train(config, "qat")


@pytest.mark.parametrize("stage", ["qat", "int_infer"])
def test_scoring_refuses_what_another_run_has_left(config: Config, make: Make, stage: str) -> None:
    make("float", 1)
    make("calibration", 2)
    qat = make("qat", 3)
    assert adopted_stage(config, stage) is config
    before = run_of(qat)
    best = make("float", 4)
    with pytest.raises(UserError) as raised:
        predict(config, stage)
    assert f"{qat} is of run {before}, but {best} of run {run_of(best)}: run `" in str(raised.value)
    assert "--stage qat --config" in str(raised.value)
    assert adopted_stage(config, stage, qat) is config, "a file that is named is what the user means"


def test_a_float_training_that_went_on_is_said(config: Config, make: Make, log: pytest.LogCaptureFixture) -> None:
    best = make("float", 1)
    record = read_record(best)
    qat = make("qat", 3)
    save_checkpoint(best, {"state_dict": {"w": torch.tensor(5.0)}, "run": record})
    adopted_stage(config, "int_infer")
    assert log.messages[0].startswith(f"{qat} was made before the float-checkpoint-best.pth.tar that is there now")


def test_weights_that_the_user_named_are_no_former_best(
    config: Config, make: Make, log: pytest.LogCaptureFixture
) -> None:
    """As tools/quantization.py with epoch_2.pth: training QAT from the best again is no advice for that."""
    make("float", 1)
    qat = make("qat", 3)
    record = record_of(qat)
    record["parents"]["float"].update(digest="0" * 64, file="w/float-checkpoint-epoch-0002.pth.tar")
    save_checkpoint(qat, {"state_dict": {"w": torch.tensor(3.0)}, "run": record})
    adopted_stage(config, "int_infer")
    assert log.messages == [
        f"{qat} was made from float-checkpoint-epoch-0002.pth.tar, not from float-checkpoint-best.pth.tar"
    ]


def test_other_data_are_said(config: Config, make: Make, log: pytest.LogCaptureFixture) -> None:
    path = make("float", 1)
    record = record_of(path)
    data = {"classes": ["a"], "images": 292, "fingerprint": "f" * 64}
    save_checkpoint(path, {"state_dict": {}, "run": {**record, "data": {"training": data, "validation": data}}})
    say_other_data([path], {"data": {"training": data, "validation": {**data, "fingerprint": None}}})
    assert log.messages == []
    say_other_data([path], {"data": {"training": {**data, "images": 300, "fingerprint": "0" * 64}}})
    text = "was made with other training data, or before it was packed anew: 292 images then, 300 now"
    assert log.messages == [f"{path} {text}"]


def test_quantization_does_not_mix_runs_in_a_folder(config: Config, make: Make, tmp_path: Path) -> None:
    best = make("float", 1)
    elsewhere = Path(best.rename(tmp_path / "mine.pth.tar"))
    other = make("float", 2)
    with pytest.raises(UserError) as raised:
        quantize(config, elsewhere)
    assert f"{elsewhere} is of run {run_of(elsewhere)}, but {other} of run {run_of(other)}" in str(raised.value)


def test_a_new_calibration_moves_the_qat_of_another_aside(config: Config, make: Make, tmp_path: Path) -> None:
    make("float", 1)
    make("calibration", 2)
    qat = make("qat", 3)
    make("calibration", 2)
    retire_qat(config)
    assert qat.is_file(), "the same ranges: QAT started from these"
    make("calibration", 4)
    retire_qat(config)
    assert not qat.exists() and (tmp_path / "w" / "old-1" / qat.name).is_file()


def test_files_without_a_record_are_not_compared(config: Config, make: Make, tmp_path: Path) -> None:
    make("float", 1)
    make("calibration", 2)
    save_checkpoint(tmp_path / "w/float-checkpoint-best.pth.tar", {"state_dict": {"w": torch.tensor(9.0)}})
    check_parents(config, list(sources(config.qat_trainer)))
    assert adopted_stage(config, "int_infer") is config


def test_a_file_of_another_stage_is_named(config: Config, make: Make) -> None:
    """It used to be "the weights do not fit", with the advice to leave all of them out."""
    path = make("float", 1.0)
    for stage in ("calibration", "qat", "int_infer"):
        with pytest.raises(UserError) as raised:
            predict(config, stage, checkpoint=path)
        assert str(raised.value) == (
            f"{path} is of stage float, but --stage {stage} takes weights of qat or calibration: name one of those, or "
            "take --stage float"
        )
    calibration = make("calibration", 2.0)
    with pytest.raises(UserError, match="is of stage calibration, but --stage float takes weights of float: name one"):
        check_stage("float", calibration)
    check_stage("qat", calibration)
    check_stage("int_infer", calibration)
    check_stage("int_infer", None)
    save_checkpoint(path, {"run": make_record(config, "int_infer", config.int_infer)})
    with pytest.raises(UserError, match="is of stage int_infer, .*: score it with tools/test.py$"):
        check_stage("int_infer", path)


def test_a_file_under_another_stages_name_is_refused(config: Config, make: Make) -> None:
    place = make("float", 1.0)
    place.write_bytes(make("calibration", 2.0).read_bytes())
    text = (
        f"{place} was written by stage calibration and copied or renamed; put the file of stage float there, or run "
        f"`{command_line(config, 'float')}` again"
    )
    for refused in (lambda: check_parents(config, [place]), lambda: predict(config, "float")):
        with pytest.raises(UserError) as raised:
            refused()
        assert str(raised.value) == text
