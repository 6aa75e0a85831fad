"""The picture of a packed set as training wants it: whole, or a JPEG at one n-th of its size."""

from __future__ import annotations

from hatdet.data.folders.sizes import jpeg_orientation
from hatdet.data.image_file import decode
from hatdet.data.transforms.sample import Image, Size


def decode_picture(data: bytes, size: Size, as_stored: bool, bits: int, reduction: int) -> Image:
    """Pixels of a picture whose ``size`` (h, w) is known, uint8 BGR; see :func:`~hatdet.data.image_file.decode`.

    Args:
        reduction: n, of a JPEG; another file is decoded whole. So is a JPEG whose sides n does not divide and that EXIF
            turns: what is left of a square could come first then.
    """
    reduced = reduction > 1 and _reducible(data, size, as_stored, reduction)
    return decode(data, as_stored, bits, reduction if reduced else 1)


def _reducible(data: bytes, size: Size, as_stored: bool, reduction: int) -> bool:
    if data[:2] != b"\xff\xd8":
        return False
    whole_squares = size[0] % reduction == 0 == size[1] % reduction
    return whole_squares or as_stored or jpeg_orientation(data) == 1
