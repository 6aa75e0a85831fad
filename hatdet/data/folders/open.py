"""A data set of any known format: which one it is, and reading it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hatdet.data.folders.dataset import DataSet
from hatdet.data.folders.readers.classes import read_class_folders
from hatdet.data.folders.readers.coco import coco_splits, read_coco_folder
from hatdet.data.folders.readers.labelme import read_labelme
from hatdet.data.folders.readers.voc import read_voc_folder
from hatdet.data.folders.readers.yolo import read_yolo
from hatdet.data.packers.formats import format_of, recognise
from hatdet.utils.errors import UserError

READERS: dict[str, Callable[[Path], DataSet]] = {
    "coco": read_coco_folder,
    "yolo": read_yolo,
    "voc": read_voc_folder,
    "labelme": read_labelme,
    "classes": read_class_folders,
}
"""By the names that commands take."""
_NAMES = {"YOLO": "yolo", "Pascal VOC": "voc", "LabelMe": "labelme"}
_SUFFIXES = {".json": "coco", ".yaml": "yolo", ".yml": "yolo"}


def format_at(root: Path) -> str | None:
    """Which reader a folder or file is for; None: none of those that know boxes."""
    if root.is_file():
        return _SUFFIXES.get(root.suffix.lower())
    if coco_splits(root):
        return "coco"
    return _NAMES.get(format_of(root))


def read_dataset(root: Path, format: str | None = None) -> DataSet:
    """Read a data set.

    Args:
        root: its folder, its data.yaml, or a COCO json.
        format: a name of :data:`READERS`; None: what is found there.

    Raises:
        UserError: there is none, or it cannot be used.
    """
    root = root.expanduser()
    if not root.exists():
        raise UserError(f"{root} does not exist; name the folder of a data set, its data.yaml or a COCO json")
    chosen = format or format_at(root)
    if chosen is None:
        there = recognise(root) if root.is_dir() else f"{root} is neither a COCO json nor a data.yaml"
        raise UserError(f"{there}; name a data set in a format that is read here (--format {', '.join(READERS)})")
    found = READERS[chosen](root)
    if not found.pictures:
        reasons = "; ".join(found.report.lines()) or "there is none"
        raise UserError(f"{root}: no picture with an annotation is there ({reasons}); name the folder above its splits")
    return found
