"""Files with the published names and shapes of torchvision, timm and MMPretrain, loaded into the backbones here."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.models.backbones.cspnext import CSPNeXt
from hatdet.models.backbones.efficientnet_lite import EfficientNetLite
from hatdet.models.backbones.mobilenetv2 import MobileNetV2
from hatdet.models.backbones.mobilenetv3 import MobileNetV3
from hatdet.models.backbones.resnet import ResNet
from hatdet.models.backbones.shufflenetv2 import ShuffleNetV2
from hatdet.models.pretrained.loading import LoadPretrained
from hatdet.utils.errors import UserError
from tests.unit.models.pretrained import published_names as published


class Model(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def load(backbone: nn.Module, weights: dict[str, Any], folder: Path) -> nn.Module:
    torch.save(weights, folder / "weights.pth")
    LoadPretrained(source=str(folder / "weights.pth"))(Model(backbone))
    return backbone


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (published.torchvision_v3(published.V3_LARGE, 1280), 5_483_032),
        (published.torchvision_v3(published.V3_SMALL, 1024), 2_542_856),
        (published.torchvision_resnet(18), 11_689_512),
        (published.torchvision_resnet(50), 25_557_032),
    ],
)
def test_the_tables_of_names_have_the_published_number_of_parameters(names: published.Names, count: int) -> None:
    assert published.parameters(names) == count


@pytest.mark.parametrize(("arch", "stages", "last"), [("large", "V3_LARGE", 1280), ("small", "V3_SMALL", 1024)])
def test_mobilenetv3_has_torchvisions_names_and_shapes(arch: str, stages: str, last: int) -> None:
    names = published.torchvision_v3(getattr(published, stages), last)
    own = MobileNetV3(arch=arch, out_indices=(6 if arch == "large" else 5,)).state_dict()
    assert {k: tuple(v.shape) for k, v in own.items()} == {k: v for k, v in names.items() if "classifier" not in k}


@pytest.mark.parametrize(
    ("backbone", "names", "pairs"),
    [
        (
            MobileNetV3(arch="small"),
            published.timm(published.V3_SMALL, 16),
            {
                "blocks.0.0.se.conv_expand.bias": "features.1.block.1.fc2.bias",
                "blocks.2.1.conv_pwl.weight": "features.5.block.3.0.weight",
                "blocks.4.2.bn2.running_var": "features.11.block.1.1.running_var",
            },
        ),
        (
            MobileNetV3(arch="large"),
            published.timm(published.V3_LARGE, 16),
            {"blocks.0.0.conv_pw.weight": "features.1.block.1.0.weight", "bn1.bias": "features.0.1.bias"},
        ),
        (
            MobileNetV2(),
            published.timm(published.V2, 32),
            {
                "blocks.0.0.bn2.weight": "features.1.conv.2.weight",
                "blocks.6.0.conv_pwl.weight": "features.17.conv.2.weight",
                "blocks.1.1.conv_dw.weight": "features.3.conv.1.0.weight",
            },
        ),
        (
            EfficientNetLite(),
            published.timm(published.LITE0, 32),
            {
                "conv_stem.weight": "_conv_stem.weight",
                "blocks.0.0.bn2.bias": "_blocks.0._bn2.bias",
                "blocks.5.3.bn3.weight": "_blocks.14._bn2.weight",
                "blocks.6.0.conv_dw.weight": "_blocks.15._depthwise_conv.weight",
            },
        ),
        (ResNet(depth=18), published.torchvision_resnet(18), {"layer2.0.bn1.bias": "layer2.0.bn1.bias"}),
        (ResNet(depth=50), published.torchvision_resnet(50), {"layer4.2.conv3.weight": "layer4.2.conv3.weight"}),
    ],
    ids=["timm v3 small", "timm v3 large", "timm v2", "timm lite0", "resnet18", "resnet50"],
)
def test_a_published_file_is_taken_whole(
    backbone: nn.Module, names: published.Names, pairs: dict[str, str], tmp_path: Path
) -> None:
    weights = published.file(names)
    own = load(backbone, weights, tmp_path).state_dict()
    for theirs, ours in pairs.items():
        assert torch.equal(own[ours], weights[theirs]), theirs
    taken = sorted(float(value.sum()) for key, value in own.items() if value.ndim == 4)
    convs = [value for key, value in weights.items() if value.ndim == 4]
    assert taken == sorted(float(value.sum()) for value in convs)  # each convolution once


@pytest.mark.parametrize("names", ["torchvision", "timm"])
def test_a_cut_network_takes_the_expansion_of_the_block_behind(names: str, tmp_path: Path) -> None:
    """FOMO's backbone ends inside a block, whose other layers stay in the file."""
    if names == "timm":
        weights, conv, norm = published.file(published.timm(published.V2, 32)), "blocks.3.0.conv_pw", "blocks.3.0.bn1"
    else:
        torch.manual_seed(0)
        weights = dict(MobileNetV2(out_indices=(7,)).state_dict())
        conv, norm = "features.7.conv.0.0", "features.7.conv.0.1"
    own = load(MobileNetV2(out_indices=(2,), expand_last=True), weights, tmp_path).state_dict()
    assert torch.equal(own["features.7.conv.0.0.weight"], weights[f"{conv}.weight"])
    assert torch.equal(own["features.7.conv.0.1.bias"], weights[f"{norm}.bias"])


def test_mmpretrains_cspnext(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments: dict[str, Any] = {"deepen_factor": 0.167, "widen_factor": 0.125}
    theirs = {f"backbone.{key}": value for key, value in CSPNeXt(**arguments).state_dict().items()}
    head = {"head.fc.weight": torch.zeros(2, 128), "head.fc.bias": torch.zeros(2)}
    with caplog.at_level(logging.INFO, logger="hatdet"):
        file = {"state_dict": {**theirs, **head}, "meta": {"epoch": 1}}
        own = load(CSPNeXt(**arguments), file, tmp_path).state_dict()
    assert all(torch.equal(value, theirs[f"backbone.{key}"]) for key, value in own.items())
    assert caplog.records[-1].message.endswith("weights.pth; left out: head.fc")


def test_squeeze_and_excitation_may_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = published.file(published.torchvision_v3(published.V3_SMALL, 1024))
    with caplog.at_level(logging.INFO, logger="hatdet"):
        load(MobileNetV3(arch="small", squeeze_excitation=False), weights, tmp_path)
    line = caplog.records[-1].message
    assert "left out: features.1.block.1.fc1, features.1.block.1.fc2, " in line and line.endswith("more")


def refusal(backbone: nn.Module, weights: dict[str, Tensor], folder: Path) -> str:
    with pytest.raises(UserError) as error:
        load(backbone, weights, folder)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_file_of_another_backbone_is_refused_with_the_one_it_fits(tmp_path: Path) -> None:
    small = published.file(published.torchvision_v3(published.V3_SMALL, 1024))
    text = refusal(MobileNetV3(arch="large"), small, tmp_path)
    assert "the file fits the backbone dict(type='MobileNetV3', arch='small')" in text
    text = refusal(EfficientNetLite(version=0), published.file(published.timm(published.V2, 32)), tmp_path)
    assert "the file fits the backbone dict(type='MobileNetV2', widen_factor=1.0)" in text


def test_the_start_of_a_deeper_network_is_not_taken_for_a_shallower_one(tmp_path: Path) -> None:
    """Every tensor of a ResNet-18 is in a ResNet-34's file, by name and shape."""
    text = refusal(ResNet(depth=18), published.file(published.torchvision_resnet(34)), tmp_path)
    assert "the file has more blocks, such as layer1.2.conv1; the file fits the backbone dict(type='ResNet', " in text
    assert "depth=34): name the weights of this backbone" in text


def test_a_file_of_shufflenet_is_known(tmp_path: Path) -> None:
    weights = ShuffleNetV2(model_size="0.5x").state_dict()
    text = refusal(ShuffleNetV2(model_size="1.0x"), weights, tmp_path)
    assert "the file fits the backbone dict(type='ShuffleNetV2', model_size='0.5x'): name the weights of this" in text


def test_a_file_of_nothing_known(tmp_path: Path) -> None:
    text = refusal(EfficientNetLite(), {"encoder.weight": torch.ones(3)}, tmp_path)
    assert "0 of 288 tensors do" in text and "the file fits no backbone of hatdet's: name the weights of" in text
