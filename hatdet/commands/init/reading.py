"""What a config depends on in a data set of any format that training reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hatdet.data.coco import CocoFile, read_coco
from hatdet.data.datasets.folders import FORMATS, usable_of
from hatdet.data.folders import dataset as folders
from hatdet.data.folders.open import format_at, read_dataset
from hatdet.data.image_file import ImageError, read_bytes, read_header
from hatdet.data.packers.layouts import Place, locate
from hatdet.utils.errors import UserError


@dataclass(frozen=True)
class Picture:
    """Width and height in pixels, and those of its boxes."""

    width: int
    height: int
    boxes: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Survey:
    """A data set as :mod:`hatdet.commands.init.choices` looks at it.

    Attributes:
        root: its folder, as the user named it. format: what it is, for the eye.
        classes: in the order of the labels.
        train, val: the pictures. counts: boxes of each class in train.
        settings: names of a config beyond ``data_root`` and the classes that reading it takes, with their values.
        remarks: what was odd.
    """

    root: Path
    format: str
    classes: tuple[str, ...]
    train: tuple[Picture, ...]
    val: tuple[Picture, ...]
    counts: tuple[int, ...]
    settings: dict[str, object] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def survey(root: Path) -> Survey:
    """Look at a data set, found as ``train`` finds it: COCO jsons under their usual names, YOLO, Pascal VOC, LabelMe.

    Args:
        root: its folder, or a data.yaml.

    Raises:
        UserError: there is none, a split is missing, or nothing can be learned from it.
    """
    if not root.exists():
        raise UserError(f"no folder {root}; name the folder of a data set (COCO, YOLO, Pascal VOC, LabelMe)")
    format = format_at(root)
    if format in FORMATS:
        return _folder(root, format)
    if not root.is_dir():
        raise UserError(f"{root} is no folder; name the folder of the data set, or the data.yaml of a YOLO one")
    return _coco(root)


def _folder(root: Path, format: str) -> Survey:
    """A data set in another format than COCO's: all splits have the same classes."""
    dataset = read_dataset(root, format)
    entries = {split: usable_of(dataset, split) for split in ("train", "val")}
    for split, pictures in entries.items():
        _needs_boxes(root, split, any(not box.iscrowd for picture in pictures for box in picture.boxes))
    classes = tuple(category.name for category in dataset.classes)
    train, val = (tuple(_picture(entry) for entry in pictures) for pictures in entries.values())
    counts = tuple(dataset.boxes_by_class("train"))
    return Survey(root, dataset.format, classes, train, val, counts, remarks=tuple(dataset.report.lines()))


def _picture(entry: folders.Picture) -> Picture:
    boxes = tuple((box.bbox[2], box.bbox[3]) for box in entry.boxes if not box.iscrowd)
    return Picture(entry.width, entry.height, boxes)


def _needs_boxes(place: Path, split: str, has_some: bool) -> None:
    if not has_some:
        raise UserError(f"{place}: the split {split!r} has no box; label some pictures, or name other data")


def _coco(root: Path) -> Survey:
    """A data set in COCO format, under the usual names, Roboflow's among them."""
    places = [_place(root, split) for split in ("train", "val")]
    files = [read_coco(place.ann_file) for place in places]
    for split, file in zip(("train", "val"), files, strict=True):
        _needs_boxes(file.path, split, any(not box.iscrowd for image in file.images for box in image.annotations))
    own = [tuple(category.name for category in file.categories) for file in files]
    classes = (*own[0], *(name for name in own[1] if name not in own[0]))
    boxes = (box for image in files[0].images for box in image.annotations)
    train, val = (_pictures(file, place) for file, place in zip(files, places, strict=True))
    return Survey(
        root,
        "COCO",
        classes,
        train,
        val,
        tuple(folders.class_counts(boxes, len(classes))),
        {} if own[0] == own[1] else {"classes": classes},
        tuple(line for file in files for line in file.report.lines()),
    )


def _place(root: Path, split: str) -> Place:
    """What the shipped configs take for the split."""
    place, _ = locate(root, f"annotations/instances_{split}2017.json", f"{split}2017/")
    if place.packed is not None:
        raise UserError(f"{place.packed} is packed data; name the folder of the json and the pictures it was made of")
    return place


def _pictures(file: CocoFile, place: Place) -> tuple[Picture, ...]:
    """Sizes are the json's; of pictures whose size it does not say, those of the files. Crowds are no objects."""
    found = []
    for image in file.images:
        width, height = image.width, image.height
        if not (width and height):
            try:
                header = read_header(read_bytes(place.img_dir / image.file_name))
            except (ImageError, OSError):  # the packer says of each file what is wrong with it
                continue
            width, height = header.width, header.height
        boxes = tuple((box.bbox[2], box.bbox[3]) for box in image.annotations if not box.iscrowd)
        found.append(Picture(width, height, boxes))
    return tuple(found)
