"""Whole configs of both versions, as they are, down to trainers that can be built."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hatdet.building import Builder
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.config.mmdetection.road import ARITHMETIC
from hatdet.integer.arithmetic import PROFILE
from hatdet.utils.errors import ConfigError, UserError

ROOT = Path(__file__).resolve().parents[4]

MODEL = """
model = dict(
    type='RetinaNet',
    backbone=dict(type='ResNet', depth=18, num_stages=4, out_indices=(0, 1, 2, 3), frozen_stages=1,
                  norm_cfg=dict(type='BN', requires_grad=True), norm_eval=True, style='pytorch',
                  init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
    neck=dict(type='FPN', in_channels=[64, 128, 256, 512], out_channels=32, start_level=1,
              add_extra_convs='on_input', num_outs=5),
    bbox_head=dict(
        type='RetinaHead', num_classes=3, in_channels=32, stacked_convs=1, feat_channels=32,
        anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3,
                              ratios=[0.5, 1.0, 2.0], strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[.0, .0, .0, .0], target_stds=[1.0, 1.0, 1.0, 1.0]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
    train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0,
                                 ignore_iof_thr=-1),
                   sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=100))
"""
NEW = MODEL + """
model['data_preprocessor'] = dict(type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53],
                                  std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_size_divisor=32)
default_scope = 'mmdet'
data_root = 'data/'
pipeline = [dict(type='LoadImageFromFile', backend_args=None), dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(96, 64), keep_ratio=True), dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs')]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(type='CocoDataset', data_root=data_root, ann_file='train.json', data_prefix=dict(img='train/'),
                 metainfo=dict(classes=('a', 'b', 'c')), filter_cfg=dict(filter_empty_gt=True, min_size=32),
                 pipeline=pipeline))
val_dataloader = dict(
    batch_size=1, num_workers=0, drop_last=False, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CocoDataset', data_root=data_root, ann_file='val.json', data_prefix=dict(img='val/'),
                 metainfo=dict(classes=('a', 'b', 'c')), test_mode=True,
                 pipeline=[pipeline[0], pipeline[2], pipeline[1], dict(type='PackDetInputs')]))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'val.json', metric='bbox')
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
                   dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1)]
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001))
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=50),
                     param_scheduler=dict(type='ParamSchedulerHook'),
                     checkpoint=dict(type='CheckpointHook', interval=3), sampler_seed=dict(type='DistSamplerSeedHook'),
                     visualization=dict(type='DetVisualizationHook'))
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
load_from = None
resume = False
"""
OLD = MODEL + """
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
classes = ('a', 'b', 'c')
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
                  dict(type='Resize', img_scale=(96, 64), keep_ratio=True), dict(type='RandomFlip', flip_ratio=0.5),
                  dict(type='Normalize', **img_norm_cfg), dict(type='Pad', size_divisor=32),
                  dict(type='DefaultFormatBundle'), dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels'])]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='MultiScaleFlipAug', img_scale=(96, 64), flip=False,
    transforms=[dict(type='Resize', keep_ratio=True), dict(type='RandomFlip'),
                dict(type='Normalize', **img_norm_cfg), dict(type='Pad', size_divisor=32),
                dict(type='ImageToTensor', keys=['img']), dict(type='Collect', keys=['img'])])]
data = dict(samples_per_gpu=2, workers_per_gpu=0,
    train=dict(type='CocoDataset', classes=classes, ann_file='data/train.json', img_prefix='data/train/',
               pipeline=train_pipeline),
    val=dict(type='CocoDataset', classes=classes, ann_file='data/val.json', img_prefix='data/val/',
             pipeline=test_pipeline),
    test=dict(type='CocoDataset', classes=classes, ann_file='data/val.json', img_prefix='data/val/',
              pipeline=test_pipeline))
evaluation = dict(interval=2, metric='bbox')
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=0.001, step=[8, 11])
runner = dict(type='EpochBasedRunner', max_epochs=12)
checkpoint_config = dict(interval=3)
log_config = dict(interval=50, hooks=[dict(type='TextLoggerHook')])
custom_hooks = [dict(type='NumClassCheckHook')]
dist_params = dict(backend='nccl')
log_level = 'INFO'
load_from = None
resume_from = None
workflow = [('train', 1)]
auto_scale_lr = dict(enable=False, base_batch_size=16)
"""
VERSIONS = {3: NEW, 2: OLD}


def load(folder: Path, text: str, options: dict[str, object] | None = None) -> Config:
    path = folder / "my_config.py"
    path.write_text(text)
    return load_config(path, options)


def callback(trainer: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = [part for part in trainer["callbacks"] if part["type"] == kind]
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_config_as_it_is(tmp_path: Path, version: int) -> None:
    config = load(tmp_path, VERSIONS[version])
    config.validate("model", "float_trainer", "calibration_trainer", "qat_trainer", "int_infer")
    assert config.model["type"] == "mmdet.RetinaNet" and config.model["classes"] == ["a", "b", "c"]
    preprocessor = config.model["data_preprocessor"]
    assert preprocessor["mean"] == [123.675, 116.28, 103.53] and preprocessor["bgr_to_rgb"] is True
    trainer = config.float_trainer
    assert trainer["num_epochs"] == 12 and config.qat_trainer["num_epochs"] == 1
    assert trainer["optimizer"] == {"type": "torch.optim.SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001}
    assert config.qat_trainer["optimizer"]["lr"] == 0.001
    assert callback(trainer, "Validation")["val_interval"] == 2
    assert callback(trainer, "Checkpoint")["save_interval"] == 3
    assert callback(trainer, "LrPolicy" if version == 2 else "ParamSchedulers")
    (start,) = trainer["model_convert_pipeline"]["converters"]
    assert start["checkpoint_path"] == "tmp_pretrained_models/resnet18.pth"
    assert config.int_infer["model_convert_pipeline"]["converters"][-1]["image_size"] == (64, 96)
    assert config.base_batch_size == 16 and "base_batch_size" not in trainer
    assert config.data_loader["batch_size"] == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_the_models_of_both_versions_are_built(tmp_path: Path, version: int) -> None:
    from hatdet.building import Builder

    config = load(tmp_path, VERSIONS[version])
    model = Builder(config).build(config.model, "model")
    assert type(model).__name__ == "RetinaNet" and model.classes == ("a", "b", "c")


@pytest.mark.parametrize("version", VERSIONS)
def test_options(tmp_path: Path, version: int) -> None:
    length = "train_cfg.max_epochs" if version == 3 else "runner.max_epochs"
    options: dict[str, object] = {
        length: 3, "model.backbone.init_cfg": None, "float_trainer.seed": 5, "work_dir": "elsewhere",
        "auto_scale_lr.enable": True, "custom_hooks": [{"type": "EMAHook", "momentum": 0.001}],
    }  # fmt: skip
    config = load(tmp_path, VERSIONS[version], options)
    assert config.float_trainer["num_epochs"] == 3 and config.float_trainer["seed"] == 5
    assert config.float_trainer["model_convert_pipeline"]["converters"] == []
    assert config.work_dir == "elsewhere" and callback(config.float_trainer, "Checkpoint")["save_dir"] == "elsewhere"
    assert config.float_trainer["base_batch_size"] == 16
    with pytest.raises(ConfigError, match=r"option modell.x: the config has no 'modell'; did you mean 'model'"):
        load(tmp_path, VERSIONS[version], {"modell.x": 1})


def test_iterations_mixed_precision_and_a_file_to_start_from(tmp_path: Path) -> None:
    text = NEW + """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1000, val_interval=100)
optim_wrapper.update(type='AmpOptimWrapper', clip_grad=dict(max_norm=35), accumulative_counts=2)
load_from = 'https://example.org/weights.pth'
model['data_preprocessor']['batch_augments'] = [
    dict(type='BatchSyncRandomResize', random_size_range=(32, 80), size_divisor=32, interval=10)]
"""
    config = load(tmp_path, text)
    trainer = config.float_trainer
    config.validate("float_trainer")
    assert trainer["num_steps"] == 1000 and "num_epochs" not in trainer
    assert config.qat_trainer["num_steps"] == 100 and "num_epochs" not in config.qat_trainer
    assert callback(trainer, "Validation")["interval_by"] == "step"
    processor = trainer["batch_processor"]
    assert processor["enable_amp"] is True and processor["grad_accumulation_step"] == 2
    assert processor["batch_transforms"][0]["ratio_range"] == (0.5, 1.25)
    (start,) = trainer["model_convert_pipeline"]["converters"]
    assert start["checkpoint_path"] == "tmp_pretrained_models/weights.pth"
    assert callback(trainer, "GradClip")["max_norm"] == 35


def test_what_no_one_needs_is_said_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="hatdet"):
        load(tmp_path, NEW)
    (line,) = [message for message in caplog.messages if "without effect" in message]
    assert line == "my_config: read, without effect here: DetVisualizationHook, visualizer"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = dict(type='FasterRCNN')\ndata = dict()\n", "model.type: 'FasterRCNN' is not supported"),
        ("default_scope = 'mmdet'\n", "a config of MMDetection 3 needs model, train_dataloader"),
        (OLD.replace("'SGD'", "'SDG'"), "optim_wrapper.optimizer.type: 'SDG' has no counterpart; did you mean 'SGD'"),
        (NEW + "custom_hooks = [dict(type='MyHook')]\n", "custom_hooks.0.type: 'MyHook' has no counterpart"),
        (NEW + "custom_imports = dict(imports=['hatdet_no_such'])\n", "'hatdet_no_such' cannot be imported"),
        (NEW + "model['backbone']['type'] = 'VargNetV2'\n", "model.backbone.type: MMDetection's 'VargNetV2' is not"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


def test_an_unknown_argument_is_found_before_anything_is_built(tmp_path: Path) -> None:
    config = load(tmp_path, NEW, {"model.bbox_head.num_clases": 3})
    with pytest.raises(ConfigError, match=r"model.bbox_head.num_clases: .*did you mean 'num_classes'"):
        config.validate("model")


def test_a_name_that_is_nearly_one_of_theirs(tmp_path: Path) -> None:
    config = load(tmp_path, NEW + "optim_wraper = dict(clip_grad=dict(max_norm=1))\nmy_own = 3\n")
    with pytest.raises(ConfigError, match=r"optim_wraper: nothing reads this name, .*did you mean 'optim_wrapper'"):
        config.validate("model")


def test_a_dump_is_a_config_in_hatdets_words(tmp_path: Path) -> None:
    config = load(tmp_path, NEW)
    (tmp_path / "dumped.py").write_text(config.dump())
    again = load_config(tmp_path / "dumped.py")
    assert again.model == config.model and again.float_trainer == config.float_trainer


def test_loading_needs_no_torch(tmp_path: Path) -> None:
    for version, text in VERSIONS.items():
        (tmp_path / f"v{version}.py").write_text(text)
    code = (
        "import sys\nfrom hatdet.config.load import load_config\n"
        f"for name in ('v2', 'v3'): load_config(f'{tmp_path}/{{name}}.py')\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        (NEW + "val_evaluator = dict(type='VOCMetric', metric='mAP', eval_mode='11points')\n",
         {"type": "mmdet.VOCMetric", "metric": "mAP", "eval_mode": "11points"}),
        (OLD + "evaluation = dict(interval=2, metric='mAP', save_best='auto')\n",
         {"type": "mmdet.VOCMetric", "iou_thrs": 0.5, "eval_mode": "area"}),
        (OLD.replace("data/val/", "data/VOC2007/") + "evaluation = dict(interval=2, metric='mAP', save_best='mAP')\n",
         {"type": "mmdet.VOCMetric", "iou_thrs": 0.5, "eval_mode": "11points"}),
    ],
)  # fmt: skip
def test_pascal_voc_is_scored_by_its_own_rules(tmp_path: Path, text: str, metric: dict[str, Any]) -> None:
    config = load(tmp_path, text)
    config.validate("float_trainer", "qat_trainer", "int_infer")
    for trainer in (config.float_trainer, config.qat_trainer):
        assert trainer["val_metrics"] == metric
        assert callback(trainer, "Checkpoint")["monitor_metric_key"] == "mAP"


def test_how_calibration_adjusts_is_an_option_of_any_config(tmp_path: Path) -> None:
    path = tmp_path / "fitting.py"
    path.write_text(NEW + "\nweight_rounding = 'adaround'\n")
    config = load_config(path, {"bias_correction": True, "calibration_observer": "min_max"})
    config.validate("calibration_trainer")
    params = config["calibration_trainer"]["model_convert_pipeline"]["qconfig_params"]
    assert params == {
        "arithmetic": PROFILE, "activation_calibration_observer": "min_max", "equalize": False, "bias_correction": True,
        "weight_rounding": "adaround",
    }  # fmt: skip
    assert set(config["qat_trainer"]["model_convert_pipeline"]["qconfig_params"]) == {"arithmetic"}
    assert config["bias_correction"] is True and config["weight_rounding"] == "adaround"


QUANTIZED = ("calibration_trainer", "qat_trainer", "int_infer")


def said_in_stages(config: Config) -> list[dict[str, Any]]:
    return [config[stage]["model_convert_pipeline"]["qconfig_params"] for stage in QUANTIZED]


def test_bits_of_weights_are_an_option_of_any_config(tmp_path: Path) -> None:
    """All stages in integers are told, as QAT and the export take over what calibration chose."""
    path = tmp_path / "fitting.py"
    path.write_text(NEW + "\nflash_budget = 0.7\n")
    for given in (4, "auto", ["backbone.layer4", "neck"], ("neck",)):
        config = load_config(path, {"weight_bits": given, "qat_scales": "learned"})
        config.validate(*QUANTIZED)
        told = {"weight_bits": given, "flash_budget": 0.7, "qat_scales": "learned"}
        assert all(params.items() >= told.items() for params in said_in_stages(config))
        assert config["weight_bits"] == given
    plain = load_config(path, {"flash_budget": 0.55})
    assert not any({"weight_bits", "flash_budget", "qat_scales"} & params.keys() for params in said_in_stages(plain))
    assert plain["weight_bits"] == 8 and plain["qat_scales"] == "auto"
    with pytest.raises(UserError, match="weight_bits is 2; use 8, 4, a list"):
        Builder().build(load_config(path, {"weight_bits": 2})["calibration_trainer"]["model_convert_pipeline"])


def test_they_are_options_of_the_built_in_retinanet_too(tmp_path: Path) -> None:
    """Its translation is another one; what it does not read of a file must not be dropped in silence."""
    path = tmp_path / "mine.py"
    base = ROOT / "configs/retinanet/retinanet_r50_fpn_1x_coco.py"
    path.write_text(f"_base_ = [{str(base)!r}]\nbias_correction = True\nweight_bits = 'auto'\n")
    config = load_config(path, {"weight_rounding": "adaround", "flash_budget": 0.8})
    first, *others = said_in_stages(config)
    assert (first["bias_correction"], first["weight_rounding"], first["equalize"]) == (True, "adaround", False)
    assert all((p["weight_bits"], p["flash_budget"]) == ("auto", 0.8) for p in (first, *others))
    assert load_config(path, {"weight_bits": ["neck"]})["qat_trainer"]["model_convert_pipeline"]["qconfig_params"] == {
        "arithmetic": PROFILE, "weight_bits": ["neck"],
    }  # fmt: skip


def test_the_arithmetic_is_an_option_of_any_config(tmp_path: Path) -> None:
    """MMDetection knows no such name: a file may assign it, the command line may give it."""
    path = tmp_path / "fitting.py"
    path.write_text(NEW)

    def said(config: Config) -> list[str]:
        stages = ("calibration_trainer", "qat_trainer", "int_infer")
        found = [config[stage]["model_convert_pipeline"]["qconfig_params"]["arithmetic"] for stage in stages]
        return [config["arithmetic"], *found]

    assert said(load_config(path)) == [ARITHMETIC] * 4 == [PROFILE] * 4
    assert "qconfig_params" not in load_config(path)["float_trainer"]["model_convert_pipeline"]
    given = load_config(path, {"arithmetic": "xnnpack"})
    assert said(given) == ["xnnpack"] * 4 and given.options == {"arithmetic": "xnnpack"}
    assert "arithmetic" in given.literals and "arithmetic = 'xnnpack'" in given.dump()
    path.write_text(NEW + "\narithmetic = 'xnnpack'\n")
    config = load_config(path)
    config.validate("float_trainer", "int_infer")
    assert said(config) == ["xnnpack"] * 4 and said(load_config(path, {"arithmetic": "tflite_ref"})) == [PROFILE] * 4
    path.write_text(NEW + "\narithmetics = 'xnnpack'\n")
    with pytest.raises(ConfigError, match="arithmetics: nothing reads this name.*did you mean 'arithmetic'"):
        load_config(path).validate("float_trainer")


TRAINED = ("float_trainer", "qat_trainer")


def test_a_teacher_is_an_option_of_any_config(tmp_path: Path) -> None:
    path = tmp_path / "fitting.py"
    path.write_text(NEW)
    plain = load_config(path)
    assert not [part for name in TRAINED for part in plain[name]["callbacks"] if part["type"] == "Distillation"]
    config = load_config(path, {"teacher": "large.pth.tar", "qat_teacher": "float"})
    config.validate("float_trainer", "qat_trainer")
    assert callback(config["float_trainer"], "Distillation")["teacher"] == {
        "type": "Teacher", "checkpoint": "large.pth.tar",
    }  # fmt: skip
    assert callback(config["qat_trainer"], "Distillation")["teacher"] == {
        "type": "Teacher", "checkpoint": "work_dirs/fitting/float-checkpoint-best.pth.tar", "feature_weight": 0.0,
    }  # fmt: skip
    path.write_text(NEW + "\nteacher = 'mine.pth.tar'\n")
    config = load_config(path)
    assert config["teacher"] == callback(config["float_trainer"], "Distillation")["teacher"]["checkpoint"]
    assert "Distillation" not in [part["type"] for part in config["qat_trainer"]["callbacks"]]


def test_a_teacher_is_an_option_of_hatdet_s_own_configs_in_these_words(repo_root: Path) -> None:
    config = load_config(repo_root / "configs/retinanet/retinanet_r50_fpn_1x_coco.py", {"teacher": "large.pth.tar"})
    assert callback(config["float_trainer"], "Distillation")["teacher"]["checkpoint"] == "large.pth.tar"
