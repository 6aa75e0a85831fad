"""Layers: parameter names, sizes, and values that can be checked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hatdet.models.layers.activations import build_activation
from hatdet.models.layers.attention import ChannelAttention
from hatdet.models.layers.conv import ConvModule, DepthwiseSeparableConvModule
from hatdet.models.layers.csp import CSPLayer, CSPNeXtBlock
from hatdet.models.layers.spp import SPP


def names(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_parameters()}


def test_conv_module_is_conv_norm_activation() -> None:
    module = ConvModule(2, 4, 3, stride=2, activation="ReLU6").eval()
    assert names(module) == {"conv.weight", "bn.weight", "bn.bias"}
    assert (module.bn.eps, module.bn.momentum) == (1e-5, 0.1)
    x = torch.randn(1, 2, 7, 5)
    expected = nn.functional.relu6(module.bn(nn.functional.conv2d(x, module.conv.weight, stride=2, padding=1)))
    assert torch.equal(module(x), expected)
    assert module(x).shape == (1, 4, 4, 3)
    assert (ConvModule(2, 4, 1, activation=None).eval()(x) < 0).any()


def test_depthwise_separable() -> None:
    module = DepthwiseSeparableConvModule(4, 6, 5, stride=2)
    assert module.depthwise_conv.conv.weight.shape == (4, 1, 5, 5)
    assert module.pointwise_conv.conv.weight.shape == (6, 4, 1, 1)
    assert module(torch.randn(2, 4, 9, 6)).shape == (2, 6, 5, 3)


def test_activations() -> None:
    assert isinstance(build_activation("Hardswish"), nn.Hardswish)
    assert build_activation(None) is None
    with pytest.raises(ValueError, match="unknown activation 'relu6'; write one of GELU, "):
        ConvModule(1, 1, 1, activation="relu6")
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        ConvModule(1, 1, 2)


def test_block_adds_its_input() -> None:
    with_identity = CSPNeXtBlock(4, add_identity=True).eval()
    without = CSPNeXtBlock(4, add_identity=False).eval()
    without.load_state_dict(with_identity.state_dict())
    x = torch.randn(1, 4, 6, 5)
    assert torch.equal(with_identity(x), without(x) + x)
    assert with_identity.conv2.depthwise_conv.conv.weight.shape == (4, 1, 5, 5)


def test_csp_layer() -> None:
    layer = CSPLayer(6, 8, num_blocks=2, channel_attention=True)
    assert {name.split(".")[0] for name in names(layer)} == {
        "main_conv",
        "short_conv",
        "final_conv",
        "blocks",
        "attention",
    }
    assert layer.blocks[1].conv1.conv.weight.shape == (4, 4, 3, 3)
    assert layer(torch.randn(2, 6, 5, 7)).shape == (2, 8, 5, 7)
    assert not any("attention" in name for name in names(CSPLayer(6, 8)))
    assert isinstance(CSPLayer(6, 8, use_depthwise=True).blocks[0].conv1, DepthwiseSeparableConvModule)


def test_csp_layer_puts_the_main_branch_first() -> None:
    layer = CSPLayer(2, 4, num_blocks=0, activation=None).eval()
    with torch.no_grad():
        layer.short_conv.conv.weight.zero_()
        layer.final_conv.conv.weight.zero_()
        layer.final_conv.conv.weight[:, :2] = 1.0  # reads the first two channels: the main branch
    assert layer(torch.ones(1, 2, 1, 1)).abs().max() > 0
    with torch.no_grad():
        layer.main_conv.conv.weight.zero_()
    assert layer(torch.ones(1, 2, 1, 1)).abs().max() == 0


def test_channel_attention_gates_by_the_mean() -> None:
    layer = ChannelAttention(2)
    nn.init.eye_(layer.fc.weight.data[:, :, 0, 0])
    nn.init.zeros_(layer.fc.bias)
    x = torch.stack((torch.full((3, 3), 1.5), torch.full((3, 3), -6.0)))[None]
    # hardsigmoid(m) = clamp(m / 6 + 0.5, 0, 1): 0.75 and 0
    assert torch.allclose(layer(x), torch.tensor([1.5 * 0.75, 0.0])[None, :, None, None].expand_as(x))


@pytest.mark.parametrize("sizes", [(5, 9, 13), (3, 7), (5,)])
def test_spp_poolings_are_equal_to_the_bit(sizes: tuple[int, ...]) -> None:
    parallel = SPP(8, 6, kernel_sizes=sizes, pooling="parallel")
    x = torch.randn(2, 8, 11, 7)
    for pooling in ("chained", "chained_3x3"):
        other = SPP(8, 6, kernel_sizes=sizes, pooling=pooling)  # type: ignore[arg-type]
        other.load_state_dict(parallel.state_dict())
        assert torch.equal(other.eval()(x), parallel.eval()(x))
    pools = [m.kernel_size for m in other.modules() if isinstance(m, nn.MaxPool2d)]
    assert pools == [3] * (sizes[-1] // 2)


def test_spp_errors() -> None:
    with pytest.raises(ValueError, match=r"odd, above 1 and growing, e\.g\. \(5, 9, 13\), got \(9, 5\)"):
        SPP(8, 8, kernel_sizes=(9, 5))
    with pytest.raises(ValueError, match="unknown pooling 'fast'"):
        SPP(8, 8, pooling="fast")  # type: ignore[arg-type]
