"""``records.idx``: header, and id, sizes, name, and place, length and checksum of the records of every picture.

A line ``hatdet-records 2``, the CRC-32 and the length of what follows (little-endian, 4 and 8 bytes), the length of the
head (8 bytes), the head, and what it says where: rows of one length (:data:`~hatdet.data.packers.store.rows.ROW`), the
names of the pictures in one piece, and ``lists`` (msgpack), what only a packer and an evaluation ask for: names that
the json lists (``listed``) and ids that are no numbers (``source_ids``). The head is a msgpack map: ``header``,
``data_bytes`` (length of ``data.mdb``), ``count`` (pictures), ``sections`` (lengths of rows, names and lists).

Version 1 is read all the same: one msgpack map of header, index and arrays, which then lies in memory.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.data.packers.records import DATA_FILE, Index, boxes_key, image_key, pack, unpack
from hatdet.data.packers.store.files import DamagedError, Memory, OpenFile
from hatdet.data.packers.store.pages import PageError, record_places
from hatdet.data.packers.store.rows import Rows, rows_and_names

TABLE_FILE = "records.idx"
_MAGIC, _MAGIC_1 = b"hatdet-records 2\n", b"hatdet-records 1\n"
_START = len(_MAGIC) + 12
_PIECE = 1 << 20
_LISTS = ("listed", "source_ids")


@dataclass(frozen=True)
class Table:
    """What ``records.idx`` says; records have numbers: pictures first, then their boxes.

    Attributes:
        has_checksums: False for data of version 1.
        lists: place and length of the lists in ``source``; None: they are in the header.
    """

    header: dict[str, Any]
    rows: Rows
    data_bytes: int
    has_checksums: bool = True
    source: OpenFile | None = None
    lists: tuple[int, int] | None = None

    def __len__(self) -> int:
        return 2 * len(self.rows)

    def listed(self) -> dict[str, Any]:
        """``listed`` (names of all pictures that the json lists), ``source_ids`` (or None)."""
        if self.source is None or self.lists is None:
            return {
                "listed": self.header.get("source", {}).get("listed", []),
                "source_ids": self.header.get("source_ids"),
            }
        return dict(unpack(self.source.read(*self.lists)))

    def key(self, number: int) -> str:
        """The database key of a record."""
        count = len(self.rows)
        return (image_key(number) if number < count else boxes_key(number - count)).decode()

    def read(self, descriptor: int, number: int) -> bytes:
        """A record, from the open data file.

        Raises:
            DamagedError: it is not what was packed; without the name of the data set.
        """
        boxes, position = divmod(number, len(self.rows))
        row = self.rows.row(position)
        place = int(row["offset"][boxes]), int(row["length"][boxes]), int(row["checksum"][boxes])
        return self._read(descriptor, number, *place)

    def verify(self, descriptor: int) -> None:
        """Read every record.

        Raises:
            DamagedError: one is not what was packed.
        """
        places = (self.rows.column(name).T.ravel() for name in ("offset", "length", "checksum"))
        for number, place in enumerate(zip(*(column.tolist() for column in places), strict=True)):
            self._read(descriptor, number, *place)

    def _read(self, descriptor: int, number: int, offset: int, length: int, checksum: int) -> bytes:
        try:
            data = os.pread(descriptor, length, offset)
        except OSError as error:
            raise DamagedError(f"{self.key(number)} cannot be read ({error.strerror})") from error
        if len(data) != length:
            raise DamagedError(f"{DATA_FILE} has been cut off while in use, before the end of {self.key(number)}")
        if self.has_checksums and zlib.crc32(data) != checksum:
            raise DamagedError(f"{self.key(number)} has another checksum than when it was packed")
        return data


def write_table(folder: Path, header: dict[str, Any], data_bytes: int, rows: bytes, names: bytes, count: int) -> None:
    """Write ``records.idx`` into ``folder``, through to the disk.

    Args:
        header: with the lists, which are put apart.
        data_bytes: length of ``data.mdb``.
        rows, names: see :func:`~hatdet.data.packers.store.rows.rows_and_names`.
        count: of the pictures.
    """
    source = {key: value for key, value in header["source"].items() if key not in _LISTS}
    lists = pack({"listed": header["source"].get("listed", []), "source_ids": header["source_ids"]})
    short = {key: value for key, value in header.items() if key not in _LISTS} | {"source": source}
    sections = [len(rows), len(names), len(lists)]
    head = pack({"header": short, "data_bytes": data_bytes, "count": count, "sections": sections})
    content = b"".join((struct.pack("<Q", len(head)), head, rows, names, lists))
    with (folder / TABLE_FILE).open("wb") as file:
        file.write(_MAGIC + struct.pack("<IQ", zlib.crc32(content), len(content)) + content)
        file.flush()
        os.fsync(file.fileno())


def read_small(path: Path) -> bytes:
    """The bytes of a regular file; a pipe in its place is an OSError, and nothing to wait for."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read()


def read_table(folder: Path) -> Table:
    """The table of a packed folder, checked against its own checksum.

    Raises:
        DamagedError: it is cut, changed, or of another version.
    """
    path = folder / TABLE_FILE
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
    except OSError as error:
        raise DamagedError(f"{TABLE_FILE} cannot be read ({error.strerror})") from error
    source = OpenFile(path)
    magic = source.read(0, len(_MAGIC))
    if magic not in (_MAGIC, _MAGIC_1):
        raise DamagedError(f"{TABLE_FILE} is not of the version that this program reads")
    start = source.read(len(_MAGIC), 12)
    if len(start) < 12:
        raise DamagedError(f"{TABLE_FILE} is cut off")
    checksum, length = struct.unpack("<IQ", start)
    if os.fstat(source.open()).st_size != _START + length or _checksum(source, length) != checksum:
        raise DamagedError(f"{TABLE_FILE} is not what was written")
    return _table(source) if magic == _MAGIC else _table_of_version_1(source.read(_START, length))


def _checksum(source: OpenFile, length: int) -> int:
    checksum = 0
    for begin in range(0, length, _PIECE):
        checksum = zlib.crc32(source.read(_START + begin, min(_PIECE, length - begin)), checksum)
    return checksum


def _table(source: OpenFile) -> Table:
    (size,) = struct.unpack("<Q", source.read(_START, 8))
    head = unpack(source.read(_START + 8, size))
    rows, names, lists = head["sections"]
    at = _START + 8 + size
    table = Rows(source, head["count"], at, at + rows)
    return Table(head["header"], table, head["data_bytes"], True, source, (at + rows + names, lists))


def _table_of_version_1(content: bytes) -> Table:
    fields = unpack(content)
    index = Index.from_fields(fields["index"])
    places = [np.frombuffer(fields[name], kind) for name, kind in (("offsets", "<i8"), ("lengths", "<i8"))]
    rows = rows_in_memory(index, places[0], places[1], np.frombuffer(fields["checksums"], "<u4"))
    return Table(fields["header"], rows, fields["data_bytes"])


def rows_in_memory(
    index: Index, offsets: NDArray[np.int64], lengths: NDArray[np.int64], checksums: NDArray[np.uint32] | None
) -> Rows:
    """Rows of an index that was read as a whole; see :func:`~hatdet.data.packers.store.rows.rows_and_names`."""
    rows, names = rows_and_names(index, offsets, lengths, checksums)
    return Rows(Memory(rows + names), len(index.ids), 0, len(rows))


def find_places(folder: Path) -> dict[bytes, tuple[int, int]]:
    """Offset and length of every record in the data file of ``folder``, by key.

    Raises:
        DamagedError: the pages of the file are damaged.
    """
    try:
        return {key: (offset, length) for key, offset, length in record_places(folder / DATA_FILE)}
    except PageError as error:
        raise DamagedError(f"{DATA_FILE} is {error}") from error
    except OSError as error:
        raise DamagedError(f"{DATA_FILE} cannot be read ({error.strerror})") from error


def rows_of(places: Mapping[bytes, tuple[int, int]], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets and lengths of ``count`` images, then of their boxes.

    Raises:
        DamagedError: one is missing.
    """
    keys = [*map(image_key, range(count)), *map(boxes_key, range(count))]
    missing = next((key for key in keys if key not in places), None)
    if missing is not None:
        raise DamagedError(f"it has no record {missing.decode()}")
    found = np.array([places[key] for key in keys], np.int64).reshape(-1, 2)
    return found[:, 0].copy(), found[:, 1].copy()
