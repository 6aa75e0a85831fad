"""Configs in MMDetection's vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.building import Builder
from hatdet.config.load import load_config
from hatdet.quantization.loading import LoadCheckpoint
from hatdet.utils.errors import ConfigError, UserError

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
SHIPPED = CONFIGS / "retinanet" / "retinanet_r50_fpn_1x_coco.py"


def override(tmp_path: Path, text: str = "") -> Path:
    """A user's file on top of the shipped one, as the tutorials write it."""
    path = tmp_path / "my_retinanet_r50_fpn.py"
    path.write_text(f"_base_ = [{str(SHIPPED)!r}]\n{text}")
    return path


MINE = """
model = dict(backbone=dict(init_cfg=None))
data = dict(
    samples_per_gpu=4,
    workers_per_gpu=1,
    train=dict(ann_file='coco2014/annotations/instances_train2014.json', img_prefix='coco2014/train2014'),
    val=dict(ann_file='coco2014/annotations/instances_val2014.json', img_prefix='coco2014/val2014/'),
    test=dict(ann_file='coco2014/annotations/instances_val2014.json', img_prefix='coco2014/val2014/'))
evaluation = dict(interval=12, metric='bbox')
checkpoint_config = dict(interval=2)
load_from = '../ckpts/resnet50-0676ba61.pth'
"""


def test_the_shipped_config_is_mmdetections_retinanet() -> None:
    config = load_config(SHIPPED)
    config.validate("model", "float_trainer", "calibration_trainer", "qat_trainer", "int_infer")
    model = Builder().build(config.model, "model")
    assert sum(p.numel() for p in model.parameters()) == 37_968_692  # 37.97 M, as MMDetection counts it
    trainer = config.float_trainer
    assert trainer["optimizer"] == {"type": torch.optim.SGD, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001}
    steps = next(c for c in trainer["callbacks"] if c["type"] == "StepDecayLrUpdater")
    assert (steps["lr_decay_id"], steps["warmup_len"], steps["warmup_start_factor"]) == ([8, 11], 500, 0.001)
    assert trainer["num_epochs"] == 12 and config.data_loader["batch_size"] == 2
    assert config.model["preprocessor"]["bgr_to_rgb"] is True
    start = trainer["model_convert_pipeline"]["converters"][0]
    assert start["checkpoint_path"] == "tmp_pretrained_models/resnet50.pth"
    assert config.int_infer["model_convert_pipeline"]["converters"][-1]["image_size"] == (800, 1344)


def test_a_users_override_reaches_the_trainers(tmp_path: Path) -> None:
    config = load_config(override(tmp_path, MINE))
    assert config.data_loader["batch_size"] == 4 and config.data_loader["num_workers"] == 1
    dataset = config.data_loader["dataset"]
    assert dataset["data_root"] == "coco2014" and dataset["img_prefix"] == "train2014"
    assert dataset["ann_file"].endswith("coco2014/annotations/instances_train2014.json")
    assert [t["type"] for t in dataset["transforms"]] == ["Resize", "RandomFlip", "ToTensor"]
    validation = next(c for c in config.float_trainer["callbacks"] if c["type"] == "Validation")
    checkpoint = next(c for c in config.float_trainer["callbacks"] if c["type"] == "Checkpoint")
    assert validation["val_interval"] == 12 and checkpoint["save_interval"] == 2
    start = config.float_trainer["model_convert_pipeline"]["converters"][0]
    assert start["checkpoint_path"] == "../ckpts/resnet50-0676ba61.pth"


def test_options_reach_both_vocabularies(tmp_path: Path) -> None:
    options = {"num_classes": 3, "data.samples_per_gpu": 8, "float_trainer.num_epochs": 1, "runner.max_epochs": 5}
    config = load_config(override(tmp_path), options)
    assert config.model["head"]["num_classes"] == 3
    assert config.model["targets"]["label_encoder"]["class_encoder"]["num_classes"] == 4
    assert config.data_loader["batch_size"] == 8
    assert config.float_trainer["num_epochs"] == 1 and config.qat_trainer["num_epochs"] == 1


def test_a_dump_is_in_hatdets_own_words(tmp_path: Path) -> None:
    config = load_config(SHIPPED)
    (tmp_path / "dumped.py").write_text(config.dump())
    again = load_config(tmp_path / "dumped.py")
    assert again.model == config.model and again.int_infer == config.int_infer


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr_config = dict(warmup_ratios=0.1)", r"lr_config: unknown key 'warmup_ratios'; did you mean 'warmup_ratio'"),
        ("model = dict(bbox_head=dict(type='RetinaHaed'))", "model.bbox_head.type: 'RetinaHaed' has no counterpart"),
        ("model = dict(train_cfg=dict(assigner=dict(pos_iou_thrs=1)))", "did you mean 'pos_iou_thr'"),
        ("model = dict(test_cfg=dict(nms=dict(iou_threshold='a')))", "iou_threshold: expected int or float, got 'a'"),
        ("optimizer = dict(type='SDG')", "optimizer.type: 'SDG' has no counterpart; did you mean 'SGD'"),
        ("runner = dict(type='IterBasedRunner')", "runner.type: 'IterBasedRunner'"),
        ("workflow = [('train', 1), ('val', 1)]", "workflow: only"),
        ("resume_from = 'x.pth'", "--resume"),
        ("custom_hooks = [dict(type='MyHook')]", "custom_hooks.0.type: 'MyHook'"),
        ("img_scale = [(1333, 640), (1333, 800)]", "one .width, height. is supported"),
        ("data = dict(train=dict(type='VOCDataset'))", "data.train.type: 'VOCDataset' has no counterpart"),
        ("data = dict(train=dict(pipeline=[dict(type='Albu')]))", "data.train.pipeline.0.type: 'Albu'"),
        ("evaluation = dict(metric='segm')", "evaluation.metric: 'segm'"),
    ],
)
def test_what_has_no_counterpart_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(override(tmp_path, text))


def test_a_config_without_data_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "short.py"
    path.write_text(f"_base_ = {str(CONFIGS / '_base_' / 'default_runtime.py')!r}\n")
    with pytest.raises(ConfigError, match="needs model, data, optimizer, runner"):
        load_config(path)


def test_a_bare_backbones_file_loads(tmp_path: Path) -> None:
    """torchvision's names: conv1, layer1..., fc; no 'backbone.' before them."""
    torch.manual_seed(0)
    config = load_config(SHIPPED)
    model: Any = Builder().build(config.model, "model")
    weights = {k: v + 1 for k, v in model.backbone.state_dict().items()} | {"fc.weight": torch.zeros(2, 2)}
    torch.save(weights, tmp_path / "resnet50.pth")
    LoadCheckpoint(checkpoint_path=str(tmp_path / "resnet50.pth"), allow_miss=True, ignore_extra=True)(model)
    assert torch.equal(model.backbone.conv1.weight, weights["conv1.weight"])


GRAY = """
data_loading = dict(type='LoadImageFromFile', color_type='grayscale')
img_norm_cfg = dict(mean=[128.0], std=[64.0], to_rgb=False)
train_pipeline = [data_loading, dict(type='Resize', img_scale=(96, 64), keep_ratio=True),
                  dict(type='Normalize', **img_norm_cfg)]
test_pipeline = [data_loading, dict(type='MultiScaleFlipAug', img_scale=(96, 64), flip=False, transforms=[
    dict(type='Resize', keep_ratio=True), dict(type='Normalize', **img_norm_cfg)])]
data = dict(train=dict(pipeline=train_pipeline), val=dict(pipeline=test_pipeline))
model = dict(backbone=dict(depth=18, init_cfg=None, frozen_stages=-1))
"""


def test_pictures_of_one_channel(tmp_path: Path) -> None:
    config = load_config(override(tmp_path, GRAY))
    for name in ("data_loader", "val_data_loader"):
        transforms = config.float_trainer[name]["dataset"]["transforms"]
        assert [t for t in transforms if t["type"] == "ToTensor"] == [{"type": "ToTensor", "color": "gray"}]
    model = Builder(config).build(config.model, "model")
    assert model.input_color == "gray" and model.backbone.conv1.in_channels == 1
    assert model.network()(torch.zeros(1, 1, 64, 96))[0].shape[2:] == (8, 12)
    three = GRAY.replace("[128.0]", "[1.0, 2.0, 3.0]")
    config = load_config(override(tmp_path, three))
    with pytest.raises(UserError, match="the preprocessor's mean has 3 numbers: write one number as mean"):
        Builder(config).build(config.model, "model")
