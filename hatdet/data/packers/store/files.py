"""Bytes by place, of a file that stays open or of memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hatdet.utils.errors import UserError


class DamagedError(UserError):
    """Packed data that is not what was packed; the message says what differs."""


class OpenFile:
    """A file that is read at places; closed with its last user, opened again where it was pickled.

    A forked process goes on using the descriptor: reads have no position.

    Raises:
        DamagedError: it cannot be opened; without the name of the data set.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.descriptor, self.inode = path, -1, 0
        self.open()

    def open(self) -> int:
        """The descriptor."""
        if self.descriptor < 0:
            try:
                self.descriptor = os.open(self.path, os.O_RDONLY)
            except OSError as error:
                raise DamagedError(f"{self.path.name} cannot be read ({error.strerror})") from error
            inode = os.fstat(self.descriptor).st_ino
            if self.inode not in (0, inode):  # unpickled in another process
                raise UserError(f"{self.path.parent} has been packed anew since this run began: start the run again")
            self.inode = inode
        return self.descriptor

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes, or what there is of them."""
        try:
            return os.pread(self.open(), length, offset)
        except OSError as error:
            raise DamagedError(f"{self.path.name} cannot be read ({error.strerror})") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "descriptor": -1}

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class Memory:
    """The same of bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes, or what there is of them."""
        return self.data[offset : offset + length]
