"""Where the records of an LMDB data file lie, read from its pages without LMDB.

LMDB maps its file into memory and follows what stands in it: a file that is cut or damaged ends the process (SIGBUS,
SIGSEGV). Here every number is checked before it is used. The layout is that of LMDB 0.9 on 64-bit little-endian
machines (``lmdb.h`` and ``mdb.c``: MDB_page, MDB_node, MDB_meta; data version 1).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

MAGIC = 0xBEEFC0DE
_BRANCH, _LEAF = 0x01, 0x02
_BIG = 0x01  # node flag: the value lies in pages of its own
_HEADER = 16  # bytes before a page's content
_NO_PAGE = 2**64 - 1
_MAX_DEPTH = 32


class PageError(ValueError):
    """The file is not an LMDB data file, or its pages contradict each other; the message has no file name."""


def record_places(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Key, offset and length of every record of the main database, in order of the keys.

    Raises:
        PageError: at the first page that is damaged or missing.
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        yield from _Pages(file.fileno()).records()


class _Pages:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._bytes = os.fstat(descriptor).st_size
        self._page_size = 4096
        first = self._meta(0)
        self._page_size = first[3]
        metas = [first]
        try:
            metas.append(self._meta(1))
        except PageError:  # a fresh file has one
            pass
        self._root = max(metas)[1]
        self._seen: set[int] = set()

    def _meta(self, number: int) -> tuple[int, int, int, int]:
        """Transaction, root page, last page, page size."""
        page = self._read(number * self._page_size, 160)
        magic, version = struct.unpack_from("<II", page, 16)
        if magic != MAGIC or version != 1:
            raise PageError("not a readable LMDB data file of version 1")
        page_size = struct.unpack_from("<I", page, 40)[0]
        root, last, transaction = struct.unpack_from("<QQQ", page, 128)
        if page_size not in (1 << n for n in range(9, 17)):
            raise PageError(f"damaged: it says that its pages have {page_size} bytes")
        return transaction, root, last, page_size

    def _read(self, offset: int, length: int) -> bytes:
        if offset + length > self._bytes:
            raise PageError(f"cut off: it has {self._bytes} bytes, a page ends at {offset + length}")
        return os.pread(self._descriptor, length, offset)

    def records(self) -> Iterator[tuple[bytes, int, int]]:
        """See :func:`record_places`."""
        if self._root != _NO_PAGE:
            yield from self._walk(self._root, 0)

    def _walk(self, number: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
        if number in self._seen or depth > _MAX_DEPTH:
            raise PageError("damaged: its pages point at each other")
        self._seen.add(number)
        start = number * self._page_size
        page = self._read(start, self._page_size)
        flags, lower = struct.unpack_from("<HH", page, 10)
        count = (lower - _HEADER) // 2
        if flags & (_BRANCH | _LEAF) not in (_BRANCH, _LEAF) or not 0 <= count <= self._page_size // 2 - 8:
            raise PageError(f"damaged in page {number}")
        for position in struct.unpack_from(f"<{count}H", page, _HEADER):
            if position + 8 > self._page_size:
                raise PageError(f"damaged in page {number}")
            low, high, node_flags, key_size = struct.unpack_from("<HHHH", page, position)
            if flags & _BRANCH:
                yield from self._walk(low | high << 16 | node_flags << 32, depth + 1)
                continue
            key = page[position + 8 : position + 8 + key_size]
            yield key, *self._value(page, start, position + 8 + key_size, low | high << 16, node_flags)

    def _value(self, page: bytes, start: int, position: int, length: int, flags: int) -> tuple[int, int]:
        """Offset and length of a node's value."""
        if position + (8 if flags & _BIG else length) > self._page_size:
            raise PageError(f"damaged in page {start // self._page_size}")
        offset = start + position
        if flags & _BIG:
            offset = struct.unpack_from("<Q", page, position)[0] * self._page_size + _HEADER
        if offset + length > self._bytes:
            raise PageError(f"cut off: it has {self._bytes} bytes, a record ends at {offset + length}")
        return offset, length
