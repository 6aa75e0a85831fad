"""Writes the LMDB file of a packed data set, and the table of its records."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hatdet.data.packers.records import DATA_FILE, Index, boxes_key, image_key, pack
from hatdet.data.packers.store.files import DamagedError
from hatdet.data.packers.store.journal import Journal
from hatdet.data.packers.store.lmdb_format import TICK_NS, mark_verified
from hatdet.data.packers.store.rows import rows_and_names
from hatdet.data.packers.store.table import find_places, read_table, rows_of, write_table
from hatdet.utils.errors import UserError

COMMIT_BYTES = 64 << 20
"""Bytes written between two commits: bounds the memory of the packer."""
CHECKPOINT_SECONDS = 20.0
"""What a killed packer has done for nothing."""
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
    """Puts images and boxes into an LMDB file in ``folder``, with bounded transactions and a map that grows.

    Args:
        folder: of the file.
        journal: learns from time to time what is on the disk; :meth:`note` says what it is told.
    """

    def __init__(self, folder: Path, journal: Journal | None = None) -> None:
        import lmdb

        self._lmdb = lmdb
        self._folder = folder
        self._size = 1 << 30
        self._env = lmdb.open(os.fsencode(folder), map_size=self._size, meminit=False, lock=False, sync=False)
        self._pending: dict[bytes, bytes] = {}
        self._bytes = 0
        self._checksums: list[tuple[int, int]] = []
        self._journal, self._notes = journal, list[Any]()
        self._saved = time.monotonic()

    def note(self, entry: Any) -> None:
        """What the journal is told once everything that was added is on the disk; call it before :meth:`add`."""
        self._notes.append(entry)

    def add(self, image: bytes, boxes: bytes, checksum: int | None = None) -> None:
        """The next image, encoded, and its packed :class:`BoxRecord`; ``checksum``: the image's CRC-32."""
        position = len(self._checksums)
        self._checksums.append((zlib.crc32(image) if checksum is None else checksum, zlib.crc32(boxes)))
        self._put(image_key(position), image)
        self._put(boxes_key(position), boxes)
        due = self._journal is not None and time.monotonic() - self._saved >= CHECKPOINT_SECONDS
        if self._bytes > COMMIT_BYTES or due:
            self._flush()
        if due:
            self.save()

    def skip(self, checksum: int, boxes: bytes) -> None:
        """The next image lies in the file already, and its boxes."""
        self._checksums.append((checksum, zlib.crc32(boxes)))

    def _put(self, key: bytes, value: bytes) -> None:
        self._pending[key] = value
        self._bytes += len(value)

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

    def save(self) -> None:
        """Bring everything to the disk, then tell the journal."""
        self._flush()
        self._env.sync(True)
        if self._journal is not None:
            self._journal.append(self._notes)
        self._notes = []
        self._saved = time.monotonic()

    def finish(self, header: dict[str, Any], index: Index, full: Sequence[Sequence[int]] | None = None) -> None:
        """Write the last records and the table, through to the disk, and read every record back.

        Args:
            header, index: of the packed set.
            full: (n, 2), height and width of the files; None: those of the stored pictures.
        """
        self._put(b"index", index.packed())
        self._put(b"header", pack(header))
        self.save()
        self._env.close()
        data = self._folder / DATA_FILE
        offsets, lengths = rows_of(find_places(self._folder), len(self._checksums))
        checksums = np.array(self._checksums, np.uint32).reshape(-1, 2).T.reshape(-1)
        rows, names = rows_and_names(index, offsets, lengths, checksums, full)
        write_table(self._folder, header, data.stat().st_size, rows, names, len(index.ids))
        with data.open("rb", buffering=0) as file:
            try:
                read_table(self._folder).verify(file.fileno())
            except DamagedError as error:
                raise UserError(
                    f"the disk of {self._folder} gives back other bytes than written: {error}; "
                    "use another disk"
                ) from error
        if self._journal is not None:
            self._journal.remove()
        time.sleep(TICK_NS / 1e9)  # a later change gets another time stamp
        mark_verified(self._folder, data.stat())

    def close(self) -> None:
        """End without a result."""
        self._env.close()
