"""``records.idx``: header, index, and place, length and checksum of every record of a packed data set.

A line ``hatdet-records 1``, the CRC-32 and the length of what follows (little-endian, 4 and 8 bytes), then a msgpack
map: ``header``, ``index`` (as in :mod:`~hatdet.data.packers.records`), ``data_bytes`` (length of ``data.mdb``), and the
arrays ``offsets`` int64, ``lengths`` int64, ``checksums`` uint32 (CRC-32), of the images and then of the boxes.
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
from hatdet.data.packers.store.pages import PageError, record_places
from hatdet.utils.errors import UserError

TABLE_FILE = "records.idx"
_MAGIC = b"hatdet-records 1\n"


class DamagedError(UserError):
    """Packed data that is not what was packed; the message says what differs."""


@dataclass(frozen=True)
class Table:
    """What ``records.idx`` says; ``checksums`` is None for data of version 1, which has none."""

    header: dict[str, Any]
    index: Index
    data_bytes: int
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    checksums: NDArray[np.uint32] | None

    def __len__(self) -> int:
        return len(self.offsets)

    def key(self, row: int) -> str:
        """The database key of a row."""
        count = len(self) // 2
        return (image_key(row) if row < count else boxes_key(row - count)).decode()

    def read(self, descriptor: int, row: int) -> bytes:
        """The record of a row, from the open data file.

        Raises:
            DamagedError: it is not what was packed; without the name of the data set.
        """
        length = int(self.lengths[row])
        try:
            data = os.pread(descriptor, length, int(self.offsets[row]))
        except OSError as error:
            raise DamagedError(f"{self.key(row)} cannot be read ({error.strerror})") from error
        if len(data) != length:
            raise DamagedError(f"{DATA_FILE} has been cut off while in use, before the end of {self.key(row)}")
        if self.checksums is not None and zlib.crc32(data) != self.checksums[row]:
            raise DamagedError(f"{self.key(row)} has another checksum than when it was packed")
        return data

    def write(self, folder: Path) -> None:
        """Write ``records.idx`` into ``folder``, through to the disk."""
        content = pack(
            {
                "header": self.header,
                "index": self.index.__dict__,
                "data_bytes": self.data_bytes,
                "offsets": self.offsets,
                "lengths": self.lengths,
                "checksums": self.checksums,
            }
        )
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
    try:
        data = read_small(folder / TABLE_FILE)
    except OSError as error:
        raise DamagedError(f"{TABLE_FILE} cannot be read ({error.strerror})") from error
    if not data.startswith(_MAGIC):
        raise DamagedError(f"{TABLE_FILE} is not of the version that this program reads")
    start = len(_MAGIC) + 12
    if len(data) < start:
        raise DamagedError(f"{TABLE_FILE} is cut off")
    checksum, length = struct.unpack_from("<IQ", data, len(_MAGIC))
    content = data[start:]
    if len(content) != length or zlib.crc32(content) != checksum:
        raise DamagedError(f"{TABLE_FILE} is not what was written")
    fields = unpack(content)
    return Table(
        fields["header"],
        Index.from_fields(fields["index"]),
        fields["data_bytes"],
        np.frombuffer(fields["offsets"], "<i8"),
        np.frombuffer(fields["lengths"], "<i8"),
        np.frombuffer(fields["checksums"], "<u4"),
    )


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
