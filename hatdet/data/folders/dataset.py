"""What every reader gives and every writer takes: pictures, boxes, classes, splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hatdet.data.coco_entries import Annotation, Category
from hatdet.data.report import Report

SPLITS = ("train", "val", "test")
"""In the order in which they are shown; a data set may have others."""
OTHER_NAMES = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}


@dataclass
class Picture:
    """One picture and what is on it.

    Attributes:
        split: ``train``, ``val``, ``test``, or any other name; empty where the data set has no splits.
        path: the file; where ``error`` says why there is none, the name that was looked for.
        name: inside the split, with ``/`` between folders: ``a/0001.jpg``.
        width, height: that the boxes count in: pixels after the EXIF turn; 0 where nothing says them.
        boxes: what is on it; their labels count in :attr:`DataSet.classes`.
        id: of a COCO file; None elsewhere.
        labelled: whether an annotation speaks of it; a picture without one is taken for an empty one.
        source: the file that its boxes come from.
    """

    split: str
    path: Path
    name: str
    width: int = 0
    height: int = 0
    boxes: list[Annotation] = field(default_factory=list)
    id: int | str | None = None
    error: str = ""
    labelled: bool = True
    source: Path | None = None

    def __str__(self) -> str:
        return f"{self.split}/{self.name}" if self.split else self.name


@dataclass
class DataSet:
    """A data set in memory; nothing of its pictures is decoded.

    Attributes:
        root: the folder (or file) that was read.
        format: its name: ``COCO``, ``YOLO``, ``Pascal VOC``, ``LabelMe``, ``class folders``.
        classes: by label; ids are those of the file where it has some.
        pictures: split by split.
        report: what was odd or left out, and how often.
        named_splits: splits that the data set declares, those without a picture too.
    """

    root: Path
    format: str
    classes: list[Category]
    pictures: list[Picture]
    report: Report
    named_splits: tuple[str, ...] = ()

    @property
    def splits(self) -> list[str]:
        """Names of the splits that have pictures, in the usual order."""
        found = {picture.split for picture in self.pictures}
        return sorted(found, key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))

    def of(self, split: str) -> list[Picture]:
        """The pictures of a split."""
        return [picture for picture in self.pictures if picture.split == split]

    def boxes_by_class(self, split: str | None = None) -> list[int]:
        """How many boxes to learn each class has, in one split or in all."""
        chosen = self.pictures if split is None else self.of(split)
        return class_counts((box for picture in chosen for box in picture.boxes), len(self.classes))

    def summary(self) -> str:
        """One line: format, pictures by split, boxes, classes."""
        counts = [f"{split or 'no split'} {len(self.of(split))}" for split in self.splits]
        boxes = sum(len(picture.boxes) for picture in self.pictures)
        names = ", ".join(repr(category.name)[1:-1] for category in self.classes[:12])
        more = ", ..." if len(self.classes) > 12 else ""
        return (
            f"{self.root}: {self.format}, {len(self.pictures)} pictures ({', '.join(counts)}), {boxes} boxes, "
            f"{len(self.classes)} classes ({names}{more})"
        )


def class_counts(boxes: Iterable[Annotation], classes: int) -> list[int]:
    """How many boxes to learn (no crowds) each class has."""
    counts = Counter(box.label for box in boxes if not box.iscrowd)
    return [counts[label] for label in range(classes)]


def split_name(name: str) -> str | None:
    """The split that a folder's or file's name says: ``valid`` and ``val2017`` are ``val``; None: none."""
    plain = name.lower().removesuffix("2017").removesuffix("2014")
    plain = OTHER_NAMES.get(plain, plain)
    return plain if plain in SPLITS else None


def numbered(names: Iterable[str]) -> list[Category]:
    """Classes with the ids 1, 2, ...: 0 is taken for the background by some readers of COCO."""
    return [Category(number, name) for number, name in enumerate(names, 1)]
