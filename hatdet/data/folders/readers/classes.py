"""Folders of pictures of one class: nothing says where the object is, so the whole picture is its box."""

from __future__ import annotations

from pathlib import Path

from hatdet.data.folders.dataset import DataSet, Picture, numbered, split_name
from hatdet.data.folders.readers.files import add_box, measure, pictures_below, relative
from hatdet.data.report import Report
from hatdet.utils.errors import UserError


def read_class_folders(root: Path) -> DataSet:
    """Read ``cat/*.jpg``, ``train/cat/*.jpg``, or pictures that lie in ``root`` alone: one class of its name.

    Raises:
        UserError: there is no picture.
    """
    report = Report(str(root))
    pictures, names = list[Picture](), list[str]()
    for path in pictures_below(root):
        folders = list(path.relative_to(root).parts[:-1])
        split = split_name(folders[0]) if folders else None
        if split:
            folders = folders[1:]
        base = root / path.relative_to(root).parts[0] if split else root
        name = folders[0] if folders else root.resolve().name
        pictures.append(Picture(split or "", path, relative(path, base), source=path))
        names.append(name)
    if not pictures:
        raise UserError(f"{root} holds no pictures; name a folder with pictures in it")
    classes = sorted(set(names))
    for picture, name in zip(pictures, names):
        if measure(picture, report):
            whole = (0, 0, picture.width, picture.height)
            add_box(picture, picture.name, whole, classes.index(name), False, report)
    report.add("folders say the class and not the place: the box is the whole picture", ", ".join(classes)[:200])
    return DataSet(root, "class folders", numbered(classes), pictures, report)
