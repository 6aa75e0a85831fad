"""One image on its way into a packed data set: find, check, decode, optionally shrink. Runs in a worker."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from hatdet.data.image_file import ImageError, check_image, decode, read_bytes


@dataclass(frozen=True)
class ImageTask:
    """What a worker needs to know of one image; ``width`` and ``height`` are the json's (0: unknown)."""

    position: int
    folder: str
    file_name: str
    width: int
    height: int
    max_pixels: int
    max_side: int | None


@dataclass
class PackedImage:
    """What a worker found: the bytes to store, or why there are none.

    ``width`` and ``height`` belong to the boxes of the json, before shrinking by ``scale`` (sx, sy);
    ``stored_width`` and ``stored_height`` to the picture that decoding the bytes gives.
    """

    position: int
    path: str
    data: bytes = b""
    error: str = ""
    notes: list[str] = field(default_factory=list)
    width: int = 0
    height: int = 0
    stored_width: int = 0
    stored_height: int = 0
    as_stored: bool = False
    checksum: int = 0


def resolve_image(folder: str, file_name: str) -> Path:
    """The path of a listed image inside its folder.

    A name that repeats the folder (``train/x.jpg`` in ``train/``) or has backslashes is found too, where the
    plain one does not exist.

    Raises:
        ImageError: the name leaves the folder or cannot be a file name.
    """
    root = Path(folder)
    names = [file_name]
    if "\\" in file_name:
        names.append(file_name.replace("\\", "/"))
    parts = PurePosixPath(names[-1]).parts
    if len(parts) > 1 and parts[0] == root.name:
        names.append(str(PurePosixPath(*parts[1:])))
    for name in names:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise ImageError("leaves the image folder, refused")
        if "\0" in name or len(name) > 4096 or name != name.encode("utf-8", "replace").decode("utf-8"):
            raise ImageError("is not a possible file name")
        try:
            if (root / name).exists():
                return root / name
        except OSError as error:
            raise ImageError(f"is not a possible file name ({error.strerror})") from error
    return root / names[0]


def _missing_hint(path: Path) -> str:
    """The file of the same name in other letters of case, if there is one."""
    try:
        same = [p.name for p in path.parent.iterdir() if p.name.lower() == path.name.lower()]
    except OSError:
        return ""
    return f" (there is {same[0]!r}: upper and lower case differ)" if same and same[0] != path.name else ""


def pack_image(task: ImageTask) -> PackedImage:
    """Check one image; never raises for what is wrong with the file."""
    shown = repr(task.file_name)[1:-1]  # escaped: a name may hold line breaks
    result = PackedImage(task.position, str(Path(task.folder) / shown))
    try:
        path = resolve_image(task.folder, task.file_name)
        try:
            data = read_bytes(path)
        except ImageError as error:
            raise ImageError(f"{error}{_missing_hint(path)}") from error
        header = check_image(data, task.max_pixels)
        pixels = decode(data)
    except ImageError as error:
        result.error = str(error)
        return result
    except MemoryError:
        result.error = "does not fit into memory"
        return result
    shape = (pixels.shape[1], pixels.shape[0])
    listed = (task.width, task.height)
    if 0 not in listed and listed != shape:
        if listed == (header.width, header.height):  # the json counts pixels before the EXIF turn
            result.notes.append("the json's size is that before the EXIF turn; the turn is not applied")
            result.as_stored = True
            pixels = decode(data, as_stored=True)
            shape = listed
        else:
            size = f"{task.width}x{task.height}, the file has {shape[0]}x{shape[1]}"
            result.notes.append(f"the json says width x height {size}: the file's size is used")
    result.width, result.height = shape
    result.stored_width, result.stored_height = shape
    if task.max_side is not None and max(shape) > task.max_side:
        data, (result.stored_width, result.stored_height) = _shrink(pixels, task.max_side, header.kind)
        result.as_stored = False
    result.data = data
    result.checksum = zlib.crc32(data)
    return result


def _shrink(pixels: np.ndarray, max_side: int, kind: str) -> tuple[bytes, tuple[int, int]]:
    """Encode the picture again with its long side at ``max_side`` (averaging; JPEG quality 95 or PNG)."""
    import cv2

    height, width = pixels.shape[:2]
    scale = max_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if kind in ("PNG", "BMP"):
        encoded = cv2.imencode(".png", small)[1]
    else:
        encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    return encoded.tobytes(), size


def start_worker() -> None:
    """Settings of a packing process: one thread, and Ctrl-C is the parent's affair."""
    import signal

    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
