"""Shuffles of channels that move none.

A shuffle moves every channel of a map, and on a device that is a convolution with as many multiplications as a real
one. Here each channel is followed through the splits and shuffles of a stage (:class:`Route`), each block gives its
channels in the order in which they are used, and later blocks take runs of them. The function is the same, number by
number; the orders that are left stand beside convolutions, whose weights take them in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

_Channel = tuple[int, int]  # source, its channel


class Route:
    """Where the channels of a stage go whose blocks from the second on take half of them and give as many new ones.

    After each of these blocks the halves, what passed it and what it gave, are shuffled: the first of each, the second
    of each, ... The first half passes the next block, the second half is what it takes. Sources are what the first
    block gives, and what each later one does.

    Args:
        first: channels of each source of the first block; of two sources, which are shuffled too, or of one.
        half: channels of a later source.
        blocks: of the stage.

    Attributes:
        orders: of each source: its channels by the block that takes them; those that reach the end come last.
        runs: of each block from the second on, and of the end: sources, the first and the last + 1 of their ordered
            channels.
        places: of each of these: where its channels, in their own order, are in its runs one after the other.
    """

    def __init__(self, first: Sequence[int], half: int, blocks: int) -> None:
        sizes = [*first, *(half,) * (blocks - 1)]
        live = [(source, c) for source, count in enumerate(first) for c in range(count)]
        live = _shuffled(live) if len(first) == 2 else live
        taken: list[list[_Channel]] = []
        for source in range(len(first), len(sizes)):
            taken.append(live[half:])
            live = _shuffled([*live[:half], *((source, c) for c in range(half))])
        taken.append(live)
        user = {channel: number for number, channels in enumerate(taken) for channel in channels}
        self.orders = [
            sorted(range(count), key=lambda c, source=source: (user[source, c], c))  # type: ignore[misc]
            for source, count in enumerate(sizes)
        ]
        self.runs: list[list[tuple[int, int, int]]] = []
        self.places: list[list[int]] = []
        for number, channels in enumerate(taken):
            runs, laid = [], list[_Channel]()
            for source, order in enumerate(self.orders):
                places = [place for place, c in enumerate(order) if user[source, c] == number]
                if places:
                    runs.append((source, places[0], places[-1] + 1))
                    laid += [(source, order[place]) for place in places]
            at = {channel: place for place, channel in enumerate(laid)}
            self.runs.append(runs)
            self.places.append([at[channel] for channel in channels])


def _shuffled(channels: Sequence[_Channel]) -> list[_Channel]:
    half = len(channels) // 2
    return [channel for pair in zip(channels[:half], channels[half:], strict=True) for channel in pair]


class Shuffled(nn.Module):
    """A stage along a :class:`Route`: what its first block gave -> its map. It has no parameters and no state.

    Args:
        first, half, blocks: see :class:`Route`.
    """

    def __init__(self, first: Sequence[int], half: int, blocks: int) -> None:
        super().__init__()
        route = Route(first, half, blocks)
        self.runs, self._sizes = route.runs, [len(order) for order in route.orders]
        for name, lists in (("order", route.orders), ("place", route.places)):
            for number, channels in enumerate(lists):
                self.register_buffer(f"{name}{number}", torch.tensor(channels), persistent=False)

    def forward(self, first: Sequence[Tensor], blocks: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        """Maps of the sources of the first block, and the later blocks: half of the channels -> new ones."""
        sources = [self._ordered(x, source) for source, x in enumerate(first)]
        for number, block in enumerate(blocks):
            sources.append(self._ordered(block(self._taken(sources, number)), len(sources)))
        return self._taken(sources, len(blocks))

    def _ordered(self, x: Tensor, source: int) -> Tensor:
        return x.index_select(1, self.get_buffer(f"order{source}"))

    def _taken(self, sources: Sequence[Tensor], number: int) -> Tensor:
        parts = [
            sources[source] if (first, last) == (0, self._sizes[source]) else sources[source][:, first:last]
            for source, first, last in self.runs[number]
        ]
        return torch.cat(parts, dim=1).index_select(1, self.get_buffer(f"place{number}"))
