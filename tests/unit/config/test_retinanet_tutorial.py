"""The RetinaNet config is the tutorial's: its dicts, as they stand there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.config.options import parse_options

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "configs/detection/retinanet/retinanet_vargnetv2_fpn_mscoco.py"
TUTORIAL = ROOT.parent / "shared/tutorials/hat_retinanet.zh.txt"


def snippet(name: str) -> str:
    """The assignment ``name = dict(...)`` of the tutorial, whose indentation is lost."""
    text = TUTORIAL.read_text(encoding="utf-8")
    start = text.index(f"\n{name} = dict(") + 1
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0 and text[position] == ")":
            return text[start : position + 1]
    raise AssertionError(name)


def differences(theirs: Any, ours: Any, path: str) -> Iterator[str]:
    """What the tutorial has and the config has not, or has otherwise; more keys are allowed."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key, value in theirs.items():
            if key not in ours:
                yield f"{path}.{key} is missing"
            else:
                yield from differences(value, ours[key], f"{path}.{key}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for index, (a, b) in enumerate(zip(theirs, ours, strict=True)):
            yield from differences(a, b, f"{path}.{index}")
    elif theirs != ours:
        yield f"{path}: {theirs!r} is {ours!r}"


@pytest.fixture(scope="module")
def config() -> Config:
    pytest.importorskip("torch")
    return load_config(CONFIG)


@pytest.mark.parametrize("name", ["model", "data_loader", "float_trainer", "calibration_trainer"])
def test_the_tutorials_dicts(config: Config, name: str) -> None:
    if not TUTORIAL.is_file():
        pytest.skip("the tutorial is not here")
    import torch

    from hatdet.models.task_modules.anchors import AnchorGenerator

    names = {**dict(config.items()), "torch": torch, "os": os, "AnchorGenerator": AnchorGenerator}
    if name == "calibration_trainer":
        names["ckpt_callback"] = config.calibration_ckpt_callback  # the stage is in its name here
    exec(snippet(name), names)
    assert list(differences(names[name], config[name], name)) == []
    if name in ("model", "data_loader"):
        assert list(differences(config[name], names[name], name)) == [], "more than the tutorial has"


def test_everything_in_it_can_be_built(config: Config) -> None:
    config.validate(
        "float_trainer", "calibration_trainer", "qat_trainer", "int_infer", "deploy_model", "calibration_data_loader"
    )
    assert config.deploy_inputs == {"img": (1, 3, 1024, 1024)}
    assert config.deploy_model["head"] is config.model["head"]


def test_one_option_reaches_every_class_count() -> None:
    config = load_config(CONFIG, parse_options(["num_classes=3", "imgsz=(512,640)", "data_root=/data/"]))
    model = config.model
    encoder = model["targets"]["label_encoder"]["class_encoder"]
    assert (model["head"]["num_classes"], encoder["num_classes"]) == (3, 4)
    assert config.data_loader["dataset"]["data_path"] == "/data/train_lmdb/"
    assert config.float_trainer["val_metrics"]["ann_file"] == "/data/instances_val2017.json"
    sizes = [t.get("img_scale") or t.get("size") for t in config.val_transforms[:2]]
    assert sizes == [(400, 640), (512, 640)]


def test_the_tiny_one_is_smaller_and_keeps_the_rest() -> None:
    from hatdet.building import Builder
    from hatdet.profiling.calops import count_ops

    config = load_config(CONFIG.with_name("retinanet_vargnetv2_tiny_coco.py"), parse_options(["num_classes=3"]))
    config.validate("float_trainer", "calibration_trainer", "qat_trainer", "int_infer", "deploy_model")
    report = count_ops(Builder().build(config.model), (1, 3, *config.imgsz))
    assert report.summary().startswith("input 1x3x256x256: ")
    assert report.params < 2e6 and report.macs < 0.6e9
    assert config.qat_trainer["num_epochs"] == config.qat_epochs == 6
    assert config.infer_cfg["transforms"] is config.val_transforms
    loaders = (config.data_loader, config.val_data_loader, config.calibration_data_loader, config.qat_data_loader)
    assert all(loader["dataset"]["type"] == "CocoDataset" for loader in loaders)
    assert config.float_trainer["callbacks"][6]["data_loader"] is config.val_data_loader
    assert config.qat_trainer["val_metrics"] == {"type": "COCODetectionMetric"}


def test_settings_of_the_tiny_ones_quantization() -> None:
    options = ["keep_float=['backbone.stem*']", "int16_output=False", "calibration_observer=mse", "run_pictures=False"]
    config = load_config(CONFIG.with_name("retinanet_vargnetv2_tiny_coco.py"), parse_options(options))
    stages = [config[name] for name in ("calibration_trainer", "qat_trainer", "int_infer")]
    settings = [stage["model_convert_pipeline"]["qconfig_params"] for stage in stages]
    assert [s["keep_float"] for s in settings] == [["backbone.stem*"]] * 3
    assert settings[0]["activation_calibration_observer"] == "mse" and settings[1]["qat_forward"] == "integer"
    assert config.deploy_model["head"]["int16_output"] is False
    types = {c["type"] for name in ("float_trainer", "qat_trainer") for c in config[name]["callbacks"]}
    assert "RunPictures" not in types
