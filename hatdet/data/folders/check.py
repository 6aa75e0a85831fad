"""Everything in a data set that costs accuracy or makes a number wrong, found before any training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hatdet.data.coco_entries import Annotation
from hatdet.data.folders.alike import alike_pairs, same_pictures
from hatdet.data.folders.dataset import DataSet, Picture
from hatdet.data.folders.look import Look
from hatdet.data.packers.image_task import same_aspect
from hatdet.utils.class_names import folded
from hatdet.utils.starting.program import spoken

EXAMPLES = 5
LEAST_SIDE = 1.0
"""Pixels; a box that is narrower or lower is not learned."""
OVERHANG = 1.0
"""Pixels by which a box may reach out of its picture: exporters round."""
UNIFORM = 2.0
"""Standard deviation of gray levels below which a picture shows nothing."""
SAME_BOX = 0.9
"""IoU from which two boxes of one picture are of one object."""
_LOST = ("left out", "skipped", "is not there")


@dataclass
class Finding:
    """One kind of fault: ``level`` is ``error`` (data is lost, or a number will be wrong) or ``note``."""

    level: str
    what: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        more = f"; and {self.count - len(self.examples)} more" if self.count > len(self.examples) > 0 else ""
        shown = ": " + "; ".join(self.examples) if self.examples else ""
        return f"{self.level}: {self.what} ({self.count}){shown}{more}"


class Findings:
    """Collects them by kind; errors come first."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}

    def add(self, level: str, what: str, example: str = "", count: int = 1) -> None:
        """Count one kind; the first few examples are kept."""
        finding = self._found.setdefault(what, Finding(level, what))
        finding.count += count
        if example and len(finding.examples) < EXAMPLES:
            finding.examples.append(example)

    def all(self) -> list[Finding]:
        """Errors, then notes, in the order in which they were found."""
        return sorted(self._found.values(), key=lambda finding: finding.level != "error")


def check_dataset(
    dataset: DataSet, looks: Sequence[Look], pairs: Sequence[tuple[int, int]] | None = None
) -> list[Finding]:
    """All that is wrong or odd.

    Args:
        looks: at each picture of the data set, in order.
        pairs: positions of pictures that look alike; None: found here.
    """
    found = Findings()
    report = dataset.report
    for kind, count in report.counts.items():
        level = "error" if any(word in kind for word in _LOST) else "note"
        examples = report.examples(kind)
        found.add(level, kind, count=count)
        for example in examples:
            found.add(level, kind, example, 0)
    for picture, look in zip(dataset.pictures, looks):
        _check_picture(picture, look, found)
    _check_classes(dataset, found)
    _check_same(dataset, looks, found)
    _check_alike(dataset, looks, alike_pairs(looks) if pairs is None else pairs, found)
    empty = sum(not picture.boxes for picture in dataset.pictures)
    if empty:
        found.add("note", "pictures without a box (training leaves them out, validation keeps them)", count=empty)
    return found.all()


# ------------------------------------------------------------------------------------------ one picture
def _check_picture(picture: Picture, look: Look, found: Findings) -> None:
    if look.error:
        if not picture.error:  # else its reader has counted it
            found.add("error", "picture that cannot be used", f"{picture}: {look.error}")
    else:
        listed = (picture.width, picture.height)
        if 0 not in listed and listed not in (look.size, look.stored):
            text = f"{picture}: listed {listed[0]}x{listed[1]}, the file has {look.size[0]}x{look.size[1]}"
            if same_aspect(listed, look.size):
                found.add("note", "listed size is not the picture's, of the same aspect (boxes are scaled)", text)
            else:
                found.add("error", "listed size is of another aspect than the picture's (left out in training)", text)
        elif look.size != look.stored and listed == look.stored:
            found.add("note", "boxes count in the picture before its EXIF turn (the turn is not applied)", str(picture))
        if look.deviation < UNIFORM:
            found.add("note", "picture of one colour", f"{picture}: gray {look.mean:.0f} ± {look.deviation:.1f}")
    width, height = picture.width or look.size[0], picture.height or look.size[1]
    if width and height:
        for box in picture.boxes:
            _check_box(picture, box, width, height, found)
    _check_pairs(picture, found)


def _check_box(picture: Picture, box: Annotation, width: int, height: int, found: Findings) -> None:
    x, y, w, h = box.bbox
    shown = f"{picture}: {box.name}: x, y, w, h = {x:g}, {y:g}, {w:g}, {h:g} of {width}x{height}"
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        found.add("error", "box wholly outside its picture (left out)", shown)
    elif max(-x, -y, x + w - width, y + h - height) >= OVERHANG:
        found.add("error", "box that reaches out of its picture (clipped)", shown)
    elif min(w, h) < LEAST_SIDE:
        found.add("note", "box less than a pixel wide or high (not learned)", shown)


def _check_pairs(picture: Picture, found: Findings) -> None:
    for box, other in in_one_place(picture):
        shown = f"{picture}: {box.name} and {other.name}"
        if box.label == other.label:
            found.add("error", "object marked twice: two boxes of one class in one place", shown)
        else:
            found.add("note", "two classes in one place", shown)


def in_one_place(picture: Picture) -> Iterator[tuple[Annotation, Annotation]]:
    """Pairs of boxes that mark one object: their IoU is :data:`SAME_BOX` or more."""
    boxes = sorted((box for box in picture.boxes if not box.iscrowd), key=lambda box: box.bbox[0])
    for first, box in enumerate(boxes):
        # Boxes of such an IoU share as much of the first one's width; twice the room is for rounding.
        last = box.bbox[0] + 2 * (1 - SAME_BOX) * box.bbox[2]
        for other in boxes[first + 1 :]:
            if other.bbox[0] > last:
                break
            if iou(box.bbox, other.bbox) >= SAME_BOX:
                yield box, other


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes (x, y, w, h)."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (a[2] * a[3] + b[2] * b[3] - both)


# ------------------------------------------------------------------------------------------- all of them
def _check_classes(dataset: DataSet, found: Findings) -> None:
    seen: dict[str, str] = {}
    for category in dataset.classes:
        other = seen.setdefault(folded(category.name), category.name)
        if other != category.name and not any("differ only in case" in kind for kind in dataset.report.counts):
            found.add("error", "class names that differ in case or spaces alone", f"{other!r} and {category.name!r}")
    by_split = {split: dataset.boxes_by_class(split) for split in dataset.splits}
    for label, category in enumerate(dataset.classes):
        having = [split for split, counts in by_split.items() if counts[label]]
        if not having:
            found.add("note", "class without a box", repr(category.name))
        elif "train" in by_split and "train" not in having:
            found.add("error", "class that training never sees", f"{category.name!r}: only in {', '.join(having)}")
        elif "val" in by_split and "val" not in having:
            found.add("note", "class that validation never sees", repr(category.name))
    if "val" not in by_split:
        found.add("note", spoken("no validation split: 'tools/data.py split' makes one"))


def _check_same(dataset: DataSet, looks: Sequence[Look], found: Findings) -> None:
    for group in same_pictures(looks):
        pictures = [dataset.pictures[position] for position in group]
        shown = " = ".join(str(picture) for picture in pictures[:3])
        across = len({picture.split for picture in pictures}) > 1
        where = "in two splits (AP is too high)" if across else "twice in one split"
        found.add("error" if across else "note", f"the same picture {where}", shown)
        if len({tuple(sorted((b.label, b.bbox) for b in picture.boxes)) for picture in pictures}) > 1:
            found.add("error", "the same picture with other boxes", shown)


def _check_alike(
    dataset: DataSet, looks: Sequence[Look], pairs: Sequence[tuple[int, int]], found: Findings
) -> None:
    for first, second in pairs:
        a, b = dataset.pictures[first], dataset.pictures[second]
        if looks[first].checksum == looks[second].checksum:
            continue
        if a.split != b.split:
            found.add("error", "pictures that look alike in two splits (AP is too high)", f"{a} and {b}")
        else:
            found.add("note", "pictures that look alike in one split", f"{a} and {b}")
