"""The same network on images of two sizes: what depends on the size shows by the difference.

A graph has to hold for images of any size. Sizes that a forward computes with are numbers in a recording, as fixed ones
are; only what differs between two images comes from the size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from hatdet.quantization.tracing.applied import Sized
from hatdet.quantization.tracing.recorded import Call, Recording, Shape, Unrecordable, evaluating
from hatdet.quantization.tracing.recording import record

SIZES: tuple[tuple[Shape, Shape], ...] = (
    ((2, 64, 96), (1, 256, 320)),
    ((2, 256, 512), (1, 512, 768)),
)
"""Batch, rows and columns of two images; the larger pair is for networks with coarse joins or large kernels. The two
differ by so much that every map differs, that of the coarsest stride too."""


def recorded_graph(network: nn.Module) -> fx.Graph:
    """What the network computes in eval mode, on the smallest image that it takes.

    Of a network that fails on all of them it is what came before the failure: tracing refuses that network.
    """
    with evaluating(network):
        try:
            return next(recordings(network, pairs=False))[0].graph
        except Unrecordable as error:
            return error.graph or fx.Graph()


def first_noise(network: nn.Module) -> Tensor | None:
    """Noise of the smallest shape that the network takes in eval mode; None: it takes none of those tried."""
    with evaluating(network):
        try:
            return noise_for(network, next(recordings(network, pairs=False))[0].shape)
        except Unrecordable:
            return None


def noise_for(network: nn.Module, shape: Shape) -> Tensor:
    """Reproducible noise on the network's device."""
    parameter = next(network.parameters(), torch.zeros(()))
    noise = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(sum(shape)))
    return noise.to(parameter.device)


def recordings(network: nn.Module, pairs: bool = True) -> Iterator[tuple[Recording, ...]]:
    """Recordings of the network in its present mode, a pair of image sizes after the other.

    Raises:
        Unrecordable: instead of the first, where no size works.
    """
    failed: Unrecordable | None = None
    found = False
    for pair in SIZES:
        for channels in input_channels(network):
            try:
                made = tuple(
                    record(network, noise_for(network, (batch, channels, *size)))
                    for batch, *size in (pair if pairs else pair[:1])
                )
            except Unrecordable as error:
                failed = error if channels == input_channels(network)[0] else failed
                continue
            found = True
            yield made
            break
    if not found:
        assert failed is not None
        raise failed


def input_channels(network: nn.Module) -> list[int]:
    """Numbers of input channels to try: what the first convolution reads comes first."""
    first = next((m.in_channels for m in network.modules() if isinstance(m, nn.Conv2d)), 3)
    return list(dict.fromkeys([first, 3, 1]) if first in (1, 3) else dict.fromkeys([3, first, 1]))


def merge(network: nn.Module, made: tuple[Recording, ...]) -> Recording:
    """Recordings of one network as one: numbers that differ become :class:`~.applied.Sized`.

    Raises:
        Unrecordable: the operators themselves differ.
    """
    first = made[0]
    columns = [list(recording.graph.nodes) for recording in made]
    for nodes in zip(*columns, strict=False):
        if len({_structure(node, column) for node, column in zip(nodes, _orders(columns), strict=True)}) > 1:
            raise _differs(network, nodes[0])
        node = nodes[0]
        if "call" in node.meta:
            try:
                node.meta["call"] = _merged([n.meta["call"] for n in nodes])
            except ValueError:
                raise _differs(network, node) from None
        node.meta["shapes"] = tuple(n.meta["shapes"][0] for n in nodes if n.meta.get("shapes"))
    if len({len(column) for column in columns}) > 1:
        raise _differs(network, columns[0][-1])
    return first


def _orders(columns: list[list[fx.Node]]) -> list[dict[fx.Node, int]]:
    return [{node: index for index, node in enumerate(column)} for column in columns]


def _structure(node: fx.Node, order: dict[fx.Node, int]) -> tuple[Any, ...]:
    call = node.meta.get("call")
    return node.op, str(node.target), call and call.op, tuple(order[n] for n in _inputs(node))


def _inputs(node: fx.Node) -> list[fx.Node]:
    args: Any = node.args[0] if node.op == "output" else node.args
    return list(args)


def _differs(network: nn.Module, node: fx.Node) -> Unrecordable:
    owners = list(node.meta.get("nn_module_stack") or {})
    path = str(node.target) if node.op == "call_module" else owners[-1] if owners else type(network).__name__
    return Unrecordable(
        path,
        f"another network for images of another size or number (first at {node.name})",
        "a forward must not branch on sizes, nor take a batch apart",
    )


def _merged(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Call):
        args, kwargs = _merged([v.args for v in values]), _merged([v.kwargs for v in values])
        return Call(first.op, args, kwargs, first.function)
    if isinstance(first, dict):
        if any(list(v) != list(first) for v in values):
            raise ValueError
        return {key: _merged([v[key] for v in values]) for key in first}
    if isinstance(first, (tuple, list)):
        if any(type(v) is not type(first) or len(v) != len(first) for v in values):
            raise ValueError
        made = [_merged(list(parts)) for parts in zip(*values, strict=True)]
        return made if isinstance(first, list) else tuple(made)
    if any(type(v) is not type(first) for v in values):
        raise ValueError
    if isinstance(first, Tensor):
        return first if all(v is first or _same_numbers(first, v) for v in values) else Sized(tuple(values))
    return first if all(v is first or _equal(v, first) for v in values) else Sized(tuple(values))


def _same_numbers(a: Tensor, b: Tensor) -> bool:
    """Whether two constants are equal, or of two sizes and filled with one and the same number."""
    if a.shape == b.shape or not a.numel() or not b.numel():
        return torch.equal(a, b)
    return bool((a == a.flatten()[0]).all()) and bool((b == a.flatten()[0]).all())


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except (TypeError, ValueError, RuntimeError):  # arrays and other things that have no one answer
        return False
