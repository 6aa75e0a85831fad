"""The size of a picture as decoding gives it, from the first bytes of its file."""

from __future__ import annotations

import struct
from pathlib import Path

from hatdet.data.image_file import ImageError, check_image, decode, read_bytes, read_header

HEAD = 1 << 16
"""Bytes that hold the size of nearly every picture; where they do not, the whole file is read."""

_MARKS = {"PNG": b"eXIf", "WebP": b"EXIF", "TIFF": b""}
"""What a file with a turn has in it."""


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture file, after its EXIF turn.

    Raises:
        ImageError: it is missing, damaged at its beginning, or no picture; the message does not repeat its name.
    """
    try:
        with path.open("rb") as file:
            data = file.read(HEAD)
    except (OSError, ValueError):
        data = b""
    if not data:
        check_image(read_bytes(path))  # says what is wrong
    if len(data) < HEAD:
        return _size(data)
    try:
        size = None if _may_turn(data) else _size(data)
    except ImageError:
        size = None
    return _size(read_bytes(path)) if size is None else size


def _may_turn(data: bytes) -> bool:
    """Whether only decoding tells the size: a turn in a format where it is not read here."""
    mark = _MARKS.get(read_header(data).kind)
    return mark is not None and mark in data


def _size(data: bytes) -> tuple[int, int]:
    if _may_turn(data):
        height, width = decode(data).shape[:2]
        return width, height
    header = read_header(data)
    if header.kind == "JPEG":
        swapped = jpeg_orientation(data) >= 5
        return (header.height, header.width) if swapped else (header.width, header.height)
    return header.width, header.height


def jpeg_orientation(data: bytes) -> int:
    """EXIF's orientation of a JPEG, 1 to 8; 1 where it says none. Source: CIPA DC-008, tag 0x0112."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], struct.unpack_from(">H", data, position + 2)[0]
        if marker == 0xDA:  # pixels begin
            break
        if marker == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0":
            return _orientation(data[position + 10 : position + 2 + length])
        position += 2 + length
    return 1


def _orientation(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is None:
            return 1
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for number in range(count):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * number)
            if tag == 0x0112:
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
