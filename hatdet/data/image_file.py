"""Image files: what the header claims, whether the bytes are complete, and decoding.

The size is read from the header before anything is decoded: a small file can claim to be gigabytes of pixels.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hatdet.data.image_complete import what_is_missing
from hatdet.utils.errors import UserError

MAX_PIXELS = 128_000_000
"""Largest image that is decoded (384 MB as BGR)."""
MAX_BYTES = 1 << 30
"""Largest image file that is read."""
SUPPORTED = "JPEG, PNG, BMP, WebP, TIFF"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Of the names by which pictures are found in a folder."""

Image = NDArray[np.uint8]


class ImageError(UserError):
    """An image file that cannot be used; the message says why, without the file's name."""


class Header(NamedTuple):
    """What the first bytes of an image say; width and height are as stored, before any EXIF turn."""

    kind: str
    width: int
    height: int


def read_header(data: bytes) -> Header:
    """Format and stored size of an encoded image.

    Raises:
        ImageError: not one of the supported formats, or the header is broken.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return Header("JPEG", *_jpeg_size(data))
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            if data[12:16] != b"IHDR":
                raise ImageError("PNG without a header chunk")
            return Header("PNG", *struct.unpack(">II", data[16:24]))
        if data[:2] == b"BM":
            return Header("BMP", *_bmp_size(data))
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return Header("WebP", *_webp_size(data))
        if data[:4] in (b"II*\0", b"MM\0*"):
            return Header("TIFF", *_tiff_size(data))
    except (struct.error, IndexError) as error:
        raise ImageError("the file ends inside its header") from error
    raise ImageError(f"not an image in a known format ({SUPPORTED}): it starts with {data[:12]!r}")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    position = 2
    while True:
        while data[position] != 0xFF:
            position += 1
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        position += 1
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[position + 3 : position + 7])
            return width, height
        if marker == 0xDA or marker == 0xD9:
            raise ImageError("JPEG without a frame header")
        if not (marker == 0x01 or 0xD0 <= marker <= 0xD8):
            position += struct.unpack(">H", data[position : position + 2])[0]


def _bmp_size(data: bytes) -> tuple[int, int]:
    if struct.unpack("<I", data[14:18])[0] == 12:
        width, height = struct.unpack("<HH", data[18:22])
    else:
        width, height = struct.unpack("<ii", data[18:26])
    return abs(width), abs(height)


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return (
            1 + int.from_bytes(data[24:27], "little"),
            1 + int.from_bytes(data[27:30], "little"),
        )
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _tiff_size(data: bytes) -> tuple[int, int]:
    order = "<" if data[:2] == b"II" else ">"
    offset = struct.unpack(order + "I", data[4:8])[0]
    size = {256: 0, 257: 0}
    for index in range(struct.unpack(order + "H", data[offset : offset + 2])[0]):
        entry = data[offset + 2 + 12 * index : offset + 14 + 12 * index]
        tag, kind = struct.unpack(order + "HH", entry[:4])
        if tag in size:
            short = kind == 3
            size[tag] = struct.unpack(order + ("H" if short else "I"), entry[8 : 10 if short else 12])[0]
    return size[256], size[257]


def check_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Refuse what must not be decoded: unknown formats, too many pixels, cut files.

    Returns:
        the header.

    Raises:
        ImageError: with the reason.
    """
    if not data:
        raise ImageError("the file is empty")
    header = read_header(data)
    if header.width < 1 or header.height < 1:
        raise ImageError(f"its header says {header.width}x{header.height} pixels")
    if header.width * header.height > max_pixels:
        raise ImageError(
            f"its header says {header.width}x{header.height} pixels, more than the limit of {max_pixels:,} "
            "(--max-pixels)"
        )
    missing = what_is_missing(header.kind, data)
    if missing:
        raise ImageError(missing)
    return header


def decode(data: bytes | memoryview, as_stored: bool = False, bits: int = 16, reduction: int = 1) -> Image:
    """Pixels of an encoded image.

    Alpha is dropped, grey becomes three equal channels, 16 bits are scaled to 8. The EXIF turn is applied
    unless ``as_stored``.

    Args:
        bits: how many bits of a 16-bit file are used: a value v becomes ``v >> (bits - 8)``, at most 255. Files with 8
            bits are decoded alike whatever it is.
        reduction: 2, 4 or 8, of a JPEG only: pixel (i, j) stands for pixels [n j, n (j + 1)) x [n i, n (i + 1)) of the
            file, the last row and column for what is left of one. Sooner than the whole picture, and averaged.

    Returns:
        uint8 (h, w, 3), BGR; (ceil(h / n), ceil(w / n), 3) of a ``reduction`` n.

    Raises:
        ImageError: the decoder gives nothing.
    """
    if reduction > 1:  # 8 bits: it is a JPEG
        import cv2

        return _decoded(data, as_stored, getattr(cv2, f"IMREAD_REDUCED_COLOR_{reduction}"))  # type: ignore[return-value]
    image = decode_deep(data, as_stored) if bits < 16 else _decoded(data, as_stored, 0)
    return np.minimum(image >> (bits - 8), 255).astype(np.uint8) if image.dtype == np.uint16 else image  # type: ignore[return-value]


def decode_deep(data: bytes | memoryview, as_stored: bool = False) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """As :func:`decode`, with the 16 bits that a PNG or TIFF may have (uint16 then)."""
    import cv2

    image = _decoded(data, as_stored, cv2.IMREAD_ANYDEPTH)
    return image if image.dtype in (np.uint8, np.uint16) else _decoded(data, as_stored, 0)


def may_be_deep(header: Header, data: bytes) -> bool:
    """Whether an image can have more than 8 bits a channel; of a TIFF only :func:`decode_deep` tells."""
    return header.kind == "TIFF" or (header.kind == "PNG" and data[24] == 16)


def bits_of(largest: int) -> int:
    """How many bits hold values up to ``largest``: 8, or what cameras have: 10, 12, 14, 16."""
    return next(bits for bits in (8, 10, 12, 14, 16) if largest < 1 << bits)


def _decoded(data: bytes | memoryview, as_stored: bool, more_flags: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    import cv2

    flags = cv2.IMREAD_COLOR | more_flags | (cv2.IMREAD_IGNORE_ORIENTATION if as_stored else 0)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded: {error.err if hasattr(error, 'err') else error}") from error
    if image is None:
        raise ImageError("cannot be decoded")
    return image  # type: ignore[no-any-return]


def to_gray(image: Image) -> Image:
    """uint8 (h, w, 3) BGR -> (h, w, 1), in integers that any device can repeat:
    (3735 B + 19235 G + 9798 R + 16384) >> 15 (BT.601's luma, as OpenCV's COLOR_BGR2GRAY has it). The levels of a
    grayscale file, decoded to three equal channels, come out as they are. A picture of one channel passes.
    """
    import cv2

    if image.ndim == 2 or image.shape[2] == 1:
        return image.reshape(*image.shape[:2], 1)
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[:, :, None]  # type: ignore[no-any-return]


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file.

    Raises:
        ImageError: missing, a directory, a device, unreadable or too large.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):  # a pipe or device would block or never end
                raise ImageError("is not a regular file")
            if status.st_size > MAX_BYTES:
                raise ImageError(f"has {status.st_size:,} bytes, more than the limit of {MAX_BYTES:,}")
            return file.read()
    except IsADirectoryError:
        raise ImageError("is a directory") from None
    except FileNotFoundError:
        reason = "is a symbolic link to nowhere" if path.is_symlink() else "does not exist"
        raise ImageError(reason) from None
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
