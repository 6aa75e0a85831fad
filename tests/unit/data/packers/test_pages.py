"""LMDB's pages, read without LMDB: each bound at its edge, in files put together by hand from pages of 512 bytes."""

from __future__ import annotations

import struct
from pathlib import Path

import lmdb
import pytest

from hatdet.data.packers.store.pages import MAGIC, PageError, record_places

SIZE = 512
LEAF, BRANCH, NO_PAGE = 0x02, 0x01, 2**64 - 1


def meta(root: int, transaction: int = 1, page_size: int = SIZE, magic: int = MAGIC, version: int = 1) -> bytes:
    page = bytearray(SIZE)
    struct.pack_into("<II", page, 16, magic, version)
    struct.pack_into("<I", page, 40, page_size)
    struct.pack_into("<QQQ", page, 128, root, 9, transaction)
    return bytes(page)


def page(flags: int, nodes: dict[int, bytes], count: int | None = None) -> bytes:
    """Nodes by their position in the page."""
    data = bytearray(SIZE)
    struct.pack_into("<HH", data, 10, flags, 16 + 2 * (len(nodes) if count is None else count))
    for slot, (position, node) in enumerate(nodes.items()):
        struct.pack_into("<H", data, 16 + 2 * slot, position)
        data[position : position + len(node)] = node
    return bytes(data)


def leaf_node(key: bytes, length: int, flags: int = 0, value: bytes = b"") -> bytes:
    return struct.pack("<HHHH", length & 0xFFFF, length >> 16, flags, len(key)) + key + value


def branch_node(number: int) -> bytes:
    return struct.pack("<HHHH", number & 0xFFFF, number >> 16 & 0xFFFF, number >> 32, 0)


def read(tmp_path: Path, *pages: bytes, cut: int = 0) -> list[tuple[bytes, int, int]]:
    data = b"".join(pages)
    (tmp_path / "data.mdb").write_bytes(data[: len(data) - cut])
    return list(record_places(tmp_path / "data.mdb"))


def test_an_empty_database_has_no_record(tmp_path: Path) -> None:
    assert read(tmp_path, meta(NO_PAGE), meta(NO_PAGE)) == []
    with lmdb.open(str(tmp_path / "empty"), lock=False) as env, env.begin(write=True):
        pass
    assert list(record_places(tmp_path / "empty" / "data.mdb")) == []


def test_the_later_of_the_two_metas_counts(tmp_path: Path) -> None:
    old, new = page(LEAF, {100: leaf_node(b"old", 3)}), page(LEAF, {100: leaf_node(b"new", 4)})
    for metas in ((meta(2, 5), meta(3, 6)), (meta(3, 6), meta(2, 5))):
        assert read(tmp_path, *metas, old, new) == [(b"new", 3 * SIZE + 100 + 8 + 3, 4)]
    # The second one is not readable: a file just begun. The first counts.
    assert read(tmp_path, meta(2, 5), meta(3, 6, magic=0), old, new) == [(b"old", 2 * SIZE + 111, 3)]


def test_pages_of_512_bytes_to_64_kilobytes(tmp_path: Path) -> None:
    for power in range(9, 17):
        assert read(tmp_path, meta(NO_PAGE, page_size=1 << power)) == []
    for size in (256, 1 << 17, 5000, 0):
        with pytest.raises(PageError, match=f"its pages have {size} bytes"):
            read(tmp_path, meta(NO_PAGE, page_size=size))


def test_another_file_or_version_is_refused(tmp_path: Path) -> None:
    for wrong in (meta(NO_PAGE, magic=MAGIC + 1), meta(NO_PAGE, version=2)):
        with pytest.raises(PageError, match="not a readable LMDB data file of version 1"):
            read(tmp_path, wrong)
    assert read(tmp_path, meta(NO_PAGE), cut=SIZE - 160) == []
    with pytest.raises(PageError, match="cut off: it has 159 bytes, a page ends at 160"):
        read(tmp_path, meta(NO_PAGE), cut=SIZE - 159)


def test_branches_lead_to_leaves_in_order(tmp_path: Path) -> None:
    root = page(BRANCH, {400: branch_node(3), 300: branch_node(4)})
    leaves = [page(LEAF, {200: leaf_node(b"a", 7), 100: leaf_node(b"bb", 9)}), page(LEAF, {50: leaf_node(b"", 1)})]
    found = read(tmp_path, meta(2), meta(2), root, *leaves)
    assert found == [
        (b"a", 3 * SIZE + 200 + 9, 7), (b"bb", 3 * SIZE + 100 + 10, 9), (b"", 4 * SIZE + 50 + 8, 1),
    ]  # fmt: skip


def test_a_page_number_has_48_bits(tmp_path: Path) -> None:
    for number in (1 << 16, 1 << 32):
        with pytest.raises(PageError, match=f"a page ends at {(number + 5) * SIZE + SIZE}"):
            read(tmp_path, meta(2), meta(2), page(BRANCH, {400: branch_node(number + 5)}))


def test_a_large_value_lies_in_pages_of_its_own(tmp_path: Path) -> None:
    large = page(LEAF, {100: leaf_node(b"k", 70_000, flags=1, value=struct.pack("<Q", 3))})
    pages = [meta(2), meta(2), large, bytes(16 + 70_000)]
    assert read(tmp_path, *pages) == [(b"k", 3 * SIZE + 16, 70_000)]
    with pytest.raises(PageError, match=f"a record ends at {3 * SIZE + 16 + 70_000}"):
        read(tmp_path, *pages, cut=1)


def test_a_value_ends_with_its_page(tmp_path: Path) -> None:
    """Key and header take 11 bytes: from 400 on there are 101 left for the value, or 8 for the place of a large one."""
    assert read(tmp_path, meta(2), meta(2), page(LEAF, {400: leaf_node(b"key", 101)})) == [
        (b"key", 2 * SIZE + 411, 101)
    ]
    with pytest.raises(PageError, match=r"damaged in page 2$"):
        read(tmp_path, meta(2), meta(2), page(LEAF, {400: leaf_node(b"key", 102)}))
    place = struct.pack("<Q", 0)
    assert read(tmp_path, meta(2), meta(2), page(LEAF, {493: leaf_node(b"key", 5, 1, place)})) == [(b"key", 16, 5)]
    with pytest.raises(PageError, match=r"damaged in page 2$"):
        read(tmp_path, meta(2), meta(2), page(LEAF, {494: leaf_node(b"key", 5, 1, place[:7])}))


def test_a_node_begins_inside_its_page(tmp_path: Path) -> None:
    assert read(tmp_path, meta(2), meta(2), page(LEAF, {504: leaf_node(b"", 0)})) == [(b"", 3 * SIZE, 0)]
    with pytest.raises(PageError, match=r"damaged in page 2$"):
        read(tmp_path, meta(2), meta(2), page(LEAF, {505: bytes(7)}))


def test_a_page_holds_no_more_slots_than_it_has_room_for(tmp_path: Path) -> None:
    """(512 - 16) / 2 = 248 slots; each then points at byte 0 of the page, which reads as a node without a key."""
    assert len(read(tmp_path, meta(2), meta(2), page(LEAF, {}, count=248))) == 248
    for count in (249, -1):
        with pytest.raises(PageError, match=r"damaged in page 2$"):
            read(tmp_path, meta(2), meta(2), page(LEAF, {}, count=count))
    for flags in (0, BRANCH | LEAF, 0x08):
        with pytest.raises(PageError, match=r"damaged in page 2$"):
            read(tmp_path, meta(2), meta(2), page(flags, {}))


def test_pages_that_lead_to_each_other_or_too_deep_end(tmp_path: Path) -> None:
    with pytest.raises(PageError, match="point at each other"):
        read(tmp_path, meta(2), meta(2), page(BRANCH, {400: branch_node(2)}))

    def chain(depth: int) -> list[tuple[bytes, int, int]]:
        steps = [page(BRANCH, {400: branch_node(3 + i)}) for i in range(depth)]
        return read(tmp_path, meta(2), meta(2), *steps, page(LEAF, {100: leaf_node(b"k", 1)}))

    assert [key for key, _, _ in chain(32)] == [b"k"]
    with pytest.raises(PageError, match="point at each other"):
        chain(33)
