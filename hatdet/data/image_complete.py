"""Whether an image file is whole.

Decoders fill the missing part of a cut file with grey and only print to stderr: it has to be found out before.
"""

from __future__ import annotations

import re
import struct
import zlib

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""Inside entropy-coded data a 0xFF is stuffed (0x00) or a restart; anything else ends the scan (T.81, B.1.1.2)."""
_JPEG_ALONE = {*range(0xC0), *range(0xD0, 0xD9)}
"""Markers without a length: stuffing, TEM, reserved ones (a damaged scan has them), restarts, start of image."""
_TIFF_SIZES = {3: "H", 4: "I"}


def what_is_missing(kind: str, data: bytes) -> str:
    """What is wrong with a file of the format ``kind``; empty where it is whole, or nothing can be told."""
    try:
        checks = {"JPEG": _jpeg, "PNG": _png, "WebP": _webp, "BMP": _bmp, "TIFF": _tiff}
        return checks[kind](data)
    except (struct.error, IndexError):
        return f"the {kind} is cut off"


def _jpeg(data: bytes) -> str:
    """Follow the segments to the end marker of the picture itself: a thumbnail in a segment has one of its own."""
    position, scans = 2, 0
    while True:
        position = data.find(b"\xff", position)  # decoders skip stray bytes between segments too
        while 0 <= position < len(data) and data[position] == 0xFF:
            position += 1
        if not 0 <= position < len(data):
            return "the JPEG is cut off: its end marker is missing"
        marker = data[position]
        position += 1
        if marker == 0xD9:
            return "" if scans else "the JPEG has no picture"
        if marker in _JPEG_ALONE:
            continue
        position += struct.unpack_from(">H", data, position)[0]
        if marker == 0xDA:
            scans += 1
            end = _JPEG_MARKER.search(data, position)
            position = end.start() if end else len(data)


def _png(data: bytes) -> str:
    position = 8
    while True:
        if position + 12 > len(data):
            return "the PNG is cut off: its end chunk is missing"
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            return "the PNG is cut off inside a chunk"
        if zlib.crc32(data[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return f"the PNG is damaged: wrong checksum in chunk {name!r}"
        if name == b"IEND":
            return ""
        position = end + 4


def _webp(data: bytes) -> str:
    return "the WebP is cut off" if len(data) < struct.unpack_from("<I", data, 4)[0] + 8 else ""


def _bmp(data: bytes) -> str:
    """Only uncompressed pixels say how many bytes they need."""
    start, header = struct.unpack_from("<II", data, 10)
    if header == 12:
        (width, height, _, bits), compression = struct.unpack_from("<HHHH", data, 18), 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    row = (bits * abs(width) + 31) // 32 * 4
    if compression in (0, 3) and len(data) < start + row * abs(height) - 3:  # the last row's padding may be absent
        return "the BMP is cut off"
    return ""


def _tiff(data: bytes) -> str:
    """Every strip or tile of the first picture has to lie within the file."""
    order = "<" if data[:2] == b"II" else ">"
    offset = struct.unpack_from(order + "I", data, 4)[0]
    values: dict[int, tuple[int, ...]] = {}
    for index in range(struct.unpack_from(order + "H", data, offset)[0]):
        at = offset + 2 + 12 * index
        tag, kind, count = struct.unpack_from(order + "HHI", data, at)
        if tag in (273, 279, 324, 325) and kind in _TIFF_SIZES:
            form = f"{order}{count}{_TIFF_SIZES[kind]}"
            size = struct.calcsize(form)
            place = at + 8 if size <= 4 else struct.unpack_from(order + "I", data, at + 8)[0]
            if place + size > len(data):
                return "the TIFF is cut off"
            values[tag] = struct.unpack_from(form, data, place)
    for starts, counts in ((273, 279), (324, 325)):
        if any(a + b > len(data) for a, b in zip(values.get(starts, ()), values.get(counts, ()), strict=False)):
            return "the TIFF is cut off"
    return ""
