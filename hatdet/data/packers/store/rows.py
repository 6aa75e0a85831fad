"""What is known of each picture, in rows of one length that are read where they lie.

A process that loads samples keeps no list as long as the data set: it reads the row of a picture (one ``pread``), and
whole columns only for a moment.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hatdet.data.packers.store.files import DamagedError, Memory, OpenFile

ROW = np.dtype(
    [
        ("id", "<i8"),
        ("size", "<i4", 2),
        ("full", "<i4", 2),
        ("num_boxes", "<i4"),
        ("num_crowds", "<i4"),
        ("offset", "<i8", 2),
        ("length", "<i8", 2),
        ("checksum", "<u4", 2),
        ("name_end", "<i8"),
    ]
)
"""``size`` (h, w) of the stored picture, ``full`` that of the file, ``offset``, ``length`` and ``checksum`` of the
picture and of its boxes, ``name_end``: where its name ends in the names of all."""
CHUNK = 1 << 14
"""Rows read at once."""


class Picture(NamedTuple):
    """One picture: its id and name, (h, w) as stored, and (h, w) of the file, which is larger where it was shrunk."""

    id: int
    file_name: str
    size: tuple[int, int]
    full: tuple[int, int]


class Rows:
    """Ids, sizes, counts, names and places of all pictures.

    Args:
        source: holds rows and names.
        count: of the pictures.
        rows_at, names_at: where the rows and the names begin in it.
    """

    def __init__(self, source: OpenFile | Memory, count: int, rows_at: int, names_at: int) -> None:
        self._source, self._count = source, count
        self._rows_at, self._names_at = rows_at, names_at

    def __len__(self) -> int:
        return self._count

    def _read(self, start: int, count: int) -> NDArray[Any]:
        data = self._source.read(self._rows_at + start * ROW.itemsize, count * ROW.itemsize)
        if len(data) != count * ROW.itemsize:
            raise DamagedError("its table has been cut off while in use")
        return np.frombuffer(data, ROW)

    def row(self, position: int) -> Any:
        """The row at ``position``."""
        return self._read(position, 1)[0]

    def column(self, name: str) -> NDArray[Any]:
        """One field of all rows."""
        found = np.empty(self._count, ROW[name])
        for start in range(0, self._count, CHUNK):
            count = min(CHUNK, self._count - start)
            found[start : start + count] = self._read(start, count)[name]
        return found

    def picture(self, position: int) -> Picture:
        """What a sample says of its picture."""
        start = 0 if position == 0 else position - 1
        rows = self._read(start, position - start + 1)
        row, begin = rows[-1], 0 if position == 0 else int(rows[0]["name_end"])
        size, full = row["size"].tolist(), row["full"].tolist()
        return Picture(int(row["id"]), self._name(begin, int(row["name_end"])), (size[0], size[1]), (full[0], full[1]))

    def _name(self, begin: int, end: int) -> str:
        name = self._source.read(self._names_at + begin, end - begin)
        return name.decode("utf-8", "surrogatepass")

    @property
    def ids(self) -> NDArray[np.int64]:
        """int64 (n,)."""
        return self.column("id")

    @property
    def sizes(self) -> NDArray[np.int32]:
        """int32 (n, 2): height and width of the stored pictures."""
        return self.column("size")

    @property
    def num_boxes(self) -> NDArray[np.int32]:
        """int32 (n,): boxes of each picture, crowds not counted."""
        return self.column("num_boxes")

    @property
    def num_crowds(self) -> NDArray[np.int32]:
        """int32 (n,)."""
        return self.column("num_crowds")

    @property
    def file_names(self) -> list[str]:
        """The names of all pictures, as the json has them."""
        ends = [0, *self.column("name_end").tolist()]
        return [self._name(begin, end) for begin, end in itertools.pairwise(ends)]


def rows_and_names(
    index: Any,
    offsets: NDArray[np.int64],
    lengths: NDArray[np.int64],
    checksums: NDArray[np.uint32] | None,
    full: Sequence[Sequence[int]] | NDArray[np.int32] | None = None,
) -> tuple[bytes, bytes]:
    """The bytes of rows and names.

    Args:
        index: an :class:`~hatdet.data.packers.records.Index`.
        offsets, lengths, checksums: of the pictures and then of their boxes (2 n,).
        full: (n, 2), sizes of the files; None: those of the stored pictures.
    """
    names = [name.encode("utf-8", "surrogatepass") for name in index.file_names]
    rows = np.zeros(len(index.ids), ROW)
    rows["id"], rows["size"], rows["full"] = index.ids, index.sizes, index.sizes
    rows["num_boxes"], rows["num_crowds"] = index.num_boxes, index.num_crowds
    if full is not None:
        rows["full"] = full
    rows["offset"], rows["length"] = offsets.reshape(2, -1).T, lengths.reshape(2, -1).T
    if checksums is not None:
        rows["checksum"] = checksums.reshape(2, -1).T
    rows["name_end"] = np.cumsum([len(name) for name in names])
    return rows.tobytes(), b"".join(names)
