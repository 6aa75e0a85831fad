"""ResNet, MobileNetV2 and FPN: sizes, names and published numbers of parameters."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import nn

from hatdet.models.backbones.cspnext import CSPNeXt
from hatdet.models.backbones.efficientnet_lite import EfficientNetLite
from hatdet.models.backbones.esnet import ESNet
from hatdet.models.backbones.lcnet import LCNet
from hatdet.models.backbones.mobilenetv2 import MobileNetV2
from hatdet.models.backbones.mobilenetv3 import MobileNetV3
from hatdet.models.backbones.mobilenetv4 import MobileNetV4
from hatdet.models.backbones.resnet import ResNet
from hatdet.models.backbones.shufflenetv2 import ShuffleNetV2
from hatdet.models.feature_info import FeatureInfo
from hatdet.models.mmdet.backbones.mobilenet_v2 import MobileNetV2 as MMDetectionMobileNetV2
from hatdet.models.necks.fpn import FPN


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("depth", "count"), [(18, 11_176_512), (34, 21_284_672), (50, 23_508_032)])
def test_resnet_has_the_published_number_of_parameters(depth: int, count: int) -> None:
    """torchvision's 11 689 512, 21 797 672 and 25 557 032, less the classifier of 512 or 2048 x 1000 + 1000."""
    assert parameters(ResNet(depth=depth)) == count


def test_mobilenetv2_has_the_published_number_of_parameters() -> None:
    """torchvision's 3 504 872 less the classifier of 1280 x 1000 + 1000."""
    assert parameters(MobileNetV2(out_indices=(7,))) == 2_223_872


@pytest.mark.parametrize(
    ("backbone", "channels", "strides"),
    [
        (ResNet(depth=18), (64, 128, 256, 512), (4, 8, 16, 32)),
        (ResNet(depth=50, out_indices=(1, 3)), (512, 2048), (8, 32)),
        (ResNet(depth=50, style="caffe"), (256, 512, 1024, 2048), (4, 8, 16, 32)),
        (ResNet(depth=18, num_stages=2, out_indices=(1,)), (128,), (8,)),
        (MobileNetV4(), (64, 96, 960), (8, 16, 32)),
        (MobileNetV4(out_indices=(0, 1, 4)), (32, 32, 960), (2, 4, 32)),
        (MobileNetV2(), (32, 96, 320), (8, 16, 32)),
        (MobileNetV3(), (40, 112, 160), (8, 16, 32)),
        (MobileNetV3(arch="small", squeeze_excitation=False), (24, 48, 96), (8, 16, 32)),
        (MobileNetV3(arch="small", out_indices=(0, 5)), (16, 576), (4, 32)),
        (MobileNetV2(widen_factor=0.5, out_indices=(1, 7)), (16, 1280), (4, 32)),
    ],
)
def test_the_maps_are_those_of_feature_info(backbone: Any, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
    assert (backbone.feature_info.channels, backbone.feature_info.strides) == (channels, strides)
    maps = backbone.eval()(torch.zeros(1, 3, 64, 96))
    expected = [(1, c, 64 // s, 96 // s) for c, s in zip(channels, strides, strict=True)]
    assert [tuple(m.shape) for m in maps] == expected


def test_mobilenetv4_has_the_published_number_of_parameters() -> None:
    """timm's 3 774 024 less its head: 960 x 1280 with batch norm, and the classifier of 1280 x 1000 + 1000."""
    backbone = MobileNetV4(out_indices=(0, 1, 2, 3, 4))
    assert parameters(backbone) == 3_774_024 - 960 * 1280 - 2 * 1280 - 1281 * 1000
    names = set(backbone.state_dict())
    assert {"conv_stem.weight", "bn1.weight", "blocks.0.0.conv.weight", "blocks.2.0.dw_start.bn.bias"} <= names
    assert {"blocks.2.5.pw_proj.conv.weight", "blocks.3.2.dw_mid.conv.weight", "blocks.4.0.bn1.weight"} <= names


def test_resnet_uses_the_names_of_published_weights() -> None:
    names = set(ResNet(depth=50).state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv3.weight", "layer4.2.bn3.bias"} <= names
    assert {"layer1.0.downsample.0.weight", "layer2.0.downsample.1.running_var"} <= names
    assert "layer1.1.downsample.0.weight" not in names


def test_mobilenetv2_uses_the_names_of_published_weights() -> None:
    state = MobileNetV2(out_indices=(7,)).state_dict()
    assert tuple(state["features.0.0.weight"].shape) == (32, 3, 3, 3)
    assert tuple(state["features.1.conv.0.0.weight"].shape) == (32, 1, 3, 3)  # no expansion in the first block
    assert tuple(state["features.2.conv.1.0.weight"].shape) == (96, 1, 3, 3)
    assert tuple(state["features.18.0.weight"].shape) == (1280, 320, 1, 1)


NANO = functools.partial(CSPNeXt, deepen_factor=0.33, widen_factor=0.125)


MAKERS = [
    functools.partial(ResNet, depth=18), MobileNetV2, MobileNetV3, MobileNetV4, NANO, EfficientNetLite, LCNet, ESNet,
    ShuffleNetV2, functools.partial(MobileNetV2, out_indices=(2,), expand_last=True),
    functools.partial(MMDetectionMobileNetV2, out_indices=(2,)),
]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS)
def test_frozen_stages_and_statistics_do_not_move(make: Any) -> None:
    backbone = make(frozen_stages=2, norm_eval=True)
    backbone.train()
    still = tuple(f"{module}." for stage in backbone.stages[:3] for module in stage)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    sum(m.square().mean() for m in backbone(torch.randn(2, 3, 64, 64))).backward()
    optimizer.step()
    after = backbone.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not any(name.startswith(still) for name in changed)
    assert not any("running" in name for name in changed)


@pytest.mark.parametrize("make", MAKERS)
def test_every_parameter_is_of_one_stage_and_the_frozen_ones_are_the_first(make: Any) -> None:
    backbone = make(frozen_stages=1)
    names = [name for name, _ in backbone.named_parameters()]
    of_stage = [[n for n in names if n.startswith(tuple(f"{m}." for m in stage))] for stage in backbone.stages]
    assert sorted(n for stage in of_stage for n in stage) == sorted(names) and all(of_stage)
    still = {name for name, parameter in backbone.named_parameters() if not parameter.requires_grad}
    assert still == {*of_stage[0], *of_stage[1]}


def test_nothing_is_frozen_unless_asked() -> None:
    for backbone in (ResNet(depth=18), MobileNetV2(), NANO()):
        backbone.train()
        assert all(p.requires_grad for p in backbone.parameters())
        assert all(m.training for m in backbone.modules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 19}, "no depth 19"),
        ({"depth": 18, "style": "tf"}, "unknown style"),
        ({"depth": 18, "num_stages": 2}, "do not fit num_stages=2"),
        ({"depth": 18, "frozen_stages": 5}, "frozen_stages is between"),
    ],
)
def test_resnet_refuses_what_does_not_exist(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(**arguments)


def test_cspnext_freezes_the_stages_that_exist() -> None:
    with pytest.raises(ValueError, match="frozen_stages is between -1 and 4, got 5"):
        NANO(frozen_stages=5)
    stem = NANO(frozen_stages=0)
    assert {name.split(".")[0] for name, p in stem.named_parameters() if not p.requires_grad} == {"stem"}


def test_no_stage_of_cspnext_is_wider_than_it_may() -> None:
    narrow = CSPNeXt(deepen_factor=0.33, widen_factor=0.25, max_channels=96, out_indices=(1, 2, 3, 4))
    assert narrow.feature_info.channels == (32, 64, 96, 96)
    assert [stage[0].conv.out_channels for stage in (narrow.stage3, narrow.stage4)] == [96, 96]  # type: ignore[index,union-attr]
    short = CSPNeXt(arch="P4", widen_factor=0.25, out_indices=(1, 2, 3))
    assert short.feature_info == FeatureInfo((32, 64, 128), (4, 8, 16)) and len(short.stage3) == 3  # with the SPP
    assert CSPNeXt(widen_factor=0.25, max_channels=None).feature_info.channels == (64, 128, 256)


def test_fpn_adds_the_upsampled_laterals() -> None:
    """With identity kernels the finest output is the sum of all maps, each repeated to its size."""
    fpn = FPN(in_channels=[1, 1], out_channels=1, num_outs=2)
    for conv in [*fpn.lateral_convs, *fpn.fpn_convs]:
        nn.init.zeros_(conv.conv.weight)
        conv.conv.weight.data[0, 0, conv.conv.weight.shape[2] // 2, conv.conv.weight.shape[3] // 2] = 1.0
    fine, coarse = torch.ones(1, 1, 4, 4), torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    outs = fpn([fine, coarse])
    assert torch.equal(outs[1], coarse)
    assert outs[0][0, 0].tolist() == [[2, 2, 3, 3], [2, 2, 3, 3], [4, 4, 5, 5], [4, 4, 5, 5]]


@pytest.mark.parametrize(
    ("extra", "convs", "inputs"),
    [(False, 3, None), (True, 5, 8), ("on_input", 5, 8), ("on_lateral", 5, 16), ("on_output", 5, 16)],
)
def test_fpn_makes_extra_levels(extra: bool | str, convs: int, inputs: int | None) -> None:
    fpn: Any = FPN(in_channels=[2, 4, 6, 8], out_channels=16, start_level=1, num_outs=5, add_extra_convs=extra)
    assert len(fpn.fpn_convs) == convs
    if inputs is not None:
        assert fpn.fpn_convs[3].conv.in_channels == inputs and fpn.fpn_convs[4].conv.in_channels == 16
    feats = [torch.randn(2, c, 64 // 2**i, 32 // 2**i) for i, c in enumerate((2, 4, 6, 8))]
    assert [tuple(o.shape[1:]) for o in fpn(feats)] == [(16, 32, 16), (16, 16, 8), (16, 8, 4), (16, 4, 2), (16, 2, 1)]


def test_fpn_of_retinanet_has_mmdetections_size() -> None:
    """Laterals 512, 1024, 2048 -> 256; three 3x3 of 256; P6 from 2048; P7 from P6."""
    fpn = FPN(
        in_channels=[256, 512, 1024, 2048], out_channels=256, start_level=1, add_extra_convs="on_input", num_outs=5
    )
    laterals = (512 + 1024 + 2048) * 256 + 3 * 256
    outputs = 4 * (256 * 256 * 9 + 256) + 2048 * 256 * 9 + 256
    assert parameters(fpn) == laterals + outputs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_outs": 1}, "does not fit the 2 levels"),
        ({"start_level": 2, "num_outs": 2}, "do not fit the 2 maps"),
        ({"num_outs": 3, "add_extra_convs": "on_inputs"}, "did you mean 'on_input'"),
    ],
)
def test_fpn_refuses_levels_that_do_not_exist(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FPN(in_channels=[8, 8], out_channels=8, **arguments)
