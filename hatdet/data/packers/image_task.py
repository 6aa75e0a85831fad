"""One image on its way into a packed data set: find, check, decode, optionally shrink. Runs in a worker."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hatdet.data.image_file import Header, ImageError, check_image, decode_deep, read_bytes


@dataclass(frozen=True)
class ImageTask:
    """What a worker needs to know of one image.

    ``path`` is the file, ``shown`` its name for messages, ``width`` and ``height`` are the json's (0: unknown);
    ``error`` says why there is no file.
    """

    position: int
    path: str
    shown: str
    width: int
    height: int
    max_pixels: int
    max_side: int | None
    error: str = ""


@dataclass(slots=True)
class PackedImage:
    """What a worker found: the bytes to store, or why there are none.

    The boxes of the json are in a picture of ``width`` x ``height``; decoding the file gives ``full_width`` x
    ``full_height``, decoding the bytes ``stored_width`` x ``stored_height``. ``notes`` are kinds and details for the
    report.
    """

    position: int
    path: str
    data: bytes = b""
    error: str = ""
    notes: list[tuple[str, str]] = field(default_factory=list)
    width: int = 0
    height: int = 0
    full_width: int = 0
    full_height: int = 0
    stored_width: int = 0
    stored_height: int = 0
    as_stored: bool = False
    scaled: bool = False
    checksum: int = 0
    largest: int | None = None
    """the largest value of a 16-bit picture; None: it has 8 bits"""


def pack_image(task: ImageTask) -> PackedImage:
    """Check one image; never raises for what is wrong with the file."""
    result = PackedImage(task.position, task.shown, error=task.error)
    if task.error:
        return result
    try:
        data = read_bytes(Path(task.path))
        header = check_image(data, task.max_pixels)
        stored = (header.width, header.height)
        shape = None if task.max_side is not None and max(stored) > task.max_side else _shape(data, header)
        pixels = decode_deep(data) if shape is None else None
        if pixels is not None:
            shape = (pixels.shape[1], pixels.shape[0])
        assert shape is not None
        listed = _listed(task.width, task.height, shape, stored)
        result.scaled = listed not in (shape, stored)
        if listed != shape and (listed == stored or not same_aspect(listed, shape)):
            if not same_aspect(listed, stored):
                raise ImageError(_size_differs(listed, shape))
            # The json counts pixels before the EXIF turn.
            result.as_stored = True
            pixels, shape = None if pixels is None else decode_deep(data, as_stored=True), stored
    except ImageError as error:
        result.error = str(error)
        return result
    except MemoryError:
        result.error = "does not fit into memory"
        return result
    if result.as_stored:
        result.notes.append(("the json's size is that before the EXIF turn: the turn is not applied", ""))
    if result.scaled:
        text = f"listed {listed[0]}x{listed[1]}, stored {shape[0]}x{shape[1]}"
        result.notes.append(("the json's size is not the picture's, of the same aspect: boxes scaled", text))
    result.largest = int(pixels.max()) if pixels is not None and pixels.dtype == np.uint16 else None
    result.width, result.height = listed
    result.stored_width, result.stored_height = result.full_width, result.full_height = shape
    if task.max_side is not None and pixels is not None and max(shape) > task.max_side:
        data, (result.stored_width, result.stored_height) = _shrink(pixels, task.max_side, header.kind)
        result.as_stored = False
    result.data = data
    result.checksum = zlib.crc32(data)
    return result


def _shape(data: bytes, header: Header) -> tuple[int, int] | None:
    """(width, height) that a JPEG is decoded to, its EXIF turn applied; None: the whole decoding has to tell.

    At an eighth of its size every bit of the file is decoded all the same; only the pixels are fewer, which takes a
    third of the time.

    Raises:
        ImageError: it cannot be decoded.
    """
    import cv2

    size = header.width, header.height
    eighth = tuple(-(-side // 8) for side in size)
    if header.kind != "JPEG" or (eighth[0] == eighth[1] and size[0] != size[1]):
        return None
    try:
        small = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_8)
    except cv2.error:
        return None
    if small is None:
        raise ImageError("cannot be decoded")
    shape = small.shape[1], small.shape[0]
    return size if shape == eighth else size[::-1] if shape == eighth[::-1] else None


def _listed(width: int, height: int, shape: tuple[int, int], stored: tuple[int, int]) -> tuple[int, int]:
    """The size that the json means; where it gives one side alone (0: unknown), the other one follows the picture's."""
    if bool(width) == bool(height):
        return (width, height) if width else shape
    side, given = (0, width) if width else (1, height)
    actual = stored if given == stored[side] != shape[side] else shape
    other = max(1, round(actual[1 - side] * given / actual[side]))
    return (given, other) if side == 0 else (other, given)


def same_aspect(listed: tuple[int, int], shape: tuple[int, int]) -> bool:
    """Whether one size is the other one scaled: within 1 %, or within what rounding to whole pixels explains."""
    (a, b), (c, d) = listed, shape
    return abs(a * d - b * c) <= 0.01 * b * c or abs(a - b * c / d) < 1 or abs(b - a * d / c) < 1


def _size_differs(listed: tuple[int, int], shape: tuple[int, int]) -> str:
    text = f"the json says width x height {listed[0]}x{listed[1]}, the file has {shape[0]}x{shape[1]}: another aspect"
    return text + (" (are width and height exchanged in the json?)" if listed == shape[::-1] else "")


def _shrink(pixels: np.ndarray, max_side: int, kind: str) -> tuple[bytes, tuple[int, int]]:
    """Encode the picture again with its long side at ``max_side`` (averaging; JPEG quality 95 or PNG)."""
    import cv2

    height, width = pixels.shape[:2]
    scale = max_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if kind in ("PNG", "BMP") or pixels.dtype == np.uint16:
        encoded = cv2.imencode(".png", small)[1]
    else:
        encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    return encoded.tobytes(), size


