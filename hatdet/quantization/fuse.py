"""Folding of batch normalization into the convolution before it."""

from __future__ import annotations

import copy
from typing import cast

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fuse_bn(detector: nn.Module) -> int:
    """Fold every BatchNorm2d that follows a convolution alone; in place, the BN becomes an Identity.

    Args:
        detector: offers ``network()``; its module objects are changed.

    Returns:
        How many were folded; 0 for a model that is folded already.
    """
    network = cast(nn.Module, detector.network())  # type: ignore[operator]
    training = network.training
    _unshare(network)
    traced = fx.symbolic_trace(network.eval())
    modules = dict(network.named_modules(remove_duplicate=False))
    users = {node.name: len(node.users) for node in traced.graph.nodes}
    calls: dict[str, int] = {}
    for node in traced.graph.nodes:
        if node.op == "call_module":
            calls[str(node.target)] = calls.get(str(node.target), 0) + 1
    folded = 0
    for node in traced.graph.nodes:
        bn = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(bn, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            continue
        source = node.args[0]
        conv = modules.get(str(source.target)) if isinstance(source, fx.Node) and source.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or users[source.name] != 1 or calls[str(source.target)] != 1:
            raise ValueError(
                f"{node.target}: this batch normalization does not follow one convolution of its own, so it cannot be "
                "folded"
            )
        assert bn.running_mean is not None and bn.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
        )
        conv.weight, conv.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
        parent, _, name = str(node.target).rpartition(".")
        setattr(network.get_submodule(parent), name, nn.Identity())
        folded += 1
    network.train(training)
    return folded


def _unshare(network: nn.Module) -> None:
    """Give every place its own convolution: levels that share one (SepBN) get weights of their own with their BN."""
    seen: set[int] = set()
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.Conv2d):
            if id(module) in seen:
                parent, _, last = name.rpartition(".")
                setattr(network.get_submodule(parent), last, copy.deepcopy(module))
            seen.add(id(module))
