"""Folding of batch normalization into the convolution before it."""

from __future__ import annotations

import copy
import logging
from contextlib import nullcontext
from typing import cast

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from hatdet.quantization.branches import Nothing, doing_nothing, joined, parallel_branches
from hatdet.quantization.qat.fake_quant import BIAS_TO_WEIGHT
from hatdet.quantization.qat.shared_conv import FoldedLevel, channel_peak, share_weights
from hatdet.quantization.tracing.comparison import unchanged
from hatdet.quantization.tracing.refusals import NORMED, NORMS, NoModule, Problem, check_norm, follows
from hatdet.quantization.tracing.two_sizes import recorded_graph
from hatdet.utils.errors import UserError
from hatdet.utils.finite import refuse_not_finite

logger = logging.getLogger("hatdet")
Pair = tuple[str, str]
"""Paths of a convolution and of the batch normalization behind it."""


def fuse_bn(detector: nn.Module, share: bool = False, compare: bool = True) -> int:
    """Fold every BatchNorm2d that follows a convolution alone; in place, the BN becomes an Identity.

    Args:
        detector: offers ``network()``; its module objects are changed.
        share: levels that share a convolution and have batch norms of their own (SepBN) go on sharing its weight where
            they can, as :class:`SharedConv2d`; otherwise each gets a convolution of its own.
        compare: refuse a folded network that computes something else than before.

    Returns:
        How many were folded; 0 for a model that is folded already.

    Raises:
        UserError: a batch normalization that cannot be folded, or the folded network computes something else.
    """
    network = cast(nn.Module, detector.network())  # type: ignore[operator]
    if not any(isinstance(module, NORMS) for module in network.modules()):
        return 0
    with unchanged(network, "folding batch normalization") if compare else nullcontext():
        return _fold_all(network, share)


def _fold_all(network: nn.Module, share: bool) -> int:
    merged = merge_branches(network)
    places = _unshare(network)
    pairs = _pairs(network)
    _check_statistics(network, pairs)
    normalized = dict(pairs)
    for paths in places:
        if not any(path in normalized for path in paths):
            for path in paths[1:]:  # without batch norms nothing keeps the levels apart
                put(network, path, network.get_submodule(paths[0]))
        elif share and all(path in normalized and can_be_shared(network, path) for path in paths):
            _fold_together(network, [(path, normalized.pop(path)) for path in paths])
    for conv, bn in normalized.items():
        fold(network, conv, bn)
    return len(pairs) + merged


def normalized_convolutions(network: nn.Module) -> list[Pair]:
    """Paths of every convolution with a batch normalization behind it, and of that; in place, levels that share one
    module get modules of their own with the same parameters.

    Raises:
        ValueError: a batch normalization that cannot be folded.
    """
    merge_branches(network)
    places = _unshare(network)
    pairs = _pairs(network)
    _check_statistics(network, pairs)
    normalized = dict(pairs)
    for paths in places:
        first = network.get_submodule(paths[0])
        for path in paths[1:]:
            if path in normalized:
                module = network.get_submodule(path)
                module.weight, module.bias = first.weight, first.bias
            else:
                put(network, path, first)
    return pairs


def merge_branches(network: nn.Module) -> int:
    """Let one convolution stand for parallel branches that are added up; in place. Returns how many norms it folded."""
    count = 0
    for branches in parallel_branches(network):
        pairs = [(b.conv or _give_convolution(network, b.norm), b) for b in branches]
        norms = [(conv, f"{b.norm}.1" if not b.conv else b.norm) for conv, b in pairs if b.norm]
        _check_statistics(network, norms)
        for conv, norm in norms:
            fold(network, conv, norm)
        paths = [conv for conv, _ in pairs]
        convs = [cast(nn.Conv2d, network.get_submodule(path)) for path in paths]
        made = joined(convs)
        for path, gone in zip(paths[1:], convs[1:], strict=True):
            put(network, path, Nothing(gone).train(network.training))
        put(network, paths[0], made)
        count += len(norms)
    return count


def _give_convolution(network: nn.Module, path: str) -> str:
    """Put a convolution that does nothing before a norm that has none of its own, and give its path."""
    norm = _norm(network, path)
    put(network, path, nn.Sequential(doing_nothing(norm), norm))
    return f"{path}.0"


def _unshare(network: nn.Module) -> list[list[str]]:
    """Give every place its own convolution, and say which places had one in common."""
    first: dict[int, list[str]] = {}
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if type(module) in NORMED:
            places = first.setdefault(id(module), [])
            if places:
                put(network, name, copy.deepcopy(module))
            places.append(name)
    return [places for places in first.values() if len(places) > 1]


def _pairs(network: nn.Module) -> list[Pair]:
    """Every batch normalization that runs at inference, with the convolution that it follows; one that follows
    something else, or a convolution whose output is used elsewhere too, gets one that does nothing.

    Raises:
        UserError: one that cannot be folded into any.
    """
    graph = recorded_graph(network)
    modules = dict(network.named_modules(remove_duplicate=False))
    calls: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append(node)
    found: list[Pair] = []
    for bn, nodes in calls.items():
        if not isinstance(modules[bn], NORMS):
            continue
        sources = [cast(fx.Node, node.args[0]) for node in nodes]
        convs = {str(s.target) for s in sources if follows(modules.get(str(s.target)), s)}
        for source in sources:
            try:
                check_norm(modules[bn], modules.get(str(source.target)), source)
            except NoModule as error:
                raise UserError(str(Problem(bn, *error.args))) from error
        if len(convs) == 1 and all(str(s.target) in convs for s in sources):
            conv = convs.pop()
            if len(calls[conv]) == len(nodes):
                found.append((conv, bn))
                continue
        found.append((_give_convolution(network, bn), f"{bn}.1"))
    return found


@torch.no_grad()
def _check_statistics(network: nn.Module, pairs: list[Pair]) -> None:
    """Refuse what cannot be folded into finite weights, by path.

    Raises:
        NotFinite: weights or statistics that are not finite, or whose folding is not. UserError: a negative variance.
    """
    advice = "such a model cannot be folded; take an earlier checkpoint, or train again with a lower learning rate"
    for conv_path, bn_path in pairs:
        conv, bn = cast(nn.Conv2d, network.get_submodule(conv_path)), _norm(network, bn_path)
        for path, module in ((conv_path, conv), (bn_path, bn)):
            state = {f"{path}.{name}": value for name, value in module.state_dict().items()}
            refuse_not_finite(state, "weights or statistics", advice)
        if bn.running_var is None:
            continue
        lowest = float(bn.running_var.min())
        if lowest + bn.eps <= 0:
            raise UserError(f"{bn_path}.running_var: a variance is {lowest:.4g}, it cannot be below 0; {advice}")
        level = _level(conv, bn)
        outputs_first = conv.weight.transpose(0, NORMED[type(conv)])
        if not bool((channel_peak(outputs_first) * level.factor.abs()).to(conv.weight.dtype).isfinite().all()):
            weight = outputs_first.double() * level.factor.view(-1, *(1 for _ in outputs_first.shape[1:]))
            refuse_not_finite({conv_path: weight.to(conv.weight.dtype)}, f"weights with {bn_path} folded in", advice)
        bias = {f"{conv_path} (bias)": level.bias.to(conv.weight.dtype)}
        refuse_not_finite(bias, f"weights with {bn_path} folded in", advice)


def can_be_shared(network: nn.Module, path: str) -> bool:
    """Whether a convolution has a form in which levels share its weight, or one with its norm alive."""
    return type(network.get_submodule(path)) is nn.Conv2d


def fold(network: nn.Module, conv_path: str, bn_path: str) -> None:
    """Fold a batch normalization into the convolution before it."""
    conv, bn = cast(nn.Conv2d, network.get_submodule(conv_path)), _norm(network, bn_path)
    assert bn.running_mean is not None and bn.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias,
        transpose=NORMED[type(conv)] == 1,
    )  # fmt: skip
    conv.weight, conv.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    put(network, bn_path, nn.Identity().train(network.training))


@torch.no_grad()
def _fold_together(network: nn.Module, pairs: list[Pair]) -> None:
    """Fold levels that shared one convolution into as few weights as they allow."""
    convs = {conv: cast(nn.Conv2d, network.get_submodule(conv)) for conv, _ in pairs}
    levels = [_level(conv, _norm(network, bn)) for conv, (_, bn) in zip(convs.values(), pairs, strict=True)]
    for shared, (conv_path, bn_path) in zip(share_weights(convs, levels, BIAS_TO_WEIGHT), pairs, strict=True):
        put(network, conv_path, shared)
        put(network, bn_path, nn.Identity().train(network.training))


def _level(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> FoldedLevel:
    assert bn.running_mean is not None and bn.running_var is not None
    factor = (bn.running_var.double() + bn.eps).rsqrt()
    offset = -bn.running_mean.double()
    if conv.bias is not None:
        offset = offset + conv.bias.double()
    if bn.weight is not None:
        factor = factor * bn.weight.double()
    beta = bn.bias.double() if bn.bias is not None else torch.zeros_like(factor)
    return FoldedLevel(factor.detach(), (beta + offset * factor).detach())


def _norm(network: nn.Module, path: str) -> nn.BatchNorm2d:
    return cast(nn.BatchNorm2d, network.get_submodule(path))


def put(network: nn.Module, path: str, module: nn.Module) -> None:
    """Set the module at a path."""
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)
