"""COCO jsons with their pictures, in every usual layout (Roboflow's and CVAT's too), as one data set."""

from __future__ import annotations

import re
from pathlib import Path

from hatdet.data.coco import CocoFile, read_coco
from hatdet.data.coco_entries import Annotation, Category
from hatdet.data.folders.dataset import DataSet, Picture, split_name
from hatdet.data.image_file import SUFFIXES
from hatdet.data.packers.formats import coco_files
from hatdet.data.packers.image_names import ImageFolder
from hatdet.data.packers.places import ROBOFLOW, folder_places, json_places_found
from hatdet.data.report import Report
from hatdet.utils.errors import UserError


def coco_splits(root: Path) -> list[tuple[str, Path]]:
    """The jsons of a folder with the split of each; one json by itself is of the split that its name says."""
    if root.is_file():
        return [(_split_of(root), root)]
    usual = [(split, files[0]) for split in ("train", "val", "test") if (files := json_places_found(root, split))]
    return usual or [(_split_of(file), file) for file in coco_files(root)]


def _split_of(file: Path) -> str:
    """``instances_default.json`` (CVAT's) and others that name no split are of none."""
    words = [file.parent.name] if file.name == ROBOFLOW else re.split(r"[_\-.]", file.stem)
    return next((name for word in reversed(words) if (name := split_name(word))), "")


def read_coco_folder(root: Path) -> DataSet:
    """Read all COCO jsons of a data set, or a single one.

    Raises:
        UserError: there is none, two are of one split, or one cannot be used.
    """
    places = coco_splits(root)
    if not places:
        raise UserError(f"{root} holds no COCO json; name the folder above it, or the json itself")
    names = [split for split, _ in places]
    for split in names:
        if names.count(split) > 1:
            files = ", ".join(str(file) for other, file in places if other == split)
            raise UserError(f"{root}: several jsons of one split ({files}); name the one that is meant")
    report = Report(str(root))
    classes: list[Category] = []
    pictures: list[Picture] = []
    folders: list[Path] = []
    for split, file in places:
        content = read_coco(file)
        report.merge(content.report, file.name)
        relabel = _merge(classes, content.categories)
        folder = _folder_of(root, split, content)
        pictures += _pictures(content, split, folder, relabel, report)
        folders.append(folder)
    listed = {picture.path for picture in pictures}
    for folder in dict.fromkeys(folders):  # splits may share one
        more = sum(1 for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path not in listed)
        if more:
            report.add("picture that its json does not list, left out", f"in {folder}", more)
    return DataSet(root, "COCO", classes, pictures, report, tuple(names))


def _merge(classes: list[Category], more: list[Category]) -> list[int]:
    """Labels of ``more`` in ``classes``, which grows by what is new; classes are the same by name."""
    by_name = {category.name: label for label, category in enumerate(classes)}
    used = {category.id for category in classes}
    labels = []
    for category in more:
        if category.name not in by_name:
            number = category.id if category.id not in used else max(used) + 1
            used.add(number)
            by_name[category.name] = len(classes)
            classes.append(Category(number, category.name, category.supercategory))
        labels.append(by_name[category.name])
    return labels


def _folder_of(root: Path, split: str, content: CocoFile) -> Path:
    """The first usual folder that has one of the first pictures; else the first that is there."""
    file, base = content.path, root if root.is_dir() else content.path.parent
    homes = list(dict.fromkeys([base, file.parent.parent, file.parent]))
    places = [place for home in homes for place in folder_places(home, split, file)] if split else []
    places += [home / name for home in homes for name in (file.stem.removeprefix("instances_"), "images", "")]
    places += [path for home in homes[:2] for path in sorted((home / "images").glob("*")) if path.is_dir()]
    places = [place for place in dict.fromkeys(places) if place.is_dir()]
    names = [entry.file_name for entry in content.images if entry.file_name][:20]
    for place in places:
        folder = ImageFolder(place)
        if any(not folder.look_up(name).error for name in names):
            return place
    return places[0]


def _pictures(
    content: CocoFile, split: str, folder: Path, relabel: list[int], report: Report
) -> list[Picture]:
    files, found = ImageFolder(folder), list[Picture]()
    listed: dict[str, str] = {}
    for entry in content.images:
        if not entry.file_name:
            continue
        place = files.look_up(entry.file_name)
        name = place.path or entry.file_name.replace("\\", "/").lstrip("/")
        picture = Picture(
            split, folder / (place.path or place.shown), name, entry.width, entry.height, id=entry.id,
            error=place.error, source=content.path,
        )  # fmt: skip
        picture.boxes = [
            Annotation(box.name, box.bbox, relabel[box.label], box.area, box.iscrowd) for box in entry.annotations
        ]
        if place.error:
            report.add("picture left out", f"{folder / place.shown}: {place.error}")
        elif place.path in listed:
            report.add("picture listed more than once", f"{name}: image ids {listed[place.path]} and {entry.id!r}")
        if place.path:
            listed.setdefault(place.path, repr(entry.id))
        found.append(picture)
    return found
