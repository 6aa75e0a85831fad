"""Writes the LMDB file of a packed data set, and the table of its records."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hatdet.data.packers.records import DATA_FILE, Index, boxes_key, image_key, pack
from hatdet.data.packers.store.lmdb_format import TICK_NS, mark_verified
from hatdet.data.packers.store.table import DamagedError, Table, find_places, rows_of
from hatdet.utils.errors import UserError

COMMIT_BYTES = 64 << 20
"""Bytes written between two commits: bounds the memory of the packer."""
_FULL = {errno.ENOSPC: "is full", errno.EDQUOT: "has no quota left"}
_FULL_WORDS = {"No space left": "is full", "MDB_MAP_FULL": "is full", "quota exceeded": "has no quota left"}


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the disk of ``folder`` refuses into one line; a full disk is called a full disk.

    Raises:
        UserError: instead of an OSError or an error of LMDB.
    """
    import lmdb

    try:
        yield
    except (UserError, BrokenPipeError):  # a pipe is the terminal's affair, never the disk's
        raise
    except (OSError, lmdb.Error) as error:
        text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        full = _FULL.get(error.errno or 0) if isinstance(error, OSError) else None
        full = full or next((what for word, what in _FULL_WORDS.items() if word.lower() in text.lower()), None)
        free, usage = "", None
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(folder)
            free = f", {size_text(usage.free)} are free now"
        # LMDB calls a write that the disk took a part of an input/output error.
        if isinstance(error, lmdb.Error) and "Input/output" in text and usage and usage.free < COMMIT_BYTES:
            full = "is full"
        if full is None:
            raise UserError(f"cannot write the packed data: {folder}: {text}; name another target") from error
        raise UserError(
            f"cannot write the packed data: the disk of {folder} {full} ({text}){free}; make room, or use another disk "
            "(--target-data-dir; for the cache: HATDET_CACHE)"
        ) from error


def size_text(count: float) -> str:
    """Bytes for people: ``"18.2 GB"``."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


class Writer:
    """Puts images and boxes into a new LMDB file in ``folder``, with bounded transactions and a map that grows."""

    def __init__(self, folder: Path) -> None:
        import lmdb

        self._lmdb = lmdb
        self._folder = folder
        self._size = 1 << 30
        self._env = lmdb.open(os.fsencode(folder), map_size=self._size, meminit=False, lock=False, sync=False)
        self._pending: dict[bytes, bytes] = {}
        self._bytes = 0
        self._checksums: list[tuple[int, int]] = []

    def add(self, image: bytes, boxes: bytes) -> None:
        """The next image, encoded, and its packed :class:`BoxRecord`."""
        position = len(self._checksums)
        self._checksums.append((zlib.crc32(image), zlib.crc32(boxes)))
        self._put(image_key(position), image)
        self._put(boxes_key(position), boxes)

    def _put(self, key: bytes, value: bytes) -> None:
        self._pending[key] = value
        self._bytes += len(value)
        if self._bytes > COMMIT_BYTES:
            self._flush()

    def _flush(self) -> None:
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    for key in sorted(self._pending):
                        transaction.put(key, self._pending[key])
                break
            except self._lmdb.MapFullError:
                self._size *= 2
                self._env.set_mapsize(self._size)
        self._pending, self._bytes = {}, 0

    def finish(self, header: dict[str, Any], index: Index) -> None:
        """Write the last records and the table, through to the disk, and read every record back."""
        self._put(b"index", index.packed())
        self._put(b"header", pack(header))
        self._flush()
        self._env.sync(True)
        self._env.close()
        data = self._folder / DATA_FILE
        offsets, lengths = rows_of(find_places(self._folder), len(self._checksums))
        checksums = np.array(self._checksums, np.uint32).reshape(-1, 2).T.reshape(-1)
        with data.open("rb", buffering=0) as file:
            table = Table(header, index, os.fstat(file.fileno()).st_size, offsets, lengths, checksums)
            try:
                for row in range(len(table)):
                    table.read(file.fileno(), row)
            except DamagedError as error:
                raise UserError(
                    f"the disk of {self._folder} gives back other bytes than written: {error}; "
                    "use another disk"
                ) from error
        table.write(self._folder)
        time.sleep(TICK_NS / 1e9)  # a later change gets another time stamp
        mark_verified(self._folder, data.stat())

    def close(self) -> None:
        """End without a result."""
        self._env.close()
