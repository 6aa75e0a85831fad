"""What a chain of views does to a map, read off the places of its values: a part, another order of channels, or blocks
of pixels that become channels (or the reverse)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from hatdet.integer.operators.layout.slice import FIRST, LAST, Place
from hatdet.quantization.tracing.recorded import Shape

Chain = Callable[[Tensor], Tensor]
LARGEST_BLOCK = 256
"""Pixels; each becomes an operator. A whole map that is flattened has more."""


@dataclass(frozen=True)
class Axis:
    """Every ``step``-th of ``size`` places, from ``first`` to ``last``."""

    size: int
    first: int
    last: int
    step: int


@dataclass(frozen=True)
class Part:
    """A range of channels, and rows and columns in steps."""

    axes: tuple[Axis, Axis, Axis]


@dataclass(frozen=True)
class Order:
    """Channel j of the result is channel ``channels[j]``."""

    channels: tuple[int, ...]


@dataclass(frozen=True)
class Unshuffle:
    """Channel j of the result has of every block of pixels one: (channel, row, column) of ``pixels[j]``."""

    block: tuple[int, int]
    pixels: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Shuffle:
    """The pixel (row i, column k) of a block of channel j comes from channel ``channels[i][k][j]``."""

    block: tuple[int, int]
    channels: tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True)
class Pool:
    """The ``mean`` or the ``maximum`` of whole maps."""

    function: str


Movement = Part | Order | Unshuffle | Shuffle | Pool


def movement_of(chain: Chain, shape: Shape) -> Movement | None:
    """What ``chain`` does to maps of ``shape`` (B, C, H, W); None: something else.

    It is applied to the numbers of the places themselves, so nothing is left to chance.
    """
    batch, channels, rows, columns = shape
    source = torch.arange(1, batch * channels * rows * columns + 1, dtype=torch.float64).view(shape)  # 0: padded
    result = chain(source.clone())
    if result.dim() != 4 or len(result) != batch or not result.numel():
        return None
    place = result[0].long() - 1
    where = place // (rows * columns), place % (rows * columns) // columns, place % columns
    for read in (_part, _order, _unshuffle, _shuffle):
        found = read(source, result, where)
        if found is not None:
            return found
    return None


def pooling_of(chain: Chain, shape: Shape) -> Pool | None:
    """Whether ``chain`` is a mean or a maximum of whole maps of ``shape``: seen on noise, in float64."""
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = chain(noise.clone())
    for pool in (Pool("mean"), Pool("maximum")):
        wanted = noise.mean((2, 3), keepdim=True) if pool.function == "mean" else noise.amax((2, 3), keepdim=True)
        if result.shape == wanted.shape and torch.allclose(result, wanted, rtol=0.0, atol=1e-12):
            return pool
    return None


Where = tuple[Tensor, Tensor, Tensor]
"""Channel, row and column that every value of a result (C, H, W) comes from."""


def _part(source: Tensor, result: Tensor, where: Where) -> Part | None:
    axes = []
    for axis, place in enumerate(where):
        line = place.movedim(axis, 0)[:, 0, 0]
        step = int(line[1] - line[0]) if len(line) > 1 else 1
        if step < 1 or (axis == 0 and step > 1):
            return None
        axes.append(Axis(source.shape[axis + 1], int(line[0]), int(line[-1]), step))
    index = tuple(slice(a.first, a.last + 1, a.step) for a in axes)
    part = source[(slice(None), *index)]
    return Part((axes[0], axes[1], axes[2])) if _equal(part, result) else None


def _order(source: Tensor, result: Tensor, where: Where) -> Order | None:
    if result.shape[2:] != source.shape[2:]:
        return None
    channels = where[0][:, 0, 0]
    return Order(tuple(channels.tolist())) if _equal(source[:, channels], result) else None


def _unshuffle(source: Tensor, result: Tensor, where: Where) -> Unshuffle | None:
    block = _block(source.shape, result.shape)
    if block is None:
        return None
    height, width = block
    pixels = torch.stack([place[:, 0, 0] for place in where], 1)
    if bool((pixels[:, 1] >= height).any()) or bool((pixels[:, 2] >= width).any()):
        return None
    listed = [(int(c), int(i), int(k)) for c, i, k in pixels]
    made = torch.stack([source[:, c, i::height, k::width] for c, i, k in listed], 1)
    return Unshuffle(block, tuple(listed)) if _equal(made, result) else None


def _shuffle(source: Tensor, result: Tensor, where: Where) -> Shuffle | None:
    block = _block(result.shape, source.shape)
    if block is None:
        return None
    height, width = block
    made, channels = torch.empty_like(result), []
    for i in range(height):
        channels.append([where[0][:, i, k] for k in range(width)])
        for k, listed in enumerate(channels[-1]):
            made[:, :, i::height, k::width] = source[:, listed]
    table = tuple(tuple(tuple(listed.tolist()) for listed in line) for line in channels)
    return Shuffle(block, table) if _equal(made, result) else None


def _block(large: Shape, small: Shape) -> tuple[int, int] | None:
    """Rows and columns of the blocks that are pixels of the smaller maps."""
    (height, rows_left), (width, columns_left) = (divmod(large[i], small[i]) for i in (2, 3))
    return (height, width) if not rows_left and not columns_left and 1 < height * width <= LARGEST_BLOCK else None


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def fit(axes: list[Axis]) -> tuple[Place, Place, int] | None:
    """Begin, end and stride on one axis, by what was seen on maps of several sizes; None: no rule is known."""
    steps = {axis.step for axis in axes if axis.last > axis.first} or {1}
    if len(steps) > 1:
        return None
    step = steps.pop()
    begin = _place([(axis.size, axis.first) for axis in axes])
    end = _place([(axis.size, axis.last + 1) for axis in axes])
    if all(axis.last + step >= axis.size for axis in axes):
        end = LAST
    return (begin, end, step) if begin is not None and end is not None else None


def _place(seen: list[tuple[int, int]]) -> Place | None:
    """The rule behind (size, place) pairs: a fixed place, or a share of the size plus a fixed number."""
    (size, place), (other, there) = seen[0], seen[-1]
    if place == there == 0:
        return FIRST
    if all(place == size for size, place in seen):
        return LAST
    if place == there:
        return 0, 1, place
    if size == other:
        return None
    share = Fraction(there - place, other - size)
    offset = place - share * size
    if not 0 < share <= 1 or offset.denominator != 1:
        return None
    return share.numerator, share.denominator, int(offset)
