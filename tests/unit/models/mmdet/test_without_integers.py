"""Layers that have no integer form are refused as what they are, with what to write instead; others pass."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.export.targets.check import check_model
from hatdet.export.targets.table import get_target
from hatdet.models.mmdet.backbones.hrnet import HRNet
from hatdet.models.mmdet.backbones.resnet.regnet import RegNet
from hatdet.models.mmdet.backbones.resnet.res2net import Res2Net
from hatdet.models.mmdet.backbones.resnet.resnet import ResNet, ResNetV1d
from hatdet.models.mmdet.backbones.resnet.resnext import ResNeXt
from hatdet.models.mmdet.detectors.single_stage import Network
from hatdet.models.mmdet.heads.keypoint.corner_pool import BiCornerPool
from hatdet.quantization.tracing.trace import trace
from tests.helpers.components import made

SMALL: dict[str, Any] = {"base_channels": 8, "norm_cfg": {"type": "BN"}, "out_indices": (1,), "num_stages": 2,
                         "strides": (1, 2), "dilations": (1, 1)}  # fmt: skip


def _plugin(**cfg: Any) -> dict[str, Any]:
    return {"plugins": [{"cfg": cfg, "position": "after_conv2", "stages": (False, True)}]}


@pytest.mark.parametrize(
    "args, where, what, instead",
    [
        ({"dcn": {"type": "DCN"}, "stage_with_dcn": (False, True)}, "layer2.0.conv2", "DeformConv2dPack",
         "leave dcn out"),
        ({"dcn": {"type": "DCNv2"}, "stage_with_dcn": (False, True)}, "layer2.0.conv2", "ModulatedDeformConv2dPack",
         "leave dcn out"),
        ({"conv_cfg": {"type": "ConvWS"}}, "conv1", "ConvWS2d", "leave conv_cfg out"),
        (_plugin(type="ContextBlock", ratio=0.25), "layer2.0.context_block", "ContextBlock", "leave the plugin out"),
        (_plugin(type="NonLocal2d"), "layer2.0.nonlocal_block", "NonLocal2d", "leave the plugin out"),
        (_plugin(type="GeneralizedAttention", num_heads=2), "layer2.0.gen_attention_block", "GeneralizedAttention",
         'use cfg=dict(type="SELayer", ratio=16)'),
        (_plugin(type="CBAM"), "layer2.0.cbam", "CBAM", "leave the plugin out"),
        (_plugin(type="ASPP"), "layer2.0.aspp", "ASPP", "leave the plugin out"),
    ],
)  # fmt: skip
def test_refused(args: dict[str, Any], where: str, what: str, instead: str) -> None:
    _, problems = trace(ResNet(50, **{**SMALL, **args}).eval(), folds=True)
    found = str(problems[0])
    assert found.startswith(f"{where}: {what} has no integer form; ") and instead in found
    assert {problem.what for problem in problems} == {f"{what} has no integer form"}


@pytest.mark.parametrize(
    "net",
    [
        ResNet(18, **SMALL), ResNet(50, style="caffe", frozen_stages=1, **SMALL), ResNetV1d(50, **SMALL),
        ResNeXt(50, groups=2, **SMALL), Res2Net(50, **SMALL),
        RegNet({"w0": 16, "wa": 8.0, "wm": 2.0, "group_w": 8, "depth": 4, "bot_mul": 1.0}, strides=(2, 2),
               dilations=(1, 1), out_indices=(1,)),
        ResNet(50, **SMALL, **_plugin(type="SELayer", ratio=4)), ResNet(50, **SMALL, **_plugin(type="SPP")),
        ResNet(50, **SMALL, **_plugin(type="RFB")),
        ResNet(50, **SMALL, **_plugin(type="DropBlock", drop_prob=0.1, block_size=3)),
        HRNet({f"stage{i}": {"num_modules": 1, "num_branches": i, "block": "BASIC", "num_blocks": (1,) * i,
                             "num_channels": (8, 16, 24, 32)[:i]} for i in (1, 2, 3, 4)}),
    ],
    ids=lambda net: type(net).__name__,
)  # fmt: skip
def test_passed(net: nn.Module) -> None:
    traced, problems = trace(net.eval(), folds=True)
    assert not problems and len(traced.graph.nodes) > 10


def test_a_layer_of_several_levels_is_said_once() -> None:
    """A head that reads where its first boxes say: the layers that read, and not what says where."""
    head = made({"type": "VFNetHead", "num_classes": 3, "in_channels": 8, "feat_channels": 8, "stacked_convs": 1,
                 "strides": [8, 16], "norm_cfg": {"type": "BN"}, "regress_ranges": ((-1, 32), (32, 1e8)),
                 "anchor_generator": {"type": "AnchorGenerator", "ratios": [1.0], "octave_base_scale": 8,
                                      "scales_per_octave": 1, "center_offset": 0.0, "strides": [8, 16]}})  # fmt: skip

    class Levels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 8, 8, stride=8), head

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            first = self.stem(x)
            return tuple(self.head((first, F.max_pool2d(first, 2))))

    problems = trace(Levels().eval(), folds=True)[1]
    assert {problem.path for problem in problems} == {"head.vfnet_reg_refine_dconv", "head.vfnet_cls_dconv"}
    assert len(problems) == 2 and all("take a part that reads its map where it stands" in str(p) for p in problems)


class Cornered(Network):
    """Corners of what a small network says; it must not run."""

    output_names = ("a",)

    def __init__(self) -> None:
        super().__init__([("conv", nn.Conv2d(3, 4, 3)), ("pool", BiCornerPool(4, ("top", "left"), 4, 4))])

    def network(self) -> nn.Module:
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        pytest.fail("of a network that is refused at once nothing runs")

    def metadata(self) -> dict[str, Any]:
        return {"mean": [0.0] * 3, "std": [1.0] * 3, "strides": [4]}


def test_corner_pooling_is_refused_before_anything_runs() -> None:
    found = [str(problem) for problem in trace(Cornered(), folds=True)[1]]
    assert found == [
        f"pool.direction{i}_pool: CornerPool has no integer form; take a head whose boxes have centres: "
        "CenterNetHead, which reads the same backbone"
        for i in (1, 2)
    ]
    report = check_model(Cornered(), get_target("tflite"), (64, 64))
    assert [finding.path for finding in report.refused] == ["pool.direction1_pool", "pool.direction2_pool"]
