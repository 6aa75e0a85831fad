"""What exported files say of their detector: enough to build it, and nothing that opens files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from hatdet.config.load import load_config
from hatdet.config.parts import check_origin, read_parts
from hatdet.inference.recipe import KEY, recipe_of, transforms_of
from hatdet.inference.surroundings import file_metadata, find_surroundings, surroundings_of
from hatdet.utils.errors import UserError

CONFIGS = (
    "rtmdet/rtmdet_nano_ncadc_relu6_small_data.py",
    "detection/retinanet/retinanet_vargnetv2_fpn_mscoco.py",  # names classes, not their names
    "mmdetection/yolox_int8.py",
    "yolox/yolox_nano_relu6_small_data.py",
    "nanodet/nanodet_plus_m_relu6_small_data.py",
)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_recipe_is_read_back_as_a_complete_predictor(name: str, repo_root: Path) -> None:
    config = load_config(repo_root / "configs" / name)
    values = read_parts(recipe_of(config)[KEY])
    check_origin(values, name)
    around = surroundings_of(values, name)
    around.config.validate("int_infer", "float_predictor")
    assert around.transforms == transforms_of(config) and around.build_transforms()
    assert around.config["int_infer"]["data_loader"] is None
    assert len(recipe_of(config)[KEY]) < 4000, "it is carried by every file"


def test_first_weights_are_left_out_and_the_config_stays_as_it_was() -> None:
    backbone = {"type": "mmdet.MobileNetV2", "init_cfg": {"type": "Pretrained", "checkpoint": "weights.pth"}}
    values = {
        "model": {"type": "mmdet.FCOS", "backbone": backbone, "pretrained": "torchvision://x"},
        "infer_cfg": {"transforms": [{"type": "Resize", "img_scale": (64, 32)}]},
    }
    found = read_parts(recipe_of(values)[KEY])
    assert found["model"] == {"type": "mmdet.FCOS", "backbone": {"type": "mmdet.MobileNetV2"}}
    assert found["transforms"] == [{"type": "Resize", "img_scale": (64, 32)}], "a tuple stays one"
    assert "init_cfg" in backbone and "pretrained" in values["model"]


def test_a_part_of_the_user_s_own_has_no_recipe(caplog: pytest.LogCaptureFixture) -> None:
    def mine() -> None: ...

    caplog.set_level(logging.INFO, "hatdet")
    values: dict[str, Any] = {"model": {"type": "mmdet.FCOS", "neck": {"type": mine}}, "transforms": []}
    assert recipe_of(values) == {} and "the file will need its config to be run alone" in caplog.text
    assert recipe_of({"transforms": []}) == {}


def test_transforms_of_wrapped_data_sets() -> None:
    inner = {"type": "CocoDataset", "transforms": [{"type": "Resize"}]}
    loader = {"dataset": {"type": "ConcatDataset", "datasets": [{"type": "RepeatDataset", "dataset": inner}]}}
    assert transforms_of({"val_data_loader": loader}) == inner["transforms"]
    assert transforms_of({"float_trainer": {"val_data_loader": loader}}) == inner["transforms"]
    assert transforms_of({"model": {}}) is None
    with pytest.raises(UserError, match="here has no val_data_loader with transforms, so it does not say how to run"):
        surroundings_of({"model": {"type": "RTMDet"}}, "here")


def test_files_that_say_nothing(tmp_path: Path) -> None:
    for name in ("a.tflite", "a.onnx", "a.torchscript", "a.pth"):
        (tmp_path / name).write_bytes(b"nothing")
        assert file_metadata(tmp_path / name) == {}
        with pytest.raises(UserError, match="does not say what its detector is made of"):
            find_surroundings(tmp_path / name)
