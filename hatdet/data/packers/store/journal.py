"""What a packing has written so far, so that the next one goes on where it was interrupted.

``journal`` lies in the folder that is being written: a line, then pieces, each with its length and CRC-32
(little-endian, 4 bytes each) and a msgpack value. The first piece says what is packed (json, pictures, options); each
other one what was found of the next pictures, once their records are in the data file and on the disk. A piece that was
cut off ends the list.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hatdet.data.packers.records import DATA_FILE, boxes_key, image_key, pack, unpack
from hatdet.data.packers.store.files import DamagedError, OpenFile
from hatdet.data.packers.store.table import find_places

JOURNAL_FILE = "journal"
_MAGIC = b"hatdet-journal 1\n"


class Journal:
    """The journal of a folder.

    Args:
        folder: that is being written.
        what: what is packed, as msgpack has it; another one's journal is of no use.
    """

    def __init__(self, folder: Path, what: dict[str, Any]) -> None:
        self._path, self._what = folder / JOURNAL_FILE, what
        self._folder = folder

    def found(self) -> list[Any]:
        """What the pieces hold, as far as they are whole and of the same ``what``."""
        pieces = list(self._pieces())
        return [entry for piece in pieces[1:] for entry in piece] if pieces and pieces[0] == self._what else []

    def _pieces(self) -> Iterator[Any]:
        data = self._path.read_bytes() if self._path.is_file() else b""
        at = len(_MAGIC) if data.startswith(_MAGIC) else len(data)
        while at + 8 <= len(data):
            length, checksum = struct.unpack_from("<II", data, at)
            piece = data[at + 8 : at + 8 + length]
            if len(piece) != length or zlib.crc32(piece) != checksum:
                return
            yield unpack(piece)
            at += 8 + length

    def begin(self, entries: Sequence[Any]) -> None:
        """Write it anew, with ``entries`` as its first ones."""
        self._path.write_bytes(_MAGIC)
        self._append(self._what)
        self.append(entries)

    def append(self, entries: Sequence[Any]) -> None:
        """The next pictures; their records have to be on the disk."""
        self._append(list(entries))

    def _append(self, value: Any) -> None:
        piece = pack(value)
        with self._path.open("ab") as file:
            file.write(struct.pack("<II", len(piece), zlib.crc32(piece)) + piece)
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """It is not needed any more."""
        self._path.unlink(missing_ok=True)


def count_whole(folder: Path, checksums: Sequence[int]) -> int:
    """How many pictures of a begun data file are there as they were written, from the first on.

    Args:
        checksums: of the pictures.
    """
    with contextlib.suppress(DamagedError):
        places = find_places(folder)  # before LMDB maps the file
        file = OpenFile(folder / DATA_FILE)
        for position, checksum in enumerate(checksums):
            offset, length = places.get(image_key(position), (0, 0))
            if boxes_key(position) not in places or zlib.crc32(file.read(offset, length)) != checksum:
                return position
        return len(checksums)
    return 0
