"""What a command takes from a checkpoint, what it refuses, what it only says."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.engine.checkpoints.adoption import adopted
from hatdet.engine.checkpoints.provenance import make_record
from hatdet.engine.checks.arithmetic import config_arithmetic
from hatdet.engine.run import predict, train
from hatdet.utils.checkpoints.checkpoint import save_checkpoint
from hatdet.utils.errors import UserError
from hatdet.utils.logging import setup_logging
from tests.integration.mini_coco import CONFIG
from tests.unit.engine.checkpoints.test_provenance import TOY


def made(tmp_path: Path, config: Config, stage: str = "float") -> Path:
    """A checkpoint without weights that says it was made by a stage of the config."""
    path = tmp_path / f"{stage}-checkpoint-best.pth.tar"
    save_checkpoint(path, {"state_dict": {}, "run": make_record(config, stage, config[f"{stage}_trainer"])})
    return path


@pytest.fixture
def config_file(repo_root: Path) -> Path:
    return repo_root / CONFIG


def test_options_that_are_left_out_are_taken(tmp_path: Path, config_file: Path, log: pytest.LogCaptureFixture) -> None:
    path = made(tmp_path, load_config(config_file, {"imgsz": (128, 128), "num_classes": 2, "work_dir": "elsewhere"}))
    config = adopted(load_config(config_file, {"num_classes": 2}), [path])
    assert config.imgsz == (128, 128) and config.val_transforms[0]["img_scale"] == (128, 128)
    assert config.model["bbox_head"]["num_classes"] == 2
    assert config.work_dir == f"work_dirs/{config_file.stem}", "where results go is not of the weights"
    assert log.messages == [f"taken from {path}, which was made with them: imgsz=(128, 128)"]
    assert adopted(config, [path]) is config, "nothing is left to take"


def test_keys_inside_the_model_are_taken_and_those_of_a_stage_are_not(tmp_path: Path, config_file: Path) -> None:
    options = {"model.backbone.widen_factor": 0.5, "float_trainer.num_epochs": 7}
    config = adopted(load_config(config_file), [made(tmp_path, load_config(config_file, options))])
    assert config.model["backbone"]["widen_factor"] == 0.5 and config.float_trainer["num_epochs"] == 300
    options = {"model.backbone": {"_delete_": True, "type": "MobileNetV2"}, "model": {"input_color": "rgb"}}
    path = made(tmp_path, then := load_config(config_file, options))
    config = adopted(load_config(config_file), [path])
    assert config.model["backbone"]["type"] == "MobileNetV2" and config.model == then.model


@pytest.mark.parametrize(
    ("then", "now", "before", "after", "back"),
    [
        ({"imgsz": (128, 128)}, {"imgsz": (320, 320)}, "imgsz=(128, 128)", "imgsz=(320, 320)", "'imgsz=(128,128)'"),
        ({"num_classes": 2}, {"num_classes": 3}, "num_classes=2", "num_classes=3", "num_classes=2"),
        ({}, {"widen_factor": 0.5}, "widen_factor=0.25", "widen_factor=0.5", "widen_factor=0.25"),
        ({}, {"activation": "SiLU"}, "activation='ReLU6'", "activation='SiLU'", "activation=ReLU6"),
        ({"pixel_mean": 1.0}, {"pixel_mean": 2.0}, "pixel_mean=1.0", "pixel_mean=2.0", "pixel_mean=1.0"),
        ({}, {"bgr_to_rgb": True}, "bgr_to_rgb=False", "bgr_to_rgb=True", "bgr_to_rgb=False"),
        ({}, {"strides": (8, 16, 64)}, "strides=(8, 16, 32)", "strides=(8, 16, 64)", "'strides=(8,16,32)'"),
    ],
)
def test_what_the_weights_depend_on_is_refused(
    tmp_path: Path, config_file: Path, then: dict[str, object], now: dict[str, object], before: str, after: str,
    back: str,
) -> None:  # fmt: skip
    path = made(tmp_path, load_config(config_file, then))
    with pytest.raises(UserError) as raised:
        adopted(load_config(config_file, {**now, "lr": 0.5}), [path])
    assert str(raised.value) == (
        f"{path} was made with {before}; here it is {after}: set it back (--cfg-options {back}), or train again from "
        "the float stage"
    )


def test_a_key_inside_the_model_is_refused_by_its_path(tmp_path: Path, config_file: Path) -> None:
    path = made(tmp_path, load_config(config_file))
    name = r"model\.backbone\.expand_ratio"
    text = rf"made with {name}=0\.5; here it is {name}=0\.25: set it back, or"
    with pytest.raises(UserError, match=text):
        adopted(load_config(config_file, {"model.backbone.expand_ratio": 0.25}), [path])


def test_a_config_that_writes_a_default_out_means_the_same(tmp_path: Path, repo_root: Path) -> None:
    """A later version of a config has a key more: the checkpoints of the earlier one still fit."""
    own, text = tmp_path / "mine.py", f'_base_ = "{repo_root / CONFIG}"\n'
    own.write_text(text + "model = dict(input_color='bgr', preprocessor=dict(bgr_to_rgb=False))\n")
    now = load_config(own)
    assert now.val_transforms[-1] == {"type": "ToTensor", "color": "bgr"}
    then = load_config(own)
    del then.model["input_color"], then.model["preprocessor"]["bgr_to_rgb"], then.model["backbone"]["frozen_stages"]
    del then.model["backbone"]["use_depthwise"], then.val_transforms[-1]["color"]
    path = made(tmp_path, then)
    assert adopted(now, [path]) is now
    own.write_text(text + "model = dict(preprocessor=dict(bgr_to_rgb=True))\n")
    with pytest.raises(UserError, match=r"with model\.preprocessor\.bgr_to_rgb=False; here it is .*bgr_to_rgb=True"):
        adopted(load_config(own), [path])


def test_a_file_that_was_changed_since_is_compared_not_overridden(tmp_path: Path, repo_root: Path) -> None:
    own = tmp_path / "mine.py"
    text = f'_base_ = "{repo_root / CONFIG}"\nnum_classes = 2\n'
    own.write_text(text + "imgsz = (128, 128)\n")
    path = made(tmp_path, load_config(own))
    own.write_text(text + "imgsz = (320, 320)\n")
    with pytest.raises(UserError, match=r"made with imgsz=\(128, 128\); here it is imgsz=\(320, 320\)"):
        adopted(load_config(own), [path])
    own.write_text(text + "imgsz = (128, 128)\nlr = 3e-3\n")
    assert adopted(load_config(own), [path]).lr == 3e-3
    # the same, where an option had the last word when the checkpoint was made
    path = made(tmp_path, load_config(own, {"imgsz": (64, 64)}))
    assert adopted(load_config(own), [path]).imgsz == (64, 64)
    own.write_text(text + "imgsz = (320, 320)\nlr = 3e-3\n")
    with pytest.raises(UserError, match=r"made with imgsz=\(64, 64\); here it is imgsz=\(320, 320\)"):
        adopted(load_config(own), [path])


def test_what_the_weights_do_not_depend_on_is_said_where_one_trains(
    tmp_path: Path, config_file: Path, log: pytest.LogCaptureFixture
) -> None:
    path = made(tmp_path, load_config(config_file, {"epochs": 20}))
    config = load_config(config_file, {"epochs": 30, "lr": 0.01, "workers": 0})
    assert adopted(config, [path]) is config
    assert log.messages == []
    assert adopted(config, [path, path], training=True) is config
    assert log.messages == ["float-checkpoint-best.pth.tar was made otherwise: epochs=20, now 30, lr=0.001, now 0.01"]
    log.clear()
    later = {"epochs": 20, "qat_epochs": 1, "calibration_observer": "kl"}  # float weights are the same for any
    assert adopted(load_config(config_file, later), [path], training=True).qat_epochs == 1
    assert log.messages == []


def test_another_quantization_is_refused_or_said(
    tmp_path: Path, config_file: Path, log: pytest.LogCaptureFixture
) -> None:
    path = made(tmp_path, load_config(config_file), "qat")
    expected = (
        f"{path} was made with qat_mode='fuse_bn'; here it is qat_mode='with_bn': set it back (--cfg-options "
        "qat_mode=fuse_bn), or train again from the calibration stage"
    )
    for training in (False, True):
        with pytest.raises(UserError) as raised:
            adopted(load_config(config_file, {"qat_mode": "with_bn"}), [path], training=training)
        assert str(raised.value) == expected
    adopted(load_config(config_file, {"qat_mode": "with_bn"}), [made(tmp_path, load_config(config_file))])  # float
    log.clear()
    adopted(load_config(config_file, {"int16_output": True, "keep_float": ["neck"], "lr": 1.0}), [path])
    assert log.messages == [
        f"{path} was made with int16_output=False, now True, keep_float=[], now ['neck']: this is another model than "
        "the one that was trained"
    ]
    log.clear()
    adopted(load_config(config_file, {"calibration_observer": "min_max", "lr": 1.0}), [path])
    assert log.messages == [], "neither changes what the weights and ranges compute"


def test_another_arithmetic_is_taken_or_said(
    tmp_path: Path, config_file: Path, log: pytest.LogCaptureFixture
) -> None:
    """A file from before there was a choice has the reference's."""
    path = made(tmp_path, load_config(config_file, {"arithmetic": "xnnpack"}), "qat")
    config = adopted(load_config(config_file), [path])
    assert config_arithmetic(config) == "xnnpack" and "taken from" in log.text
    log.clear()
    end = "this is another model than the one that was trained"
    adopted(load_config(config_file, {"arithmetic": "tflite_ref"}), [path])
    assert log.messages == [f"{path} was made with arithmetic='xnnpack', now 'tflite_ref': {end}"]
    record = make_record(config, "qat", config["qat_trainer"])
    del record["constants"]["arithmetic"], record["options"]["arithmetic"]
    save_checkpoint(old := tmp_path / "old.pth.tar", {"state_dict": {}, "run": record})
    log.clear()
    adopted(load_config(config_file, {"arithmetic": "xnnpack"}), [old])
    assert log.messages == [f"{old} was made with arithmetic='tflite_ref', now 'xnnpack': {end}"]
    log.clear()
    adopted(load_config(config_file), [old])
    assert log.messages == []


def test_a_file_of_an_earlier_version_is_compared_by_its_config(
    tmp_path: Path, config_file: Path, log: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "old.pth.tar"
    text = "imgsz = (64, 64)\nnum_classes = 80\nlr = 3.0\nclasses = None\nwork_dir = 'x'\n"
    save_checkpoint(path, {"state_dict": {}, "config": text})
    adopted(load_config(config_file), [path])
    assert log.messages == [
        f"{path}, of an earlier version, was made with imgsz=(64, 64), now (640, 640): give it the options of its "
        "training"
    ]
    log.clear()
    adopted(load_config(config_file), [path])  # as the next step of one command
    adopted(load_config(config_file, {"imgsz": (64, 64)}), [path])
    assert log.messages == []


def test_files_without_a_record_are_passed_over(tmp_path: Path, config_file: Path) -> None:
    save_checkpoint(tmp_path / "old.pth.tar", {"state_dict": {}, "config": "imgsz = (64, 64)"})
    (tmp_path / "other.pth").write_text("no checkpoint")
    config = load_config(config_file)
    assert adopted(config, [tmp_path / "old.pth.tar", tmp_path / "other.pth", tmp_path / "absent"]) is config


def test_later_stages_resume_and_prediction_go_on_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A toy without its options: calibration, QAT and prediction take them; another number of classes is refused."""
    path = tmp_path / "toy.py"
    path.write_text(TOY)
    place = {"work_dir": str(tmp_path / "w")}
    train(load_config(path, {**place, "imgsz": (16, 16), "epochs": 2}), "float")
    trained = "imgsz=(16, 16), epochs=2"
    for run in (
        lambda: train(load_config(path, place), "qat"),
        lambda: train(load_config(path, place), "float", resume=True),
        lambda: predict(load_config(path, place), "float"),
    ):
        setup_logging()
        capsys.readouterr()
        run()
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("taken from ")]
        assert line.endswith(f"which was made with them: {trained}")
    for run in (
        lambda: train(load_config(path, {**place, "num_classes": 3}), "qat"),
        lambda: train(load_config(path, {**place, "num_classes": 3}), "float", resume=True),
        lambda: predict(load_config(path, {**place, "num_classes": 3}), "float"),
    ):
        with pytest.raises(UserError, match="was made with num_classes=2; here it is num_classes=3"):
            run()
