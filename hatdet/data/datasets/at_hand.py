"""How many pictures a COCO data set would have, without packing anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hatdet.data.coco import read_coco
from hatdet.data.coco_entries import Annotation, Category
from hatdet.data.datasets.coco import current_copy
from hatdet.data.datasets.coco_lmdb import CocoFromLMDB
from hatdet.data.datasets.folders import FORMATS, usable_of
from hatdet.data.folders.open import format_at, read_dataset
from hatdet.data.packers.layouts import locate
from hatdet.data.packers.places import json_places_found, split_of


def pictures_at_hand(
    data_root: str | Path,
    ann_file: str | Path,
    img_prefix: str | Path,
    *,
    classes: Sequence[str] | None = None,
    filter_empty: bool = True,
) -> int:
    """The length of a training's :class:`~hatdet.data.datasets.coco.CocoDataset` of these arguments: from its packed
    copy where that is up to date, else from the json or the folder, where a picture that cannot be read counts too.

    Raises:
        UserError: there is no such data set, or it cannot be read.
    """
    root, split = Path(data_root).expanduser(), split_of(str(ann_file))
    format = format_at(root) if root.exists() else None
    if split and format in FORMATS and not (root / ann_file).exists() and not json_places_found(root, split):
        folder = read_dataset(root, format)
        boxes = [picture.boxes for picture in usable_of(folder, split)]
        return _count(boxes, folder.classes, classes, filter_empty)
    place, _ = locate(root, str(ann_file), str(img_prefix))
    packed = place.packed or current_copy(place.ann_file, place.img_dir, root)
    if packed is not None:
        return len(CocoFromLMDB(packed, transforms=[], classes=classes, filter_empty=filter_empty))
    file = read_coco(place.ann_file)
    return _count([image.annotations for image in file.images], file.categories, classes, filter_empty)


def _count(
    pictures: list[list[Annotation]], known: list[Category], classes: Sequence[str] | None, filter_empty: bool
) -> int:
    """Pictures with a box to learn from, or all; ``known``: by label."""
    if not filter_empty:
        return len(pictures)
    used = {label for label, category in enumerate(known) if classes is None or category.name in classes}
    return sum(any(not box.iscrowd and box.label in used for box in boxes) for boxes in pictures)
