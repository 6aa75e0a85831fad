"""ResNet and the networks made of its blocks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hatdet.models.mmdet.backbones.hrnet import HRNet
from hatdet.models.mmdet.backbones.resnet.detectors import DetectoRS_ResNet, DetectoRS_ResNeXt
from hatdet.models.mmdet.backbones.resnet.regnet import RegNet, widths_of
from hatdet.models.mmdet.backbones.resnet.res2net import Res2Net
from hatdet.models.mmdet.backbones.resnet.resnest import SplitAttentionConv2d
from hatdet.models.mmdet.backbones.resnet.resnet import ResNet, ResNetV1d
from hatdet.models.mmdet.backbones.resnet.resnext import ResNeXt
from hatdet.models.mmdet.backbones.resnet.trident import TridentResNet
from hatdet.models.mmdet.layers.init import Published, published_of
from tests.helpers.components import case, made, names, reference, state_sha256

FAMILIES = ("ResNet", "ResNetV1d", "ResNeXt", "RegNet", "ResNeSt", "HRNet", "DetectoRS_ResNet")


def _ours(name: object) -> bool:
    return not isinstance(name, str) or case("backbones", name)["type"] in FAMILIES


@pytest.mark.parametrize("name", [name for name in names("backbones") if _ours(name)])
def test_golden(name: str) -> None:
    load, told = reference(), case("backbones", name)
    net = made(told["args"], told["type"]).eval()
    outputs = told["outputs"]
    assert state_sha256(net) == outputs["state_sha256"]
    load.fill(net)
    inputs = [load.rnd(n, *shape) for n, shape in zip(told["inputs"]["input_names"], told["inputs"]["input_shapes"])]
    with torch.no_grad():
        got = net(*inputs)
    assert [list(x.shape) for x in got] == [list(shape) for shape in outputs["shapes"]]
    strides = [round(inputs[0].shape[-1] / x.shape[-1]) for x in got]
    assert net.feature_info.channels == tuple(x.shape[1] for x in got) and list(net.feature_info.strides) == strides
    assert load.same(got, outputs["outputs"], 1e-4)


SMALL = {"base_channels": 8, "norm_cfg": {"type": "BN"}}


def _grown(net: nn.Module) -> nn.Module:
    """With weights that are not zero anywhere, so that every path counts."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0, 0.1)
    return net


def test_what_is_frozen_stays() -> None:
    net = ResNet(18, frozen_stages=1, norm_eval=False, **SMALL).train()
    learns = {name.split(".")[0] for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert learns == {"layer2", "layer3", "layer4"}
    assert [name for name in ("bn1", "layer1", "layer2") if net.get_submodule(name).training] == ["layer2"]
    evaluated = ResNet(18, deep_stem=True, frozen_stages=0, norm_eval=True, **SMALL).train()
    assert not any(m.training for m in evaluated.modules() if isinstance(m, nn.BatchNorm2d))
    assert evaluated.layer1.training
    assert not any(parameter.requires_grad for parameter in evaluated.stem.parameters())
    fixed = ResNet(18, norm_cfg={"type": "BN", "requires_grad": False}, base_channels=8)
    assert {n.split(".")[-2][:2] for n, p in fixed.named_parameters() if not p.requires_grad} == {"bn", "1"}


def test_first_weights() -> None:
    torch.manual_seed(0)
    net = ResNet(50, **SMALL)
    assert {block.bn3.weight.abs().sum().item() for layer in (net.layer1, net.layer4) for block in layer} == {0}
    assert net.conv1.weight.std().item() == pytest.approx((2 / (8 * 49)) ** 0.5, rel=0.1)  # He's, by what goes out
    assert ResNet(50, zero_init_residual=False, **SMALL).layer1[0].bn3.weight.sum().item() == 32
    assert ResNet(50, init_cfg={"type": "Normal"}, **SMALL).layer1[0].bn3.weight.sum().item() == 32
    asked = ResNet(50, pretrained="torchvision://resnet50", **SMALL)
    assert published_of(asked) == Published("torchvision://resnet50")


def test_memory_is_saved_and_nothing_else() -> None:
    plain, saving = (_grown(ResNet(50, with_cp=with_cp, num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,),
                                   **SMALL)) for with_cp in (False, True))  # fmt: skip
    grads = []
    for net in (plain, saving):
        x = torch.ones(1, 3, 16, 24)
        net.train()(x)[0].square().mean().backward()
        grads.append([parameter.grad for parameter in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads))


def test_deformable_stages() -> None:
    dcn = {"type": "DCNv2", "deform_groups": 1, "fallback_on_stride": False}
    net = ResNeXt(50, groups=4, base_width=8, dcn=dcn, stage_with_dcn=(False, False, True, True), **SMALL)
    kinds = [type(getattr(net, f"layer{i}")[1].conv2).__name__ for i in (1, 2, 3, 4)]
    assert kinds == ["Conv2d", "Conv2d", "ModulatedDeformConv2dPack", "ModulatedDeformConv2dPack"]
    assert net.layer3[0].conv2.groups == 4 and net.layer3[0].conv2.conv_offset.weight.abs().sum() == 0


def test_only_the_very_first_deformable_block_falls_back() -> None:
    dcn = {"type": "DCNv2", "deform_groups": 1, "fallback_on_stride": True}
    given: dict[str, Any] = {"dcn": dcn, "stage_with_dcn": (False, True, True, True), **SMALL}
    falls = ResNet(50, **given)
    assert isinstance(falls.layer2[0].conv2, nn.Conv2d)
    assert not any(isinstance(block.conv2, nn.Conv2d) for block in (falls.layer2[1], falls.layer3[0], falls.layer4[0]))
    assert not isinstance(ResNeXt(50, groups=4, base_width=8, **given).layer2[0].conv2, nn.Conv2d)
    assert dcn["fallback_on_stride"] is True


def test_plugins_stand_where_they_are_told() -> None:
    plugins = [
        {"cfg": {"type": "ContextBlock", "ratio": 0.25}, "stages": (False, True, False, False),
         "position": "after_conv3"},
        {"cfg": {"type": "SELayer", "ratio": 4, "postfix": "_a"}, "position": "after_conv1"},
    ]  # fmt: skip
    net = ResNet(50, plugins=plugins, **SMALL)
    assert hasattr(net.layer2[3], "context_block") and not hasattr(net.layer1[0], "context_block")
    assert net.layer2[0].context_block.channel_add_conv[0].in_channels == 64
    assert net.layer4[0].se_layer_a.conv1.conv.in_channels == 64 and len(net.eval()(torch.zeros(1, 3, 32, 32))) == 4
    with pytest.raises(ValueError, match="two plugins are called context_block; give each a postfix"):
        ResNet(50, plugins=[plugins[0], plugins[0]], **SMALL)
    with pytest.raises(ValueError, match="a plugin has cfg and position, one of after_conv1"):
        ResNet(50, plugins=[{"cfg": plugins[0]["cfg"], "position": "after"}], **SMALL)
    with pytest.raises(ValueError, match="stages of a plugin has 1 entries; give one for each of 4"):
        ResNet(50, plugins=[{**plugins[0], "stages": (True,)}], **SMALL)


def test_deep_stem_and_means() -> None:
    net = ResNetV1d(50, **SMALL)
    assert [type(m).__name__ for m in net.layer2[0].downsample] == ["AvgPool2d", "Conv2d", "BatchNorm2d"]
    assert len(net.stem) == 9 and isinstance(net.layer1[0].downsample[0], nn.AvgPool2d)
    assert net.eval()(torch.zeros(1, 3, 33, 47))[3].shape == (1, 256, 2, 2)


def test_a_second_net_of_one_arch() -> None:
    told = {"w0": 24, "wa": 24.48, "wm": 2.54, "group_w": 16, "depth": 22, "bot_mul": 1.0}
    assert state_sha256(RegNet(told)) == state_sha256(RegNet("regnetx_400mf"))
    assert widths_of(told) == [24] + [64] * 2 + [152] * 7 + [392] * 12
    assert RegNet(told).feature_info.channels == (32, 64, 160, 384)  # groups of 16 (table 9 of the paper)
    with pytest.raises(ValueError, match="arch='regnetx_400'; did you mean 'regnetx_400mf'"):
        RegNet("regnetx_400")
    with pytest.raises(ValueError, match="w0=20"):
        RegNet({**told, "w0": 20})
    with pytest.raises(ValueError, match="arch has 4 stages, with 2 strides"):
        RegNet(told, strides=(2, 2))


def test_parts_of_a_res2net_block() -> None:
    net = _grown(Res2Net(50, scales=3, base_width=26, **SMALL)).eval()
    block, x = net.layer2[1], torch.rand(1, 52 * 3, 4, 6)  # 16 * 26 / 8 is 52 a part
    first = torch.relu(block.bns[0](block.convs[0](x[:, :52])))
    second = torch.relu(block.bns[1](block.convs[1](x[:, 52:104] + first)))
    torch.testing.assert_close(block._middle(x), torch.cat([first, second, x[:, 104:]], dim=1))
    begin = net.layer2[0]
    first = torch.relu(begin.bns[0](begin.convs[0](x[:, :52])))
    second = torch.relu(begin.bns[1](begin.convs[1](x[:, 52:104])))
    last = nn.functional.avg_pool2d(x[:, 104:], 3, stride=2, padding=1)
    torch.testing.assert_close(begin._middle(x), torch.cat([first, second, last], dim=1))
    assert "layer2.0.convs.1.weight" in net.state_dict() and "layer2.0.conv2.weight" not in net.state_dict()
    assert net.feature_info.strides == (4, 8, 16, 32)
    with pytest.raises(ValueError, match="scales=1: a Res2Net has two or more"):
        Res2Net(50, scales=1)


def test_one_map_of_split_attention_has_a_sigmoid() -> None:
    layer = SplitAttentionConv2d(4, 1, 1, 1, 1, 4, None, {"type": "BN"}).eval()
    for parameter in (layer.fc2.weight, layer.fc2.bias):
        nn.init.zeros_(parameter)
    x = torch.rand(1, 4, 5, 5)
    torch.testing.assert_close(layer(x), torch.relu(layer.bn0(layer.conv(x))) / 2)


def test_branches_share_weights() -> None:
    args = {"num_branch": 3, "trident_dilations": (1, 2, 3), **SMALL}
    net = _grown(TridentResNet(50, test_branch_idx=1, **args))
    x = torch.rand(2, 3, 32, 48)
    every = _grown(TridentResNet(50, test_branch_idx=-1, **args)).eval()
    with torch.no_grad():
        (one,), (three,) = net.eval()(x), every(x)
    assert one.shape == (2, 128, 2, 3) and three.shape == (6, 128, 2, 3)
    torch.testing.assert_close(three[2:4], one)
    plain = _grown(ResNet(50, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,), **SMALL)).eval()
    assert plain.state_dict().keys() == net.state_dict().keys()
    with torch.no_grad():
        plain.load_state_dict(net.state_dict())
        torch.testing.assert_close(plain(x)[0], three[:2])  # the branch without dilation
    assert net.train()(x)[0].shape == (6, 128, 2, 3)
    with pytest.raises(ValueError, match="num_branch=2"):
        TridentResNet(50, 2, 1, (1, 2, 3))


def test_features_of_the_pyramid_come_back() -> None:
    net = _grown(DetectoRS_ResNet(50, rfp_inplanes=5, output_img=True, **SMALL)).eval()
    x = torch.rand(1, 3, 32, 48)
    assert torch.equal(net(x)[0], x) and net.feature_info.channels[:2] == (3, 32) and net.feature_info.strides[0] == 1
    feats = [torch.zeros(1, 5, 32 // s, 48 // s) for s in (4, 8, 16, 32)]
    for block in (net.layer2[0], net.layer3[0], net.layer4[0]):
        nn.init.zeros_(block.rfp_conv.bias)
    with torch.no_grad():
        again = net.rfp_forward(x, feats)
        assert all(torch.equal(a, b) for a, b in zip(again, net(x)[1:]))
        feats[3] += 1
        moved = net.rfp_forward(x, feats)
    assert torch.equal(moved[2], again[2]) and not torch.equal(moved[3], again[3])
    assert "layer1.0.rfp_conv.weight" not in net.state_dict() and net.layer2[1].rfp_conv is None
    sac = {"sac": {"type": "SAC"}, "stage_with_sac": (False, True, True, True), "conv_cfg": {"type": "ConvAWS"}}
    grouped = DetectoRS_ResNeXt(50, groups=4, base_width=8, **sac, **SMALL)
    assert grouped.layer2[0].conv2.groups == 4 and type(grouped.layer2[0].conv2).__name__ == "SAConv2d"
    with pytest.raises(ValueError, match="stage_with_sac has 1 entries"):
        DetectoRS_ResNet(50, sac={"type": "SAC"}, stage_with_sac=(True,))


def test_the_finest_map_alone() -> None:
    def stage(count: int, block: str = "BASIC") -> dict[str, object]:
        return {
            "num_modules": 1, "num_branches": count, "block": block, "num_blocks": (1,) * count,
            "num_channels": tuple(8 * 2**i for i in range(count)),
        }  # fmt: skip

    extra = {"stage1": stage(1, "BOTTLENECK"), **{f"stage{i}": stage(i) for i in (2, 3, 4)}}
    net = HRNet(extra, multiscale_output=False, zero_init_residual=True)
    assert [tuple(x.shape) for x in net(torch.zeros(1, 3, 64, 96))] == [(1, 8, 16, 24)]
    assert net.feature_info.channels == (8,) and net.stage2[0].branches[0][0].bn2.weight.abs().sum() == 0
    assert not any(m.training for m in net.train().modules() if isinstance(m, nn.BatchNorm2d))
    with pytest.raises(ValueError, match="extra has no stage3; give stage1 to stage4"):
        HRNet({key: value for key, value in extra.items() if key != "stage3"})
    with pytest.raises(ValueError, match="stage2: 3 branches with 2 num_blocks"):
        HRNet({**extra, "stage2": {**extra["stage2"], "num_branches": 3}})
    with pytest.raises(ValueError, match="block='BASE'; write BASIC or BOTTLENECK"):
        HRNet({**extra, "stage2": {**extra["stage2"], "block": "BASE"}})


@pytest.mark.parametrize(
    "net",
    [
        ResNet(18, **SMALL), ResNeXt(50, groups=2, **SMALL), Res2Net(50, **SMALL), RegNet("regnetx_400mf"),
        ResNetV1d(50, **SMALL),
    ],
)  # fmt: skip
def test_plain_networks_are_traced(net: nn.Module) -> None:
    traced, x = torch.fx.symbolic_trace(net.eval()), torch.rand(1, 3, 64, 32)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(traced(x), net(x)))


def test_what_a_config_may_not_say() -> None:
    with pytest.raises(ValueError, match="depth=20: ResNet has 18, 34, 50, 101, 152; write one of them"):
        ResNet(20)
    with pytest.raises(ValueError, match="num_stages=3 with 4 strides and 4 dilations"):
        ResNet(50, num_stages=3)
    with pytest.raises(ValueError, match="out_indices=\\(0, 4\\): give stages from 0 to 3"):
        ResNet(50, out_indices=(0, 4))
    with pytest.raises(ValueError, match="style='torch': write 'pytorch'"):
        ResNet(50, style="torch")
    with pytest.raises(ValueError, match="dcn and plugins go into blocks of depth 50 and more"):
        ResNet(18, dcn={"type": "DCN"}, stage_with_dcn=(True,) * 4)
    with pytest.raises(ValueError, match="stage_with_dcn has 2 entries; give one for each of 4 stages"):
        ResNet(50, dcn={"type": "DCN"}, stage_with_dcn=(True, True))
    with pytest.raises(ValueError, match="conv_cfg and dcn both name"):
        ResNet(50, conv_cfg={"type": "ConvWS"}, dcn={"type": "DCN"}, stage_with_dcn=(True,) * 4)
    with pytest.raises(ValueError, match="init_cfg and pretrained both say"):
        ResNet(50, init_cfg={"type": "Normal"}, pretrained="a.pth")
