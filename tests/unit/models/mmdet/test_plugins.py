"""Attention, upsampling and what is plugged in between, against plain forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hatdet.models.mmdet.layers.attention import ChannelAttention, DyReLU, SELayer
from hatdet.models.mmdet.layers.plugins.build import build_plugin
from hatdet.models.mmdet.layers.plugins.context_block import ContextBlock
from hatdet.models.mmdet.layers.plugins.drop_block import DropBlock
from hatdet.models.mmdet.layers.plugins.non_local import NonLocal2d
from hatdet.models.mmdet.layers.upsample import CARAFEPack, build_upsample, carafe
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
