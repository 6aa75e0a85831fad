"""Backbones, necks, heads and detectors: sizes, names, variants; each is traced by torch.fx."""

from __future__ import annotations

import importlib
import math
import pkgutil
from pathlib import Path

import pytest
import torch
from torch import fx, nn

import hatdet.models
from hatdet.building import Builder
from hatdet.config.load import load_config
from hatdet.models.backbones.cspnext import CSPNeXt
from hatdet.models.backbones.efficientnet_lite import EfficientNetLite
from hatdet.models.backbones.esnet import ESNet
from hatdet.models.backbones.lcnet import LCNet
from hatdet.models.backbones.mobilenetv2 import MobileNetV2
from hatdet.models.backbones.mobilenetv3 import MobileNetV3
from hatdet.models.backbones.mobilenetv4 import MobileNetV4
from hatdet.models.backbones.resnet import ResNet
from hatdet.models.backbones.shufflenetv2 import ShuffleNetV2
from hatdet.models.backbones.vargnetv2 import VargNetV2
from hatdet.models.detectors.fomo import FOMO
from hatdet.models.heads.fomo_head import FOMOHead
from hatdet.models.heads.retinanet_head import RetinaNetHead
from hatdet.models.heads.rtmdet_head import RTMDetSepBNHead
from hatdet.models.layers.csp import CSPNeXtBlock
from hatdet.models.necks.csp_pan import CSPPAN, LCPAN
from hatdet.models.necks.cspnext_pafpn import CSPNeXtPAFPN
from hatdet.models.necks.fpn import FPN
from hatdet.models.necks.ghost_pan import GhostPAN
from hatdet.models.necks.retinanet_fpn import RetinaNetFPN
from hatdet.registry import registered_names, resolve
from tests.helpers.retinanet import build_retinanet
from tests.helpers.rtmdet import build_rtmdet

WIDTHS, STRIDES = (16, 32, 64), (8, 16, 32)


def build_fomo() -> FOMO:
    config = Path(__file__).parents[3] / "configs" / "fomo" / "fomo_mobilenetv2_035.py"
    return Builder().build(load_config(config, {"num_classes": 2}).model, "model")  # type: ignore[no-any-return]


class OnThreeMaps(nn.Module):
    """What takes a sequence of maps: a tracer has to be told of how many."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, feats: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return self.part((feats[0], feats[1], feats[2]))  # type: ignore[no-any-return]


# One way to build and to feed each registered network; a new one is added here.
NETWORKS = {
    "CSPNeXt": (lambda: CSPNeXt(deepen_factor=0.33, widen_factor=0.0625), lambda: torch.randn(2, 3, 64, 96)),
    "CSPNeXtPAFPN": (
        lambda: CSPNeXtPAFPN(in_channels=WIDTHS, out_channels=16),
        lambda: [torch.randn(2, c, 64 // s, 96 // s) for c, s in zip(WIDTHS, (8, 16, 32), strict=True)],
    ),
    "RTMDetSepBNHead": (
        lambda: RTMDetSepBNHead(num_classes=3, in_channels=16, feat_channels=16),
        lambda: [torch.randn(2, 16, 64 // s, 96 // s) for s in (8, 16, 32)],
    ),
    "RTMDet": (lambda: build_rtmdet(widen_factor=0.125).network(), lambda: torch.randn(2, 3, 64, 96)),
    "VargNetV2": (lambda: VargNetV2(include_top=False, alpha=0.25), lambda: torch.randn(2, 3, 64, 96)),
    "ResNet": (lambda: ResNet(depth=18), lambda: torch.randn(2, 3, 64, 96)),
    "MobileNetV4": (lambda: MobileNetV4(out_indices=(2, 4)), lambda: torch.randn(2, 3, 64, 96)),
    "MobileNetV3": (lambda: MobileNetV3(arch="small", out_indices=(1, 4)), lambda: torch.randn(2, 3, 64, 96)),
    "MobileNetV2": (lambda: MobileNetV2(widen_factor=0.25, out_indices=(2, 7)), lambda: torch.randn(2, 3, 64, 96)),
    "ShuffleNetV2": (lambda: ShuffleNetV2(model_size="0.5x"), lambda: torch.randn(2, 3, 64, 96)),
    "EfficientNetLite": (lambda: EfficientNetLite(out_indices=(2, 6)), lambda: torch.randn(2, 3, 64, 96)),
    "LCNet": (lambda: LCNet(widen_factor=0.25), lambda: torch.randn(2, 3, 64, 96)),
    "ESNet": (lambda: ESNet(widen_factor=0.25), lambda: torch.randn(2, 3, 64, 96)),
    **{
        neck.__name__: (
            lambda neck=neck: OnThreeMaps(neck(in_channels=WIDTHS, out_channels=16)),  # type: ignore[misc]
            lambda: [torch.randn(2, c, 64 // s, 96 // s) for c, s in zip(WIDTHS, STRIDES, strict=True)],
        )
        for neck in (CSPPAN, LCPAN)
    },
    "GhostPAN": (
        lambda: GhostPAN(in_channels=WIDTHS, out_channels=16),
        lambda: [torch.randn(2, c, 64 // s, 96 // s) for c, s in zip(WIDTHS, STRIDES, strict=True)],
    ),
    "FPN": (
        lambda: OnThreeMaps(FPN(in_channels=WIDTHS, out_channels=8, num_outs=4, add_extra_convs="on_input")),
        lambda: [torch.randn(2, c, 64 // s, 96 // s) for c, s in zip(WIDTHS, STRIDES, strict=True)],
    ),
    "RetinaNetFPN": (
        lambda: RetinaNetFPN(
            in_strides=(4, *STRIDES), in_channels=(8, *WIDTHS), out_strides=STRIDES, out_channels=(8, 16, 16)
        ),
        lambda: [torch.randn(2, c, 64 // s, 96 // s) for c, s in zip((8, *WIDTHS), (4, *STRIDES), strict=True)],
    ),
    "RetinaNetHead": (
        lambda: OnThreeMaps(RetinaNetHead(num_classes=3, num_anchors=2, in_channels=8, feat_channels=8)),
        lambda: [torch.randn(2, 8, 64 // s, 96 // s) for s in STRIDES],
    ),
    "FOMOHead": (lambda: FOMOHead(num_classes=3, in_channels=8), lambda: [torch.randn(2, 8, 8, 12)]),
    "FOMO": (lambda: build_fomo().network(), lambda: torch.randn(2, 3, 64, 96)),
    "RetinaNet": (lambda: build_retinanet().network(), lambda: torch.randn(2, 3, 64, 96)),
}


def _registered_networks() -> set[str]:
    rooms = tuple(f"hatdet.models.{room}." for room in ("backbones", "necks", "heads", "detectors"))
    for module in pkgutil.walk_packages(hatdet.models.__path__, "hatdet.models."):
        importlib.import_module(module.name)
    found = {name: resolve(name) for name in registered_names()}
    return {n for n, made in found.items() if made.__module__.startswith(rooms) and issubclass(made, nn.Module)}


def test_every_registered_network_is_tested_here() -> None:
    assert _registered_networks() == set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_builds_runs_and_traces(name: str) -> None:
    build, feed = NETWORKS[name]
    torch.manual_seed(0)
    network, x = build().eval(), feed()
    traced = fx.symbolic_trace(network)
    with torch.no_grad():
        expected, got = network(x), traced(x)
    assert len(expected) == len(got)
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    loss = torch.stack([out.square().mean() for out in traced.train()(x)]).sum()
    loss.backward()
    assert all(p.grad is not None for p in traced.parameters()), "a parameter that nothing uses"


def test_backbone_feature_info_is_what_it_returns() -> None:
    backbone = CSPNeXt(deepen_factor=0.33, widen_factor=0.25)
    assert (backbone.feature_info.channels, backbone.feature_info.strides) == ((64, 128, 256), (8, 16, 32))
    assert [len(backbone.get_submodule(f"stage{i}.{2 if i == 4 else 1}.blocks")) for i in (1, 2, 3, 4)] == [1, 2, 2, 1]
    for arch, indices in (("P5", (2, 3, 4)), ("P5", (0, 1)), ("P6", (3, 4, 5))):
        backbone = CSPNeXt(arch=arch, deepen_factor=0.1, widen_factor=0.0625, out_indices=indices)
        info = backbone.feature_info
        maps = backbone.eval()(torch.randn(1, 3, 128, 64))
        sizes = [(c, 128 // s, 64 // s) for c, s in zip(info.channels, info.strides, strict=True)]
        assert [tuple(m.shape[1:]) for m in maps] == sizes


def test_residuals_in_all_stages_but_the_last() -> None:
    backbone = CSPNeXt(deepen_factor=0.33, widen_factor=0.0625)
    added = [m.add_identity for m in backbone.modules() if isinstance(m, CSPNeXtBlock)]
    assert added == [True, True, True, True, True, False]  # 1, 2, 2, 1 blocks
    neck = CSPNeXtPAFPN(in_channels=WIDTHS, out_channels=16)
    assert [m.add_identity for m in neck.modules() if isinstance(m, CSPNeXtBlock)] == [False] * 12


def test_official_sizes() -> None:
    """Parameters with 80 classes as published: tiny 4.8 M, s 8.89 M, both with SiLU and channel attention."""
    for deepen, widen, published in ((0.167, 0.375, 4.8), (0.33, 0.5, 8.89)):
        model = build_rtmdet(
            num_classes=80,
            deepen_factor=deepen,
            widen_factor=widen,
            activation="SiLU",
            channel_attention=True,
            share_conv=True,
        )
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(published, abs=0.1)


def test_neck_rejects_a_single_map() -> None:
    with pytest.raises(ValueError, match=r"at least two maps to mix, got \[8\]"):
        CSPNeXtPAFPN(in_channels=[8], out_channels=8)


def test_backbone_errors() -> None:
    with pytest.raises(ValueError, match="unknown arch 'P7'; write one of P4, P5, P6"):
        CSPNeXt(arch="P7")
    with pytest.raises(ValueError, match=r"from 0 \(the stem\) to 4 for arch P5, got \[2, 5\]"):
        CSPNeXt(out_indices=(2, 5))


def head(**options: object) -> RTMDetSepBNHead:
    arguments = {"num_classes": 3, "in_channels": 8, "feat_channels": 8, **options}
    return RTMDetSepBNHead(**arguments)  # type: ignore[arg-type]


def test_head_returns_class_maps_then_box_maps() -> None:
    feats = [torch.randn(1, 8, h, w) for h, w in ((6, 4), (3, 2))]
    net = head(strides=(8, 16))
    assert [tuple(m.shape) for m in net(feats)] == [(1, 3, 6, 4), (1, 3, 3, 2), (1, 4, 6, 4), (1, 4, 3, 2)]
    assert net.output_names == ("cls_8", "cls_16", "reg_8", "reg_16")


def test_head_starts_at_a_score_of_one_percent_and_at_the_point() -> None:
    torch.manual_seed(0)
    net = head()
    maps = net.eval()([torch.zeros(1, 8, 2, 2)] * 3)
    assert all(torch.allclose(m.sigmoid(), torch.tensor(0.01)) for m in maps[:3])
    assert all(m.abs().max() == 0 for m in maps[3:])
    assert net.rtm_cls[0].bias[0].item() == pytest.approx(-math.log(99))
    deviations = [m.weight.std().item() for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert all(0.005 < d < 0.015 for d in deviations)


@pytest.mark.parametrize("use_depthwise", [False, True])
def test_shared_convolutions_have_norms_of_their_own(use_depthwise: bool) -> None:
    shared, separate = (head(share_conv=share, use_depthwise=use_depthwise) for share in (True, False))
    assert set(shared.state_dict()) == set(separate.state_dict()), "the state dict repeats what is shared"

    def count(net: nn.Module) -> int:
        return sum(p.numel() for p in net.parameters())

    per_stack = 2 * (8 * 8 * 9 if not use_depthwise else 8 * 9 + 8 * 8)
    assert count(separate) - count(shared) == 2 * 2 * per_stack  # two branches, two further levels
    convs = [(s[0].depthwise_conv if use_depthwise else s[0]) for s in shared.cls_convs]
    assert convs[0].conv.weight is convs[2].conv.weight
    assert convs[0].bn is not convs[2].bn
    assert shared.rtm_cls[0].weight is not shared.rtm_cls[1].weight


def test_head_errors() -> None:
    with pytest.raises(ValueError, match="at least one class and one stride are needed, got num_classes=0"):
        head(num_classes=0)
    with pytest.raises(ValueError, match="pred_kernel_size must be odd, got 2"):
        head(pred_kernel_size=2)
