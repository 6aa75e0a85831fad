"""The checksum that an exported file carries inside itself: one damaged byte anywhere, and the file is refused.

Somewhere in the file stands ``hatdet-sha256:`` with 64 digits: the SHA-256 of the file with zeros in their place. That
the file has it is said at a second place (``hatdet-sealed``), so that damage to the first does not go unnoticed.
"""

from __future__ import annotations

import hashlib

from hatdet.utils.errors import UserError

NAME = "hatdet_seal"
"""Name of the metadata entry that holds the checksum."""
SEALED = "hatdet-sealed"
"""In a file's description, or the name of a property: it has a checksum."""
_MARK = b"hatdet-sha256:"
_DIGITS = 64
BLANK = (_MARK + b"0" * _DIGITS).decode()
"""What a writer puts into the file, to be filled by :func:`seal`."""


def seal(data: bytes) -> bytes:
    """The file with its checksum filled in; as it is where it has no place for one."""
    at = _place(data)
    return data if at is None else data[:at] + _digest(data, at) + data[at + _DIGITS :]


def is_whole(data: bytes) -> bool:
    """Whether the file is sealed and unchanged; False for one without a seal: of another maker, or of an older version.

    Raises:
        UserError: it was changed after it was written.
    """
    at = _place(data)
    if at is None:
        if _MARK in data or SEALED.encode() in data:
            raise damaged("its checksum is broken")
        return False
    if data[at : at + _DIGITS] != _digest(data, at):
        raise damaged("its bytes are not those that its checksum was made of")
    return True


def damaged(why: str) -> UserError:
    """The error for a file that is not as it was written."""
    return UserError(
        f"the file is damaged or cut off, or another program has changed it ({why}); copy it again, or export it anew"
    )


def _place(data: bytes) -> int | None:
    """Where the digits begin; None where the mark is not there, twice there, or cut off."""
    at = data.find(_MARK)
    if at < 0 or data.find(_MARK, at + 1) >= 0:
        return None
    at += len(_MARK)
    return at if at + _DIGITS <= len(data) else None


def _digest(data: bytes, at: int) -> bytes:
    digest = hashlib.sha256(memoryview(data)[:at])
    digest.update(b"0" * _DIGITS)
    digest.update(memoryview(data)[at + _DIGITS :])
    return digest.hexdigest().encode()
