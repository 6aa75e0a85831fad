"""Backbones and necks with a small network before them: traced, calibrated, lowered, exported, 0 values differing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.qat.fx_adapter import unsupported_operators
from tests.helpers.components import made
from tests.helpers.spellings import Task

BN, RELU = {"type": "BN"}, {"type": "ReLU"}
PLAIN = {"norm_cfg": BN, "act_cfg": RELU}
BEFORE = {"conv_cfg": None, "norm_cfg": BN, "inplace": False, "order": ("act", "conv", "norm")}


def backbone(*out_indices: int, **options: Any) -> dict[str, Any]:
    stages = [
        [64, 128, 1, True, False],
        [128, 256, 1, True, False],
        [256, 512, 1, True, False],
        [512, 1024, 1, True, True],
    ]
    return {
        "type": "CSPDarknet", "arch_ovewrite": stages, "widen_factor": 0.125, "out_indices": out_indices or (2, 3, 4),
        "act_cfg": RELU, **options,
    }  # fmt: skip


CHANNELS = [32, 64, 128]
THREE: dict[str, Any] = {
    "base_channels": 8, "num_stages": 3, "strides": (1, 2, 2), "dilations": (1, 1, 1), "out_indices": (0, 1, 2),
}  # fmt: skip
"""Three narrow stages of a residual network."""
BACKBONES: dict[str, dict[str, Any]] = {
    "CSPNeXt": {"type": "CSPNeXt", "deepen_factor": 0.1, "widen_factor": 0.125},
    "EfficientNet": {"type": "EfficientNet", "arch": "es", "out_indices": (1, 2, 3)},
    "EfficientNet with gates": {"type": "EfficientNet", "arch": "b0", "out_indices": (1, 2, 3)},
    "HourglassNet": {
        "type": "HourglassNet", "downsample_times": 2, "stage_channels": [16, 16, 24], "stage_blocks": [1, 1, 1],
        "feat_channel": 16,
    },
    "MobileNetV2": {"type": "MobileNetV2", "widen_factor": 0.25, "out_indices": (1, 2, 4)},
    "ResNet of basic blocks": {"type": "ResNet", "depth": 18, "base_channels": 8},
    "ResNet in Caffe's style": {"type": "ResNet", "depth": 50, "style": "caffe", **THREE},
    "ResNetV1d": {"type": "ResNetV1d", "depth": 50, **THREE},
    "ResNeXt": {"type": "ResNeXt", "depth": 50, "groups": 2, "base_width": 32, **THREE},
    "Res2Net": {"type": "Res2Net", "depth": 50, **THREE},
    "RegNet": {
        "type": "RegNet", "arch": {"w0": 16, "wa": 8.0, "wm": 2.0, "group_w": 8, "depth": 4, "bot_mul": 1.0},
        "strides": (2, 2), "dilations": (1, 1), "out_indices": (0, 1),
    },
    "HRNet": {
        "type": "HRNet",
        "extra": {
            f"stage{i}": {
                "num_modules": 1, "num_branches": i, "block": "BASIC", "num_blocks": (1,) * i,
                "num_channels": (8, 16, 24, 32)[:i],
            }
            for i in (1, 2, 3, 4)
        },
    },
    **{f"ResNet with {cfg['type']}": {"type": "ResNet", "depth": 50, **THREE,
       "plugins": [{"cfg": cfg, "position": "after_conv2", "stages": (False, True, False)}]}
       for cfg in ({"type": "SELayer", "ratio": 4}, {"type": "SPP"}, {"type": "RFB"})},
}  # fmt: skip
NECKS: dict[str, tuple[dict[str, Any], dict[str, Any] | list[dict[str, Any]]]] = {
    "FPN": (
        backbone(),
        {"type": "FPN", "in_channels": CHANNELS, "out_channels": 16, "num_outs": 5, "norm_cfg": BN},
    ),
    "FPN with further convolutions": (
        backbone(),
        {
            "type": "FPN", "in_channels": CHANNELS, "out_channels": 16, "num_outs": 4, "start_level": 1,
            "add_extra_convs": "on_output", "relu_before_extra_convs": True,
        },
    ),
    "PAFPN": (
        backbone(),
        {
            "type": "PAFPN", "in_channels": CHANNELS, "out_channels": 16, "num_outs": 4, "add_extra_convs": "on_input",
            **PLAIN,
        },
    ),
    "YOLOXPAFPN": (
        backbone(),
        {"type": "YOLOXPAFPN", "in_channels": CHANNELS, "out_channels": 16, "num_csp_blocks": 1, "act_cfg": RELU},
    ),
    "YOLOXPAFPN, depthwise and Swish": (
        backbone(use_depthwise=True, act_cfg={"type": "Swish"}),
        {
            "type": "YOLOXPAFPN", "in_channels": CHANNELS, "out_channels": 16, "num_csp_blocks": 1,
            "use_depthwise": True,
        },
    ),
    "YOLOV3Neck": (
        backbone(act_cfg={"type": "LeakyReLU", "negative_slope": 0.1}),
        {"type": "YOLOV3Neck", "num_scales": 3, "in_channels": CHANNELS[::-1], "out_channels": [32, 16, 8]},
    ),
    "CSPNeXtPAFPN": (
        backbone(),
        {"type": "CSPNeXtPAFPN", "in_channels": CHANNELS, "out_channels": 16, "num_csp_blocks": 1, "act_cfg": RELU},
    ),
    "SSDNeck": (
        backbone(3, 4),
        {
            "type": "SSDNeck", "in_channels": (64, 128), "out_channels": (64, 128, 32, 16), "level_strides": (2, 1),
            "level_paddings": (1, 1), "l2_norm_scale": None, "use_depthwise": True, **PLAIN,
        },
    ),
    "ChannelMapper": (
        backbone(),
        {"type": "ChannelMapper", "in_channels": CHANNELS, "out_channels": 16, "num_outs": 4, "norm_cfg": BN},
    ),
    "CTResNetNeck": (
        backbone(4),
        {
            "type": "CTResNetNeck", "in_channels": 128, "num_deconv_filters": (32, 16, 8),
            "num_deconv_kernels": (4, 4, 4), "use_dcn": False,
        },
    ),
    "DilatedEncoder": (
        backbone(4),
        {
            "type": "DilatedEncoder", "in_channels": 128, "out_channels": 16, "block_mid_channels": 8,
            "num_residual_blocks": 2, "block_dilations": [2, 4],
        },
    ),
    "SSH": (
        backbone(),
        {"type": "SSH", "num_scales": 3, "in_channels": CHANNELS, "out_channels": [16, 16, 16]},
    ),
    "HRFPN": (backbone(), {"type": "HRFPN", "in_channels": CHANNELS, "out_channels": 16, "num_outs": 3}),
    "BFP": (
        backbone(),
        [
            {"type": "FPN", "in_channels": CHANNELS, "out_channels": 16, "num_outs": 3},
            {"type": "BFP", "in_channels": 16, "num_levels": 3, "refine_level": 1, "refine_type": "conv"},
        ],
    ),
    "NASFPN": (
        backbone(),
        {
            "type": "NASFPN", "in_channels": CHANNELS, "out_channels": 16, "num_outs": 5, "stack_times": 1,
            "norm_cfg": BN,
        },
    ),
    "NASFCOS_FPN": (
        backbone(1, 2, 3, 4),
        {"type": "NASFCOS_FPN", "in_channels": [16, *CHANNELS], "out_channels": 16, "num_outs": 4, "norm_cfg": BN},
    ),
    "FPN_CARAFE with nearest": (
        backbone(),
        {
            "type": "FPN_CARAFE", "in_channels": CHANNELS, "out_channels": 16, "num_outs": 3,
            "upsample_cfg": {"type": "nearest"}, "norm_cfg": BN,
        },
    ),
    "FPG": (
        backbone(),
        {
            "type": "FPG", "in_channels": CHANNELS, "out_channels": 8, "num_outs": 3, "stack_times": 2,
            "paths": ["bu", "td"], "skip_inds": [(), (), ()],
            "same_up_trans": {"type": "conv", "kernel_size": 3, "stride": 2, "padding": 1, **BEFORE},
            "same_down_trans": {"type": "interpolation_conv", "kernel_size": 3, **BEFORE},
            "across_lateral_trans": {"type": "conv", "kernel_size": 1, **BEFORE},
            "across_down_trans": None, "across_skip_trans": None,
        },
    ),
}  # fmt: skip
NAMES = [*BACKBONES, *NECKS]


class Network(nn.Module):
    def __init__(self, backbone: nn.Module, neck: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.neck(self.backbone(x)))


def size_of(name: str) -> tuple[int, int]:
    return (128, 256) if name == "NASFPN" else (64, 96)  # its coarsest map has the stride 128


def images(name: str, seed: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, *size_of(name), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def network(name: str) -> nn.Module:
    """With statistics and weights as after some training."""
    torch.manual_seed(0)
    first, second = (BACKBONES[name], []) if name in BACKBONES else NECKS[name]
    necks = second if isinstance(second, list) else [second]
    net = Network(made(first), nn.Sequential(*map(made, necks)))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)
            module.momentum = 0.5
    net.train()
    for seed in range(3):
        net(images(name, seed, 4))
    return net.eval()


def calibrated(name: str) -> QuantizedDetector:
    net = network(name)
    assert unsupported_operators(copy.deepcopy(net)) == []
    model = Task(net, len(net(images(name, 0)))).eval()
    fuse_bn(model)
    q = quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer")
    q.set_observing(True)
    q.eval().run_network(images(name, 1))
    q.set_quantizing(True)
    q.set_observing(False)
    return q.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_float_to_file(name: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    q = calibrated(name)
    graph = q.int_graph(size_of(name))
    x = images(name, 9)
    executor = IntExecutor(graph)
    assert all(torch.equal(a, b) for a, b in zip(q.run_network(x), executor.run_real(x), strict=True))
    p = graph.qparams(graph.inputs[0])
    codes = (torch.round(x / p.scale) + p.zero_point).clamp(-128, 127).to(torch.int8)
    report = check_parity(graph, write(graph), codes, default_kernels=False)
    assert report.ok, report.text()
    values = executor(codes, keep=True)
    assert min(len(values[output].unique()) for output in graph.outputs) > 10, "a constant shows nothing"


@pytest.mark.parametrize(
    ("neck", "instead"),
    [
        (
            {
                "type": "SSDNeck", "in_channels": (16, 32), "out_channels": (16, 32, 8), "level_strides": (2,),
                "level_paddings": (1,),
            },
            "neck.0.l2_norm: L2Norm has no integer form; leave it out (neck.l2_norm_scale=None) and train without it",
        ),
    ],
)  # fmt: skip
def test_what_has_no_integers_says_what_to_write(neck: dict[str, Any], instead: str) -> None:
    stages = [[64, 128, 1, True, False], [128, 256, 1, True, False]]
    first = made(backbone(1, 2, arch_ovewrite=stages))
    found = unsupported_operators(Network(first, nn.Sequential(made(neck))).eval())
    assert [str(problem) for problem in found] == [instead]
