"""``qat_mode="with_bn"``: batch normalization stays alive in QAT and is folded when the model becomes integers.

Training simulates the folded weights, ``w * gamma / sigma`` with the running sigma, and normalizes with the statistics
of the batch (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018, section 3.2). Integer arithmetic has no batch statistics, so this simulation is fake
quantization; whatever is evaluated or exported is the folded integer model, made anew from the present weights.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from hatdet.quantization.fuse import can_be_shared, fold, fuse_bn, normalized_convolutions, put
from hatdet.quantization.qat.shared_conv import LeafConv2d
from hatdet.quantization.tracing.comparison import unchanged


class BnConv2d(LeafConv2d):
    """A convolution and the batch normalization behind it, as one operator."""

    bn: nn.BatchNorm2d
    bn_path: str

    @classmethod
    def of(cls, conv: nn.Conv2d, bn: nn.BatchNorm2d, bn_path: str) -> BnConv2d:
        """The weight and the batch normalization are the same objects; ``bn_path`` is where the latter stood."""
        new = cast(BnConv2d, cls.like_geometry(conv, bias=conv.bias is not None))
        new.weight, new.bias, new.bn, new.bn_path = conv.weight, conv.bias, bn, bn_path
        return new.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.bn(self._conv_forward(x, self.weight, self.bias)))


def attach_bn(detector: nn.Module) -> int:
    """Let every convolution take in the batch normalization behind it, alive; in place. Returns how many.

    That of a transposed convolution is folded.
    """
    network = cast(nn.Module, detector.network())  # type: ignore[operator]
    with unchanged(network, "joining convolutions and batch normalization"):
        pairs = normalized_convolutions(network)
        for conv_path, bn_path in pairs:
            if not can_be_shared(network, conv_path):
                fold(network, conv_path, bn_path)
                continue
            conv, bn = (network.get_submodule(path) for path in (conv_path, bn_path))
            put(network, conv_path, BnConv2d.of(cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, bn), bn_path))
            put(network, bn_path, nn.Identity().train(network.training))
    return len(pairs)


def folded_copy(detector: nn.Module) -> Any:
    """A copy of a detector after :func:`attach_bn`, folded: levels that share a convolution share one weight."""
    duplicate = copy.deepcopy(detector)
    network = cast(nn.Module, duplicate.network())  # type: ignore[operator]
    plain: dict[int, nn.Conv2d] = {}
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if isinstance(module, BnConv2d):
            if id(module.weight) not in plain:
                made = nn.Conv2d(
                    module.in_channels, module.out_channels, cast(Any, module.kernel_size), cast(Any, module.stride),
                    cast(Any, module.padding), cast(Any, module.dilation), module.groups, module.bias is not None,
                    module.padding_mode, device="meta",
                )  # fmt: skip
                made.weight, made.bias = module.weight, module.bias
                plain[id(module.weight)] = made
            put(network, path, plain[id(module.weight)])
            put(network, module.bn_path, module.bn)
    fuse_bn(duplicate.eval(), share=True, compare=False)  # the structure was compared when the stage began
    return duplicate


def folding_factor(bn: nn.BatchNorm2d) -> Tensor:
    """gamma / sqrt(running variance + eps) (O,): by what folding multiplies a channel."""
    assert bn.running_var is not None
    factor = torch.rsqrt(bn.running_var + bn.eps)
    return factor if bn.weight is None else factor * bn.weight


def folded_bias(bn: nn.BatchNorm2d, bias: Tensor | None) -> Tensor:
    """beta + (bias - running mean) * gamma / sigma (O,)."""
    assert bn.running_mean is not None
    offset = -bn.running_mean if bias is None else bias - bn.running_mean
    offset = offset * folding_factor(bn)
    return offset if bn.bias is None else offset + bn.bias
