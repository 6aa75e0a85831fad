"""Optimizer, schedule, length, hooks and the rest of a config, key by key."""

from __future__ import annotations

from typing import Any

import pytest

from hatdet.config.mmdetection.training.hooks import Hooks, translate_hooks
from hatdet.config.mmdetection.training.length import Length, length_of_version2, length_of_version3
from hatdet.config.mmdetection.training.metrics import metric_name
from hatdet.config.mmdetection.training.notes import Notes
from hatdet.config.mmdetection.training.optimizer import Optimizing, translate_wrapper, wrapper_of_version2
from hatdet.config.mmdetection.training.rest import translate_auto_scale, translate_rest
from hatdet.config.mmdetection.training.schedule import translate_policy, translate_schedulers
from hatdet.utils.errors import ConfigError

SGD = {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 0.0001}


def optimizing(**wrapper: Any) -> Optimizing:
    return translate_wrapper({"optimizer": SGD, **wrapper}, Notes())


def test_the_optimizer_is_named_by_its_path() -> None:
    found = optimizing(type="OptimWrapper", clip_grad=None)
    assert found.optimizer == {**SGD, "type": "torch.optim.SGD"}
    assert found.callbacks == () and found.batch_processor == {}


def test_paramwise_and_constructor() -> None:
    paramwise = {"norm_decay_mult": 0.0, "custom_keys": {"backbone": {"lr_mult": 0.1}}}
    assert optimizing(paramwise_cfg=paramwise).optimizer["paramwise_cfg"] == paramwise
    decay = optimizing(constructor="LearningRateDecayOptimizerConstructor", paramwise_cfg={"num_layers": 12})
    assert decay.optimizer["constructor"] == "LearningRateDecayOptimizerConstructor"
    assert "constructor" not in optimizing(constructor="DefaultOptimWrapperConstructor").optimizer


def test_clipping() -> None:
    assert optimizing(clip_grad=dict(max_norm=35, norm_type=2)).callbacks == (
        {"type": "GradClip", "max_norm": 35, "norm_type": 2},
    )
    assert optimizing(clip_grad=dict(type="value", clip_value=0.5)).callbacks == (
        {"type": "GradClipValue", "clip_value": 0.5},
    )


def test_mixed_precision_and_accumulation() -> None:
    notes = Notes()
    wrapper = {"type": "AmpOptimWrapper", "optimizer": SGD, "dtype": "bfloat16", "accumulative_counts": 4}
    found = translate_wrapper({**wrapper, "loss_scale": 512.0}, notes)
    assert found.batch_processor == {
        "enable_amp": True, "enable_amp_dtype": "bfloat16", "grad_accumulation_step": 4,
    }  # fmt: skip
    assert notes.lines == [
        "optim_wrapper.loss_scale=512.0: the scale of the loss moves here (dynamic), from 65536"
    ]


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ({"optimizer": {"type": "SDG", "lr": 1}}, "optim_wrapper.optimizer.type: 'SDG' has no .*did you mean 'SGD'"),
        ({"optimizer": {"type": "SGD"}}, "optim_wrapper.optimizer.lr is missing"),
        ({"optimizer": {"type": "SGD", "lr": 1, "momentun": 0.9}}, "unknown key 'momentun'; did you mean 'momentum'"),
        ({"clip_gard": {}}, "optim_wrapper: unknown key 'clip_gard'; did you mean 'clip_grad'"),
        ({"clip_grad": {"max_nrom": 1}}, "optim_wrapper.clip_grad.max_norm is missing"),
        ({"type": "AmpOptimWrapper", "dtype": "float8"}, "optim_wrapper.dtype: 'float8'"),
        ({"constructor": "MyConstructor"}, "optim_wrapper.constructor: 'MyConstructor' has no counterpart"),
    ],
)
def test_optimizers_that_are_refused(wrapper: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        optimizing(**wrapper)


def test_version_2_says_the_same_in_other_words() -> None:
    values = {
        "optimizer": {**SGD, "paramwise_cfg": {"bias_lr_mult": 2.0}},
        "optimizer_config": {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 2,
                             "grad_clip": {"max_norm": 35}},
        "fp16": {"loss_scale": "dynamic"},
    }  # fmt: skip
    found = translate_wrapper(wrapper_of_version2(values), Notes())
    assert found.optimizer["paramwise_cfg"] == {"bias_lr_mult": 2.0}
    assert found.callbacks[0]["max_norm"] == 35
    assert found.batch_processor == {"grad_accumulation_step": 2, "enable_amp": True}
    plain = translate_wrapper(wrapper_of_version2({"optimizer": SGD, "optimizer_config": {"grad_clip": None}}), Notes())
    assert plain == Optimizing({**SGD, "type": "torch.optim.SGD"})


def test_schedulers_go_as_they_are() -> None:
    warm = {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 500}
    steps = {"type": "mmdet.MultiStepLR", "milestones": [8, 11]}
    (callback,) = translate_schedulers([warm, steps])
    assert callback == {"type": "ParamSchedulers", "schedulers": [warm, {**steps, "type": "MultiStepLR"}]}
    assert translate_schedulers(warm)[0]["schedulers"] == [warm]
    assert translate_schedulers(None) == translate_schedulers([]) == []
    plateau = translate_schedulers({"type": "ReduceOnPlateauLR", "monitor": "coco/bbox_mAP"})
    assert plateau[0]["schedulers"][0]["monitor"] == "AP"
    with pytest.raises(ConfigError, match=r"param_scheduler.1.type: expected a name, got None"):
        translate_schedulers([warm, {"begin": 1}])


def test_policies_go_as_they_are() -> None:
    policy = {"policy": "step", "warmup": "linear", "warmup_iters": 500, "warmup_ratio": 0.001, "step": [8, 11]}
    assert translate_policy(policy, None) == [{"type": "LrPolicy", "lr_config": policy}]
    both = translate_policy(policy, {"policy": "cyclic"})
    assert both[0]["momentum_config"] == {"policy": "cyclic"}
    assert translate_policy(None, None) == []


def test_the_length_of_version_3() -> None:
    assert length_of_version3({"type": "EpochBasedTrainLoop", "max_epochs": 12}) == Length(12, None, 1)
    assert length_of_version3({"by_epoch": True, "max_epochs": 12, "val_interval": 3}).interval == 3
    steps = length_of_version3({"type": "IterBasedTrainLoop", "max_iters": 90000, "val_interval": 10000})
    assert steps.trainer() == {"num_steps": 90000}
    assert steps.validation() == {"type": "Validation", "val_interval": 10000, "interval_by": "step"}
    late = length_of_version3({"max_epochs": 300, "val_interval": 10, "val_begin": 20, "dynamic_intervals": [(280, 1)]})
    assert late.validation() == {
        "type": "Validation", "val_interval": 10, "val_begin": 20, "dynamic_intervals": [[279, 1]],
    }  # fmt: skip


def test_the_length_of_version_2() -> None:
    values: dict[str, Any] = {"runner": {"type": "EpochBasedRunner", "max_epochs": 12}}
    assert length_of_version2(values) == (Length(12, None, 1), None)
    assert length_of_version2({"total_epochs": 24})[0].epochs == 24
    values["evaluation"] = {"interval": 10, "metric": "bbox", "save_best": "bbox_mAP_50", "dynamic_intervals": [(9, 1)]}
    length, best = length_of_version2(values)
    assert (length.interval, length.dynamic, best) == (10, ((9, 1),), "bbox_mAP_50")
    iterations = length_of_version2({"runner": {"type": "IterBasedRunner", "max_iters": 100}})[0]
    assert iterations.trainer() == {"num_steps": 100}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "MyLoop"}, "train_cfg.type: 'MyLoop' has no counterpart"),
        ({"max_epochs": 0}, "train_cfg: the length must be at least 1"),
        ({"max_epoch": 12}, "train_cfg.max_epochs is missing.*did you mean 'max_epoch'"),
        ({"max_epochs": 12, "dynamic_intervals": 3}, "dynamic_intervals: expected list or tuple"),
        ({"max_epochs": 12, "dynamic_intervals": [3]}, "train_cfg.dynamic_intervals"),
    ],
)
def test_lengths_that_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        length_of_version3(config)


def hooks_of(version: int = 3, length: Length | None = None, notes: Notes | None = None, **values: Any) -> Hooks:
    return translate_hooks(values, version, length or Length(300, None, 1), notes or Notes())


def test_default_hooks() -> None:
    notes = Notes()
    found = hooks_of(
        notes=notes,
        default_hooks=dict(
            timer=dict(type="IterTimerHook"),
            logger=dict(type="LoggerHook", interval=20),
            param_scheduler=dict(type="ParamSchedulerHook"),
            checkpoint=dict(type="CheckpointHook", interval=2, max_keep_ckpts=5, save_best="coco/bbox_mAP_50"),
            sampler_seed=None,
            visualization=dict(type="DetVisualizationHook", draw=True),
        ),
    )
    assert found.log_interval == 20
    assert found.checkpoint == {"save_interval": 2, "keep": 5, "monitor_metric_key": "AP50"}
    assert notes.idle == ["DetVisualizationHook"]
    assert (found.before_validation, found.after_validation, found.late) == ([], [], [])


def test_checkpoints() -> None:
    assert hooks_of(default_hooks=dict(checkpoint=dict(interval=10))).checkpoint == {"save_interval": 10, "keep": None}
    steps = dict(checkpoint=dict(by_epoch=False, interval=10000, max_keep_ckpts=1))
    assert hooks_of(length=Length(None, 90000, 1), default_hooks=steps).checkpoint == {
        "save_last_every_steps": 10000, "keep": 1,
    }  # fmt: skip
    assert hooks_of(default_hooks=dict(checkpoint=dict(interval=-1))).checkpoint == {"keep": 0}
    assert hooks_of(version=2, checkpoint_config=dict(interval=3)).checkpoint["save_interval"] == 3


def test_custom_hooks() -> None:
    found = hooks_of(
        custom_hooks=[
            dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.0001, update_buffers=True, priority=49),
            dict(type="YOLOXModeSwitchHook", num_last_epochs=15, priority=48),
            dict(type="PipelineSwitchHook", switch_epoch=280, switch_pipeline=[]),
            dict(type="SyncNormHook", priority=48),
            dict(type="mmdet.SetEpochInfoHook"),
            dict(type="CheckInvalidLossHook", interval=50, priority="VERY_LOW"),
            dict(type="EarlyStoppingHook", monitor="coco/bbox_mAP", patience=3),
            dict(type="NumClassCheckHook"),
        ]
    )
    assert found.late == [
        {"type": "YOLOXModeSwitch", "num_last_epochs": 15}, {"type": "PipelineSwitch", "num_last_epochs": 20},
    ]  # fmt: skip
    assert found.before_validation == [
        {"type": "EMAHook", "ema_type": "ExpMomentumEMA", "momentum": 0.0001, "update_buffers": True},
        {"type": "SyncNorm"},
        {"type": "SetEpochInfo"},
    ]
    assert found.after_validation == [{"type": "EarlyStoppingHook", "monitor": "AP", "patience": 3}]


def test_hooks_of_version_2() -> None:
    found = hooks_of(
        version=2,
        log_config=dict(interval=10, hooks=[dict(type="TextLoggerHook"), dict(type="TensorboardLoggerHook")]),
        custom_hooks=[
            dict(type="ExpMomentumEMAHook", resume_from=None, momentum=0.0001, priority=49),
            dict(type="EMAHook", momentum=0.001),
        ],
    )
    assert found.log_interval == 10
    assert found.before_validation == [
        {"type": "ExpMomentumEMAHook", "momentum": 0.0001},
        {"type": "LinearMomentumEMAHook", "momentum": 0.001, "interval": 1, "warm_up": 100, "skip_buffers": False},
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(custom_hooks=[dict(type="EMAHok")]), "custom_hooks.0.type: 'EMAHok' has no .*did you mean 'EMAHook'"),
        (dict(custom_hooks=[dict(type="MeanTeacherHook")]), "custom_hooks.0.type: MeanTeacherHook is not supported"),
        (dict(default_hooks=dict(mine=dict(interval=1))), "default_hooks.mine.type is missing"),
        (dict(default_hooks=dict(checkpoint=dict(intervall=1))), "unknown key 'intervall'; did you mean 'interval'"),
        (dict(default_hooks=dict(checkpoint=dict(save_best="segm_mAP"))), "checkpoint.save_best: 'segm_mAP'"),
        (dict(length=Length(None, 5, 1), custom_hooks=[dict(type="YOLOXModeSwitchHook")]), "counts epochs"),
    ],
)
def test_hooks_that_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        hooks_of(**values)


def test_the_rest() -> None:
    notes = Notes()
    values = dict(
        randomness=dict(seed=3, deterministic=True), find_unused_parameters=True, resume=False, launcher="none",
        env_cfg=dict(cudnn_benchmark=False), log_level="INFO", vis_backends=[dict(type="LocalVisBackend")],
        visualizer=dict(type="DetLocalVisualizer"), log_processor=dict(type="LogProcessor", window_size=50),
        val_cfg=dict(type="ValLoop", fp16=True), test_cfg=dict(type="TestLoop"), tta_model=dict(type="DetTTAModel"),
    )  # fmt: skip
    assert translate_rest(values, 3, notes) == {"seed": 3, "find_unused_parameters": True}
    assert set(notes.idle) == {"env_cfg", "log_level", "vis_backends", "visualizer", "log_processor", "launcher"}
    assert notes.lines == ["val_cfg.fp16: scores are of the model in float32"]
    assert translate_rest({"seed": 7, "workflow": [("train", 1)]}, 2, Notes()) == {"seed": 7}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(resume=True), "resume: resuming is asked for on the command line: .*--resume"),
        (dict(resume_from="x.pth"), "resume_from: "),
        (dict(workflow=[("train", 1), ("val", 1)]), "workflow: only"),
        (dict(val_cfg=dict(type="TeacherStudentValLoop")), "val_cfg.type: 'TeacherStudentValLoop'"),
        (dict(tta_model=dict(type="MyTTA")), "tta_model.type: 'MyTTA'"),
        (dict(randomness=dict(sead=1)), "randomness: unknown key 'sead'; did you mean 'seed'"),
    ],
)
def test_what_is_refused_of_the_rest(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        translate_rest(values, 3, Notes())


def test_auto_scale_lr() -> None:
    assert translate_auto_scale({}) == (False, None)
    assert translate_auto_scale({"auto_scale_lr": dict(base_batch_size=64)}) == (False, 64)
    assert translate_auto_scale({"auto_scale_lr": dict(enable=True, base_batch_size=16)}) == (True, 16)
    with pytest.raises(ConfigError, match=r"auto_scale_lr.base_batch_size is missing"):
        translate_auto_scale({"auto_scale_lr": dict(enable=True)})


def test_names_of_measured_values() -> None:
    names = ("auto", "coco/bbox_mAP_50", "pascal_voc/mAP", "pascal_voc/AP50", "loss_cls")
    assert [metric_name(n, "x") for n in names] == ["AP", "AP50", "mAP", "mAP@50", "loss_cls"]


def test_notes_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    notes = Notes()
    notes.without_effect("visualizer", "env_cfg", "visualizer")
    notes.say("a line")
    notes.say("a line")
    with caplog.at_level("INFO", logger="hatdet"):
        notes.publish("my")
    assert caplog.messages == ["my: read, without effect here: visualizer, env_cfg", "my: a line"]
