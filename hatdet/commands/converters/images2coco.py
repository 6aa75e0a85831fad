"""A folder of images without annotations as COCO json: for predictions, or to be annotated.

python tools/dataset_converters/images2coco.py data/photos classes.txt photos.json

The file is written beside the folder, into ../annotations; classes.txt has a class a line.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("img_path", metavar="FOLDER", help="images, in sub-folders too")
    parser.add_argument("classes", metavar="CLASSES.txt", help="names of the classes, one a line")
    parser.add_argument("out", metavar="NAME.json", help="name of the file, ends with .json")
    parser.add_argument("-e", "--exclude-extensions", nargs="+", default=[], metavar="EXT", help="png, bmp, ...")


def run(args: argparse.Namespace) -> None:
    if not args.out.endswith(".json"):
        raise UserError(f"{args.out}: the annotations are JSON; give a name that ends with .json")
    folder, classes = Path(args.img_path), Path(args.classes)
    for path, what in ((folder, "folder of images"), (classes, "file of class names")):
        if not path.exists():
            raise UserError(f"no {what} at {path}; name one")
    content = convert(folder, classes.read_text(encoding="utf-8").splitlines(), args.exclude_extensions)
    target = folder.parent / "annotations" / Path(args.out).name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content), encoding="utf-8")
    print(f"wrote {target}: {len(content['images'])} images, {len(content['categories'])} classes")


def convert(folder: Path, names: list[str], excluded: list[str]) -> dict[str, Any]:
    """COCO's form of a folder.

    Raises:
        UserError: no image, an image that cannot be read, or no class.
    """
    from hatdet.data.image_file import SUFFIXES, read_bytes, read_header

    skipped = {"." + end.lower().lstrip(".") for end in excluded}
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.suffix.lower() not in skipped)
    classes = [name.strip() for name in names if name.strip()]
    if not files or not classes:
        missing = f"images in {folder}" if not files else "class names"
        raise UserError(f"there are no {missing}; name another, or leave --exclude-extensions out")
    images = []
    for number, file in enumerate(files):
        header = read_header(read_bytes(file))
        path = file.relative_to(folder).as_posix()
        images.append({"id": number, "file_name": path, "width": header.width, "height": header.height})
    categories = [{"id": number, "name": name, "supercategory": "none"} for number, name in enumerate(classes)]
    return {"images": images, "annotations": [], "categories": categories}


main = command(__doc__, add_arguments, run)
