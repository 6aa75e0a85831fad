"""List the packed copies of data sets in caches, and remove those that nothing uses any more.

python tools/clean_cache.py my_data other_data            # lists
python tools/clean_cache.py my_data other_data --remove   # removes what the list calls unused

looks into the .hatdet_cache of each folder (and of the folders in it), into $HATDET_CACHE and into ~/.cache/hatdet.
Listed are packed copies, and the COCO jsons that training makes of YOLO, Pascal VOC and LabelMe folders. Unused is what
would be made anew anyway (its json, pictures or folder are gone, moved or changed, it is damaged or of an earlier
version) and what killed packers left. Data that tools/mscoco_packer.py wrote elsewhere is never touched.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("roots", nargs="*", type=Path, metavar="DIR", help="folders of data sets")
    parser.add_argument("--remove", action="store_true", help="remove what is unused")
    parser.add_argument("--older-than", type=float, metavar="DAYS", help="what was not used for so long is unused too")


def run(args: argparse.Namespace) -> None:
    from hatdet.data.packers.caches import clean

    if args.older_than is not None and not args.older_than >= 0:
        raise UserError(f"--older-than {args.older_than}: give a number of days, 0 or more")
    clean(args.roots, args.remove, args.older_than)


main = command(__doc__, add_arguments, run)
