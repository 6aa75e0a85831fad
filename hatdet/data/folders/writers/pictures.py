"""The pictures of a converted data set: which are written, under which names, copied or linked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hatdet.data.coco_boxes import clip_bbox
from hatdet.data.coco_entries import Annotation
from hatdet.data.folders.dataset import DataSet, Picture
from hatdet.data.folders.sizes import jpeg_orientation, picture_size
from hatdet.data.image_file import ImageError, read_bytes, read_header
from hatdet.data.packers.image_task import same_aspect
from hatdet.data.report import Report
from hatdet.utils.errors import UserError

WAYS: dict[str, Callable[[Path, Path], object]] = {
    "copy": shutil.copyfile,
    "link": lambda source, target: os.symlink(source.resolve(), target),
    "hardlink": lambda source, target: os.link(source.resolve(), target),
}
"""How pictures come into the new folder."""


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which gets the name ``target`` when it is complete.

    Raises:
        UserError: ``target`` holds something already.
    """
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise UserError(f"{target} exists and is not an empty folder; name a new one")
    target = Path(os.path.abspath(target))  # "." has no name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if target.is_dir():
            target.rmdir()
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def usable(dataset: DataSet, report: Report) -> list[Picture]:
    """The pictures that can be written, in pixels of their files, with boxes inside; what is left out is counted."""
    kept = []
    for picture in dataset.pictures:
        if picture.error:  # its reader has counted it
            continue
        ready = _in_own_pixels(picture, report)
        if ready is not None:
            kept.append(replace(ready, boxes=[*_inside(ready, report)]))
    if not kept:
        raise UserError(f"{dataset.root}: not one picture can be written; run 'tools/data.py check' on it")
    return kept


def _inside(picture: Picture, report: Report) -> Iterator[Annotation]:
    for box in picture.boxes:
        clipped = clip_bbox(box, picture.width, picture.height, report)
        if clipped is not None:
            yield box if clipped == box.bbox else replace(box, bbox=clipped)


def _in_own_pixels(picture: Picture, report: Report) -> Picture | None:
    """The picture with the size of its file and boxes that count in it; None, counted, where these do not fit."""
    try:
        width, height = picture_size(picture.path)
        data = read_bytes(picture.path)
        stored = read_header(data)
    except ImageError as error:
        report.add("picture left out", f"{picture.path}: {error}")
        return None
    listed = picture.width or width, picture.height or height
    if listed == (width, height):
        return replace(picture, width=width, height=height)
    if listed == (stored.width, stored.height):
        turn = jpeg_orientation(data) if stored.kind == "JPEG" else 0
        boxes = turned(picture.boxes, listed, turn)
        if boxes is None:
            kind = "picture whose boxes count before its EXIF turn, left out (save it without the turn)"
            report.add(kind, str(picture.path))
            return None
        report.add("boxes counted before the picture's EXIF turn: turned with it", str(picture.path))
        return replace(picture, width=width, height=height, boxes=boxes)
    if not same_aspect(listed, (width, height)):
        text = f"{picture.path}: listed {listed[0]}x{listed[1]}, the file has {width}x{height}"
        report.add("picture of another aspect than is listed, left out", text)
        return None
    report.add("listed size is not the picture's, of the same aspect: boxes scaled", str(picture.path))
    sx, sy = width / listed[0], height / listed[1]
    boxes = [
        replace(b, bbox=(b.bbox[0] * sx, b.bbox[1] * sy, b.bbox[2] * sx, b.bbox[3] * sy), area=b.area * sx * sy)
        for b in picture.boxes
    ]
    return replace(picture, width=width, height=height, boxes=boxes)


def turned(boxes: Sequence[Annotation], size: tuple[int, int], orientation: int) -> list[Annotation] | None:
    """Boxes of a picture as it is stored (``size``: width, height), as they lie after its EXIF turn.

    None where the turn does not swap width and height, or a box reaches beyond ``size``, so that it cannot count in it.

    EXIF's orientation (CIPA DC-008) says where row 0 and column 0 of the file are shown: 5 left top, 6 right top,
    7 right bottom, 8 left bottom.
    """
    width, height = size
    corner = {
        5: lambda x, y, w, h: (y, x),
        6: lambda x, y, w, h: (height - y - h, x),
        7: lambda x, y, w, h: (height - y - h, width - x - w),
        8: lambda x, y, w, h: (y, width - x - w),
    }.get(orientation)
    if corner is None or any(x + w > width + 1 or y + h > height + 1 for x, y, w, h in (box.bbox for box in boxes)):
        return None
    return [replace(box, bbox=(*corner(*box.bbox), box.bbox[3], box.bbox[2])) for box in boxes]


def unique_names(pictures: Iterable[Picture], flat: bool, by_split: bool, report: Report) -> list[str]:
    """A name for each picture, of which the stem is used once: label files have the picture's stem.

    Args:
        flat: no folders in it.
        by_split: two splits may have the same.
    """
    taken: set[tuple[str, str]] = set()
    names = []
    for picture in pictures:
        plain = picture.name.lstrip("/")
        if ".." in Path(plain).parts:
            plain = Path(plain).name
        if flat:
            plain = plain.replace("/", "__")
        stem, suffix = os.path.splitext(plain)
        # line breaks would end a line of a list, and letters of case are one name on some disks
        stem = "".join(char if char.isprintable() else "_" for char in stem)
        chosen, count = stem, 1
        while (key := (picture.split if by_split else "", chosen.casefold())) in taken:
            count += 1
            chosen = f"{stem}_{count}"
        taken.add(key)
        if chosen + suffix != picture.name:
            report.add("picture renamed", f"{picture}: {chosen + suffix}")
        names.append(chosen + suffix)
    return names


def bring(picture: Picture, target: Path, way: str) -> None:
    """Copy or link a picture's file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        WAYS[way](picture.path, target)
    except OSError as error:
        if way == "hardlink":
            raise UserError(f"{target} cannot be linked ({error.strerror}); use --pictures copy") from None
        raise


def split_folders(pictures: Iterable[Picture], report: Report) -> dict[str, list[int]]:
    """Positions of the pictures by split; those of no split are written as ``train``."""
    found: dict[str, list[int]] = {}
    for position, picture in enumerate(pictures):
        if not picture.split:
            report.add("picture of no split, written as train ('tools/data.py split' makes splits)", str(picture))
        found.setdefault(picture.split or "train", []).append(position)
    return found
