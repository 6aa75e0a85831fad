"""Configs that start from published weights: valid in every stage, and the published normalization in all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hatdet.building import Builder
from hatdet.config.load import load_config
from hatdet.models.task_modules.preprocessor import DataPreprocessor

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
FILES = (
    "rtmdet/rtmdet_efficientnet_lite0_small_data.py",
    "yolox/yolox_efficientnet_lite0_small_data.py",
    "detection/retinanet/retinanet_efficientnet_lite0_coco.py",
    "picodet/picodet_efficientnet_lite0_small_data.py",
)
STAGES = ("float_trainer", "calibration_trainer", "qat_trainer", "int_infer")


@pytest.mark.parametrize("file", FILES)
def test_every_stage_is_valid_and_the_first_alone_loads_the_weights(file: str) -> None:
    config = load_config(CONFIGS / file, {"num_classes": 3})
    config.validate("model", *STAGES)
    loads = [
        [c["type"] for c in config[stage]["model_convert_pipeline"]["converters"] if c].count("LoadPretrained")
        for stage in STAGES
    ]
    assert loads == [1, 0, 0, 0]
    rates = config.float_trainer["optimizer"]["paramwise"]
    assert (rates["backbone_lr"], rates["stage_decay"]) == (config.backbone_lr, config.stage_decay)
    assert "backbone_lr" not in config.qat_trainer["optimizer"]["paramwise"]


@pytest.mark.parametrize("file", FILES)
def test_the_model_has_the_size_of_its_header_and_the_published_normalization(file: str) -> None:
    text = (CONFIGS / file).read_text(encoding="utf-8")
    stated = re.search(r"([0-9.]+) M parameters and [0-9.]+ GMACs at 320x320 with ([0-9]+) classes", text)
    assert stated is not None
    model = Builder().build(load_config(CONFIGS / file, {"num_classes": int(stated[2])}).model, "model")
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.3f}" == stated[1]
    (norm,) = [m for m in model.modules() if isinstance(m, DataPreprocessor)]
    assert (set(norm.mean), set(norm.std), norm.bgr_to_rgb) == ({127.0}, {128.0}, True)
    assert type(model.backbone).__name__ == "EfficientNetLite" and model.backbone.norm_eval
    assert not model.backbone.get_parameter("_blocks.2._project_conv.weight").requires_grad  # stages 0 and 1
    assert model.backbone.get_parameter("_blocks.3._project_conv.weight").requires_grad
