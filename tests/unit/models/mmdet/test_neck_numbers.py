"""Parts of backbones and necks on numbers that can be checked by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.models.mmdet.backbones.staged import make_divisible
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.drop_path import DropPath
from hatdet.models.mmdet.layers.csp.stem import Focus
from hatdet.models.mmdet.layers.other_convs import Conv2dAdaptivePadding, SamePadding
from hatdet.models.mmdet.necks.dyhead import _as_lying
from hatdet.models.mmdet.necks.levels import continued, end_of_levels
from hatdet.models.mmdet.necks.pyramids.bfp import pooled_to
from hatdet.models.mmdet.necks.searched.merge_cells import GlobalPoolingCell, resized
from hatdet.models.mmdet.necks.ssd_neck import L2Norm
from hatdet.utils.errors import RegistryError
from tests.helpers.components import made


def grid(rows: int, columns: int) -> Tensor:
    return torch.arange(rows * columns, dtype=torch.float32).view(1, 1, rows, columns)


def test_the_length_of_3_and_4_is_5() -> None:
    norm = L2Norm(2, scale=10)
    out = norm(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1))
    assert out.flatten().tolist() == pytest.approx([6.0, 8.0])
    assert norm(torch.zeros(1, 2, 1, 1)).flatten().tolist() == [0.0, 0.0]
    half = torch.full((1, 2, 1, 1), 300.0, dtype=torch.float16)  # its square is beyond float16
    assert norm(half).dtype == torch.float16
    assert norm(half).flatten().tolist() == pytest.approx([10 / 2**0.5] * 2, rel=1e-3)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "before", "after"),
    [(4, 3, 2, 0, 1), (5, 3, 2, 1, 1), (6, 5, 2, 1, 2), (7, 5, 1, 2, 2), (6, 1, 2, 0, 0), (7, 2, 1, 0, 1)],
)
def test_tensorflow_s_padding(side: int, kernel: int, stride: int, before: int, after: int) -> None:
    padded = SamePadding((kernel, 1), (stride, 1), (1, 1))(torch.ones(1, 1, side, 3))
    assert padded[0, 0, :, 0].tolist() == [0.0] * before + [1.0] * side + [0.0] * after
    assert padded.shape[3] == 3


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2), (2, 1)])
def test_padding_apart_from_its_convolution_changes_nothing(kernel: int, stride: int) -> None:
    conv = Conv2dAdaptivePadding(2, 3, kernel, stride)
    padding, plain = conv.apart()
    assert type(plain) is nn.Conv2d and plain.weight is conv.weight and plain.bias is conv.bias
    x = torch.randn(1, 2, 9, 6)
    assert torch.equal(plain(x if padding is None else padding(x)), conv(x))
    cfg = {"type": "Conv2dAdaptivePadding"}
    module = ConvModule(2, 3, kernel, stride, conv_cfg=cfg, act_cfg=None)
    assert sorted(module.state_dict()) == ["conv.bias", "conv.weight"]
    module.load_state_dict({f"conv.{key}": value for key, value in conv.state_dict().items()})
    assert torch.equal(module(x), conv(x))


def test_focus_takes_pixels_by_columns() -> None:
    focus = Focus(1, 4, norm_cfg=None, act_cfg=None)
    with torch.no_grad():
        focus.conv.conv.load_state_dict({"weight": torch.eye(4).view(4, 4, 1, 1), "bias": torch.zeros(4)})
    top_left, bottom_left, top_right, bottom_right = focus(grid(2, 4))[0].flatten(1).tolist()
    assert (top_left, bottom_left, top_right, bottom_right) == ([0, 2], [4, 6], [1, 3], [5, 7])


def test_dropped_paths_are_whole_pictures() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    x = torch.ones(400, 2, 1, 1)
    out = drop(x).flatten(1)
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(out[:, 0], out[:, 1])
    assert 60 < int((out[:, 0] == 0).sum()) < 140
    assert drop.eval()(x) is x


def test_maxima_of_windows() -> None:
    assert pooled_to(grid(4, 6), (2, 3)).flatten().tolist() == [7, 9, 11, 19, 21, 23]
    assert pooled_to(grid(3, 3), (2, 2)).flatten().tolist() == [4, 5, 7, 8]  # windows that overlap


def test_cells_resize() -> None:
    assert resized(grid(2, 2), (4, 4), "nearest")[0, 0, 0].tolist() == [0, 0, 1, 1]
    assert resized(grid(4, 4), (2, 2), "nearest").flatten().tolist() == [5, 7, 13, 15]
    # Three columns into two windows of two: a column of zeros to the right.
    assert resized(-grid(2, 3) - 1, (1, 2), "nearest").flatten().tolist() == [-1, 0]
    cell = GlobalPoolingCell(with_out_conv=False)
    x1, x2 = torch.full((1, 1, 2, 2), 3.0), torch.zeros(1, 1, 1, 1)
    assert cell(x1, x2).flatten().tolist() == [1.5] * 4  # a gate of sigmoid(0)


def test_numbers_as_they_lie() -> None:
    x = torch.arange(12.0).view(1, 2, 2, 3)
    assert _as_lying(x, (1, 2)).flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("value", "rounded"), [(16, 16), (19.2, 24), (11.2, 16), (3, 8), (35.2, 32)])
def test_channels_are_multiples_of_8(value: float, rounded: int) -> None:
    assert make_divisible(value) == rounded


def test_levels() -> None:
    assert end_of_levels([1, 2, 3, 4], 5, 1, -1) == 4
    assert end_of_levels([1, 2, 3, 4], 2, 1, 2) == 3
    assert end_of_levels([1, 2, 3, 4], 6, 1, 3) == 4
    assert continued((4, 8, 16, 32), 1, 4, 5) == (8, 16, 32, 64, 128)
    for wrong in ((2, 1, -1), (3, 1, 2), (4, 4, -1), (4, 0, 4)):
        with pytest.raises(ValueError, match="num_outs|start_level"):
            end_of_levels([1, 2, 3, 4], *wrong)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "Darknet", "depth": 19}, "depth=19; Darknet has the depths 53"),
        ({"type": "CSPDarknet", "widen_factor": 0.1, "out_indices": (5,)}, "but CSPDarknet has the stages 0 to 4"),
        ({"type": "CSPNeXt", "widen_factor": 0.1, "frozen_stages": 5}, "CSPNeXt has 5 parts to freeze, not 6"),
        ({"type": "EfficientNet", "arch": "b9"}, "arch='b9'; EfficientNet has b0, b1"),
        ({"type": "SSDVGG", "depth": 16, "out_feature_indices": (40,)}, "VGG-16 has the layers 0 to 34"),
        ({"type": "HourglassNet", "downsample_times": 6}, "more than downsample_times=6"),
        ({"type": "MobileNetV2", "pretrained": "a.pth", "init_cfg": {"type": "Normal"}}, "write init_cfg alone"),
        (
            {"type": "FPN", "in_channels": [8, 8], "out_channels": 8, "num_outs": 3, "add_extra_convs": "on_top"},
            "write False, True or one of on_input, on_lateral, on_output",
        ),
        (
            {
                "type": "FPN_CARAFE", "in_channels": [8, 8], "out_channels": 8, "num_outs": 2,
                "upsample_cfg": {"type": "deconv"},
            },
            "needs upsample_kernel=",
        ),
        (
            {
                "type": "SSDNeck", "in_channels": (8, 8), "out_channels": (8, 8, 8), "level_strides": (1, 1),
                "level_paddings": (1, 1),
            },
            "write 1, one for each further map",
        ),
        ({"type": "SSH", "num_scales": 1, "in_channels": [8], "out_channels": [10]}, "write multiples of 4"),
        ({"type": "BFP", "in_channels": 8, "num_levels": 2, "refine_level": 2}, "num_levels - 1 = 1"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(part: dict[str, Any], message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        made(part)


def test_what_is_frozen_stays_in_evaluation() -> None:
    net = made({"type": "MobileNetV2", "widen_factor": 0.1, "frozen_stages": 2, "norm_eval": False}).train()
    frozen = {name.split(".")[0] for name, p in net.named_parameters() if not p.requires_grad}
    resting = {
        name.split(".")[0] for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d) and not m.training
    }
    assert frozen == resting == {"conv1", "layer1", "layer2"}
    net = made({"type": "Darknet", "frozen_stages": 2}).train()  # its batch norms rest by default
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    assert {name.split(".")[0] for name, p in net.named_parameters() if not p.requires_grad} == {
        "conv1", "conv_res_block1",
    }  # fmt: skip


def test_strides_and_channels_that_parts_say() -> None:
    vgg = made({"type": "SSDVGG", "depth": 16}).feature_info
    assert (vgg.channels, vgg.strides) == ((512, 1024), (8, 16))
    net = made({"type": "EfficientNet", "arch": "es", "out_indices": (0, 3, 6)}).feature_info
    assert (net.channels, net.strides) == ((32, 48, 1280), (2, 8, 32))
    fpn = made({"type": "FPN", "in_channels": [8, 16], "out_channels": 4, "num_outs": 3})
    assert (fpn.out_channels, fpn.output_strides((8, 16))) == (4, (8, 16, 32))
    neck = made({"type": "YOLOV3Neck", "num_scales": 2, "in_channels": [16, 8], "out_channels": [8, 4]})
    assert (neck.out_channels, neck.output_strides((8, 16))) == ([8, 4], (16, 8))


@pytest.mark.slow  # the first checkpoint of a process imports much
def test_gates_in_memory_saved_twice_have_the_same_gradient() -> None:
    cfg = {"type": "EfficientNet", "arch": "b0", "out_indices": (2,)}
    grads = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        net = made({**cfg, "with_cp": with_cp}).train()
        net(torch.ones(2, 3, 16, 16) * torch.arange(16.0))[0].sum().backward()
        grads.append([p.grad for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_lists_of_skipped_pathways_beyond_the_last_map_mean_nothing() -> None:
    given: dict[str, Any] = {
        "in_channels": [4, 8], "out_channels": 4, "num_outs": 2, "stack_times": 2, "paths": ["bu"] * 2,
        "across_down_trans": None, "same_up_trans": {"type": "conv", "kernel_size": 3, "stride": 2, "padding": 1},
    }  # fmt: skip
    names = [list(made({**given, "skip_inds": skip}, "FPG").state_dict()) for skip in ([(0,), ()], [(0,), (), (1,)])]
    assert names[0] == names[1]
    with pytest.raises(RegistryError, match=r"skip_inds needs a list for each of num_outs=2 maps"):
        made({**given, "skip_inds": [(0,)]}, "FPG")
