"""Backbone, neck and head: what is not told is taken from the part before, what does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.building import Builder
from hatdet.config.check import check
from hatdet.config.load import load_config
from hatdet.models.feature_info import FeatureInfo
from hatdet.registry import register
from hatdet.utils.errors import UserError

RTMDET = "configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py"
RETINANET = "configs/detection/retinanet/retinanet_vargnetv2_tiny_coco.py"
MMDETECTION = "configs/retinanet/retinanet_r50_fpn_1x_coco.py"
CONFIGS = (RTMDET, RETINANET, MMDETECTION)
MOBILENET = "model.backbone=dict(_delete_=True, type='MobileNetV2')"


def build(root: Path, path: str, text: str = "", **options: Any) -> Any:
    """The model of a config that inherits from a shipped one."""
    config = root / "mine.py"
    config.write_text(f"_base_ = {str(Path(path).resolve())!r}\n{text}\n")
    loaded = load_config(config, options)
    assert check(loaded["model"], "model") == []
    return Builder(loaded).build(loaded["float_trainer"]["model"], "float_trainer.model")


def message(root: Path, path: str, text: str = "", **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        build(root, path, text, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", CONFIGS)
@pytest.mark.parametrize(
    ("backbone", "channels"),
    [
        ("type='MobileNetV2', out_indices=(2, 4, 6)", [32, 96, 320]),
        ("type='MobileNetV3', arch='small'", [24, 48, 96]),
        ("type='MobileNetV4'", [64, 96, 960]),
        ("type='EfficientNetLite', version=0", [40, 112, 320]),
        ("type='ResNet', depth=18, out_indices=(1, 2, 3)", [128, 256, 512]),
        ("type='CSPNeXt', widen_factor=0.125, deepen_factor=0.33", [32, 64, 128]),
        ("type='VargNetV2', include_top=False, alpha=0.5, out_indices=(2, 3, 4)", [32, 64, 128]),
    ],
)
def test_another_backbone_needs_no_other_change(
    tmp_path: Path, path: str, backbone: str, channels: list[int]
) -> None:
    neck = ", neck=dict(start_level=0)" if path == MMDETECTION else ""
    model = build(tmp_path, path, f"model = dict(backbone=dict(_delete_=True, {backbone}){neck})")
    assert list(model.neck.in_channels) == channels
    maps = model.eval().network()(torch.zeros(1, 3, 64, 64))
    assert [m.shape[2] for m in maps[: len(model.strides)]] == [-(-64 // s) for s in model.strides]


def test_the_option_of_the_config_is_named(tmp_path: Path) -> None:
    swap = "model = dict(backbone=dict(_delete_=True, type='MobileNetV2'))"
    assert message(tmp_path, RTMDET, swap, neck_in_channels=[64, 128, 256]) == (
        "float_trainer.model (RTMDet): the backbone (MobileNetV2) gives 3 maps with the channels [32, 96, 320] at "
        "strides [8, 16, 32], but neck has in_channels=[64, 128, 256]: set neck_in_channels=[32, 96, 320], or leave it "
        "out: a neck that is not told takes what the backbone gives"
    )


def test_the_full_retinanet_names_both_of_its_options(tmp_path: Path) -> None:
    full = "configs/detection/retinanet/retinanet_vargnetv2_fpn_mscoco.py"
    swap = "model = dict(backbone=dict(_delete_=True, type='MobileNetV2'))"
    assert (
        "but neck has in_channels=[32, 32, 64, 128, 256] and in_strides=[2, 4, 8, 16, 32]: set "
        "neck_in_channels=[32, 96, 320] and neck_in_strides=[8, 16, 32], or leave it out"
    ) in message(tmp_path, full, swap)
    model = build(tmp_path, full, swap, neck_in_channels=None, neck_in_strides=None)
    assert model.neck.in_channels == (32, 96, 320) and model.neck.in_strides == (8, 16, 32)


@pytest.mark.parametrize("path", CONFIGS)
def test_a_neck_of_another_width_is_refused_with_its_path(tmp_path: Path, path: str) -> None:
    text = message(tmp_path, path, "model = dict(neck=dict(in_channels=[8, 16, 32]))")
    model = build(tmp_path, path)
    right = list(model.backbone.feature_info.channels)
    assert f"with the channels {right} at strides" in text and "in_channels=[8, 16, 32]" in text
    assert f": set model.neck.in_channels={right}, or leave it out" in text


@pytest.mark.parametrize(("path", "head"), [(RTMDET, "bbox_head"), (RETINANET, "head"), (MMDETECTION, "bbox_head")])
def test_a_head_of_another_width_is_refused(tmp_path: Path, path: str, head: str) -> None:
    text = message(tmp_path, path, f"model = dict({head}=dict(in_channels=48))")
    width = {RTMDET: 64, RETINANET: 64, MMDETECTION: 256}[path]
    assert f"gives {width} channels, but the head (" in text and "takes in_channels=48: set " in text
    assert f"head.in_channels={width}, or leave it out" in text


def test_a_head_follows_its_neck(tmp_path: Path) -> None:
    assert build(tmp_path, RTMDET, "model = dict(neck=dict(out_channels=24))").bbox_head.in_channels == 24
    wider = "model = dict(neck=dict(out_channels=[24] * 3, fix_out_channel=24))"
    assert build(tmp_path, RETINANET, wider).bbox_head.in_channels == 24
    uneven = message(tmp_path, RETINANET, "model = dict(neck=dict(out_channels=[8, 16, 24], fix_out_channel=None), "
                     "head=dict(in_channels=16))")  # fmt: skip
    assert "gives levels of [8, 16, 24, 24, 24] channels" in uneven and "set model.neck.fix_out_channel=16" in uneven


def test_levels_at_other_strides_are_refused(tmp_path: Path) -> None:
    resnet = "model = dict(backbone=dict(_delete_=True, type='ResNet', depth=18))"
    assert message(tmp_path, RTMDET, resnet).endswith(
        "bbox_head has the strides (8, 16, 32), but the backbone's maps have the strides (4, 8, 16, 32): "
        "set model.backbone.out_indices=[1, 2, 3]"
    )
    two = "model = dict(backbone=dict(_delete_=True, type='MobileNetV2', out_indices=(2, 4)))"
    assert message(tmp_path, RTMDET, two).endswith("have the strides (8, 16): set strides=[8, 16]")
    double = "model = dict(backbone=dict(_delete_=True, type='MobileNetV2', out_indices=(3, 4, 6)))"
    assert "gives maps at strides [16, 16, 32]" in message(tmp_path, RTMDET, double)
    fewer = message(tmp_path, MMDETECTION, "model = dict(neck=dict(num_outs=4))")
    assert "anchors has the strides (8, 16, 32, 64, 128), but the neck's maps have the strides (8, 16, 32, 64)" in fewer
    assert "set model.anchors.feat_strides=[8, 16, 32, 64]" in fewer


def test_a_classifier_is_no_backbone(tmp_path: Path) -> None:
    text = message(tmp_path, RETINANET, "model = dict(backbone=dict(include_top=True))")
    assert text.endswith("ends in a classifier: set model.backbone.include_top=False")


@register
class _SilentBackbone(nn.Module):
    """It does not say what it gives: 8, 12, 16 channels at strides 8, 16, 32."""

    def __init__(self, levels: int = 3, works: bool = True) -> None:
        super().__init__()
        self.works = works
        self.convs = nn.ModuleList(nn.Conv2d(3, 8 + 4 * i, 1, stride=8 * 2**i) for i in range(levels))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if not self.works:
            raise RuntimeError("only on the device")
        return tuple(conv(x) for conv in self.convs)


@register
class _SilentNeck(nn.Module):
    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, 24, 1) for c in channels)

    def forward(self, maps: tuple[Tensor, ...]) -> list[Tensor]:
        return [conv(x) for conv, x in zip(self.convs, maps, strict=False)]


@register
class _OwnNeck(nn.Module):
    """A user's neck whose channels have no default."""

    def __init__(self, in_channels: list[int], out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.convs = nn.ModuleList(nn.Conv2d(c, out_channels, 1) for c in in_channels)

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(conv(x) for conv, x in zip(self.convs, maps, strict=True))


def test_a_users_neck_is_told_too(tmp_path: Path) -> None:
    model = build(tmp_path, RTMDET, "model = dict(neck=dict(_delete_=True, type='_OwnNeck', out_channels=20))")
    assert model.neck.in_channels == [64, 128, 256] and model.bbox_head.in_channels == 20


def test_parts_that_say_nothing_are_tried(tmp_path: Path) -> None:
    backbone = "backbone=dict(_delete_=True, type='_SilentBackbone')"
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    silent = Builder().build({"type": "_SilentNeck", "channels": []})
    from hatdet.models.fitting import backbone_info

    assert backbone_info(silent) is None and torch.equal(torch.rand(1), expected)  # trying draws no numbers
    assert build(tmp_path, RTMDET, f"model = dict({backbone})").neck.in_channels == (8, 12, 16)
    neck = "neck=dict(_delete_=True, type='_SilentNeck', channels={}), bbox_head=dict(in_channels={})"
    build(tmp_path, RTMDET, f"model = dict({backbone}, {neck.format([8, 12, 16], 24)})")
    text = message(tmp_path, RTMDET, f"model = dict({backbone}, {neck.format([8, 13, 16], 24)})")
    assert "the neck (_SilentNeck) does not take the backbone's 3 maps with the channels [8, 12, 16] at " in text
    assert text.endswith("make its channels and levels those of the backbone")
    text = message(tmp_path, RTMDET, f"model = dict({backbone}, {neck.format([8, 12, 16], 25)})")
    assert "the head (RTMDetSepBNHead) does not take the neck's 3 maps with the channels [24, 24, 24]" in text
    text = message(tmp_path, RTMDET, f"model = dict({backbone}, {neck.format([8, 12], 24)})")
    assert "bbox_head has the strides (8, 16, 32), but the neck's maps have the strides (8, 16): set strides=" in text


def test_nobody_says_the_channels(tmp_path: Path) -> None:
    backbone = "dict(_delete_=True, type='_SilentBackbone', works=False)"
    text = message(tmp_path, RTMDET, f"model = dict(backbone={backbone})")
    assert "in_channels is missing, and the part before does not say it (feature_info): write it" in text
    assert "float_trainer.model.neck (CSPNeXtPAFPN)" in text


def test_the_order_of_the_parts_does_not_matter() -> None:
    """A neck that stands before its backbone gets its channels all the same; shared dicts stay shared."""
    config = dict(load_config(RTMDET)["model"])
    backwards = {"type": config.pop("type"), **dict(reversed(config.items()))}
    builder = Builder()
    model = builder.build(backwards)
    assert list(model.neck.in_channels) == [64, 128, 256]
    assert builder.build(backwards["neck"]) is model.neck


def test_feature_info_of_chosen_maps() -> None:
    from hatdet.models.backbones.vargnetv2 import VargNetV2

    backbone = VargNetV2(include_top=False, alpha=0.5, out_indices=(2, 4))
    assert backbone.feature_info == FeatureInfo(channels=(32, 128), strides=(8, 32))
    assert [m.shape[1:] for m in backbone(torch.zeros(1, 3, 64, 64))] == [(32, 8, 8), (128, 2, 2)]
    with pytest.raises(ValueError, match=r"maps 0 to 4, got out_indices=\[5\]"):
        VargNetV2(include_top=False, out_indices=(5,))


def test_a_backbone_of_other_channels(tmp_path: Path) -> None:
    one = message(tmp_path, RTMDET, "model = dict(backbone=dict(in_channels=1))")
    assert one.endswith(
        "images have 3 channels (input_color='bgr'), but the backbone (CSPNeXt) takes 1: set "
        "model.backbone.in_channels=3 or input_color='gray'"
    )
    gray = message(tmp_path, RTMDET, "model = dict(backbone=dict(in_channels=3))", input_color="gray")
    assert "images have 1 channel (input_color='gray'), but the backbone (CSPNeXt) takes 3" in gray
    assert "takes 2: set model.backbone.in_channels=3" in message(
        tmp_path, RTMDET, "model = dict(backbone=dict(in_channels=2))"
    )
