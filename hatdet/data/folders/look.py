"""A look at the pictures themselves: damage, real size, and what tells whether two look alike. Runs in processes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hatdet.data.folders.dataset import Picture
from hatdet.data.image_file import ImageError, check_image, decode, read_bytes
from hatdet.data.packers.progress import track
from hatdet.data.packers.workers import in_processes, processes_for

SMALL = 16
"""Side of the gray picture by which two of a hash are compared."""


@dataclass
class Look:
    """What one picture file is like; where ``error`` says why it cannot be used, the rest is empty.

    Attributes:
        size: (width, height) as decoding gives it, after the EXIF turn.
        stored: the same before the turn.
        checksum: CRC-32 of the file and its length: the same file has the same.
        hash: 64 bits, alike for pictures that look alike (:func:`perceptual_hash`).
        small: float32 (256,), mean 0 and length 1: the picture in 16 x 16 gray fields; zeros for a uniform one.
        mean, deviation: of its gray levels.
    """

    error: str = ""
    size: tuple[int, int] = (0, 0)
    stored: tuple[int, int] = (0, 0)
    checksum: tuple[int, int] = (0, 0)
    hash: int = 0
    small: NDArray[np.float32] | None = None
    mean: float = 0.0
    deviation: float = 0.0


def look_at(path: Path) -> Look:
    """Decode one file; never raises for what is wrong with it."""
    import cv2

    try:
        data = read_bytes(path)
        header = check_image(data)
        pixels = decode(data)
    except ImageError as error:
        return Look(str(error))
    except MemoryError:
        return Look("does not fit into memory")
    gray = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    mean, deviation = cv2.meanStdDev(gray)
    small = cv2.resize(gray, (SMALL, SMALL), interpolation=cv2.INTER_AREA).astype(np.float32).reshape(-1)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return Look(
        size=(pixels.shape[1], pixels.shape[0]),
        stored=(header.width, header.height),
        checksum=(zlib.crc32(data), len(data)),
        hash=perceptual_hash(gray),
        small=small / length if length > SMALL else np.zeros_like(small),
        mean=float(mean[0, 0]),
        deviation=float(deviation[0, 0]),
    )


def perceptual_hash(gray: NDArray[np.uint8]) -> int:
    """64 bits: which of the 8 x 8 lowest frequencies of the picture, at 32 x 32, are above their median.

    The usual pHash (https://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html), by OpenCV's cosine
    transform. Other sizes, compression and brightness change few bits.
    """
    import cv2

    field = cv2.resize(gray, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(field)[:8, :8].reshape(-1)
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def look_at_all(pictures: Sequence[Picture], num_workers: int | None = None, quiet: bool = False) -> list[Look]:
    """A look at each picture, in order; those without a file keep their reader's error."""
    paths = [picture.path for picture in pictures]
    looks = in_processes(look_at, paths, processes_for(len(paths), num_workers))
    return list(track(looks, len(paths), "looking at pictures", quiet))
