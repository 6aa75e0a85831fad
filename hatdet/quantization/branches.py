"""Parallel convolutions whose results are added, as one: blocks that are re-parameterised (Ding et al., "RepVGG: Making
VGG-style ConvNets Great Again", CVPR 2021), in whatever order and number their branches come.

A branch is a convolution with its batch normalization behind it, or without, or a batch normalization alone. One kernel
lies inside another where both windows have the same middle, so the sum of the kernels does what the sum of the branches
does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from hatdet.integer.operators.windows.window import window_sizes
from hatdet.quantization.tracing.recorded import Call, Input
from hatdet.quantization.tracing.refusals import pair
from hatdet.quantization.tracing.two_sizes import recorded_graph

_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Branch:
    """Paths of its convolution and its norm; '' where it has none. ``kernel`` is what it convolves with."""

    conv: str
    norm: str
    kernel: nn.Conv2d


class Nothing(nn.Module):
    """In the place of a convolution that went into another: zeros, which an addition passes over."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.channels = conv.out_channels
        self.window = tuple(pair(v) for v in (conv.kernel_size, conv.stride, conv.padding, conv.dilation))

    def forward(self, x: Tensor) -> Tensor:
        _, channels, rows, columns = x.shape
        size = window_sizes((channels, rows, columns), *self.window)
        return x.new_zeros(1).expand(len(x), self.channels, *size).clone()  # as a constant in a file: one number


def doing_nothing(norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A depthwise convolution that passes values on: what a norm folds into that follows none."""
    channels = norm.num_features
    conv = nn.Conv2d(channels, channels, 1, groups=channels, bias=False, device="meta")
    assert norm.running_mean is not None
    conv.weight = nn.Parameter(torch.ones_like(norm.running_mean).view(-1, 1, 1, 1))
    return conv.train(norm.training)


def parallel_branches(network: nn.Module) -> list[list[Branch]]:
    """Branches of one value that are added up and that one convolution can stand for, at least one of them with a norm,
    the largest kernel first; nothing else reads them, and their modules are called nowhere else."""
    graph = recorded_graph(network)
    modules = dict(network.named_modules(remove_duplicate=False))
    calls = Counter(id(modules[str(node.target)]) for node in graph.nodes if node.op == "call_module")
    places = Counter(id(module) for module in modules.values())

    def own(node: Any) -> nn.Module | None:
        """The module of a node that has one of its own."""
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return None
        module = modules[str(node.target)]
        return module if calls[id(module)] == places[id(module)] == 1 else None

    def branch(end: fx.Node) -> tuple[fx.Node, Branch] | None:
        module, norm, node = own(end), "", end
        if isinstance(module, _NORMS) and module.running_mean is not None:
            norm, node = str(end.target), cast(fx.Node, end.args[0])
            inner = own(node)
            if type(inner) is not nn.Conv2d or len(node.users) > 1:
                return node, Branch("", norm, doing_nothing(cast(nn.BatchNorm2d, module)))
            module = inner
        if type(module) is not nn.Conv2d:
            return None
        return cast(fx.Node, node.args[0]), Branch(str(node.target), norm, module)

    found: list[list[Branch]] = []
    for leaves in _sums(graph):
        groups: dict[fx.Node, list[Branch]] = {}
        for leaf in leaves:
            made = branch(leaf) if len(leaf.users) == 1 else None
            if made is not None:
                groups.setdefault(made[0], []).append(made[1])
        found += [b for b in groups.values() if len(b) > 1 and any(x.norm for x in b) and any(x.conv for x in b)]
    found = [sorted(branches, key=lambda b: (-b.kernel.weight[0, 0].numel(), not b.conv)) for branches in found]
    return [branches for branches in found if geometry([b.kernel for b in branches]) is not None]


def _sums(graph: fx.Graph) -> Iterator[list[fx.Node]]:
    """What is added up in each chain of additions; each once."""

    def inside(node: fx.Node) -> bool:
        return _adds(node) and len(node.users) == 1 and _adds(next(iter(node.users)))

    def leaves(node: fx.Node) -> list[fx.Node]:
        parts = [cast(fx.Node, n) for n in node.args]
        return [leaf for part in parts for leaf in (leaves(part) if inside(part) else [part])]

    for node in graph.nodes:
        if _adds(node) and not inside(node):
            counted = Counter(leaves(node))
            yield [leaf for leaf, times in counted.items() if times == 1]


def _adds(node: fx.Node) -> bool:
    call: Call | None = node.meta.get("call")
    return call is not None and call.op == "add" and not call.kwargs and call.args == (Input(0), Input(1))


@dataclass(frozen=True)
class Geometry:
    """Of the one convolution; ``offsets``: first row and column of each kernel inside its own."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    offsets: tuple[tuple[int, int], ...]


def geometry(convs: Sequence[nn.Conv2d]) -> Geometry | None:
    """Where the kernels lie inside one; None: they do not fit into one without becoming more groups or larger."""
    first = convs[0]
    same = {(c.in_channels, c.out_channels, pair(c.stride)) for c in convs}
    groups = {c.groups for c in convs if not _pointwise_each(c)} or {first.groups}
    if len(same) > 1 or len(groups) > 1 or any(isinstance(c.padding, str) or c.padding_mode != "zeros" for c in convs):
        return None
    axes = [_axis([(pair(c.kernel_size)[i], pair(c.padding)[i], pair(c.dilation)[i]) for c in convs]) for i in (0, 1)]
    if axes[0] is None or axes[1] is None:
        return None
    (rows, top, row_step, first_rows), (columns, left, column_step, first_columns) = axes[0], axes[1]
    offsets = tuple(zip(first_rows, first_columns, strict=True))
    steps = row_step, column_step
    return Geometry((rows, columns), pair(first.stride), (top, left), steps, groups.pop(), offsets)


def _axis(windows: Sequence[tuple[int, int, int]]) -> tuple[int, int, int, list[int]] | None:
    """(kernel, padding, dilation, offsets) along one axis, of windows (kernel, padding, dilation)."""
    steps = {d for k, _, d in windows if k > 1} or {1}
    step, largest = max(steps), max(p for _, p, _ in windows)
    reach = {2 * p - d * (k - 1) for k, p, d in windows}  # by how much the output is longer than the input
    if len(steps) > 1 or len(reach) > 1 or any((largest - p) % step for _, p, _ in windows):
        return None
    offsets = [(largest - p) // step for _, p, _ in windows]
    return max(o + k for o, (k, _, _) in zip(offsets, windows, strict=True)), largest, step, offsets


def _pointwise_each(conv: nn.Conv2d) -> bool:
    """Whether it multiplies each channel by a number; that fits into any groups."""
    return conv.groups == conv.in_channels == conv.out_channels and pair(conv.kernel_size) == (1, 1)


@torch.no_grad()
def joined(convs: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """The convolution that gives the sum of what ``convs`` give."""
    g, first = geometry(convs), convs[0]
    assert g is not None
    outputs, inputs = first.out_channels, first.in_channels // g.groups
    weight = torch.zeros(outputs, inputs, *g.kernel, dtype=torch.float64, device=first.weight.device)
    bias = torch.zeros(outputs, dtype=torch.float64, device=first.weight.device)
    for conv, (row, column) in zip(convs, g.offsets, strict=True):
        rows, columns = pair(conv.kernel_size)
        kernel = conv.weight.double()
        if conv.groups != g.groups:
            channel = torch.arange(outputs, device=weight.device)
            weight[channel, channel % inputs, row, column] += kernel[:, 0, 0, 0]
        else:
            weight[:, :, row : row + rows, column : column + columns] += kernel
        if conv.bias is not None:
            bias += conv.bias.double()
    made = nn.Conv2d(
        first.in_channels, outputs, g.kernel, g.stride, g.padding, g.dilation, g.groups, device="meta"
    )
    made.weight, made.bias = (nn.Parameter(value.to(first.weight.dtype)) for value in (weight, bias))
    return made.train(first.training)
