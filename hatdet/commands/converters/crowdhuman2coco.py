"""CrowdHuman's annotations (a JSON object a line) as COCO json: whole persons, class ``pedestrian``.

python tools/dataset_converters/crowdhuman2coco.py -i data/crowdhuman -o data/crowdhuman/annotations

Reads annotation_train.odgt and annotation_val.odgt, and the pictures' sizes in Images/. What the annotations ignore
becomes a region that counts neither way.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", "--input", required=True, metavar="DIR", help="folder with annotation_*.odgt and Images/")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="crowdhuman_train.json, ... go there")


def run(args: argparse.Namespace) -> None:
    root, folder = Path(args.input), Path(args.output)
    files = [file for file in (root / f"annotation_{split}.odgt" for split in ("train", "val")) if file.is_file()]
    if not files:
        raise UserError(f"{root} has no annotation_train.odgt or annotation_val.odgt; name the folder that has")
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        content = convert(file, root / "Images")
        target = folder / f"crowdhuman_{file.stem.removeprefix('annotation_')}.json"
        target.write_text(json.dumps(content), encoding="utf-8")
        print(f"wrote {target}: {len(content['images'])} images, {len(content['annotations'])} boxes")


def convert(file: Path, images: Path) -> dict[str, Any]:
    """COCO's form of one file.

    Raises:
        UserError: a line that is not one of CrowdHuman's, or a picture that is missing.
    """
    from hatdet.data.image_file import read_bytes, read_header

    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "pedestrian"}]}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
            name, boxes = str(entry["ID"]), [(_ignored(box), _box(box)) for box in entry["gtboxes"]]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}, line {number}: not a line of CrowdHuman's ({error}); mend it") from error
        header = read_header(read_bytes(images / f"{name}.jpg"))
        size = {"width": header.width, "height": header.height}
        content["images"].append({"id": number, "file_name": f"{name}.jpg", **size})
        for ignored, box in boxes:
            content["annotations"].append({
                "id": len(content["annotations"]) + 1, "image_id": number, "category_id": 1, "bbox": box,
                "area": box[2] * box[3], "iscrowd": int(ignored),
            })  # fmt: skip
    return content


def _ignored(box: dict[str, Any]) -> bool:
    return box.get("tag") == "mask" or (box.get("extra") or {}).get("ignore", 0) == 1


def _box(box: dict[str, Any]) -> list[float]:
    """The whole person (``fbox``), xywh."""
    x, y, width, height = (float(value) for value in box["fbox"])
    return [x, y, width, height]


main = command(__doc__, add_arguments, run)
