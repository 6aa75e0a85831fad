"""Pascal VOC's annotations (XML) as COCO json.

python tools/dataset_converters/pascal_voc.py data/VOCdevkit -o data/VOCdevkit/annotations

Writes voc07_trainval.json, voc12_val.json, ... for every year and list of images that is there. Boxes become xywh from
the corner of the first pixel, which VOC counts from 1; difficult objects are regions that count neither way.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatdet.commands.shared.process import command
from hatdet.data.folders.readers.voc_xml import CLASSES, read_voc
from hatdet.utils.errors import UserError

LISTS = ("train", "val", "trainval", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("devkit_path", metavar="VOCDEVKIT", help="folder with VOC2007, VOC2012, ... or one of these")
    parser.add_argument("-o", "--out-dir", "--out_dir", metavar="DIR", help="default: VOCDEVKIT/annotations")
    parser.add_argument("--out-format", "--out_format", choices=("coco",), default="coco", help="only coco")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="other classes than VOC's twenty, in their order")


def run(args: argparse.Namespace) -> None:
    root = Path(args.devkit_path)
    years = sorted(p for p in root.glob("VOC[0-9]*") if p.is_dir()) or [root]
    folder = Path(args.out_dir) if args.out_dir else root / "annotations"
    written = 0
    for year in years:
        for name in LISTS:
            file = year / "ImageSets" / "Main" / f"{name}.txt"
            if not file.is_file():
                continue
            content = convert(year, file.read_text().split(), args.classes or CLASSES)
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / f"{year.name.lower().replace('voc20', 'voc')}_{name}.json"
            target.write_text(json.dumps(content), encoding="utf-8")
            print(f"wrote {target}: {len(content['images'])} images, {len(content['annotations'])} objects")
            written += 1
    if not written:
        raise UserError(f"{root} holds no VOC data (VOC2007/ImageSets/Main/trainval.txt); name the folder of a devkit")


def convert(year: Path, images: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """COCO's form of the images named; file names are relative to the devkit (``VOC2007/JPEGImages/000005.jpg``).

    Raises:
        UserError: an annotation that is missing or cannot be read, or an object of another class.
    """
    ids = {name: number for number, name in enumerate(classes, 1)}
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": name, "supercategory": "none"} for name, number in ids.items()],
    }
    for number, name in enumerate(dict.fromkeys(images), 1):
        file = year / "Annotations" / f"{name}.xml"
        picture = read_voc(file)
        height, width = picture.size
        path = f"{year.name}/JPEGImages/{picture.file_name or name + '.jpg'}"
        content["images"].append({"id": number, "file_name": path, "width": width, "height": height})
        for found in picture.objects:
            if found.name not in ids:
                raise UserError(f"{file}: an object of class {found.name!r}; name the classes with --classes")
            left, top, right, bottom = found.corners
            box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
            content["annotations"].append({
                "id": len(content["annotations"]) + 1, "image_id": number, "category_id": ids[found.name], "bbox": box,
                "area": box[2] * box[3], "iscrowd": int(found.difficult), "segmentation": [],
            })  # fmt: skip
    return content


main = command(__doc__, add_arguments, run)
