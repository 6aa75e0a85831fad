"""Damaged copies of a file, of the kinds that disks, transfers and editors make; the same seed gives the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Mutation = Callable[[np.random.Generator, bytearray], None]


def flip(rng: np.random.Generator, data: bytearray) -> None:
    """One bit."""
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))


def flips(rng: np.random.Generator, data: bytearray) -> None:
    for _ in range(int(rng.integers(2, 20))):
        flip(rng, data)


def number(rng: np.random.Generator, data: bytearray) -> None:
    """Four bytes become an extreme or a random number."""
    at = int(rng.integers(len(data) - 4)) & ~3
    extremes = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(data), int(rng.integers(2**32))]
    data[at : at + 4] = int(rng.choice(extremes)).to_bytes(4, "little")


def cut(rng: np.random.Generator, data: bytearray) -> None:
    """The end is missing."""
    del data[int(rng.integers(len(data))) :]


def hole(rng: np.random.Generator, data: bytearray) -> None:
    """A run of zeros or of ones."""
    at, length = int(rng.integers(len(data))), int(rng.choice([4, 64, 512, 4096]))
    length = min(length, len(data) - at)
    data[at : at + length] = bytes([int(rng.choice([0, 255]))]) * length


def swap(rng: np.random.Generator, data: bytearray) -> None:
    """Two blocks have changed places."""
    size = int(rng.choice([4, 16, 256]))
    a, b = (int(v) for v in rng.integers(0, len(data) - size, 2))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def insert(rng: np.random.Generator, data: bytearray) -> None:
    """Some bytes too many."""
    at = int(rng.integers(len(data)))
    data[at:at] = rng.bytes(int(rng.integers(1, 9)))


KINDS: tuple[Mutation, ...] = (flip, flips, number, cut, hole, swap, insert)


def mutations(data: bytes, count: int, seed: int = 0, begin: int = 0) -> Iterator[tuple[str, bytes]]:
    """``count`` (name, content) that differ from ``data``; half of them only before ``begin``, where that is given."""
    rng = np.random.default_rng(seed)
    done = 0
    while done < count:
        kind = KINDS[int(rng.integers(len(KINDS)))]
        part = bytearray(data[:begin] if begin and done % 2 else data)
        rest = data[len(part) :]
        kind(rng, part)
        if bytes(part) + rest != data:
            done += 1
            yield f"{kind.__name__} {done} of seed {seed}", bytes(part) + rest
