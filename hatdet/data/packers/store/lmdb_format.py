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
from hatdet.data.packers.store.table import (
    TABLE_FILE,
    DamagedError,
    Table,
    find_places,
    read_small,
    read_table,
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


class _OpenFile:
    """A descriptor that is closed with its last user. A forked process goes on using it: reads have no position."""

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class Store:
    """Read access to a packed data set; pickled without its open file.

    Records are read with plain reads, not through LMDB's memory map, and checked as they are read: a damaged or cut
    file is an error with a message, at whatever moment it happens.

    Args:
        path: the folder that the packer wrote.

    Attributes:
        advice: what to do about damage, for messages.
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
        self._file: _OpenFile | None = None
        self._inode = 0
        self._table = self._guarded(self._open_table)
        self.header = self._table.header
        self.index = self._table.index
        self.version = int(self.header["version"])

    # ------------------------------------------------------------------------------------------- reading
    def image_bytes(self, position: int) -> bytes:
        """The encoded image at ``position``."""
        return self._record(self._row(position))

    def image_checksums(self, positions: Iterable[int]) -> set[tuple[int, int]]:
        """(length, checksum) of the images at these positions; none where they were packed without checksums."""
        lengths, sums = self._table.lengths, self._table.checksums
        return set() if sums is None else {(int(lengths[row]), int(sums[row])) for row in map(self._row, positions)}

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
        return self._guarded(lambda: self._table.read(self._descriptor(), row))

    def _descriptor(self) -> int:
        if self._file is None:
            try:
                self._file = _OpenFile(self.path / DATA_FILE)
                inode = os.fstat(self._file.descriptor).st_ino
            except OSError as error:
                raise DamagedError(f"{DATA_FILE} cannot be read ({error.strerror})") from error
            if self._inode not in (0, inode):  # unpickled in another process
                raise UserError(f"{self.path} has been packed anew since this run began: start the run again")
            self._inode = inode
        return self._file.descriptor

    def _guarded(self, work: Callable[[], _T]) -> _T:
        """Name this data set in what ``work`` finds damaged, and have the next opening check every record."""
        try:
            return work()
        except DamagedError as error:
            _verified_here.clear()
            with contextlib.suppress(OSError):
                (self.path / VERIFIED_FILE).unlink()
            raise DamagedError(f"{self.path} is damaged: {error}; {self.advice}") from None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    # ------------------------------------------------------------------------------------------- opening
    def _open_table(self) -> Table:
        if not (self.path / TABLE_FILE).exists():
            return self._table_of_version_1()
        table = read_table(self.path)
        self._check_header(table.header)
        status = os.fstat(self._descriptor())
        if status.st_size != table.data_bytes:
            raise DamagedError(f"{DATA_FILE} has {status.st_size:,} bytes, {table.data_bytes:,} were packed")
        state = (os.path.realpath(self.path), *file_state(status))
        if state not in _verified_here and not _is_verified(self.path, status):
            if table.data_bytes > SLOW_BYTES:
                logger.info("checking %s (%.1f GB): it was copied or changed", self.path, table.data_bytes / 1e9)
            for row in range(len(table)):
                table.read(self._descriptor(), row)
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
            values[key] = os.pread(self._descriptor(), length, offset)
        header = _decoded(lambda: dict(unpack(values[b"header"])))
        self._check_header(header)
        if header["version"] != 1:
            raise DamagedError(f"its {TABLE_FILE} is missing")
        index = _decoded(lambda: Index.unpacked(values[b"index"]))
        offsets, lengths = rows_of(places, len(index.ids))
        return Table(header, index, os.fstat(self._descriptor()).st_size, offsets, lengths, None)

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
