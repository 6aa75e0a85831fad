"""Reading a packed data set. What it consists of: :mod:`hatdet.data.packers.records`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from hatdet.data.coco_json import file_state
from hatdet.data.packers.places import packing_command
from hatdet.data.packers.records import (
    DATA_FILE,
    FORMAT,
    VERSION,
    BoxRecord,
    Index,
    unpack,
)
from hatdet.data.packers.store.files import DamagedError, OpenFile
from hatdet.data.packers.store.rows import Picture
from hatdet.data.packers.store.table import (
    TABLE_FILE,
    Table,
    find_places,
    read_small,
    read_table,
    rows_in_memory,
    rows_of,
)
from hatdet.utils.errors import UserError

VERIFIED_FILE = "verified"
"""Holds the state (size, times, inode) of the data file when all its records were last found to be whole."""
SLOW_BYTES = 1 << 30
"""A check of more than this is announced."""
TICK_NS = 50_000_000
"""A file that changed this shortly ago may change again under the same time stamp."""
_verified_here: set[tuple[object, ...]] = set()
"""What this process has verified: a folder that cannot be written is not read again for every data set."""
logger = logging.getLogger("hatdet")
_T = TypeVar("_T")


class Store:
    """Read access to a packed data set; pickled without its open files.

    Records are read with plain reads, not through LMDB's memory map, and checked as they are read: a damaged or cut
    file is an error with a message, at whatever moment it happens.

    Args:
        path: the folder that the packer wrote.

    Attributes:
        advice: what to do about damage, for messages.
        index: id, sizes, name and counts of each picture, read from the disk when they are asked for.
        version: of the format; 1 has no checksums.

    Raises:
        DamagedError: it is not what was packed.
        UserError: it is missing, of another format or version, or not complete.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.advice = "pack it again with tools/mscoco_packer.py --force"
        data = self.path / DATA_FILE
        if not data.is_file():
            raise UserError(_missing(self.path))
        self._file = self._guarded(lambda: OpenFile(data))
        self._table = self._guarded(self._open_table)
        self.header = self._table.header
        self.index = self._table.rows
        self.version = int(self.header["version"])

    # ------------------------------------------------------------------------------------------- reading
    def image_bytes(self, position: int) -> bytes:
        """The encoded image at ``position``."""
        return self._record(self._row(position))

    def image_checksums(self, positions: Iterable[int]) -> set[tuple[int, int]]:
        """(length, checksum) of the images at these positions; none where they were packed without checksums."""
        if not self._table.has_checksums:
            return set()
        lengths, sums = self.index.column("length")[:, 0], self.index.column("checksum")[:, 0]
        return {(int(lengths[row]), int(sums[row])) for row in map(self._row, positions)}

    def picture(self, position: int) -> Picture:
        """Id, name and sizes of the picture at ``position``."""
        return self._guarded(lambda: self.index.picture(self._row(position)))

    def listed(self) -> list[str]:
        """The names of all pictures that the json lists, those that were left out too."""
        return list(self._guarded(self._table.listed)["listed"])

    def source_ids(self) -> list[str] | None:
        """The json's ids, where they are no whole numbers."""
        found = self._guarded(self._table.listed)["source_ids"]
        return None if found is None else list(found)

    def boxes(self, position: int) -> BoxRecord:
        """The annotations at ``position``."""
        data = self._record(self._row(position) + len(self._table) // 2)
        return self._guarded(lambda: _decoded(lambda: BoxRecord.unpacked(data)))

    def _row(self, position: int) -> int:
        if not 0 <= position < len(self._table) // 2:
            raise UserError(
                f"{self.path} has no record {position}: it holds {len(self._table) // 2}: "
                "pack it again (--force)"
            )
        return position

    def _record(self, row: int) -> bytes:
        return self._guarded(lambda: self._table.read(self._file.open(), row))

    def _guarded(self, work: Callable[[], _T]) -> _T:
        """Name this data set in what ``work`` finds damaged, and have the next opening check every record."""
        try:
            return work()
        except DamagedError as error:
            _verified_here.clear()
            with contextlib.suppress(OSError):
                (self.path / VERIFIED_FILE).unlink()
            raise DamagedError(f"{self.path} is damaged: {error}; {self.advice}") from None

    # ------------------------------------------------------------------------------------------- opening
    def _open_table(self) -> Table:
        if not (self.path / TABLE_FILE).exists():
            return self._table_of_version_1()
        table = read_table(self.path)
        self._check_header(table.header)
        status = os.fstat(self._file.open())
        if status.st_size != table.data_bytes:
            raise DamagedError(f"{DATA_FILE} has {status.st_size:,} bytes, {table.data_bytes:,} were packed")
        state = (os.path.realpath(self.path), *file_state(status))
        if state not in _verified_here and not _is_verified(self.path, status):
            if table.data_bytes > SLOW_BYTES:
                logger.info("checking %s (%.1f GB): it was copied or changed", self.path, table.data_bytes / 1e9)
            table.verify(self._file.open())
            if time.time_ns() - status.st_ctime_ns > TICK_NS:
                _verified_here.add(state)
                with contextlib.suppress(OSError):  # a data set that cannot be written is checked at every start
                    mark_verified(self.path, status)
        return table

    def _table_of_version_1(self) -> Table:
        """Packed by an earlier version: the places come from LMDB's pages, and there are no checksums."""
        places = find_places(self.path)
        values = {}
        for key in (b"header", b"index"):
            if key not in places:
                raise UserError(f"{self.path} is not a data set of format {FORMAT}; pack it again")
            offset, length = places[key]
            values[key] = self._file.read(offset, length)
        header = _decoded(lambda: dict(unpack(values[b"header"])))
        self._check_header(header)
        if header["version"] != 1:
            raise DamagedError(f"its {TABLE_FILE} is missing")
        index = _decoded(lambda: Index.unpacked(values[b"index"]))
        offsets, lengths = rows_of(places, len(index.ids))
        rows = rows_in_memory(index, offsets, lengths, None)
        return Table(header, rows, os.fstat(self._file.open()).st_size, has_checksums=False)

    def _check_header(self, header: dict[str, Any]) -> None:
        if header.get("format") != FORMAT or not header.get("complete"):
            raise UserError(f"{self.path} is not a complete data set of format {FORMAT}; pack it again")
        if header.get("version") not in (1, VERSION):
            raise UserError(
                f"{self.path} has format version {header.get('version')}, this program reads 1 to {VERSION}; "
                "pack it again (--force)"
            )


def _decoded(work: Callable[[], _T]) -> _T:
    """Only data without checksums can fail here, and then in any of msgpack's and numpy's ways."""
    try:
        return work()
    except Exception as error:
        raise DamagedError(f"a record cannot be decoded ({type(error).__name__}: {error})") from error


def _is_verified(folder: Path, status: os.stat_result) -> bool:
    try:
        return bool(json.loads(read_small(folder / VERIFIED_FILE)) == file_state(status))
    except (OSError, ValueError):
        return False


def mark_verified(folder: Path, status: os.stat_result) -> None:
    """Note that the data file was found to be whole when it had this ``status``."""
    temporary = folder / f"{VERIFIED_FILE}-{os.getpid()}"
    temporary.write_text(json.dumps(file_state(status)))
    os.replace(temporary, folder / VERIFIED_FILE)


def _missing(path: Path) -> str:
    if path.is_dir():
        text = f"{path} is not a packed data set: it has no {DATA_FILE}"
    else:
        text = f"{path} does not exist"
    return (
        f"{text}; make it with {packing_command(path)} "
        "(pictures in a folder for each class: tools/image_folder_packer.py)"
    )


def read_header(path: str | Path) -> dict[str, Any] | None:
    """The header of a complete packed data set, or None where there is none."""
    try:
        return Store(path).header
    except UserError:
        return None
