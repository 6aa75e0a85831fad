"""Pack an image-folder classification set (one folder a class) for pretraining a backbone.

The packed form is that of detection sets: every image has one box with its class, so the same reader, cache and
transforms serve both. (The crops for classification keep the class wherever they cut.)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hatdet.data.image_file import MAX_PIXELS, SUFFIXES, ImageError, check_image, read_bytes
from hatdet.data.packers.freshness import PackOptions
from hatdet.data.packers.mscoco import pack_coco
from hatdet.data.packers.store.publish import locked
from hatdet.data.packers.store.writer import disk_errors
from hatdet.utils.errors import UserError


def find_images(folder: Path) -> dict[str, list[str]]:
    """Image files by class, relative to ``folder``, both in alphabetical order.

    Raises:
        UserError: no such folder, no folder in it, or none with an image; a class without an image.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist or is not a folder; it should hold one folder a class")
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise UserError(
            f"{folder} holds no folders; an image-folder set has one folder a class: {folder}/cat/1.jpg: "
            "make them, or name another folder"
        )
    found = {}
    for path in classes:
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        found[path.name] = [p.relative_to(folder).as_posix() for p in files]
    empty = [name for name, files in found.items() if not files]
    if empty:
        raise UserError(
            f"{folder}: no image ({', '.join(SUFFIXES)}) in the class folder {empty[0]!r}; "
            "put images there, or remove the folder"
        )
    return found


def as_coco(folder: Path, log: Callable[[str], None]) -> dict[str, Any]:
    """The set as a COCO dict with one box an image; unreadable files are named and left out."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    found = find_images(folder)
    for label, files in enumerate(found.values(), 1):
        for name in files:
            try:
                header = check_image(read_bytes(folder / name), MAX_PIXELS)
            except ImageError as error:
                log(f"warning: image left out: {folder / name}: {error}")
                continue
            number = len(images) + 1
            side = min(header.width, header.height)  # inside the picture, whichever way its EXIF data turns it
            images.append({"id": number, "file_name": name})
            annotations.append(
                {
                    "id": number,
                    "image_id": number,
                    "category_id": label,
                    "bbox": [0, 0, side, side],
                    "area": side * side,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(found, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def pack_image_folder(
    folder: str | Path,
    target: str | Path,
    options: PackOptions | None = None,
    num_workers: int | None = None,
    force: bool = False,
    quiet: bool = False,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Pack ``folder`` into ``target`` (see :func:`~hatdet.data.packers.mscoco.pack_coco` for the arguments).

    The list of files and classes is left beside ``target`` as ``<split>_labels.json``.
    """
    folder, target = Path(folder), Path(target)
    labels = target.with_name(f"{target.name.removesuffix('_lmdb')}_labels.json")
    text = json.dumps(as_coco(folder, log))
    with disk_errors(target.parent), locked(target, log):
        temporary = labels.with_name(f".{labels.name}.part")  # one a target: what a killed run left is written over
        if temporary.exists() or not labels.is_file() or labels.read_text(encoding="utf-8") != text:
            try:
                temporary.write_text(text, encoding="utf-8")
                os.replace(temporary, labels)
            finally:
                temporary.unlink(missing_ok=True)
    return pack_coco(labels, folder, target, options or PackOptions(), num_workers, force, quiet, log)
