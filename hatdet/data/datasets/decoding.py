"""The pictures of a packed set as training wants them: whole, or JPEGs at one n-th of their size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from hatdet.data.folders.sizes import jpeg_orientation
from hatdet.data.image_file import decode
from hatdet.data.transforms.reach import reduction
from hatdet.data.transforms.sample import Image, Size, Transform


def reductions(pipelines: Iterable[Sequence[Transform]], sizes: NDArray[np.integer]) -> NDArray[np.uint8]:
    """(n,): at one how-manieth pictures of ``sizes`` (n, 2), height and width, are decoded if they are JPEGs."""
    different, which = np.unique(sizes, axis=0, return_inverse=True)
    factors = [reduction(pipelines, (height, width)) for height, width in different.tolist()]
    return np.array(factors, np.uint8)[which.reshape(-1)]


def decoded_shapes(
    sizes: NDArray[np.integer], factors: NDArray[np.uint8], names: Sequence[str], channels: int
) -> NDArray[np.int64]:
    """(n, 3): height, width and channels of the decoded pictures, if the names of their files say what they are.

    Args:
        names: of all files; needed where a factor is above 1.
    """
    if names:
        factors = np.where([name.lower().endswith((".jpg", ".jpeg")) for name in names], factors, 1)
    shapes = np.full((len(sizes), 3), channels, np.int64)
    shapes[:, :2] = -(-sizes // factors[:, None].astype(np.int64))
    return shapes


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
