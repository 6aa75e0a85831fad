"""Cityscapes' instance pictures as COCO json: the boxes of its eight classes of things.

python tools/dataset_converters/cityscapes.py data/cityscapes --out-dir data/cityscapes/annotations

Reads gtFine/SPLIT/CITY/*_gtFine_instanceIds.png: a pixel of an instance is class * 1000 + number, one of a group that
nobody took apart the class alone, which becomes a region that counts neither way.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError

CLASSES = {24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle"}
"""Cityscapes' ids of things, and their names."""
SUFFIX = "_gtFine_instanceIds.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cityscapes_path", metavar="DIR", help="folder with leftImg8bit and gtFine")
    parser.add_argument("--img-dir", "--img_dir", default="leftImg8bit", help="pictures (default: leftImg8bit)")
    parser.add_argument("--gt-dir", "--gt_dir", default="gtFine", help="instances (default: gtFine)")
    parser.add_argument("-o", "--out-dir", "--out_dir", metavar="DIR", help="default: DIR/annotations")
    parser.add_argument("--nproc", type=int, default=1, help="means nothing: one process does this")


def run(args: argparse.Namespace) -> None:
    root = Path(args.cityscapes_path)
    folder = Path(args.out_dir) if args.out_dir else root / "annotations"
    splits = [split for split in ("train", "val", "test") if any((root / args.gt_dir / split).rglob(f"*{SUFFIX}"))]
    if not splits:
        raise UserError(f"{root / args.gt_dir} has no pictures *{SUFFIX}; name the folder of Cityscapes, or --gt-dir")
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        content = convert(root / args.gt_dir / split, root / args.img_dir / split)
        target = folder / f"instancesonly_filtered_gtFine_{split}.json"
        target.write_text(json.dumps(content), encoding="utf-8")
        print(f"wrote {target}: {len(content['images'])} images, {len(content['annotations'])} boxes")


def convert(truth: Path, images: Path) -> dict[str, Any]:
    """COCO's form of one split; file names are relative to ``images``.

    Raises:
        UserError: a picture that cannot be read or is missing.
    """
    import cv2
    import numpy as np

    categories = [{"id": number, "name": name} for number, name in CLASSES.items()]
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}
    for number, file in enumerate(sorted(truth.rglob(f"*{SUFFIX}"))):
        name = f"{file.parent.name}/{file.name.removesuffix(SUFFIX)}_leftImg8bit.png"
        if not (images / name).is_file():
            raise UserError(f"no picture at {images / name}; add it, or name another --img-dir")
        pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.ndim != 2:
            raise UserError(f"{file} cannot be read as instances; replace it")
        size = {"height": int(pixels.shape[0]), "width": int(pixels.shape[1])}
        content["images"].append({"id": number, "file_name": name, **size})
        for value in np.unique(pixels).tolist():
            category = value // 1000 if value >= 1000 else value
            if category not in CLASSES:
                continue
            rows, columns = np.nonzero(pixels == value)
            left, top = int(columns.min()), int(rows.min())
            box = [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]
            content["annotations"].append({
                "id": len(content["annotations"]) + 1, "image_id": number, "category_id": category, "bbox": box,
                "area": len(rows), "iscrowd": int(value < 1000),
            })  # fmt: skip
    return content


main = command(__doc__, add_arguments, run)
