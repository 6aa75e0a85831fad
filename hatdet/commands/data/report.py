"""Write one HTML page on a data set.

Counts by split and class, box sizes at the network's input with the share under 2, 8 and 16 pixels, shapes and places
of boxes, empty pictures, what 'check' finds, pictures that look alike in two splits, and the ten most suspicious
pictures with their boxes. The page is one file without scripts; it needs no network.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hatdet.commands.data.pictures import draw_small
from hatdet.commands.data.shared import add_data_argument, add_workers_argument, read
from hatdet.commands.shared.arguments import add_imgsz, check_imgsz
from hatdet.utils.errors import UserError
from hatdet.utils.starting.program import spoken

if TYPE_CHECKING:
    from hatdet.data.folders.check import Finding
    from hatdet.data.folders.dataset import DataSet, Picture
    from hatdet.data.folders.look import Look
    from hatdet.data.folders.statistics import BoxTable
    from hatdet.visualization.draw import Image
    from hatdet.visualization.page.page import Page

DEFAULT_IMGSZ = [320]
THUMBNAIL = 360
"""Longer side in pixels."""
MOST_LINES = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_argument(parser)
    parser.add_argument("-o", "--out", type=Path, default=Path("data_report.html"), help="default: data_report.html")
    add_imgsz(parser, "size of the network's input, height and width (320)")
    add_workers_argument(parser)


def run(args: argparse.Namespace) -> None:
    from hatdet.data.folders.look import look_at_all
    from hatdet.data.packers.progress import say

    if args.out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {args.out}: the report is HTML; give a name that ends with .html")
    check_imgsz(args)
    sides = args.imgsz or DEFAULT_IMGSZ
    dataset = read(args)
    looks = look_at_all(dataset.pictures, args.num_workers)
    text = data_report(dataset, looks, (sides[0], sides[-1])).render()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, encoding="utf-8")
    say(f"wrote {args.out}")


def data_report(dataset: DataSet, looks: Sequence[Look], imgsz: tuple[int, int]) -> Page:
    """The page.

    Args:
        looks: at each picture, in order. imgsz: (height, width) of the network's input.
    """
    from hatdet.data.folders.alike import alike_pairs
    from hatdet.data.folders.check import check_dataset
    from hatdet.data.folders.statistics import box_table
    from hatdet.data.folders.suspicious import suspicious
    from hatdet.visualization.page.blocks import gallery, paragraph
    from hatdet.visualization.page.page import Page

    pairs = alike_pairs(looks)
    boxes = box_table(dataset, looks, imgsz)
    page = Page(f"Data set {dataset.root.resolve().name}", dataset.summary())
    _counts(page, dataset, looks)
    _findings(page, check_dataset(dataset, looks, pairs))
    _boxes(page, boxes, imgsz)
    _alike(page, dataset, looks, pairs)
    _empty(page, dataset)
    odd = suspicious(dataset, looks, boxes, pairs)
    names = [category.name for category in dataset.classes]
    shown = [(dataset.pictures[one.position], one.reasons) for one in odd]
    block = gallery((thumbnail(picture, names), str(picture), reasons) for picture, reasons in shown)
    if not odd:
        block = paragraph("No picture is odd in any way that is looked for.", "good")
    page.section(f"The {len(odd)} most suspicious pictures" if odd else "Suspicious pictures", block, wide=True)
    return page


def _counts(page: Page, dataset: DataSet, looks: Sequence[Look]) -> None:
    from hatdet.data.folders.split import division_table
    from hatdet.data.folders.statistics import picture_sizes
    from hatdet.visualization.page.blocks import bars, table

    header, *rows = division_table(dataset)
    page.section("Splits and boxes of each class", table(header, rows))
    classes = [(one.name, count) for one, count in zip(dataset.classes, dataset.boxes_by_class())]
    page.section("Classes", bars(sorted(classes, key=lambda item: -item[1]), "class"))
    page.section("Sizes of pictures", bars(picture_sizes(dataset, looks), "width x height"))


def _findings(page: Page, findings: Sequence[Finding]) -> None:
    from hatdet.visualization.page.blocks import listing, paragraph

    errors = [str(finding) for finding in findings if finding.level == "error"]
    notes = [str(finding) for finding in findings if finding.level != "error"]
    blocks = [listing(errors, "bad")] if errors else [paragraph("No errors.", "good")]
    page.section("What the check finds", *blocks, *([listing(notes)] if notes else []))


def _boxes(page: Page, boxes: BoxTable, imgsz: tuple[int, int]) -> None:
    from hatdet.data.folders.statistics import RATIOS, SIDES, histogram, place_map, small_shares
    from hatdet.visualization.page.blocks import bars, heat, paragraph

    shares = [f"under {limit} pixels of {share:.1%}" for limit, share in small_shares(boxes).items()]
    page.section(
        f"Box sizes at {imgsz[0]}x{imgsz[1]}",
        paragraph(f"The shorter side at the network's input is {', '.join(shares)}."),
        bars(histogram(boxes.side, SIDES), "pixels"),
    )
    page.section("Shapes of boxes", bars(histogram(boxes.ratio, RATIOS), "width / height"))
    page.section("Where boxes are", heat(place_map(boxes), "centres of boxes in the picture"))


def _alike(page: Page, dataset: DataSet, looks: Sequence[Look], pairs: Sequence[tuple[int, int]]) -> None:
    from hatdet.visualization.page.blocks import listing, paragraph

    pictures = dataset.pictures
    lines = [
        f"{pictures[a]} {'is' if looks[a].checksum == looks[b].checksum else 'looks like'} {pictures[b]}"
        for a, b in pairs
        if pictures[a].split != pictures[b].split
    ]
    if not lines:
        block = [paragraph("No picture of one split looks like one of another.", "good")]
    else:
        split = spoken("'tools/data.py split'")
        text = f"{len(lines)} pairs: a score on these says little. {split} keeps them together."
        block = [paragraph(text, "bad"), listing(_first(lines))]
    page.section("The same picture in two splits", *block)


def _empty(page: Page, dataset: DataSet) -> None:
    from hatdet.visualization.page.blocks import listing, paragraph

    empty = [str(picture) for picture in dataset.pictures if not picture.boxes]
    text = f"{len(empty)} of {len(dataset.pictures)} pictures have no box."
    page.section("Empty pictures", paragraph(text), listing(_first(empty)))


def _first(lines: list[str]) -> list[str]:
    more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return lines[:MOST_LINES] + more


def thumbnail(picture: Picture, names: Sequence[str]) -> Image | None:
    """A small copy with its boxes; None where it cannot be decoded."""
    import cv2
    import numpy as np

    from hatdet.data.image_file import ImageError, decode, read_bytes

    try:
        image = decode(read_bytes(picture.path))
    except ImageError:
        return None
    height, width = image.shape[:2]
    scale = THUMBNAIL / max(height, width)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=method)
    boxes = np.array([box.bbox for box in picture.boxes], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    listed = np.array([picture.width or width, picture.height or height] * 2)
    boxes *= np.array([small.shape[1], small.shape[0]] * 2) / listed
    labels = np.array([box.label for box in picture.boxes], np.int64)
    return draw_small(small, boxes, labels, names)  # type: ignore[arg-type]
