"""The model of a config: names in their scope, version 2 in the words of 3, weights to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hatdet.config.mmdetection.network.pretrained import local_file, start_from, take_pretrained
from hatdet.config.mmdetection.network.teacher import config_file, model_of
from hatdet.config.mmdetection.network.translate import check_detector, detectors, translate_model
from hatdet.config.mmdetection.network.version2 import upgraded
from hatdet.utils.errors import ConfigError

PIXELS: dict[str, Any] = {"mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0], "bgr_to_rgb": True}


def retina(**changes: Any) -> dict[str, Any]:
    model = {
        "type": "RetinaNet",
        "backbone": {"type": "ResNet", "depth": 18, "norm_cfg": {"type": "BN", "requires_grad": False}},
        "neck": {"type": "FPN", "in_channels": [64, 128, 256, 512], "out_channels": 32, "num_outs": 5},
        "bbox_head": {"type": "RetinaHead", "num_classes": 3, "in_channels": 32},
        "train_cfg": {"assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4}},
        "test_cfg": {"nms": {"type": "nms", "iou_threshold": 0.5}},
    }
    return {**model, **changes}


def test_names_get_their_scope() -> None:
    model = translate_model({"model": retina()}, 3, PIXELS).model
    assert model["type"] == "mmdet.RetinaNet"
    assert [model[part]["type"] for part in ("backbone", "neck", "bbox_head")] == [
        "mmdet.ResNet", "mmdet.FPN", "mmdet.RetinaHead",
    ]  # fmt: skip
    assert model["backbone"]["norm_cfg"]["type"] == "BN"  # a layer, not a part
    assert model["train_cfg"]["assigner"]["type"] == "mmdet.MaxIoUAssigner"
    assert model["test_cfg"] == retina()["test_cfg"]
    assert model["data_preprocessor"] == {"type": "mmdet.DetDataPreprocessor"}
    assert "classes" not in model


def test_scoped_names_and_classes() -> None:
    parts = translate_model({"model": retina(type="mmdet.RetinaNet")}, 3, PIXELS, ("a", "b", "c"))
    assert parts.model["type"] == "mmdet.RetinaNet" and parts.model["classes"] == ["a", "b", "c"]


def test_what_is_not_here_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"model.type: 'FasterRCNN' is not supported; .*dense ones: ATSS, "):
        check_detector({"type": "FasterRCNN"})
    with pytest.raises(ConfigError, match=r"'RetinaNett' is not supported; did you mean 'RetinaNet'"):
        check_detector({"type": "RetinaNett"})
    with pytest.raises(ConfigError, match=r"model.type: expected the name of a detector, got None"):
        check_detector({})
    assert {"RetinaNet", "YOLOX", "RPN"} <= set(detectors())


def test_a_part_that_is_not_here_is_refused_with_its_path() -> None:
    with pytest.raises(ConfigError, match=r"model.backbone.type: 'ConvNeXt' is not here; .*take another"):
        translate_model({"model": retina(backbone={"type": "ConvNeXt"})}, 3, PIXELS)


def test_a_part_of_our_own_does_not_take_the_place_of_theirs() -> None:
    """VargNetV2 is a backbone of hatdet's own; MMDetection has none of that name."""
    with pytest.raises(ConfigError, match=r"model.backbone.type: MMDetection's 'VargNetV2' is not here"):
        translate_model({"model": retina(backbone={"type": "VargNetV2"})}, 3, PIXELS)


def test_several_necks() -> None:
    neck = [retina()["neck"], {"type": "DyHead", "in_channels": 32, "out_channels": 32}]
    found = translate_model({"model": retina(neck=neck)}, 3, PIXELS).model["neck"]
    assert found["type"] == "mmdet.NeckSequence"
    assert [part["type"] for part in found["necks"]] == ["mmdet.FPN", "mmdet.DyHead"]


def test_the_preprocessor_of_version_2_is_the_pipelines() -> None:
    model = upgraded({"model": retina()}, PIXELS)
    assert model["data_preprocessor"] == {"type": "DetDataPreprocessor", **PIXELS}


def test_pretrained_of_version_2() -> None:
    model = upgraded({"model": retina(pretrained="torchvision://resnet18")}, PIXELS)
    assert model["backbone"]["init_cfg"] == {"type": "Pretrained", "checkpoint": "torchvision://resnet18"}
    assert "pretrained" not in model
    inner = retina()
    inner["backbone"]["init_cfg"] = None  # what the option says that leaves the weights out
    assert upgraded({"model": {**inner, "pretrained": "x"}}, PIXELS)["backbone"]["init_cfg"] is None
    assert "init_cfg" not in upgraded({"model": retina(pretrained=None)}, PIXELS)["backbone"]


def test_settings_beside_the_model() -> None:
    """Before 2.7 ``train_cfg`` and ``test_cfg`` stood at the top."""
    bare = {key: value for key, value in retina().items() if not key.endswith("_cfg")}
    model = upgraded({"model": bare, "train_cfg": {"debug": True}, "test_cfg": {"nms_pre": 7}}, PIXELS)
    assert model["train_cfg"] == {"debug": True} and model["test_cfg"] == {"nms_pre": 7}


def test_yolox_of_version_2() -> None:
    model = retina(input_size=(640, 640), random_size_range=(10, 20), random_size_interval=5)
    found = upgraded({"model": model}, PIXELS)
    assert found["data_preprocessor"]["batch_augments"] == [
        {"type": "BatchSyncRandomResize", "random_size_range": (320, 640), "size_divisor": 32, "interval": 5}
    ]
    assert not {"input_size", "random_size_range", "random_size_interval"} & set(found)


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("neck", {"type": "CTResNetNeck", "in_channel": 8}, {"type": "CTResNetNeck", "in_channels": 8}),
        ("bbox_head", {"type": "CenterNetHead", "in_channel": 8, "feat_channel": 9},
         {"type": "CenterNetHead", "in_channels": 8, "feat_channels": 9}),
        ("neck", {"type": "NASFPN", "add_extra_convs": True}, {"type": "NASFPN"}),
        ("bbox_head", {"type": "AscendSSDHead"}, {"type": "SSDHead"}),
        ("neck", {"type": "FPN", "add_extra_convs": True, "extra_convs_on_inputs": True},
         {"type": "FPN", "add_extra_convs": "on_input"}),
        ("neck", {"type": "FPN", "add_extra_convs": True, "extra_convs_on_inputs": False},
         {"type": "FPN", "add_extra_convs": "on_output"}),
        ("test_cfg", {"nms": {"type": "nms", "iou_thr": 0.5}}, {"nms": {"type": "nms", "iou_threshold": 0.5}}),
    ],
)  # fmt: skip
def test_older_arguments(part: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    assert upgraded({"model": retina(**{part: old})}, PIXELS)[part] == new


def test_published_weights_are_files_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_file("torchvision://resnet50") == "tmp_pretrained_models/resnet50.pth"
    assert local_file("open-mmlab://detectron2/resnet50_caffe") == "tmp_pretrained_models/resnet50_caffe.pth"
    assert local_file("https://example.org/a/cspnext.pth?x=1") == "tmp_pretrained_models/cspnext.pth"
    assert local_file("../mine/x.pth") == "../mine/x.pth"
    (tmp_path / "tmp_pretrained_models").mkdir()
    (tmp_path / "tmp_pretrained_models" / "resnet50-0676ba61.pth").touch()
    assert local_file("torchvision://resnet50") == "tmp_pretrained_models/resnet50-0676ba61.pth"


def test_weights_to_start_from_leave_the_model() -> None:
    """A model is built, printed and tested without them."""
    model = retina()
    model["backbone"]["init_cfg"] = {"type": "Pretrained", "checkpoint": "torchvision://resnet18"}
    model["bbox_head"]["init_cfg"] = {"type": "Normal", "layer": "Conv2d", "std": 0.01}
    parts = translate_model({"model": model}, 3, PIXELS)
    assert "init_cfg" not in parts.model["backbone"] and parts.model["bbox_head"]["init_cfg"]["type"] == "Normal"
    (start,) = parts.start
    assert start["checkpoint_path"] == "tmp_pretrained_models/resnet18.pth"
    assert "--cfg-options model.backbone.init_cfg=None" in start["advice"]


def test_one_of_several_first_weights() -> None:
    model: dict[str, Any] = {"init_cfg": [{"type": "Normal"}, {"type": "Pretrained", "checkpoint": "a.pth"}]}
    assert take_pretrained(model) == [("a.pth", "model.init_cfg")]
    assert model == {"init_cfg": [{"type": "Normal"}]}


def test_a_checkpoint_without_a_type() -> None:
    """As the configs of PVT have it."""
    model: dict[str, Any] = {"backbone": {"init_cfg": {"checkpoint": "pvt_tiny.pth"}}, "init_cfg": {"type": "Normal"}}
    assert take_pretrained(model) == [("pvt_tiny.pth", "model.backbone.init_cfg")]
    assert model == {"backbone": {}, "init_cfg": {"type": "Normal"}}


def test_a_missing_file_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from torch import nn

    from hatdet.building import Builder
    from hatdet.utils.errors import UserError

    monkeypatch.chdir(tmp_path)
    model = nn.Linear(1, 1)
    load = Builder().build(start_from("torchvision://resnet50", "model.backbone.init_cfg"))
    assert load(model) is model
    (said,) = caplog.messages
    assert said.startswith("no tmp_pretrained_models/resnet50.pth: these weights are left as they are (random, at")
    assert "asks for torchvision://resnet50, and nothing is downloaded" in said
    with pytest.raises(UserError, match=r"no checkpoint mine.pth: load_from asks for mine.pth, and nothing"):
        Builder().build(start_from("mine.pth", "load_from"))(model)


def test_a_teacher_is_the_model_of_its_own_config(tmp_path: Path) -> None:
    """Its weights are no start of the student's."""
    (tmp_path / "gfl").mkdir()
    (tmp_path / "ld").mkdir()
    (tmp_path / "gfl" / "gfl.py").write_text("model = dict(type='GFL')")
    found = config_file("configs/gfl/gfl.py", tmp_path / "ld" / "ld.py")
    assert found == tmp_path / "gfl" / "gfl.py"
    assert config_file("configs/gfl/another.py", tmp_path / "ld" / "ld.py") is None
    own = retina(backbone={"type": "ResNet", "depth": 18, "init_cfg": {"type": "Pretrained", "checkpoint": "a.pth"}})
    student = {**retina(), "type": "KnowledgeDistillationSingleStageDetector", "teacher_config": {"model": own}}
    parts = translate_model({"model": student}, 3, PIXELS, ("a", "b", "c"))
    teacher = parts.model["teacher_config"]["model"]
    assert teacher["type"] == "mmdet.RetinaNet" and "init_cfg" not in teacher["backbone"] and "classes" not in teacher
    assert parts.start == ()
    assert model_of({"model": retina(), "test_cfg": {"score_thr": 0.1}}, 2)["model"]["data_preprocessor"]
    with pytest.raises(ConfigError, match=r"model.teacher_config: model.type: 'FasterRCNN' is not supported"):
        translate_model({"model": {**student, "teacher_config": {"model": {"type": "FasterRCNN"}}}}, 3, PIXELS)
    path = translate_model({"model": {**student, "teacher_config": "x.py"}}, 3, PIXELS).model["teacher_config"]
    assert path == "x.py"
