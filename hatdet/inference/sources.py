"""Where pictures come from: arrays, files, folders, patterns, videos, cameras, streams; one frame after another."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.data.image_file import SUFFIXES
from hatdet.export.images import image_files, read_image
from hatdet.utils.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".mjpg")
SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://")
COLORS = ("BGR", "RGB")
WHAT = (
    "a picture or video, a pattern of either, a folder of pictures, a camera's number, the address of a stream, an "
    "array (height, width, 3) of uint8, or a list or generator of these"
)
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """A picture on its way: uint8 (h, w, 3) BGR, where it is from, its number and its time in a video (else None)."""

    image: Image
    path: Path | None = None
    number: int = 0
    time: float | None = None
    kept: bool = True
    """Whether the result keeps the pixels: those of a file can be read again."""


def is_moving(source: Any) -> bool:
    """Whether a source is a video, a pattern of them, a camera or a stream: frames that are not counted before.

    What lies there as a folder is a folder, whatever it is called (``2024``).
    """
    if isinstance(source, bool):
        return False
    if isinstance(source, int):
        return True
    if not isinstance(source, (str, os.PathLike)):
        return False
    text = os.fspath(source)
    named = text.isdecimal() or text.startswith(SCHEMES) or text.lower().endswith(VIDEO_SUFFIXES)
    return named and not os.path.isdir(text)


def videos_of(source: Any) -> list[Any]:
    """What a moving source names: the videos of a pattern (``day/*.mp4``), else itself.

    Raises:
        UserError: nothing matches the pattern.
    """
    if isinstance(source, int) or is_live(source) or not _is_pattern(os.fspath(source)):
        return [source]
    found = sorted(name for name in glob.glob(os.fspath(source), recursive=True) if os.path.isfile(name))
    if not found:
        raise UserError(f"no video matches {source}; name a pattern of files with {', '.join(VIDEO_SUFFIXES)}")
    return found


def is_live(source: Any) -> bool:
    """Whether a source is a camera or a stream, which does not end by itself."""
    return is_moving(source) and (str(source).isdecimal() or str(source).startswith(SCHEMES))


def is_single(source: Any) -> bool:
    """Whether a source is one picture: an array, or a file."""
    if isinstance(source, (str, os.PathLike)):
        return not is_moving(source) and not Path(source).is_dir() and not _is_pattern(os.fspath(source))
    return hasattr(source, "__array__") or hasattr(source, "__array_interface__")


def picture_paths(source: str | os.PathLike[str]) -> list[Path]:
    """The picture files that a name means: a file, a folder with all inside, or a pattern (``day/*.jpg``).

    Raises:
        UserError: none is there.
    """
    path, text = Path(source), os.fspath(source)
    if path.is_dir():
        return image_files(path)
    if path.exists() or not _is_pattern(text):
        if not path.exists():
            raise UserError(f"no picture, folder or video is at {text}; name {WHAT}")
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(
                f"{text} is no picture: its name ends with none of {', '.join(SUFFIXES)} (of videos "
                f"{', '.join(VIDEO_SUFFIXES)}); name such a file, or a folder of pictures"
            )
        return [path]
    found = sorted(Path(name) for name in glob.glob(text, recursive=True))
    found = [file for file in found if file.is_file() and file.suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(f"no picture matches {text}; name a pattern of files with {', '.join(SUFFIXES)}")
    return found


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[") and not os.path.exists(text)


def frames_of(source: Any, color: str = "BGR", bits: int = 16) -> Iterator[Frame]:
    """The pictures of a source, read one by one as they are asked for.

    Args:
        source: see ``WHAT``; a list or generator may mix them.
        color: order of the channels of arrays. bits: of files with 16, as in :func:`hatdet.export.images.read_image`.

    Raises:
        UserError: what is no picture.
    """
    if is_moving(source):
        for video in videos_of(source):
            yield from video_frames(video)
    elif isinstance(source, (str, os.PathLike)):
        for path in picture_paths(source):
            yield Frame(read_image(path, bits), path, kept=False)
    elif is_single(source):
        yield Frame(as_bgr(source, color))
    elif isinstance(source, (bytes, bytearray)):
        raise UserError("the bytes of a file are no picture; give what cv2.imdecode or PIL.Image.open makes of them")
    elif isinstance(source, Iterable):
        for number, one in enumerate(source):
            for frame in frames_of(one, color, bits):
                plain = frame.path is None and frame.time is None
                yield Frame(frame.image, number=number) if plain else frame
    else:
        raise UserError(f"a {type(source).__name__} is nothing to detect in; give {WHAT}")


def as_bgr(source: Any, color: str = "BGR") -> Image:
    """An array (h, w), (h, w, 1) or (h, w, 3) of uint8, or a PIL image (whose colours are known), as (h, w, 3) BGR.

    Raises:
        UserError: of another shape or type.
    """
    if type(source).__module__.startswith("PIL."):
        source, color = source.convert("RGB"), "RGB"
    array = np.asarray(source)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        hint = " with array.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in (1, 3) else ""
        raise UserError(
            f"a picture is an array (height, width, 3) or (height, width) of uint8, got {array.dtype} {array.shape}: "
            f"convert it{hint}"
        )
    if array.size == 0:
        raise UserError(f"a picture of {array.shape} has no pixels; give one that has")
    if array.ndim == 2 or array.shape[2] == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(array[:, :, ::-1] if color == "RGB" else array)


def video_frames(source: Any) -> Iterator[Frame]:
    """The frames of a video file, a camera (its number) or a stream (its address).

    Raises:
        UserError: it cannot be opened, or holds no frame that can be decoded.
    """
    import cv2

    text = str(source)
    path = None if is_live(source) else Path(text)
    if path is not None and not path.is_file():
        raise UserError(f"there is no video {text}; name a file that is there")
    capture = cv2.VideoCapture(int(text) if text.isdecimal() else text)
    what = "camera" if text.isdecimal() else "video" if path is not None else "stream"
    try:
        if not capture.isOpened():
            hint = {"camera": "it is connected and free", "stream": "its address can be reached"}
            hint["video"] = "it is whole, or convert it to a format of OpenCV's (.mp4 with H.264)"
            raise UserError(f"the {what} {text} cannot be opened; check that {hint[what]}")
        rate, number = capture.get(cv2.CAP_PROP_FPS), 0
        while True:
            good, image = capture.read()
            if not good:
                break
            seconds = number / rate if rate and rate > 0 else float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
            yield Frame(image, path if path is not None else Path(text), number, seconds)
            number += 1
        if number == 0:
            raise UserError(f"the {what} {text} gives no frame; check that it is whole, and in a format of OpenCV's")
    finally:
        capture.release()


def video_rate(source: Any, otherwise: float = 25.0) -> float:
    """Frames a second that a video or camera says it has; ``otherwise`` where it does not."""
    import cv2

    text = str(source)
    capture = cv2.VideoCapture(int(text) if text.isdecimal() else text)
    try:
        rate = float(capture.get(cv2.CAP_PROP_FPS)) if capture.isOpened() else 0.0
    finally:
        capture.release()
    return rate if 0 < rate < 1000 else otherwise


def video_length(source: Any) -> int:
    """How many frames a video file says it has; 0 where it does not."""
    import cv2

    if is_live(source):
        return 0
    capture = cv2.VideoCapture(str(source))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()
