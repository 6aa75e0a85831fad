"""Tables of output codes as kernels. Bytes are looked up two at a time, and a tile at a time: what an index is, is four
bytes for one, and would have to come from memory for a whole batch."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from hatdet.integer.kernels import CHUNK, lookup, lookup_pairs
from hatdet.integer.native.kernels import Kernels
from hatdet.integer.operators.base import Kernel


def table_kernel(table: Tensor, offset: int, native: Kernels | None = None) -> Kernel:
    """``table[carried value + offset + 128]`` (:func:`~hatdet.integer.kernels.lookup`), as an operator's kernel."""
    if table.dtype != torch.uint8 or table.numel() != 256 or sys.byteorder != "little":
        return lambda x: lookup(x[0], table, offset)
    if native:
        return lambda x: native.look_up(x[0], table)
    two = two_at_a_time(table)

    def run(x: list[Tensor]) -> Tensor:
        dense = x[0].contiguous(memory_format=torch.channels_last)
        if dense.numel() % 2 or dense.storage_offset() % 2:  # a slice may begin anywhere
            return lookup(dense, table, offset)
        made = torch.empty_like(dense)
        codes, values = _flat(dense).view(torch.uint16), _flat(made).view(torch.int16)
        for part, out in zip(codes.split(CHUNK), values.split(CHUNK), strict=True):
            torch.index_select(two, 0, part.to(torch.int32), out=out)
        return made

    return run


def pair_kernel(table: Tensor, offset1: int, offset2: int, native: Kernels | None = None) -> Kernel:
    """``table`` of two values (:func:`~hatdet.integer.kernels.lookup_pairs`), as an operator's kernel."""

    def run(x: list[Tensor]) -> Tensor:
        first, second = x
        if first.dtype != torch.uint8 or first.shape != second.shape:
            return lookup_pairs(first, second, table, offset1, offset2)
        if native:
            return native.look_up_pairs(first, second, table)
        first, second = (v.contiguous(memory_format=torch.channels_last) for v in (first, second))
        made = torch.empty_like(first)
        for a, b, out in zip(*(_flat(v).split(CHUNK) for v in (first, second, made)), strict=True):
            torch.index_select(table, 0, a.to(torch.int32).mul_(256).add_(b), out=out)
        return made

    return run


def two_at_a_time(table: Tensor) -> Tensor:
    """Of a table of 256 bytes that of all pairs: int16 of 65 536 entries, by two neighbours in memory as one uint16."""
    both = torch.stack([table.expand(256, 256), table[:, None].expand(256, 256)], 2)
    return both.contiguous().view(torch.int16).view(-1)


def _flat(dense: Tensor) -> Tensor:
    """The bytes of dense maps, in the order of memory; a view."""
    return dense.as_strided((dense.numel(),), (1,))
