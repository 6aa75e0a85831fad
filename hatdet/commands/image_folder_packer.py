"""Pack an image folder (DIR/train/CLASS/*.jpg) into an LMDB folder for classification pretraining.

python tools/image_folder_packer.py --src-data-dir data/imagenet --target-data-dir tmp_data/imagenet --split-name train

reads data/imagenet/train/<class>/... (images may lie deeper) and writes tmp_data/imagenet/train_lmdb and, beside it,
train_labels.json. Classes are the folders' names in alphabetical order. The original image bytes are kept, unless
--max-side shrinks them once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--src-data-dir", required=True, metavar="DIR", help="holds SPLIT/CLASS/images")
    parser.add_argument("--target-data-dir", required=True, metavar="DIR", help="SPLIT_lmdb is written there")
    parser.add_argument("--split-name", required=True, metavar="NAME", help="train or val (or another)")
    parser.add_argument("--num-workers", type=int, metavar="N", help="processes (default: one a core, max. 8)")
    parser.add_argument("--max-side", type=int, metavar="PX", help="shrink larger images to this long side, once")
    parser.add_argument("--force", action="store_true", help="pack again although the target is up to date")


def run(args: argparse.Namespace) -> None:
    from hatdet.data.packers.freshness import PackOptions
    from hatdet.data.packers.image_folder import pack_image_folder
    from hatdet.data.packers.progress import say

    if Path(args.split_name).name != args.split_name or args.split_name in ("", ".", ".."):
        raise UserError(f"--split-name {args.split_name!r}: give a plain name such as train or val")
    target = Path(args.target_data_dir) / f"{args.split_name}_lmdb"
    options = PackOptions(args.max_side)
    pack_image_folder(Path(args.src_data_dir) / args.split_name, target, options, args.num_workers, args.force, log=say)


main = command(__doc__, add_arguments, run)
