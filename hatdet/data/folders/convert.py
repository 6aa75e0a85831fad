"""From one format to another: what is lost on the way is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hatdet.data.coco_entries import Category
from hatdet.data.folders.dataset import DataSet, Picture
from hatdet.data.folders.writers.coco import write_coco
from hatdet.data.folders.writers.pictures import new_folder, usable
from hatdet.data.folders.writers.voc import write_voc
from hatdet.data.folders.writers.yolo import write_yolo
from hatdet.data.report import Report

WRITERS: dict[str, Callable[[Path, Sequence[Picture], Sequence[Category], str, Report], int]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
}


def convert(dataset: DataSet, target: Path, format: str, way: str = "copy") -> tuple[Report, str]:
    """Write a data set in another format, or the same one anew.

    Args:
        target: the folder to make.
        format: one of :data:`WRITERS`.
        way: one of :data:`~hatdet.data.folders.writers.pictures.WAYS`.

    Returns:
        what was lost or changed, and one line on what was written.
    """
    report = Report(str(target))
    pictures = usable(dataset, report)
    with new_folder(target) as folder:
        boxes = WRITERS[format](folder, pictures, dataset.classes, way, report)
    left_out = len(dataset.pictures) - len(pictures)
    without = f"; left out {left_out} pictures" if left_out else ""
    return report, f"wrote {target}: {format}, {len(pictures)} pictures, {boxes} boxes{without}"
