"""Pack a COCO detection set into an LMDB folder.

python tools/mscoco_packer.py --src-data-dir data/mscoco --target-data-dir tmp_data/mscoco --split-name train

reads data/mscoco/train2017/ and data/mscoco/annotations/instances_train2017.json and writes
tmp_data/mscoco/train_lmdb. Folders without the year (train/, instances_train.json) and a json beside the folders
are found too, as are Roboflow's train/_annotations.coco.json and valid/_annotations.coco.json beside the images, and
YOLO (or its data.yaml), Pascal VOC and LabelMe folders; --ann-file and --img-dir name anything else. The original
image bytes are kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from hatdet.data.image_file import MAX_PIXELS  # it imports numpy

    parser.add_argument("--src-data-dir", required=True, metavar="DIR", help="the folder of the data set")
    parser.add_argument("--target-data-dir", required=True, metavar="DIR", help="SPLIT_lmdb is written there")
    parser.add_argument("--split-name", required=True, metavar="NAME", help="train or val (or another)")
    parser.add_argument("--pack-type", default="lmdb", choices=["lmdb"], help="the only format is lmdb")
    parser.add_argument("--num-workers", type=int, metavar="N", help="processes (default: one a core, max. 8)")
    parser.add_argument("--ann-file", metavar="FILE", help="the json, relative to DIR or a path of its own")
    parser.add_argument("--img-dir", metavar="DIR", help="the image folder, relative to DIR or a path of its own")
    parser.add_argument("--max-side", type=int, metavar="PX", help="shrink larger images to this long side, once")
    parser.add_argument(
        "--max-pixels", type=int, default=MAX_PIXELS, metavar="N", help=f"refuse larger images ({MAX_PIXELS:,})"
    )
    parser.add_argument("--force", action="store_true", help="pack again although the target is up to date")


def run(args: argparse.Namespace) -> None:
    from hatdet.data.packers.freshness import PackOptions
    from hatdet.data.packers.mscoco import pack_coco
    from hatdet.data.packers.places import json_places_found
    from hatdet.data.packers.progress import say

    if Path(args.split_name).name != args.split_name or args.split_name in ("", ".", ".."):
        raise UserError(f"--split-name {args.split_name!r}: give a plain name such as train or val")
    if args.num_workers is not None and args.num_workers < 0:
        raise UserError(f"--num-workers {args.num_workers}: give 0 (no extra process) or more")
    options = PackOptions(args.max_side, args.max_pixels)
    source = source_of(args)
    target = Path(args.target_data_dir) / f"{args.split_name}_lmdb"
    others = [str(file) for file in json_places_found(Path(args.src_data_dir), args.split_name)]
    if args.ann_file is None and len(others) > 1:
        say(f"warning: {source[0]} is packed; there is {', '.join(others[1:])} too: name one with --ann-file")
    pack_coco(*source, target, options, args.num_workers, args.force, log=say)


def source_of(args: argparse.Namespace) -> tuple[Path, Path]:
    """The json and the folder of the pictures; of a YOLO, Pascal VOC or LabelMe folder the json that is made of it."""
    from hatdet.data.datasets.folders import folder_place
    from hatdet.data.packers.layouts import find_source
    from hatdet.data.packers.progress import say

    root = Path(args.src_data_dir)
    if args.ann_file is None and args.img_dir is None:
        found = folder_place(root, f"annotations/instances_{args.split_name}2017.json")
        if found is not None:
            place, note = found
            say(note)
            return place.ann_file, place.img_dir
    return find_source(root, args.split_name, args.ann_file, args.img_dir)


main = command(__doc__, add_arguments, run)
