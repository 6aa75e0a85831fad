"""A data set as Pascal VOC's XML files: ``Annotations/``, ``JPEGImages/``, ``ImageSets/Main/train.txt``."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from hatdet.data.coco_entries import Annotation, Category
from hatdet.data.folders.dataset import Picture
from hatdet.data.folders.writers.pictures import bring, split_folders, unique_names
from hatdet.data.report import Report

LEAST_MOVE = 1e-3
"""Pixels; less is the rounding of another format."""


def write_voc(
    folder: Path, pictures: Sequence[Picture], classes: Sequence[Category], way: str, report: Report
) -> int:
    """Write annotations, pictures and lists into a folder; boxes in whole pixels, crowds as difficult objects.

    Returns:
        the number of boxes.
    """
    names = unique_names(pictures, True, False, report)
    names = _without_spaces(names, report)
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for picture, name in zip(pictures, names):
        bring(picture, folder / "JPEGImages" / name, way)
        tree = _annotation(picture, name, classes, report)
        target = (folder / "Annotations" / name).with_suffix(".xml")
        tree.write(target, encoding="utf-8", xml_declaration=False)
    for split, positions in split_folders(pictures, report).items():
        lines = "".join(f"{Path(names[i]).stem}\n" for i in positions)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(lines, encoding="utf-8")
    # VOC lists no classes: without this file they would come back in the order of the alphabet.
    (folder / "labels.txt").write_text("".join(f"{one.name}\n" for one in classes), encoding="utf-8")
    return sum(len(picture.boxes) for picture in pictures)


def _without_spaces(names: list[str], report: Report) -> list[str]:
    """A list of pictures is read word by word."""
    taken = {name for name in names if " " not in name}
    result = []
    for name in names:
        plain = "_".join(name.split())
        while plain != name and plain in taken:
            plain = "_" + plain
        if plain != name:
            report.add("picture renamed", f"{name}: {plain}")
        taken.add(plain)
        result.append(plain)
    return result


def _annotation(
    picture: Picture, name: str, classes: Sequence[Category], report: Report
) -> ET.ElementTree[ET.Element]:
    root = ET.Element("annotation")
    ET.SubElement(root, "folder").text = "JPEGImages"
    ET.SubElement(root, "filename").text = name
    size = ET.SubElement(root, "size")
    for side, value in (("width", picture.width), ("height", picture.height), ("depth", 3)):
        ET.SubElement(size, side).text = str(value)
    ET.SubElement(root, "segmented").text = "0"
    for box in picture.boxes:
        element = ET.SubElement(root, "object")
        ET.SubElement(element, "name").text = classes[box.label].name
        ET.SubElement(element, "difficult").text = str(int(box.iscrowd))
        corners = ET.SubElement(element, "bndbox")
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), _corners(box, picture, report)):
            ET.SubElement(corners, side).text = str(value)
    ET.indent(root)
    return ET.ElementTree(root)


def _corners(box: Annotation, picture: Picture, report: Report) -> tuple[int, int, int, int]:
    """The first and the last pixel, counted from 1, of at least one pixel inside the picture."""
    x, y, width, height = box.bbox
    left, right = _ends(x, x + width, picture.width)
    top, bottom = _ends(y, y + height, picture.height)
    moved = max(abs(left - 1 - x), abs(top - 1 - y), abs(right - x - width), abs(bottom - y - height))
    if moved > LEAST_MOVE:
        report.add("box brought to whole pixels: VOC holds no others", f"{picture}: {box.name}: {list(box.bbox)}")
    return left, top, right, bottom


def _ends(low: float, high: float, size: int) -> tuple[int, int]:
    first = min(max(round(low), 0), size - 1)
    return first + 1, min(max(round(high), first + 1), size)
