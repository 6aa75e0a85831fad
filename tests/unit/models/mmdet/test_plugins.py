"""Attention, upsampling and what is plugged in between, against plain forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hatdet.models.mmdet.layers.attention import ChannelAttention, DyReLU, SELayer
from hatdet.models.mmdet.layers.conv import build_conv
from hatdet.models.mmdet.layers.conv_ws import ConvAWS2d, ConvWS2d, SAConv2d
from hatdet.models.mmdet.layers.normed import NormedConv2d, NormedLinear
from hatdet.models.mmdet.layers.plugins.build import build_plugin
from hatdet.models.mmdet.layers.plugins.cbam import CBAM
from hatdet.models.mmdet.layers.plugins.context_block import ContextBlock
from hatdet.models.mmdet.layers.plugins.drop_block import DropBlock
from hatdet.models.mmdet.layers.plugins.generalized_attention import GeneralizedAttention
from hatdet.models.mmdet.layers.plugins.non_local import NonLocal2d
from hatdet.models.mmdet.layers.plugins.receptive import ASPP, RFB, SPP
from hatdet.models.mmdet.layers.upsample import CARAFEPack, ConvUpsample, build_upsample, carafe
from hatdet.utils.errors import RegistryError


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def test_squeeze_and_excitation() -> None:
    layer = SELayer(8, ratio=4)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    assert layer(torch.full((1, 8, 3, 5), 6.0)).unique().tolist() == [3.0]  # sigmoid(0) = 1/2
    assert _shapes(layer) == {
        "conv1.conv.weight": (2, 8, 1, 1), "conv1.conv.bias": (2,),
        "conv2.conv.weight": (8, 2, 1, 1), "conv2.conv.bias": (8,),
    }  # fmt: skip
    with pytest.raises(ValueError, match="act_cfg has 1 dicts; give one, or one for each"):
        SELayer(8, act_cfg=({"type": "ReLU"},))


def test_dynamic_relu_begins_as_relu() -> None:
    layer = DyReLU(4)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(layer(x), F.relu(x))  # slopes 1 and 0


def test_channel_attention() -> None:
    layer = ChannelAttention(2)
    nn.init.zeros_(layer.fc.weight)
    with torch.no_grad():
        layer.fc.bias.copy_(torch.tensor([3.0, -1.5]))
    assert layer(torch.full((1, 2, 1, 2), 4.0)).flatten().tolist() == [4.0, 4.0, 1.0, 1.0]


def test_reassembly_against_a_loop() -> None:
    torch.manual_seed(0)
    x, masks = torch.randn(2, 4, 3, 2), torch.randn(2, 2 * 9, 6, 4)
    want = torch.zeros(2, 4, 6, 4)
    padded = F.pad(x, (1, 1, 1, 1))
    for c in range(4):
        for row in range(6):
            for column in range(4):
                window = padded[:, c, row // 2 : row // 2 + 3, column // 2 : column // 2 + 3].flatten(1)
                first = c // 2 * 9
                want[:, c, row, column] = (window * masks[:, first : first + 9, row, column]).sum(dim=1)
    torch.testing.assert_close(carafe(x, masks, 3, 2, 2), want)


def test_weights_of_reassembly_add_to_one() -> None:
    layer = build_upsample({"type": "carafe", "up_kernel": 3, "up_group": 2, "compressed_channels": 8}, channels=4,
                           scale_factor=2)  # fmt: skip
    assert isinstance(layer, CARAFEPack)
    got = layer(torch.ones(1, 4, 5, 6))
    assert got.shape == (1, 4, 10, 12)
    torch.testing.assert_close(got[:, :, 2:-2, 2:-2], torch.ones(1, 4, 6, 8))
    assert _shapes(layer) == {
        "channel_compressor.weight": (8, 4, 1, 1), "channel_compressor.bias": (8,),
        "content_encoder.weight": (72, 8, 3, 3), "content_encoder.bias": (72,),
    }  # fmt: skip


def test_layers_that_make_larger() -> None:
    x = torch.randn(1, 4, 3, 2)
    for cfg in (
        {"type": "nearest", "scale_factor": 2},
        {"type": "bilinear", "scale_factor": 2, "align_corners": False},
        {"type": "deconv", "in_channels": 4, "out_channels": 4, "kernel_size": 4, "stride": 2, "padding": 1},
        {"type": "pixel_shuffle", "in_channels": 4, "out_channels": 4, "scale_factor": 2, "upsample_kernel": 3},
    ):
        assert build_upsample(cfg)(x).shape == (1, 4, 6, 4)
    with pytest.raises(RegistryError, match="unknown upsample_cfg type 'carrafe'; did you mean 'carafe'"):
        build_upsample({"type": "carrafe"})
    with pytest.raises(RegistryError, match="upsample_cfg nearest has no argument 'kernel'"):
        build_upsample({"type": "nearest", "kernel": 2})


def test_convolutions_between_larger_maps() -> None:
    layer = ConvUpsample(3, 4, num_layers=2, num_upsample=1, act_cfg=None)
    x = torch.randn(1, 3, 5, 7)
    larger = F.interpolate(layer.conv[0](x), scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(layer(x), layer.conv[1](larger))
    with pytest.raises(ValueError, match="num_upsample=3: at most num_layers=2"):
        ConvUpsample(3, 4, num_layers=2, num_upsample=3)


def test_predictors_by_angle() -> None:
    linear, x = NormedLinear(2, 1, tempearture=10), torch.tensor([[3.0, 4.0]])
    nn.init.ones_(linear.weight)
    assert linear(x).item() == pytest.approx(10 * 7 / 5 / 2**0.5, rel=1e-4)
    conv = build_conv({"type": "NormedConv2d", "tempearture": 10}, 2, 1, 3, padding=1, bias=False)
    assert isinstance(conv, NormedConv2d)
    nn.init.ones_(conv.weight)
    maps = x.view(1, 2, 1, 1).expand(1, 2, 3, 3)
    assert conv(maps)[0, 0, 1, 1].item() == pytest.approx(9 * 10 * 7 / 5 / 2**0.5, rel=1e-4)
    conv.norm_over_kernel = True
    assert conv(maps)[0, 0, 1, 1].item() == pytest.approx(9 * 10 * 7 / 5 / 18**0.5, rel=1e-4)


@pytest.mark.parametrize("mode", ["embedded_gaussian", "gaussian", "dot_product", "concatenation"])
@pytest.mark.parametrize("sub_sample", [False, True])
def test_non_local_means(mode: str, sub_sample: bool) -> None:
    torch.manual_seed(0)
    layer = NonLocal2d(4, mode=mode, sub_sample=sub_sample, zeros_init=False)
    x = torch.randn(2, 4, 4, 6)
    small = (lambda m: F.max_pool2d(m, 2)) if sub_sample else (lambda m: m)
    g = layer.g[0] if sub_sample else layer.g
    values = small(g(x)).flatten(2)
    if mode == "gaussian":
        queries, keys = x.flatten(2), small(x).flatten(2)
    else:
        phi = layer.phi[0] if sub_sample else layer.phi
        queries, keys = layer.theta(x).flatten(2), small(phi(x)).flatten(2)
    mean = torch.zeros(2, 2, 24)
    for q in range(24):
        if mode == "concatenation":
            pairs = [torch.cat([queries[:, :, q], keys[:, :, k]], dim=1)[..., None, None] for k in range(keys.shape[2])]
            weights = torch.stack([layer.concat_project(pair).flatten() for pair in pairs], dim=1) / keys.shape[2]
        else:
            products = (queries[:, :, q : q + 1] * keys).sum(dim=1)
            root = 2**0.5 if mode == "embedded_gaussian" else 1.0
            weights = products / keys.shape[2] if mode == "dot_product" else (products / root).softmax(dim=1)
        mean[:, :, q] = (weights[:, None] * values).sum(dim=2)
    torch.testing.assert_close(layer(x), x + layer.conv_out(mean.view(2, 2, 4, 6)))


def test_non_local_begins_as_the_identity() -> None:
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(NonLocal2d(4)(x), x)
    assert torch.equal(NonLocal2d(4, norm_cfg={"type": "BN"})(x), x)
    with pytest.raises(ValueError, match="mode='gauss': write one of"):
        NonLocal2d(4, mode="gauss")


def test_global_context() -> None:
    layer = ContextBlock(4, ratio=0.5, pooling_type="avg", fusion_types=("channel_add", "channel_mul"))
    x = torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(layer(x), x / 2)  # the last convolutions begin at zero
    with torch.no_grad():
        layer.channel_add_conv[-1].bias.copy_(torch.arange(4.0))
    torch.testing.assert_close(layer(x), x / 2 + torch.arange(4.0).view(4, 1, 1))
    attended = ContextBlock(4, ratio=0.5)
    nn.init.zeros_(attended.conv_mask.weight)  # equal weights: the mean
    nn.init.normal_(attended.channel_add_conv[-1].weight)
    want = x + attended.channel_add_conv(x.mean(dim=(2, 3), keepdim=True))
    torch.testing.assert_close(attended(x), want)
    with pytest.raises(ValueError, match="pooling_type='max'"):
        ContextBlock(4, 0.5, pooling_type="max")
    with pytest.raises(ValueError, match="fusion_types=\\(\\)"):
        ContextBlock(4, 0.5, fusion_types=())


@pytest.mark.parametrize("kind", ["1111", "1010", "0100", "0011", "0001", "0010"])
def test_attention_in_its_parts(kind: str) -> None:
    torch.manual_seed(0)
    layer = GeneralizedAttention(8, num_heads=2, kv_stride=2, attention_type=kind)
    nn.init.ones_(layer.gamma)
    x = torch.randn(2, 8, 3, 5)
    seen = x[:, :, ::2, ::2]  # (2, 8, 2, 3)
    means = torch.zeros(2, 8, 3, 5)
    waves = 1000 ** (torch.arange(2.0) / 2)

    def distance(fc: nn.Linear, apart: int) -> torch.Tensor:
        return fc(torch.cat([(apart / waves).sin(), (apart / waves).cos()])) / 2**0.5

    for b, row, column, head in torch.cartesian_prod(*map(torch.arange, (2, 3, 5, 2))).tolist():
        own, weights = slice(head * 4, head * 4 + 4), []
        for y in range(2):
            for z in range(3):
                energy = torch.zeros(())
                query = layer.query_conv(x)[b, own, row, column] if kind[0] == "1" or kind[1] == "1" else None
                key = layer.key_conv(seen)[b, own, y, z] if kind[0] == "1" or kind[2] == "1" else None
                if kind[1] == "1" or kind[3] == "1":
                    right = distance(layer.appr_geom_fc_x, column - 2 * z)
                    apart = (right + distance(layer.appr_geom_fc_y, row - 2 * y))[own]
                energy = energy + (query @ key if kind[0] == "1" else 0) + (query @ apart if kind[1] == "1" else 0)
                energy = energy + (layer.appr_bias[own] @ key if kind[2] == "1" else 0)
                weights.append(energy + (layer.geom_bias[own] @ apart if kind[3] == "1" else 0))
        values = layer.value_conv(seen)[b, own].flatten(1)
        means[b, own, row, column] = values @ torch.stack(weights).softmax(dim=0)
    torch.testing.assert_close(layer(x), layer.proj_conv(means) + x)


def test_attention_of_limited_range() -> None:
    layer = GeneralizedAttention(256, spatial_range=1, num_heads=1, kv_stride=1, attention_type="1000")
    nn.init.zeros_(layer.query_conv.weight)  # equal weights
    nn.init.ones_(layer.gamma)
    with torch.no_grad():
        for conv in (layer.value_conv, layer.proj_conv):
            conv.weight.copy_(torch.eye(256).view(256, 256, 1, 1))
    x = torch.zeros(1, 256, 6, 6)
    x[:, :, 0, 0] = 1
    mean = (layer(x) - x)[0, 0]
    assert mean[0, 0].item() == pytest.approx(1 / 9) and mean[1, 1].item() == pytest.approx(1 / 16)
    assert mean[2, 2].item() == 0  # two away; keys up to two behind are seen, as the reference rounds
    assert layer.local_constraint_map.shape == (84, 84, 84, 84)
    with pytest.raises(ValueError, match="spatial_range=1 needs 256 or 512 channels, got 8"):
        GeneralizedAttention(8, spatial_range=1)
    with pytest.raises(ValueError, match="attention_type='0000'"):
        GeneralizedAttention(8, attention_type="0000")


def test_standardized_weights() -> None:
    torch.manual_seed(0)
    x, layer = torch.randn(2, 3, 5, 5), ConvWS2d(3, 4, 3, stride=2, padding=1)
    weight = torch.stack([(w - w.mean()) / (w.std() + 1e-5) for w in layer.weight])
    torch.testing.assert_close(layer(x), F.conv2d(x, weight, layer.bias, 2, 1))


def test_standardized_weights_keep_the_convolution_of_a_file() -> None:
    torch.manual_seed(0)
    plain, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 5, 5)
    layer = ConvAWS2d(3, 4, 3)
    layer.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(layer(x), plain(x))
    again = ConvAWS2d(3, 4, 3)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(x), layer(x))
    with torch.no_grad():
        again.weight_gamma.fill_(2)
        again.weight_beta.fill_(0.5)
    assert again.standardized().mean().item() == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("use_deform", [False, True])
def test_switchable_dilation_begins_as_a_convolution(use_deform: bool) -> None:
    torch.manual_seed(0)
    layer, x = SAConv2d(4, 6, 3, stride=2, padding=1, use_deform=use_deform), torch.randn(1, 4, 7, 8)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.standardized(), layer.bias, 2, 1), rtol=1e-4, atol=1e-5)
    nn.init.zeros_(layer.switch.bias)  # all from the large dilation
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.standardized(), layer.bias, 2, 3, 3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [ASPP(16), SPP(16), RFB(16), CBAM(16)])
def test_blocks_that_keep_the_shape(block: nn.Module) -> None:
    x = torch.randn(2, 16, 9, 7)
    assert block.eval()(x).shape == x.shape
    name, _ = build_plugin({"type": type(block).__name__}, 16)
    assert name == type(block).__name__.lower()


def test_pyramid_of_dilations() -> None:
    block = ASPP(2, 3, dilations=(1, 4, 1))
    assert [conv.padding for conv in block.aspp] == [(0, 0), (4, 4), (0, 0)]
    assert [name for name, _ in block.named_parameters()][:2] == ["aspp.0.weight", "aspp.0.bias"]
    x = torch.randn(1, 2, 6, 6)
    last = F.relu(F.conv2d(x.mean(dim=(2, 3), keepdim=True), block.aspp[2].weight, block.aspp[2].bias))
    torch.testing.assert_close(block(x)[:, 6:], last.expand(-1, -1, 6, 6))
    with pytest.raises(ValueError, match="dilations=\\(1, 3\\)"):
        ASPP(2, 3, dilations=(1, 3))


def test_pyramid_of_windows() -> None:
    block = SPP(2, kernel_sizes=(3,), norm_cfg=None, act_cfg=None)
    for conv in (block.conv1.conv, block.conv2.conv):
        nn.init.ones_(conv.weight)
    x = torch.zeros(1, 2, 4, 4)
    x[0, 0, 0, 0] = 1
    assert block(x)[0, 0].tolist() == [[2.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4]


def test_block_attention_by_hand() -> None:
    block = CBAM(2, ratio=1, kernel_size=1)
    for conv in (block.mlp[0], block.mlp[2], block.spatial):
        nn.init.zeros_(conv.weight)
    assert block(torch.full((1, 2, 3, 3), 8.0)).unique().tolist() == [2.0]  # a half of a half


def test_drop_block() -> None:
    torch.manual_seed(0)
    layer, x = DropBlock(0.3, 3, warmup_iters=2), torch.ones(4, 8, 16, 16)
    assert layer.eval()(x) is x
    layer.train()
    shares = [(layer(x) == 0).float().mean().item() for _ in range(3)]
    assert shares[0] == pytest.approx(0.14, abs=0.03) and shares[1] == pytest.approx(0.26, abs=0.03)
    assert shares[2] == pytest.approx(0.26, abs=0.03)  # overlaps keep it below 0.3
    assert layer(x).mean().item() == pytest.approx(1, abs=1e-4)
    with pytest.raises(ValueError, match="block_size=4"):
        DropBlock(0.3, 4)
    with pytest.raises(ValueError, match="block_size=3 is larger than a map of 2 x 5"):
        layer(torch.ones(1, 1, 2, 5))


def test_names_of_plugins() -> None:
    assert build_plugin({"type": "ContextBlock", "ratio": 0.25}, 8)[0] == "context_block"
    assert build_plugin({"type": "NonLocal2d"}, 8, postfix=1)[0] == "nonlocal_block1"
    drop = {"type": "DropBlock", "drop_prob": 0.1, "block_size": 3, "postfix": "_a"}
    assert build_plugin(drop, 8)[0] == "drop_block_a"
    name, layer = build_plugin({"type": "ConvModule", "out_channels": 8, "kernel_size": 1}, 8)
    assert name == "conv_block" and layer(torch.ones(1, 8, 2, 2)).shape == (1, 8, 2, 2)
    assert build_plugin({"type": "SELayer", "ratio": 2}, 8)[0] == "se_layer"
    with pytest.raises(RegistryError, match="a plugin needs a type, got dict\\(ratio\\)"):
        build_plugin({"ratio": 1}, 8)
