"""Kernels of tables and of maxima on bytes, against the plain forms."""

from __future__ import annotations

import pytest
import torch

from hatdet.integer.kernels import CHUNK, lookup, lookup_pairs
from hatdet.integer.operators.lookups import pair_kernel, table_kernel, two_at_a_time
from hatdet.integer.operators.windows.max_pool import max_pool

LAST = torch.channels_last
SHAPES = [(1, 1, 1, 1), (1, 3, 5, 7), (2, 8, 4, 6), (3, 64, 50, 40)]  # odd counts, and more than a tile of pairs


def _bytes(shape: tuple[int, ...], seed: int, order: torch.memory_format = LAST) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).contiguous(memory_format=order)


def test_a_table_of_two_holds_every_pair() -> None:
    table = _bytes((256,), 1, torch.contiguous_format)
    first, second = torch.arange(256, dtype=torch.uint8).repeat_interleave(256), torch.arange(256).byte().repeat(256)
    pairs = torch.stack([first, second], 1).contiguous()
    made = two_at_a_time(table)[pairs.view(torch.uint16).view(-1).long()].view(torch.uint8).view(-1, 2)
    assert torch.equal(made[:, 0], table[first.long()]) and torch.equal(made[:, 1], table[second.long()])


def test_a_table_of_a_slice_that_begins_at_an_odd_byte() -> None:
    table, x = _bytes((256,), 1, torch.contiguous_format), _bytes((1, 3, 5, 5), 2)[:, :, 1:]
    assert x.is_contiguous(memory_format=LAST) and x.storage_offset() % 2 and x.numel() % 2 == 0
    assert torch.equal(table_kernel(table, -128)([x]), table[x.long()])


@pytest.mark.parametrize("order", [LAST, torch.contiguous_format])
@pytest.mark.parametrize("shape", SHAPES)
def test_tables_of_bytes(shape: tuple[int, ...], order: torch.memory_format) -> None:
    table, x, y = _bytes((256,), 1, torch.contiguous_format), _bytes(shape, 2, order), _bytes(shape, 3)
    made = table_kernel(table, -128)([x])
    assert torch.equal(made, table[x.long()]) and made.is_contiguous(memory_format=LAST)
    assert torch.equal(made, lookup(x, table, -128))
    pairs = _bytes((65536,), 4, torch.contiguous_format)
    made = pair_kernel(pairs, -128, -128)([x, y])
    assert torch.equal(made, pairs[x.long() * 256 + y]) and made.is_contiguous(memory_format=LAST)
    assert torch.equal(made, lookup_pairs(x, y, pairs, -128, -128))
    assert 2 * CHUNK < 3 * 64 * 50 * 40


def test_other_tables_take_the_plain_form() -> None:
    x = _bytes((2, 3, 4, 4), 5)
    channels = _bytes((3 * 256,), 6, torch.contiguous_format)
    assert torch.equal(table_kernel(channels, -128)([x]), lookup(x, channels, -128))
    centred, real = x.float() - 100, torch.randn(256)
    assert torch.equal(table_kernel(real, -28)([centred]), real[x.long()])
    row = _bytes((2, 3, 1, 4), 7)
    pairs = _bytes((65536,), 8, torch.contiguous_format)
    assert torch.equal(pair_kernel(pairs, -128, -128)([x, row]), pairs[x.long() * 256 + row])


@pytest.mark.parametrize("size", [(4, 5), (7, 9), (10, 10), (20, 33)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 2), (1, 1)), ((5, 5), (1, 1), (2, 2)), ((13, 13), (1, 1), (6, 6)),
     ((9, 3), (3, 1), (4, 0)), ((1, 1), (2, 2), (0, 0)), ((4, 7), (1, 2), (2, 3))],
)  # fmt: skip
def test_maxima_of_bytes_are_those_of_floats(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    for x in (_bytes((2, 5, *size), 9), torch.zeros((1, 4, *size), dtype=torch.uint8)):
        made = max_pool(x, kernel, stride, padding)
        assert torch.equal(made.float(), torch.nn.functional.max_pool2d(x.float(), kernel, stride, padding))
        assert made.is_contiguous(memory_format=LAST)
