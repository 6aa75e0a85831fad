"""From checked images and boxes to the records of a packed data set."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hatdet.data.coco import CocoFile
from hatdet.data.coco_boxes import clip_bbox
from hatdet.data.coco_entries import MAX_ID, ImageEntry
from hatdet.data.image_file import bits_of
from hatdet.data.packers.freshness import PackOptions, rules_of
from hatdet.data.packers.image_task import PackedImage
from hatdet.data.packers.records import FORMAT, VERSION, BoxRecord, Index
from hatdet.data.report import Report
from hatdet.utils.errors import UserError

Row = tuple[ImageEntry, PackedImage, int, int]
"""A picture's entry, what was found of it, and how many boxes and crowds it has."""


def box_record(entry: ImageEntry, image: PackedImage, report: Report) -> BoxRecord:
    """Clip the boxes to the real image and bring them into the record's arrays.

    What an evaluation counts in (``bbox``, ``area``) is pixels of the file; what is learned from (``boxes``) is pixels
    of the stored picture, which may be smaller.
    """
    scale_x, scale_y = image.full_width / image.width, image.full_height / image.height
    kept = []
    for annotation in entry.annotations:
        box = clip_bbox(annotation, image.width, image.height, report)
        if box is not None:
            kept.append((box, annotation))
    bbox = np.array([box for box, _ in kept], np.float64).reshape(-1, 4)
    bbox *= (scale_x, scale_y, scale_x, scale_y)
    corners = np.concatenate([bbox[:, :2], bbox[:, :2] + bbox[:, 2:]], axis=1)
    if _shrunk(image):
        corners[:, 0::2] *= image.stored_width / image.full_width
        corners[:, 1::2] *= image.stored_height / image.full_height
    corners[:, 0::2] = corners[:, 0::2].clip(0, image.stored_width)
    corners[:, 1::2] = corners[:, 1::2].clip(0, image.stored_height)
    return BoxRecord(
        bbox,
        corners.astype(np.float32),
        np.array([a.label for _, a in kept], np.int32),
        np.array([a.area for _, a in kept], np.float64) * scale_x * scale_y,
        np.array([a.iscrowd for _, a in kept], np.bool_),
        image.as_stored,
    )


def header_of(content: CocoFile, rows: list[Row], options: PackOptions, img_dir: Path) -> dict[str, Any]:
    """The header of the packed set; what the source's files are like is added by who looked at them.

    Raises:
        UserError: nothing usable is left.
    """
    _check_result(content, rows)
    ids = [entry.id for entry, _, _, _ in rows]
    plain = all(isinstance(i, int) and abs(i) <= MAX_ID for i in ids)
    if not plain:
        content.report.add("image ids are not whole numbers up to 2^53: numbered from 1", repr(ids[0])[:80])
    bits, deep = _bits(content, rows)
    checksums = [image.checksum for _, image, _, _ in rows]
    digest = hashlib.sha256(json.dumps([VERSION, asdict(options), content.sha256, checksums]).encode())
    return {
        "format": FORMAT,
        "version": VERSION,
        "rules": rules_of(options),
        "classes": [[c.id, c.name, c.supercategory] for c in content.categories],
        "placeholders": [[c.id, c.name, c.supercategory] for c in content.placeholders],
        "bits": bits,
        "deep_images": deep,
        "max_side": options.max_side,
        "shrunk_images": sum(_shrunk(image) for _, image, _, _ in rows),
        "num_images": len(rows),
        "num_boxes": sum(boxes for _, _, boxes, _ in rows),
        "num_crowds": sum(crowds for _, _, _, crowds in rows),
        "source_ids": None if plain else [str(i) for i in ids],
        "fingerprint": digest.hexdigest(),
        "source": {
            "json_name": content.path.name,
            "ann_file": str(content.path.absolute()),
            "img_dir": str(img_dir.absolute()),
            "json_sha256": content.sha256,
            "json_state": content.state,
            "options": asdict(options),
            "num_images": len(content.images),
            "num_annotations": content.num_annotations,
        },
        "warnings": list(content.report.lines()),
        "complete": True,
    }


def _shrunk(image: PackedImage) -> bool:
    return (image.stored_width, image.stored_height) != (image.full_width, image.full_height)


def _bits(content: CocoFile, rows: list[Row]) -> tuple[int, int]:
    """Bits that the 16-bit pictures use, all together, and how many such pictures there are."""
    largest = [image.largest for _, image, _, _ in rows if image.largest is not None]
    bits = bits_of(max(largest)) if largest else 16
    if bits < 16:
        text = f"largest value {max(largest)}, a value v becomes v >> {bits - 8}"
        content.report.add(f"16-bit pictures with {bits} bits in use, scaled from these", text, len(largest))
    return bits, len(largest)


def _check_result(content: CocoFile, rows: list[Row]) -> None:
    counts = content.report.counts
    if not rows:
        reasons = "".join(f"\n  {line}" for line in content.report.lines())
        raise UserError(
            f"{content.path}: no image can be read{reasons}"
            "\n  name another image folder, or mend the images"
        )
    if content.num_annotations and not any(boxes + crowds for _, _, boxes, crowds in rows):
        reasons = "".join(f"\n  {line}" for line in content.report.lines())
        raise UserError(f"{content.path}: no usable box is left{reasons}\n  mend the boxes, or name another file")
    clipped = counts.get("'bbox' reaches out of its image, clipped", 0)
    outside = counts.get("'bbox' outside its image, annotation skipped", 0)
    if clipped + outside > 0.2 * content.num_annotations:
        content.report.add(
            f"{clipped + outside} of {content.num_annotations} boxes leave their image: COCO's 'bbox' is "
            "[x, y, width, height]; are these [x1, y1, x2, y2]?"
        )
    if not content.num_annotations:
        content.report.add("'annotations' is empty: no image has a box")


def index_of(rows: list[Row], header: dict[str, Any]) -> Index:
    """The index of the packed set."""
    plain = header["source_ids"] is None
    ids = [entry.id if plain else number for number, (entry, _, _, _) in enumerate(rows, 1)]
    return Index(
        np.array(ids, np.int64),
        np.array([(image.stored_height, image.stored_width) for _, image, _, _ in rows], np.int32),
        np.array([boxes for _, _, boxes, _ in rows], np.int32),
        np.array([crowds for _, _, _, crowds in rows], np.int32),
        [entry.file_name for entry, _, _, _ in rows],
    )
