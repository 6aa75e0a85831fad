"""PicoDet's backbones and necks: sizes, names, orders of channels; PicoDet as a detector."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.building import Builder
from hatdet.models.backbones.esnet import ESNet
from hatdet.models.backbones.lcnet import LCNet
from hatdet.models.layers.attention import SqueezeExcitation
from hatdet.models.layers.channels import divisible
from hatdet.models.layers.shuffle import Route, Shuffled
from hatdet.models.necks.csp_pan import CSPPAN, LCPAN
from hatdet.utils.errors import RegistryError
from hatdet.utils.misfit import MisfitError
from tests.helpers.components import made
from tests.helpers.dense_models import MODELS


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("backbone", "channels", "strides"),
    [
        (LCNet(widen_factor=0.35), (48, 88, 176), (8, 16, 32)),
        (LCNet(widen_factor=0.75, out_indices=(2, 3, 6)), (24, 48, 384), (2, 4, 32)),
        (LCNet(widen_factor=0.5, out_indices=(4,), channel_attention=False), (64,), (8,)),
        (ESNet(widen_factor=0.75), (96, 192, 384), (8, 16, 32)),
        (ESNet(widen_factor=0.25, out_indices=(2, 3), channel_attention=False), (32, 64), (8, 16)),
    ],
)
def test_the_maps_are_those_of_feature_info(backbone: Any, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
    assert (backbone.feature_info.channels, backbone.feature_info.strides) == (channels, strides)
    maps = backbone.eval()(torch.zeros(1, 3, 64, 96))
    expected = [(1, c, 64 // s, 96 // s) for c, s in zip(channels, strides, strict=True)]
    assert [tuple(m.shape) for m in maps] == expected


def test_lcnet_has_the_published_number_of_parameters() -> None:
    """The paper's 3.0 M of x1.0, less a layer of 512 x 1280 and the classifier of 1280 x 1000 + 1000."""
    classifier = 512 * 1280 + 1281 * 1000
    assert parameters(LCNet()) == 1_016_160
    assert round((parameters(LCNet()) + classifier) / 1e6, 1) == 3.0


def test_names_are_those_of_the_published_files() -> None:
    lcnet, esnet = set(LCNet().state_dict()), set(ESNet().state_dict())
    assert {"conv1.conv.weight", "blocks2.0.dw_conv.bn.bias", "blocks5.5.pw_conv.conv.weight"} <= lcnet
    assert {name for name in lcnet if ".se." in name and "blocks6" not in name} == set()
    assert {"blocks6.0.se.conv1.weight", "blocks6.1.se.conv2.bias"} <= lcnet
    assert {"2_1.conv_dw_mv1.conv.weight", "3_7.conv_pw.bn.bias", "4_3.se.conv1.weight"} <= esnet
    assert "4_4.conv_pw.conv.weight" not in esnet
    assert not any(".se." in name for name in ESNet(channel_attention=False).state_dict())


@pytest.mark.parametrize(("channels", "divisor", "expected"), [(5.6, 8, 8), (11.2, 8, 16), (89.6, 8, 88), (96, 16, 96)])
def test_channels_are_multiples(channels: float, divisor: int, expected: int) -> None:
    """11.2: the nearest multiple, 8, is less than 90 % of it."""
    assert divisible(channels, divisor) == expected


def plainly_shuffled(x: Tensor) -> Tensor:
    """The first of each half, the second of each half, ..."""
    b, c, h, w = x.shape
    return x.reshape(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


def test_the_orders_of_a_route_by_hand() -> None:
    """Of a b c d the second block takes c d and gives e f; a e b f: the third one takes b f and gives g h; a g e h."""
    route = Route((4,), 2, 3)
    assert route.orders == [[2, 3, 1, 0], [1, 0], [0, 1]]
    assert route.runs == [[(0, 0, 2)], [(0, 2, 3), (1, 0, 1)], [(0, 3, 4), (1, 1, 2), (2, 0, 2)]]
    assert route.places == [[0, 1], [0, 1], [0, 2, 1, 3]]


@pytest.mark.parametrize("first", [(6, 6), (12,)])
@pytest.mark.parametrize("blocks", [1, 2, 4, 7])
def test_a_route_is_the_function_of_the_shuffles(first: tuple[int, ...], blocks: int) -> None:
    torch.manual_seed(0)
    convs = [nn.Conv2d(6, 6, 1) for _ in range(blocks - 1)]
    maps = [torch.randn(2, n, 3, 5) for n in first]
    x = torch.cat(maps, dim=1)
    x = plainly_shuffled(x) if len(first) == 2 else x
    for conv in convs:
        stays, goes = x.chunk(2, dim=1)
        x = plainly_shuffled(torch.cat((stays, conv(goes)), dim=1))
    assert torch.equal(Shuffled(first, 6, blocks)(maps, convs), x)
    assert not Shuffled(first, 6, blocks).state_dict()


def test_esnet_alternates_what_passed_a_block_and_what_it_gave() -> None:
    net = ESNet(widen_factor=0.25, out_indices=(2,)).eval()
    x = torch.randn(1, 3, 64, 64)
    maps = [net.get_submodule("2_1")(net.max_pool(net.conv1(x)))]
    for name in ("2_2", "2_3"):
        stays, goes = maps[-1].chunk(2, dim=1)
        maps.append(plainly_shuffled(torch.cat((stays, net.get_submodule(name)(goes)), dim=1)))
    assert torch.equal(net(x)[0], maps[-1]) and not torch.equal(maps[0], maps[-1])


def test_squeeze_and_excitation_by_hand() -> None:
    """Means 1 and 2; conv1 sums them, 3; conv2 gives 0 and 3: gates 1 / 2 and 1."""
    attention = SqueezeExcitation(2, reduction=2)
    for layer, weight in ((attention.conv1, [1.0, 1.0]), (attention.conv2, [0.0, 1.0])):
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        layer.weight.data.copy_(torch.tensor(weight).reshape(layer.weight.shape))
    x = torch.tensor([[[[0.0, 2.0]], [[1.0, 3.0]]]])
    assert attention(x).tolist() == [[[[0.0, 1.0]], [[1.0, 3.0]]]]


@pytest.mark.parametrize("part", [LCNet, ESNet])
def test_frozen_stages_do_not_learn(part: Any) -> None:
    backbone = part(widen_factor=0.25, frozen_stages=1).train()
    first = "blocks2" if part is LCNet else "2_"
    learns = {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert not any(name.startswith(("conv1", first)) for name in learns) and len(learns) > 20
    assert not backbone.conv1.bn.training
    stats = part(widen_factor=0.25, norm_eval=True).train()
    assert not any(m.training for m in stats.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LCNet(out_indices=(1,)), "LCNet has the stages 2 to 6, got out_indices=\\[1\\]"),
        (lambda: LCNet(frozen_stages=6), "frozen_stages=6"),
        (lambda: ESNet(out_indices=()), "ESNet has the stages 2 to 4"),
        (lambda: ESNet(channel_ratio=(0.5,)), "channel_ratio needs a number for each of the 13 blocks, got 1"),
        (lambda: LCPAN(in_channels=(8,), out_channels=8), "at least two maps"),
        (lambda: CSPPAN(in_channels=(8, 8), out_channels=8, num_outs=4), "num_outs=4; 2 maps give 2 or"),
        (lambda: CSPPAN(out_channels=8), "in_channels is missing"),
    ],
)
def test_what_does_not_exist_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("part", [CSPPAN, LCPAN])
@pytest.mark.parametrize("num_outs", [None, 3])
def test_maps_of_a_neck(part: Any, num_outs: int | None) -> None:
    neck = part(in_channels=(8, 16, 24), out_channels=12, num_outs=num_outs).eval()
    sides = [(16, 24), (8, 12), (4, 6), (2, 3)]
    feats = [torch.randn(2, c, *s) for c, s in zip((8, 16, 24), sides, strict=False)]
    found = neck(feats)
    assert [tuple(m.shape) for m in found] == [(2, 12, *s) for s in sides[: num_outs or 4]]
    assert neck.output_strides((8, 16, 32)) == (8, 16, 32, 64)[: num_outs or 4]
    with pytest.raises(MisfitError):
        neck.output_strides((8, 16, 16))


def test_the_last_level_is_a_sum_of_both_ways_down() -> None:
    neck = LCPAN(in_channels=(4, 4), out_channels=4).eval()
    feats = [torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)]
    outs = neck(feats)
    last = neck.first_top_conv(neck.conv_t[1](feats[1])) + neck.second_top_conv(outs[1])
    assert torch.equal(outs[2], last) and last.abs().max() > 0


def test_parts_take_their_channels_from_each_other() -> None:
    model = made(MODELS["PicoDet"])
    assert model.neck.in_channels == (8, 16, 40) and model.head.in_channels == 16
    assert model.head.train_cfg["beta"] == 6 and model.head.level_strides == (8, 16, 32, 64)


def test_a_head_of_other_strides_is_refused() -> None:
    head: dict[str, Any] = {**MODELS["PicoDet"]["bbox_head"], "strides": (8, 16, 32)}
    with pytest.raises(RegistryError, match=r"set bbox_head.strides=\[8, 16, 32, 64\]"):
        made({**MODELS["PicoDet"], "bbox_head": head})


def test_one_channel_of_gray_pictures() -> None:
    pixels = {"type": "DataPreprocessor", "mean": 0.0, "std": 255.0}
    model = Builder().build(
        {
            "type": "PicoDet", "input_color": "gray", "preprocessor": pixels,
            "backbone": {"type": "LCNet", "widen_factor": 0.25}, "neck": {"type": "LCPAN", "out_channels": 8},
            "bbox_head": {"type": "PicoHead", "num_classes": 2},
        }
    )  # fmt: skip
    model.eval()
    maps: tuple[Tensor, ...] = model.run_network(model.preprocess(torch.zeros(1, 1, 64, 64, dtype=torch.uint8)))
    assert [m.shape[1] for m in maps] == [2] * 4 + [32] * 4 + [1] * 4
